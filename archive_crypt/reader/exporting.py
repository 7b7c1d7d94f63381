"""What ``export`` and ``open`` do: an archive, or a file of one, into files. No terminal is known here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from archive_crypt.reader import reading
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.failures import Refused
from archive_crypt.reader.formats.files import PerContact
from archive_crypt.reader.formats.transcript import Transcript, Writer
from archive_crypt.reader.opening import Book, Entry
from archive_crypt.reader.protocol import ChatPage, Listed, is_sealed

#: Told of each collection that is done, and how many messages there were so far.
Progress = Callable[[int], None]


@dataclass(slots=True)
class Summary:
    """What went into files. `troubles`: in how many places something could not be read, or is suspicious."""

    collections: int = 0
    messages: int = 0
    troubles: int = 0


class Counted:
    """A display that passes all on to another, and counts."""

    def __init__(self, display: reading.Display, summary: Summary, progress: Progress) -> None:
        self._display = display
        self._summary = summary
        self._progress = progress

    def begin(self, collection: Listed) -> None:
        self._summary.collections += 1
        self._progress(self._summary.messages)
        self._display.begin(collection)

    def entry(self, entry: Entry) -> None:
        self._summary.messages += 1
        self._display.entry(entry)

    def missing(self, count: int) -> None:
        self._display.missing(count)

    def withheld(self, collection: Listed) -> None:
        self._display.withheld(collection)


async def export(
    archive: Archive, chosen: Sequence[Listed], book: Book, writer: Writer, progress: Progress
) -> Summary:
    """These collections, opened and checked, written one after the other as they come."""
    summary = Summary()
    summary.troubles = await reading.read(archive, chosen, book, Counted(writer, summary, progress))
    return summary


async def export_encrypted(
    archive: Archive, chosen: Sequence[Listed], writer: PerContact, progress: Progress
) -> Summary:
    """These collections with what is sealed as the server gives it, and the EncryptedKeys that open it."""
    summary = Summary()
    nobodys = Book([])
    for collection in chosen:
        summary.collections += 1
        progress(summary.messages)
        writer.begin(collection)
        nobodys.begin(collection)
        try:
            count = None
            async for page in archive.pages(collection, nobodys):
                summary.messages += len(page.parts)
                _write_page(page, nobodys, writer)
                count = page.info.count if page.info else None
        except Refused as error:
            if error.condition != "item-not-found":
                raise
            writer.withheld(collection)
            summary.troubles += 1
            continue
        missing = nobodys.end(count)
        if missing:
            writer.missing(missing)
            summary.troubles += 1
    return summary


def show(transcripts: Iterable[Transcript], display: reading.Display, progress: Progress) -> Summary:
    """What a file holds, shown or written elsewhere one after the other as it is read."""
    summary = Summary()
    counted = Counted(display, summary, progress)
    for transcript in transcripts:
        counted.begin(transcript.collection)
        for entry in transcript.entries:
            counted.entry(entry)
            summary.troubles += entry.suspicious
        if transcript.missing:
            counted.missing(transcript.missing)
        if transcript.withheld:
            counted.withheld(transcript.collection)
        summary.troubles += bool(transcript.missing) + transcript.withheld
    return summary


def _write_page(page: ChatPage, book: Book, writer: PerContact) -> None:
    for part in page.parts:
        entries = book.read(replace(page, parts=(part,), keys=()))
        if is_sealed(part):
            writer.sealed(part)
            continue
        for entry in entries:
            writer.entry(entry)
    writer.keys(page.keys)
