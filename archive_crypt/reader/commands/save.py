"""``archive-reader save``: put files of conversations into the archive."""

from __future__ import annotations

import argparse
from pathlib import Path

from archive_crypt.reader import given, importing, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.commands import ending
from archive_crypt.reader.failures import DONE, SUSPICIOUS, Problem
from archive_crypt.reader.opening import Book
from archive_crypt.reader.progress import progress
from archive_crypt.reader.show import note
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader save romeo@example.org letters.jsonl
  archive-reader save romeo@example.org old-client.xml letters.mbox
  archive-reader save romeo@example.org letters.jsonl --key laptop.pem --key phone.pem.pub

Takes what export writes as xep (each file of the folder), jsonl and mbox, and mboxes of mail programs;
it sees by itself which it is. All is sealed here for your confirmed keys; --plain uploads in clear.
What is there already is not saved again, so what was interrupted can be begun anew. Messages that are
unreadable or suspicious in the file are left out; the exit code is 4 then. So it is where a conversation
is refused, as the two of you agreed in it to be off the record, or as your preferences (otr) require it.

With whom, when, and a subject stay readable for the server, even where the rest is sealed.
"""


def _arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    command.add_argument("file", type=Path, nargs="+", metavar="FILE", help="of conversations")
    usage.add_keys(command, "seal for this key; may be given again")
    usage.add_force(command)
    command.add_argument("--plain", action="store_true", help="upload in clear, for the server to read")
    command.add_argument(
        "--subjects", action="store_true", help="send subjects along, though the server can read them"
    )


def _begin(options: argparse.Namespace) -> Doing:
    if options.plain and options.key:
        raise Problem("--plain uploads in clear and takes no --key.")
    connection = given.connection(options)
    public = None if options.plain else [key for _, key in given.public_keys(options)]
    book = Book(given.opening_keys(options))
    display = given.display(options)

    async def save() -> int:
        transcripts = (
            transcript
            for path in options.file
            for transcript in importing.read(path, options.jid, book.blank())
        )
        how = importing.How(public, options.subjects, book, options.force)
        with progress("saving") as tell:
            async with connection:
                done = await importing.save(
                    Archive(connection),
                    transcripts,
                    how,
                    ending.report,
                    lambda summary: tell(summary.collections + summary.already, None),
                )
        counted = f"{done.messages:,} message(s) in {done.collections:,} collection(s)"
        display.tell(
            f"Saved, {'IN CLEAR' if public is None else 'encrypted'}: {counted}.",
            *([f"There already: {done.already:,} collection(s)."] if done.already else []),
            messages=done.messages,
            collections=done.collections,
            already=done.already,
            incomplete=done.troubles,
        )
        if done.troubles:
            note(f"{done.troubles} place(s) were not saved as they are in the file; each is told above.")
        return SUSPICIOUS if done.troubles else DONE

    return save()


COMMAND = Command("save", "put files of conversations into the archive", _HELP, _arguments, _begin)
