"""``archive-reader watch``: new messages and changed preferences, as they come."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys

from archive_crypt.reader import given, preferring, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.commands import ending
from archive_crypt.reader.errors import FeatureNotImplemented, NotOffered, ServiceUnavailable
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.show import Lines, Terminal, note, stamp
from archive_crypt.reader.usage import Command, Doing
from archive_crypt.reader.watching import Watch
from archive_crypt.reader.xep_0136.preferences import Preferences

_HELP = """\
examples:
  archive-reader watch romeo@example.org
  archive-reader watch romeo@example.org --with juliet@example.org --json

Shows what is archived from now on, whichever of your clients it passes through, until Ctrl-C. The
archive is looked at every few seconds; nobody sees that you watch.
"""

#: Seconds between two looks.
_PAUSE = 3.0


def _arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    usage.add_with(command)
    usage.add_keys(command, "open with this private key; may be given again")


def _begin(options: argparse.Namespace) -> Doing:
    connection = given.connection(options)
    book = Book(given.private_keys(options))
    display = given.display(options)

    async def watch() -> int:
        async with connection:
            archive = Archive(connection)
            watched = Watch(archive, book, Query(options.with_), ending.report)
            await watched.begin()
            changes = await _preference_changes(archive)
            note("Watching. Ctrl-C ends it.")
            shown: Listed | None = None
            while True:
                shown = await _show_news(watched, display, shown)
                sys.stdout.flush()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PAUSE):
                        _tell_preferences(display, await changes.get())

    return watch()


async def _preference_changes(archive: Archive) -> asyncio.Queue[Preferences]:
    """What will come of changes, if the server has preferences and tells of them."""
    changes: asyncio.Queue[Preferences] = asyncio.Queue()
    archive.plain.xmpp.add_event_handler("archive_preferences", changes.put_nowait)
    with contextlib.suppress(NotOffered, FeatureNotImplemented, ServiceUnavailable):
        await archive.preferences()
    return changes


async def _show_news(watched: Watch, display: Terminal | Lines, shown: Listed | None) -> Listed | None:
    """Shows what is new; the collection shown last, whose name need not be shown again."""
    async for collection, entries in watched.news():
        if not entries:
            where = {"with": collection.with_, "start": collection.told}
            display.tell(f"-- removed: with {collection.with_}, {stamp(collection.start)} --", removed=where)
            shown = None
            continue
        if shown is None or (shown.with_, shown.start) != (collection.with_, collection.start):
            display.begin(collection)
            shown = collection
        for entry in entries:
            display.entry(entry)
    return shown


def _tell_preferences(display: Terminal | Lines, changed: Preferences) -> None:
    lines = (f"-- preferences: {of}: {what} --" for of, what in preferring.lines(changed))
    display.tell(*lines, preferences=preferring.facts(changed))


COMMAND = Command("watch", "show new messages as they are archived", _HELP, _arguments, _begin)
