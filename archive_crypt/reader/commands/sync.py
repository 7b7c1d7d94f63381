"""``archive-reader sync``: keep a mirror of the archive on this computer."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from archive_crypt.reader import asking, given, mirrors, trust, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.failures import DONE, SUSPICIOUS
from archive_crypt.reader.mirror import Report, Sync
from archive_crypt.reader.mirrordb import Mirror
from archive_crypt.reader.opening import Book
from archive_crypt.reader.progress import progress
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.show import Lines, Terminal, local, note
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader sync romeo@example.org
  archive-reader search romeo@example.org nightingale
  archive-reader read romeo@example.org --offline --last 50
  archive-reader sync romeo@example.org --forget

The mirror is in archive-reader/ in $XDG_DATA_HOME, or in ~/.local/share: one encrypted file, and its
key, which your private keys open; one that you retired opens it no more after the next sync. Only what
changed since the last sync is fetched; a sync that was interrupted goes on where it was. What is removed
from the server is removed here. What a server forgot, or has less of, as one does that was emptied or
set back, is kept here and marked, until you --forget it, too.
The exit code is 4 if something that was fetched could not be opened, or is suspicious, or if the
server forgot something since the last time.
"""


def _arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    usage.add_keys(command, "open with this private key, and encrypt the mirror for it; may be given again")
    command.add_argument(
        "--forget", action="store_true", help="then remove from the mirror what the server forgot"
    )
    command.add_argument(
        "--yes", action="store_true", help="with --forget: do not ask; what it forgot just now stays"
    )


def _begin(options: argparse.Namespace) -> Doing:
    connection = given.connection(options)
    private_keys, confirmed = given.private_keys(options), trust.load(trust.default_path())
    display = given.display(options)

    async def sync() -> int:
        with mirrors.make(connection.account.bare, private_keys, confirmed) as mirror:
            before = mirror.unlisted()
            async with connection:
                with progress("fetching") as fetched:
                    run = Sync(Archive(connection), mirror, Book(private_keys), fetched)
                    report = await run.run(time.time_ns() // 1000)
            unlisted = mirror.unlisted()
            _tell(display, report, len(unlisted), mirror.count())
            if options.forget and unlisted:
                await _forget(options, mirror, unlisted, before)
        return SUSPICIOUS if report.troubles else DONE

    return sync()


async def _forget(
    options: argparse.Namespace, mirror: Mirror, unlisted: Sequence[Listed], before: Sequence[Listed]
) -> None:
    """Without a question only what was unlisted `before` goes: nobody may have seen yet what else is, and a
    server that lies for a moment would empty the mirror."""
    display = given.display(options)
    if options.yes:
        new = [one for one in unlisted if one not in before]
        unlisted = [one for one in unlisted if one in before]
        if new:
            note(f"{len(new)} of them are not forgotten without a question before the next sync.")
    else:
        display.collections(unlisted)
        question = f"Remove {len(unlisted)} collection(s) from the mirror, which may be the last copy?"
        if not await asking.confirm(question, "--yes"):
            note("Nothing was forgotten.")
            return
    forgotten = mirror.forget(unlisted)
    display.tell(f"{forgotten} collection(s) forgotten.", forgotten=forgotten)


def _tell(display: Terminal | Lines, report: Report, unlisted: int, count: tuple[int, int]) -> None:
    fetched, (collections, messages) = len(report.fetched), count
    display.tell(
        f"{fetched} collection(s) fetched, {report.removed} removed; "
        f"the mirror has {collections}, with {messages} messages.",
        fetched=fetched,
        removed=report.removed,
        unlisted=unlisted,
        collections=collections,
        messages=messages,
        suspicious=report.troubles,
        unfetched=[
            {"with": collection.with_, "start": collection.told, "reason": reason}
            for collection, reason in report.unfetched
        ],
        settled=report.settled,
    )
    _note(report, unlisted)


def _note(report: Report, unlisted: int) -> None:
    for collection, reason in report.unfetched:
        start = local(collection.start).isoformat(" ", "seconds")
        note(f"with {collection.with_}, {start}: {reason}. It is asked for again next time.")
    troubles = sum(report.fetched.values())
    if troubles:
        note(
            f"{troubles} place(s) of what was fetched could not be read, or are suspicious: "
            "archive-reader read --offline shows them."
        )
    if unlisted:
        note(
            f"{unlisted} collection(s) of the mirror are not on the server any more, or not all of what is "
            "here, and it did not say that they were removed: they are kept as they are. "
            "archive-reader sync --forget removes them here, too."
        )
    if not report.settled:
        note("The archive changes faster than it can be fetched: sync again for what came meanwhile.")


COMMAND = Command(
    "sync", "keep a copy of the archive here, to read and search offline", _HELP, _arguments, _begin
)
