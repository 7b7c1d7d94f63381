"""What ``list`` and ``read`` do: which collections, which of their pages. The book opens them, a
display shows them; no terminal and no file is known here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Protocol

from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import NotFound
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
    archive: Archive, chosen: Sequence[Listed], book: Book, display: Display, last: int | None = None
) -> int:
    """Show these collections, or only their `last` so many messages. In how many places there is
    something that could not be read, or is suspicious."""
    if last is not None:
        return await _read_last(archive, chosen, book, display, last)
    troubles = 0
    for collection in chosen:
        display.begin(collection)
        try:
            troubles += await _show(archive.pages(collection, book), 0, collection, book, display)
        except NotFound:
            display.withheld(collection)
            troubles += 1
    return troubles


async def _read_last(
    archive: Archive, chosen: Sequence[Listed], book: Book, display: Display, most: int
) -> int:
    found: list[tuple[Listed, list[ChatPage]]] = []
    troubles = 0
    for collection in reversed(chosen):
        if most <= 0:
            break
        try:
            pages = await archive.last_pages(collection, book, most)
        except NotFound:
            display.withheld(collection)
            troubles += 1
            continue
        most -= sum(len(page.parts) for page in pages)
        found.insert(0, (collection, pages))
    for collection, pages in found:
        display.begin(collection)
        troubles += await _show(_each(pages), pages[0].index, collection, book, display)
    return troubles


async def _show(
    pages: AsyncIterator[ChatPage], place: int, collection: Listed, book: Book, display: Display
) -> int:
    book.begin(collection, place)
    troubles, count = 0, None
    async for page in pages:
        for entry in book.read(page):
            display.entry(entry)
            troubles += entry.suspicious
        count = page.info.count if page.info else None
    missing = book.end(count)
    if missing:
        display.missing(missing)
    return troubles + (missing > 0)


async def _each(pages: Sequence[ChatPage]) -> AsyncIterator[ChatPage]:
    for page in pages:
        yield page
