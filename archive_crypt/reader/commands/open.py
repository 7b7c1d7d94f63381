"""``archive-reader open``: a file of an archive, without any server."""

from __future__ import annotations

import argparse
from pathlib import Path

from archive_crypt.reader import exporting, given, usage
from archive_crypt.reader.commands import ending
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.formats import files
from archive_crypt.reader.formats.xepfile import ArchiveFile
from archive_crypt.reader.opening import Book
from archive_crypt.reader.progress import progress
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader open romeo.xml
  archive-reader open romeo.xml --key old.pem --format html --out letters.html

FILE is what the operator of a server gives you with archive-crypt export, or a file of
export --format xep. It is opened here, without any server.
"""


def _arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, nargs="+", metavar="FILE", help="XEP-0136's own file format")
    usage.add_keys(command, "open with this private key; may be given again")
    usage.add_openpgp(command)
    command.add_argument("--format", choices=usage.FORMATS, help="write it so, instead of showing it")
    command.add_argument("--out", type=Path, metavar="FILE", help="a new file; xep: a folder")


def _begin(options: argparse.Namespace) -> Doing:
    if bool(options.format) is not bool(options.out):
        raise Problem("--format and --out go together: what to write, and where to.")
    found = [ArchiveFile(path) for path in options.file]
    owner = next((file.owner for file in found if file.owner), "")
    private = given.private_keys(options)
    stack, inner = given.openpgp(options)
    for file in found:
        stack.callback(file.close)

    async def open_() -> int:
        transcripts = (
            transcript
            for file in found
            for transcript in file.transcripts(Book(private, inner=inner(owner)), trusted=False)
        )
        with stack, progress("writing") as tell:
            if not options.format:
                display = given.display(options, owner or "me")
                return ending.ended(exporting.show(transcripts, display, lambda _: None).troubles)
            with files.new(options.out, options.format, owner) as writer:
                done = exporting.rewrite(transcripts, writer, lambda summary: tell(summary.collections, None))
        return ending.exported(options, done)

    return open_()


COMMAND = Command("open", "show a file of an archive, or write it into another", _HELP, _arguments, _begin)
