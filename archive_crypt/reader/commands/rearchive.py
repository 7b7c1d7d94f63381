"""``archive-reader rearchive``: what was encrypted between two people, sealed with the archive's own keys."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.reader import asking, finding, given, importing, rearchiving, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.commands import ending
from archive_crypt.reader.connection import Connection
from archive_crypt.reader.errors import RequestFailed
from archive_crypt.reader.failures import DONE, SUSPICIOUS, Problem
from archive_crypt.reader.opening import Book
from archive_crypt.reader.otr import Logging
from archive_crypt.reader.progress import progress
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.rearchive import Done, Rearchive
from archive_crypt.reader.rearchiving import ConsentNeeded
from archive_crypt.reader.show import clean, local, note
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader rearchive romeo@example.org --openpgp-key mine.asc --openpgp-key juliets.asc
  archive-reader rearchive romeo@example.org --openpgp-key mine.asc --with juliet@example.org
  archive-reader rearchive romeo@example.org --transcript balcony.jsonl

With --openpgp-key: each collection that has OpenPGP messages is opened, sealed anew for your confirmed
keys, read back, and compared; only then the old one is removed, and only if nothing had to be left out
and all signatures could be checked, which takes the public keys of your contacts. So the OpenPGP key may
go. What would be replaced is shown first, and done when you say so. A conversation of the last ten minutes
stays as it is, as more may come.

With --transcript: a conversation that your client held with short-lived keys (XEP-0200) and wrote in the
clear, in any format that archive-reader save takes, is put into the archive: its messages, sealed. Its keys
will be gone and yours stay, so you are asked whether you mean it. What the two of you agreed to be off the
record is refused: as the file shows, or as --logging says.

Stopped at any moment, it goes on when it is begun again. What stays as it was is named, with the reason;
the exit code is 4 then.
"""


def _arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    usage.add_filter(command)
    usage.add_end(command)
    usage.add_keys(command, "open with this key and seal for it; may be given again")
    usage.add_openpgp(command)
    usage.add_force(command)
    command.add_argument("--yes", action="store_true", help="do not ask whether old collections may go")
    command.add_argument(
        "--transcript",
        type=Path,
        action="append",
        metavar="FILE",
        help="of conversations; may be given again",
    )
    command.add_argument(
        "--logging",
        choices=[one.value for one in Logging],
        help="what was agreed of the logging of these transcripts, if they do not show it",
    )
    command.add_argument(
        "--accept-pfs-loss",
        action="store_true",
        help="do not ask: they can be read then by whoever gets one of your private keys",
    )


def _begin(options: argparse.Namespace) -> Doing:
    _check(options)
    connection = given.connection(options)
    public = [key for _, key in given.public_keys(options)]
    private = given.opening_keys(options)
    if {key.fingerprint for key in private}.isdisjoint(key.name for key in public):
        raise Problem("What is sealed is read back, which takes one of its private keys: give it with --key.")
    if options.transcript:
        return _add(options, connection, public, private)
    return _replace(options, connection, public, private)


def _check(options: argparse.Namespace) -> None:
    """:raises Problem: what is given does not go together."""
    if bool(options.transcript) == bool(options.openpgp_key):
        raise Problem("Say what to archive anew: by --openpgp-key what it opens, or a --transcript.")
    chosen = any(value is not None for value in (options.with_, options.start, options.end))
    if options.transcript and (chosen or options.yes):
        raise Problem(
            "All of a --transcript is archived: --with, --start, --end and --yes say nothing of it."
        )
    if not options.transcript and (options.logging or options.accept_pfs_loss):
        raise Problem("--logging and --accept-pfs-loss are of a --transcript.")


async def _replace(
    options: argparse.Namespace,
    connection: Connection,
    public: Sequence[PublicKey],
    private: Sequence[PrivateKey],
) -> int:
    query = Query(options.with_, options.start, options.end)
    stack, inner = given.openpgp(options)
    results = _Results(options)
    with stack:
        async with connection:
            archive = Archive(connection)
            found = await finding.find(archive, query, private, ending.report)
            chosen = found.collections
            if not chosen:
                note("No collection that matches has OpenPGP messages.")
            elif options.yes or await _confirmed(options, chosen):
                agreements = found.agreements
                doing = Rearchive(archive, public, private, force=options.force, agreements=agreements)
                with results, progress("rearchiving", len(chosen)) as tell:
                    for collection in chosen:
                        results.done.append(await doing.replace(collection, inner(options.jid)))
                        tell(len(results.done), len(chosen))
            else:
                note("Nothing was changed.")
    return results.code(found.unread)


async def _add(
    options: argparse.Namespace,
    connection: Connection,
    public: Sequence[PublicKey],
    private: Sequence[PrivateKey],
) -> int:
    consent = _Consent(options.accept_pfs_loss)
    logging = Logging(options.logging) if options.logging else None
    book = Book(private)
    results = _Results(options)
    async with connection:
        doing = Rearchive(Archive(connection), public, private, force=options.force)
        try:
            with results:
                for path in options.transcript:
                    for transcript in importing.read(path, options.jid, book.blank()):
                        results.done.append(await doing.add(transcript, logging, consent.get))
        except ConsentNeeded:
            note("Nothing was archived.")
    return results.code()


class _Consent:
    """The user's, who is asked once."""

    def __init__(self, accepted: bool) -> None:
        self._given = True if accepted else None

    async def get(self) -> bool:
        """:raises Problem: there is no terminal to ask at."""
        if self._given is None:
            self._given = await asking.confirm(rearchiving.CONSENT, "--accept-pfs-loss")
        return self._given


async def _confirmed(options: argparse.Namespace, found: Sequence[Listed]) -> bool:
    if not options.json:
        given.display(options).collections(found)
    what = "this collection" if len(found) == 1 else f"these {len(found)} collections"
    question = f"Seal {what} anew, and remove the old for good where all of it could be?"
    return await asking.confirm(question, "--yes")


class _Results:
    """What came of each collection, or transcript; told at the end, whatever the end is."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.done: list[Done] = []
        self._display = given.display(options)
        self._old = "the file" if options.transcript else "the old collection"

    def __enter__(self) -> _Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self.done:
            self._tell(one)
        if isinstance(error, RequestFailed):
            note("What was done is done, and the rest is as it was: give the same command again to go on.")

    def code(self, troubles: int = 0) -> int:
        """The exit code; `troubles`: so much could not be read besides."""
        stay = sum(one.why is not None for one in self.done)
        if self.done:
            lines = [f"Sealed anew: all of {len(self.done) - stay} collection(s)."]
            if stay:
                lines += [f"Not, or not wholly: {stay}; see above. Keep the old, and what opens it."]
            self._display.tell(*lines, rearchived=len(self.done) - stay, left=stay)
        return SUSPICIOUS if stay or troubles else DONE

    def _tell(self, one: Done) -> None:
        where = f"with {clean(one.collection.with_)}, {local(one.collection.start).isoformat(' ')}"
        sealed = f"{one.messages} message(s) sealed anew" if one.messages else "nothing sealed anew"
        left_out = f", {one.left_out} left out" if one.left_out else ""
        detail = f" {clean(one.detail)}" if one.detail else ""
        if one.why is None:
            ends = "" if self._old == "the file" else f"; {self._old} is removed"
            line = f"{where}: {sealed}{left_out}{ends}.{detail}"
        else:
            line = f"! {where}: {sealed}{left_out}; keep {self._old}: {one.why.text}.{detail}"
        facts = {"with": one.collection.with_, "start": one.collection.told}
        self._display.tell(
            line,
            **facts,
            messages=one.messages,
            left_out=one.left_out,
            reason=None if one.why is None else one.why.word,
            detail=one.detail,
            suspicious=one.why is not None,
        )


COMMAND = Command("rearchive", "seal anew what was encrypted between two people", _HELP, _arguments, _begin)
