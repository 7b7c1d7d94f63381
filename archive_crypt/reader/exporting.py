"""What ``export`` and ``open`` do: an archive, or a file of one, into files. No terminal is known here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from archive_crypt.reader import ahead
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import NotFound, NotUnderstood, Refused
from archive_crypt.reader.formats.files import PerContact
from archive_crypt.reader.formats.transcript import Transcript, Writer, extras_of
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import ChatPage, Listed, is_sealed
from archive_crypt.reader.reading import Display, Report


@dataclass(slots=True)
class Summary:
    """What there was. `troubles`: in how many places something could not be read, or is suspicious."""

    collections: int = 0
    messages: int = 0
    troubles: int = 0


#: Told before each collection what there was so far.
Progress = Callable[[Summary], None]


#: Writes a page of a collection; how many messages there were, and how many of them are suspicious.
Put = Callable[[ChatPage], Awaitable[tuple[int, int]]]


async def export(
    archive: Archive, chosen: Sequence[Listed], book: Book, writer: Writer, progress: Progress, report: Report
) -> Summary:
    """These collections, opened and checked, written one after the other as they come."""

    async def put(page: ChatPage) -> tuple[int, int]:
        entries = await book.read_aside(page)
        for entry in entries:
            writer.entry(entry)
        return len(entries), sum(entry.suspicious for entry in entries)

    return await _each(archive, chosen, book, writer, put, progress, report)


async def export_encrypted(
    archive: Archive, chosen: Sequence[Listed], writer: PerContact, progress: Progress, report: Report
) -> Summary:
    """These collections with what is sealed as the server gives it, and the EncryptedKeys that open it."""
    nobodys = Book([])  # it keeps the time of what is in clear

    async def put(page: ChatPage) -> tuple[int, int]:
        for number, part in enumerate(page.parts):
            index = 0 if number else page.index  # only its first item begins the page
            entries = nobodys.read(replace(page, parts=(part,), keys=(), index=index))
            if is_sealed(part):
                writer.sealed(part)
                continue
            for entry in entries:
                writer.entry(entry)
        writer.keys(page.keys)
        return len(page.parts), 0

    return await _each(archive, chosen, nobodys, writer, put, progress, report)


async def _each(
    archive: Archive,
    chosen: Sequence[Listed],
    book: Book,
    writer: Writer,
    put: Put,
    progress: Progress,
    report: Report,
) -> Summary:
    summary = Summary()
    async with aclosing(ahead.transcripts(archive, chosen, book)) as found:
        async for collection, pages in found:
            progress(summary)
            await _collection(collection, pages, book, writer, put, summary, report)
    return summary


async def _collection(
    collection: Listed,
    pages: AsyncIterator[ChatPage],
    book: Book,
    writer: Writer,
    put: Put,
    summary: Summary,
    report: Report,
) -> None:
    summary.collections += 1
    book.begin(collection)
    begun, count = False, None
    try:
        async for page in pages:
            if not begun:
                writer.begin(collection, extras_of(page, book.form(page)))
                begun = True
            messages, troubles = await put(page)
            summary.messages += messages
            summary.troubles += troubles
            count = page.info.count if page.info else None
    except (Refused, NotUnderstood) as error:
        if isinstance(error, Refused) and error.type == "wait":
            raise  # it passes: there will be a file that is whole
        if not isinstance(error, NotFound):
            report(collection, str(error))
        writer.withheld(collection)
        summary.troubles += 1
        return
    missing = book.end(count)
    if missing:
        writer.missing(missing)
        summary.troubles += 1


def show(transcripts: Iterable[Transcript], display: Display, progress: Progress) -> Summary:
    """What a file holds, shown one after the other as it is read."""
    return _tell(transcripts, display, lambda one: display.begin(one.collection), progress)


def rewrite(transcripts: Iterable[Transcript], writer: Writer, progress: Progress) -> Summary:
    """What a file holds, written into another one after the other as it is read."""
    return _tell(transcripts, writer, lambda one: writer.begin(one.collection, one.extras), progress)


def _tell(
    transcripts: Iterable[Transcript],
    display: Display,
    begin: Callable[[Transcript], None],
    progress: Progress,
) -> Summary:
    summary = Summary()
    for transcript in transcripts:
        progress(summary)
        begin(transcript)
        for entry in transcript.entries:
            display.entry(entry)
        if transcript.missing:
            display.missing(transcript.missing)
        if transcript.withheld:
            display.withheld(transcript.collection)
        summary.collections += 1
        summary.messages += len(transcript.entries)
        summary.troubles += sum(entry.suspicious for entry in transcript.entries)
        summary.troubles += bool(transcript.missing) + transcript.withheld
    return summary
