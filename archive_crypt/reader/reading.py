"""What ``list`` and ``read`` do: which collections, which of their pages. The book opens them, a
display shows them; no terminal and no file is known here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from archive_crypt.reader import ahead
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import NotFound, NotUnderstood, Refused, RequestFailed
from archive_crypt.reader.opening import Book, Entry
from archive_crypt.reader.protocol import ChatPage, Listed, Query


class Display(Protocol):
    """Where collections are shown, one after another."""

    def begin(self, collection: Listed) -> None:
        """The entries that follow are of this collection."""

    def entry(self, entry: Entry) -> None:
        """One message."""

    def missing(self, count: int) -> None:
        """The collection has so many more messages, and the server did not give them."""

    def withheld(self, collection: Listed) -> None:
        """The collection was listed, but is not there."""


#: Told of a collection that could not be read, or not to its end, and why.
Report = Callable[[Listed, str], None]


async def listed(archive: Archive, query: Query, most: int | None = None) -> list[Listed]:
    """The collections that match, at most the first `most` of them."""
    found: list[Listed] = []
    async with aclosing(archive.collections(query)) as collections:
        async for collection in collections:
            found.append(collection)
            if len(found) == most:
                break
    return found


async def choose(archive: Archive, query: Query) -> list[Listed]:
    """The collections that match: the one that is named exactly, by contact and start, or all."""
    found = await listed(archive, query)
    named = [chat for chat in found if (chat.with_, chat.start) == (query.with_, query.start)]
    return named or found


async def read(
    archive: Archive,
    chosen: Sequence[Listed],
    book: Book,
    display: Display,
    report: Report,
    last: int | None = None,
) -> int:
    """Show these collections, or only their `last` so many messages. Where the server's answers make no sense
    that is reported, and the next collection is read. In how many places there is something that
    could not be read, or is suspicious."""
    if last is not None:
        return await _read_last(archive, chosen, book, display, report, last)
    troubles = 0
    async with aclosing(ahead.transcripts(archive, chosen, book)) as found:
        async for collection, pages in found:
            display.begin(collection)
            try:
                troubles += await _show(pages, collection, book, display)
            except (Refused, NotUnderstood) as error:
                _say(error, collection, display, report)
                troubles += 1
    return troubles


async def _read_last(
    archive: Archive, chosen: Sequence[Listed], book: Book, display: Display, report: Report, most: int
) -> int:
    found: list[tuple[Listed, list[ChatPage]]] = []
    troubles, parts = 0, 0
    for collection in reversed(chosen):
        if parts >= most:
            break
        try:
            pages = await archive.last_pages(collection, book, most - parts)
        except (Refused, NotUnderstood) as error:
            _say(error, collection, display, report)
            troubles += 1
            continue
        parts += sum(map(len, pages))
        found.insert(0, (collection, pages))
    opened = [(collection, *await _opened(collection, pages, book)) for collection, pages in found]
    # What clients seal is several messages in one part: the first of those may be too many.
    surplus = max(0, sum(len(entries) for _, entries, _ in opened) - most)
    for collection, entries, missing in opened:
        shown, surplus = entries[surplus:], max(0, surplus - len(entries))
        if shown or missing or not entries:
            display.begin(collection)
            troubles += _show_entries(shown, display) + _show_missing(missing, display)
    return troubles


async def _opened(collection: Listed, pages: Sequence[ChatPage], book: Book) -> tuple[list[Entry], int]:
    """The entries of a collection's last pages, and how many more it should have."""
    book.begin(collection, pages[0].index)
    entries = [entry for page in pages for entry in await book.read_aside(page)]
    info = pages[-1].info
    return entries, book.end(info.count if info else None)


async def _show(pages: AsyncIterator[ChatPage], collection: Listed, book: Book, display: Display) -> int:
    book.begin(collection)
    troubles, count = 0, None
    async for page in pages:
        troubles += _show_entries(await book.read_aside(page), display)
        count = page.info.count if page.info else None
    return troubles + _show_missing(book.end(count), display)


def _show_entries(entries: Sequence[Entry], display: Display) -> int:
    for entry in entries:
        display.entry(entry)
    return sum(entry.suspicious for entry in entries)


def _show_missing(count: int, display: Display) -> int:
    if count:
        display.missing(count)
    return count > 0


def _say(error: RequestFailed, collection: Listed, display: Display, report: Report) -> None:
    if isinstance(error, NotFound):
        display.withheld(collection)
    else:
        report(collection, str(error))
