"""``archive-reader export``: write conversations into files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from archive_crypt.reader import exporting, given, mirrors, offline, reading, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.commands import ending
from archive_crypt.reader.failures import DONE, Problem
from archive_crypt.reader.formats import files
from archive_crypt.reader.opening import Book
from archive_crypt.reader.progress import progress
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.show import note
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader export romeo@example.org --format html --out letters.html
  archive-reader export romeo@example.org --format jsonl --out all.jsonl --key old.pem --key new.pem
  archive-reader export romeo@example.org --format xep --encrypted --out backup
  archive-reader export romeo@example.org --format jsonl --offline --out mirror.jsonl

xep is XEP-0136's own file format, one file a contact: --out names a new folder. The others are one
file: jsonl (JSON Lines) loses nothing, mbox is for mail programs, markdown and html are to be read. What
could not be opened, or is suspicious, is marked in each; the exit code is 4 then. Existing files
are never overwritten, and a file is there whole or not at all.
"""


def _arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    usage.add_filter(command)
    usage.add_end(command)
    usage.add_keys(command, "open with this private key; may be given again")
    usage.add_openpgp(command)
    usage.add_offline(command)
    command.add_argument("--format", choices=usage.FORMATS, required=True, help="of the file")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file; xep: a folder")
    command.add_argument(
        "--encrypted", action="store_true", help="xep only: leave sealed what is sealed; takes no key"
    )


def _begin(options: argparse.Namespace) -> Doing:
    if options.encrypted and (options.format != "xep" or options.key or options.openpgp_key):
        raise Problem("--encrypted goes with --format xep, and takes no key.")
    if options.encrypted and options.offline:
        raise Problem("--encrypted needs the server: the mirror has what was opened.")
    files.check_free(options.out)
    if options.offline:
        return _begin_offline(options)
    connection = given.connection(options)
    private = [] if options.encrypted else given.private_keys(options)
    query = Query(options.with_, options.start, options.end)
    stack, inner = given.openpgp(options)

    async def export() -> int:
        with stack:
            async with connection:
                archive = Archive(connection)
                chosen = await reading.choose(archive, query)
                if not chosen:
                    return _nothing()
                book = Book(private, inner=inner(options.jid))
                done = await _written(options, archive, chosen, book)
        return ending.exported(options, done)

    return export()


def _begin_offline(options: argparse.Namespace) -> Doing:
    account, private = given.account(options), given.private_keys(options)
    query = Query(options.with_, options.start, options.end)
    stack, inner = given.openpgp(options)

    async def export() -> int:
        with stack, mirrors.find(account.bare, private) as mirror, mirror.snapshot():
            note(offline.told_age(mirror, account.bare))
            chosen = offline.choose(mirror, query)
            if not chosen:
                return _nothing()
            found = offline.transcripts(mirror, chosen, inner(options.jid))
            with (
                progress("exporting", len(chosen)) as tell,
                files.new(options.out, options.format, options.jid) as writer,
            ):
                done = exporting.rewrite(
                    found, writer, lambda summary: tell(summary.collections, len(chosen))
                )
        return ending.exported(options, done)

    return export()


def _nothing() -> int:
    note("No collection matches: nothing was written.")
    return DONE


async def _written(
    options: argparse.Namespace, archive: Archive, chosen: Sequence[Listed], book: Book
) -> exporting.Summary:
    with progress("exporting", len(chosen)) as tell:

        def told(summary: exporting.Summary) -> None:
            tell(summary.collections, len(chosen))

        if options.encrypted:
            with files.folder(options.out, options.jid, encrypted=True) as folder:
                return await exporting.export_encrypted(archive, chosen, folder, told, ending.report)
        with files.new(options.out, options.format, options.jid) as writer:
            return await exporting.export(archive, chosen, book, writer, told, ending.report)


COMMAND = Command("export", "write conversations into files", _HELP, _arguments, _begin)
