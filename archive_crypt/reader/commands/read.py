"""``archive-reader read``: show conversations, opened and checked."""

from __future__ import annotations

import argparse

from archive_crypt.reader import given, mirrors, offline, reading, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.commands import ending
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Query
from archive_crypt.reader.show import note
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader read romeo@example.org --last 50
  archive-reader read romeo@example.org --with juliet@example.org --start 2026-11-21
  archive-reader read romeo@example.org --key old.pem --key new.pem --json

Lines marked "!" tell what could not be opened, was moved or repeated, or is missing; the exit code
is 4 then. --with and --start together may name one collection exactly, as list shows them.
What the checks cannot show: who encrypted a message, as anybody can who has the public key, and
whether the last messages of a collection are missing.
"""


def _arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    usage.add_filter(command)
    usage.add_end(command)
    usage.add_keys(command, "open with this private key; may be given again")
    usage.add_openpgp(command)
    usage.add_offline(command)
    command.add_argument("--last", type=usage.positive, metavar="N", help="only the last N messages")


def _begin(options: argparse.Namespace) -> Doing:
    if options.offline:
        return _begin_offline(options)
    connection = given.connection(options)
    private, display = given.private_keys(options), given.display(options)
    query = Query(options.with_, options.start, options.end)
    stack, inner = given.openpgp(options)

    async def read() -> int:
        with stack:
            async with connection:
                archive = Archive(connection)
                chosen = await reading.choose(archive, query)
                book = Book(private, inner=inner(options.jid))
                troubles = await reading.read(archive, chosen, book, display, ending.report, options.last)
        if not chosen:
            note("No collection matches.")
        return ending.ended(troubles)

    return read()


def _begin_offline(options: argparse.Namespace) -> Doing:
    account = given.account(options)
    private, display = given.private_keys(options), given.display(options)
    query = Query(options.with_, options.start, options.end)
    stack, inner = given.openpgp(options)

    async def read() -> int:
        with stack, mirrors.find(account.bare, private) as mirror:
            with mirror.snapshot():
                chosen = offline.choose(mirror, query)
                troubles = offline.read(mirror, chosen, display, options.last, inner(options.jid))
            note(offline.told_age(mirror, account.bare))
        if not chosen:
            note("No collection matches.")
        return ending.ended(troubles)

    return read()


COMMAND = Command("read", "show conversations, opened and checked", _HELP, _arguments, _begin)
