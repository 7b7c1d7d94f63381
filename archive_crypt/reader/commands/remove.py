"""``archive-reader remove``: remove collections for good."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from archive_crypt.reader import asking, given, reading, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import NotFound
from archive_crypt.reader.failures import DONE, Problem
from archive_crypt.reader.progress import progress
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.show import note
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader remove romeo@example.org --with juliet@example.org --start "2026-11-21 10:00:00+00:00"
  archive-reader remove romeo@example.org --with nurse@example.org --end 2026-01-01
  archive-reader remove romeo@example.org --all

--with and --start together may name one collection exactly, as list shows them. What matches is
shown, and removed when you say so. Nobody can bring it back.
"""


def _arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    usage.add_filter(command)
    usage.add_end(command)
    command.add_argument("--all", action="store_true", help="everything, as nothing else says which")
    command.add_argument("--yes", action="store_true", help="do not ask")


def _begin(options: argparse.Namespace) -> Doing:
    query = Query(options.with_, options.start, options.end)
    if options.all == (query != Query()):
        raise Problem("Say what to remove: by --with, --start and --end, or --all of it.")
    connection = given.connection(options)

    async def remove() -> int:
        async with connection:
            archive = Archive(connection)
            chosen = await reading.choose(archive, query)
            if not chosen:
                note("No collection matches.")
            elif options.yes or await _confirmed(options, chosen):
                removed = await _remove(archive, chosen)
                given.display(options).tell(f"Removed: {_counted(removed)}.", removed=removed)
            else:
                note("Nothing was removed.")
        return DONE

    return remove()


async def _confirmed(options: argparse.Namespace, chosen: Sequence[Listed]) -> bool:
    if not options.json:
        given.display(options).collections(chosen)
    return await asking.confirm(f"Remove {_counted(len(chosen))} for good?", "--yes")


async def _remove(archive: Archive, chosen: Sequence[Listed]) -> int:
    """One by one: what was not shown stays, even if it matches by now. How many were still there."""
    removed = 0
    with progress("removing", len(chosen)) as tell:
        for done, collection in enumerate(chosen, 1):
            try:
                await archive.remove(collection)
                removed += 1
            except NotFound:
                pass
            tell(done, len(chosen))
    return removed


def _counted(number: int) -> str:
    return "1 collection" if number == 1 else f"{number} collections"


COMMAND = Command("remove", "remove collections for good", _HELP, _arguments, _begin)
