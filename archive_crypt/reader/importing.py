"""What ``save`` does: files of conversations into an archive. No terminal is known here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from archive_crypt.core.items import ReadItem
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.model import SaveMode
from archive_crypt.reader import agreed
from archive_crypt.reader.agreed import Agreements, OffTheRecord
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import (
    CannotAsk,
    NotAcceptable,
    NotFound,
    NotUnderstood,
    NotWanted,
    PolicyViolation,
)
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.formats import jsonl, mail
from archive_crypt.reader.formats.transcript import Extras, Transcript, settled
from archive_crypt.reader.formats.xepfile import ArchiveFile
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.reading import Report
from archive_crypt.reader.xep_0136 import uploads

#: What one collection cannot be saved for, while others can.
_ITS_OWN = (OffTheRecord, NotWanted, NotAcceptable, CannotAsk, PolicyViolation)


@dataclass(slots=True)
class Summary:
    """What came of it: collections and messages that were saved; collections that were in the archive
    already; in how many places something was not saved that should have been."""

    collections: int = 0
    messages: int = 0
    already: int = 0
    troubles: int = 0


@dataclass(frozen=True, slots=True)
class How:
    """`keys`: what is saved is sealed for these; None: it is saved in clear. `subjects`: those go with
    what is sealed, for the server to read. `book` opens what is there already. `force`: against the
    user's preferences, too, but not against what he agreed to with a contact."""

    keys: Sequence[PublicKey] | None
    subjects: bool
    book: Book
    force: bool = False


def read(path: Path, owner: str, book: Book) -> Iterator[Transcript]:
    """The transcripts in a file, whichever of those formats it is that can be read. `book` opens what is
    sealed in it.

    :raises Problem: it cannot be read, or is of no such format.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}") from None
    if begin.startswith(b"{"):
        yield from jsonl.read(path)
    elif begin.startswith(b"From "):
        yield from mail.read(path, owner)
    elif begin.startswith(b"<"):
        found = ArchiveFile(path)
        try:
            yield from found.transcripts(book, trusted=True)
        finally:
            found.close()
    else:
        raise Problem(f"{path} is neither XEP-0136's file format, nor JSON Lines of export, nor mbox.")


async def save(
    archive: Archive,
    transcripts: Iterable[Transcript],
    how: How,
    report: Report,
    progress: Callable[[Summary], None],
) -> Summary:
    """These transcripts, each in a collection of its own. What is there already is not saved again, so
    that what was interrupted can be begun anew. What cannot be saved is reported, and the others are."""
    summary, agreements = Summary(), Agreements()
    for transcript in transcripts:
        progress(summary)
        told = transcript.collection
        outcome = agreements.outcome(told, transcript.entries)
        try:
            await agreed.check(archive, told.with_, told.thread, outcome, force=how.force)
            await _save(archive, transcript, how, report, summary)
        except _ITS_OWN as error:
            report(told, f"not saved. {error}")
            summary.troubles += 1
        except NotUnderstood as error:
            report(transcript.collection, str(error))
            summary.troubles += 1
    return summary


async def _save(archive: Archive, transcript: Transcript, how: How, report: Report, summary: Summary) -> None:
    told = transcript.collection
    items = _items(transcript, report, summary)
    there = await _there(archive, Listed.named(told.with_, told.start), how.book)
    known = _known(items, there)
    if known is None:
        report(told, "the archive has something else there, or what cannot be opened: not saved.")
        summary.troubles += 1
        return
    subject = told.subject
    if subject and how.keys is not None and not how.subjects:
        report(told, "its subject is left out, as the server could read it. See --subjects.")
        subject = None
    left, first = items[known:], uploads.How()
    if not there or not all(map(_may_be_left_out, left)):
        first = besides(subject, transcript.extras)
    if not left and not first:
        summary.already += bool(there)
        return
    saved = await archive.save(
        Listed.named(told.with_, told.start, told.thread),
        left,
        how.keys,
        confirm=lambda _: how.subjects,
        **first | uploads.How(since=items[known - 1].at if known else None, force=how.force),
    )
    if saved.left_out:
        report(told, f"{len(saved.left_out)} message(s) say nothing, or were not to be stored: left out.")
    if saved.items or first:
        summary.collections += 1
    else:
        summary.already += bool(there)
    summary.messages += saved.items


def _known(items: Sequence[ReadItem], there: Sequence[object]) -> int | None:
    """How many of the first items need no saving, as what is there is of them: it is all of them but those
    that are left out. None: it is not."""
    known = 0
    for essence in there:
        while known < len(items) and _essence(items[known]) != essence and _may_be_left_out(items[known]):
            known += 1
        if known == len(items) or _essence(items[known]) != essence:
            return None
        known += 1
    return known


def _may_be_left_out(item: ReadItem) -> bool:
    """Whether it is, if the user's preferences are such."""
    return not uploads.sift((item,), SaveMode.BODY)[0]


def besides(subject: str | None, extras: Extras) -> uploads.How:
    """What there is besides messages, to be uploaded with the first of them."""
    how = uploads.How()
    if subject:
        how["subject"] = subject
    if extras.links:
        how["links"] = extras.links
    if extras.form:
        how["form"] = extras.form
    return how


def _items(transcript: Transcript, report: Report, summary: Summary) -> list[ReadItem]:
    """Those entries that can be vouched for: saved anew, they would all look alike. What negotiated is no
    message, and is not saved anywhere."""
    said = agreed.said(transcript.entries)
    good = [entry for entry in said if not entry.suspicious]
    items = [item for entry in good if (item := settled(entry).item) is not None and item.at is not None]
    lost = len(said) - len(items)
    if lost:
        why = "unreadable, suspicious, or without a time"
        report(transcript.collection, f"{lost} message(s) left out: {why}.")
    if transcript.missing or transcript.withheld:
        report(transcript.collection, "it was not complete when it was written into the file.")
    summary.troubles += bool(lost or transcript.missing or transcript.withheld)
    return items


async def _there(archive: Archive, collection: Listed, book: Book) -> list[object]:
    """What the archive has of it, None for what cannot be believed; nothing, if it is not there."""
    found: list[object] = []
    try:
        book.begin(collection)
        async for page in archive.pages(collection, book):
            for entry in book.read(page):
                item = None if entry.suspicious else settled(entry).item
                found.append(None if item is None else _essence(item))
    except NotFound:
        return []
    return found


def _essence(item: ReadItem) -> object:
    """What makes it the same message: other children may be left out, as the user's preferences have it."""
    return item.kind, item.at, item.bodies
