"""A whole archive listed, retrieved and opened over a real connection; and the opener by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from archive_crypt.reader import reading
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.opening import Book, Entry
from archive_crypt.reader.protocol import ChatPage, Listed, Query
from bench.reader.bed import Bed, Used


@dataclass
class Retrieved:
    """`listing` seconds; what the rest `used`, of which `opening` seconds were in the opener; the
    pages that were opened."""

    collections: Sequence[Listed]
    count: int
    listing: float
    opening: float
    used: Used
    pages: list[ChatPage]


class _Counted:
    """A display of nothing."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self, collection: Listed) -> None:
        pass

    def entry(self, entry: Entry) -> None:
        assert not entry.suspicious, entry.findings
        self.count += 1

    def missing(self, count: int) -> None:
        raise AssertionError(count)

    def withheld(self, collection: Listed) -> None:
        raise AssertionError(collection)


class _Watched(Book):
    """A book that knows how long it took, and what it read."""

    def __init__(self, private_keys) -> None:
        super().__init__(private_keys)
        self.seconds, self.pages = 0.0, list[ChatPage]()

    def read(self, page):
        begun = time.thread_time()
        entries = super().read(page)
        self.seconds += time.thread_time() - begun
        self.pages.append(page)
        return entries


async def retrieve(bed: Bed) -> Retrieved:
    """All of the archive."""
    async with bed.archive() as archive:
        begun = time.perf_counter()
        chosen = await reading.choose(archive, Query())
        listing = time.perf_counter() - begun
        return await _read(bed, archive, chosen, listing)


async def _read(bed: Bed, archive: Archive, chosen: Sequence[Listed], listing: float) -> Retrieved:
    display, book = _Counted(), _Watched([bed.key])
    with bed.used() as used:
        troubles = await reading.read(archive, chosen, book, display, _report)
    assert not troubles
    return Retrieved(chosen, display.count, listing, book.seconds, used, book.pages)


def open_again(bed: Bed, pages: Sequence[ChatPage]) -> tuple[float, float]:
    """Items that the opener does by itself, a second and a second of its thread's CPU. Each collection's
    first page is prepared while the two before it are read, as when they come from a server."""
    book = Book([bed.key])
    began = [number for number, page in enumerate(pages) if not page.index]
    ahead = {before: pages[after] for before, after in zip(began, began[2:], strict=False)}
    count, begun, cpu = 0, time.perf_counter(), time.thread_time()
    for number, page in enumerate(pages):
        if not page.index:
            book.begin(page.collection)
        if number in ahead:
            book.prepare(ahead[number])
        count += len(book.read(page))
    return count / (time.perf_counter() - begun), count / (time.thread_time() - cpu)


def _report(collection: Listed, why: str) -> None:
    raise AssertionError(why)
