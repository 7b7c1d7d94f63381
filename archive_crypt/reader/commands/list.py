"""``archive-reader list``: which collections there are."""

from __future__ import annotations

import argparse

from archive_crypt.reader import given, mirrors, offline, reading, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.failures import DONE
from archive_crypt.reader.protocol import Query
from archive_crypt.reader.show import note
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader list romeo@example.org --with juliet@example.org
  archive-reader list romeo@example.org --start 2026-11-01 --end 2026-12-01 --json

Times are local unless they say otherwise: 2026-11-21, "2026-11-21 10:00", 2026-11-21T10:00:00Z.
"""


def _arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    usage.add_filter(command)
    usage.add_end(command)
    command.add_argument("--limit", type=usage.positive, metavar="N", help="at most N, the oldest first")
    usage.add_offline(command)
    usage.add_keys(command, "open that copy with this private key; may be given again")


def _begin(options: argparse.Namespace) -> Doing:
    query = Query(options.with_, options.start, options.end)
    if options.offline:
        return _begin_offline(options, query)
    connection = given.connection(options)

    async def list_() -> int:
        async with connection:
            found = await reading.listed(Archive(connection), query, options.limit)
        given.display(options).collections(found)
        return DONE

    return list_()


def _begin_offline(options: argparse.Namespace, query: Query) -> Doing:
    account, private_keys = given.account(options), given.private_keys(options)

    async def list_() -> int:
        with mirrors.find(account.bare, private_keys) as mirror:
            found = mirror.collections(query)[: options.limit]
            note(offline.told_age(mirror, account.bare))
        unlisted = {kept.collection for kept in found if kept.unlisted}
        given.display(options).collections([kept.collection for kept in found], unlisted)
        return DONE

    return list_()


COMMAND = Command("list", "show which collections there are", _HELP, _arguments, _begin)
