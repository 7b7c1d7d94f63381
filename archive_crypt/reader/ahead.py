"""Pages of many collections, one collection after another: while one is read, the next are fetched, and
their data keys unwrapped. A round trip, and an RSA operation, for each would else be waited for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from archive_crypt.reader.archive import Archive
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import ChatPage, Listed

#: Collections that are fetched at once. Our servers work on two requests of a user at a time.
_AT_ONCE = 3
#: Pages of a collection that wait to be read: they are in memory.
_WAITING = 2


async def transcripts(
    archive: Archive, collections: Sequence[Listed], book: Book
) -> AsyncGenerator[tuple[Listed, AsyncIterator[ChatPage]], None]:
    """These collections in their order, each with its pages, which are to be read before the next is
    asked for. What `Archive.pages` raises is raised there."""
    fetching: deque[_Fetching] = deque()
    left = iter(collections)
    try:
        while True:
            while len(fetching) < _AT_ONCE and (collection := next(left, None)) is not None:
                fetching.append(_Fetching(archive, collection, book))
            if not fetching:
                return
            yield fetching[0].collection, fetching[0].pages()
            await fetching.popleft().stop()
    finally:
        for one in fetching:
            await one.stop()


class _Fetching:
    """A collection whose pages are fetched, as far as there is room."""

    def __init__(self, archive: Archive, collection: Listed, book: Book) -> None:
        self.collection = collection
        self._archive = archive
        self._book = book
        self._pages: asyncio.Queue[ChatPage | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_WAITING)
        self._task = asyncio.create_task(self._fetch())
        self._task.add_done_callback(lambda _: self._pages.put_nowait(None))

    async def pages(self) -> AsyncIterator[ChatPage]:
        while (page := await self._pages.get()) is not None:
            self._room.release()
            yield page
        await self._task  # raises what ended it

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.exception()  # whoever wanted to know was told

    async def _fetch(self) -> None:
        async for page in self._archive.pages(self.collection, self._book):
            await self._room.acquire()
            self._book.prepare(page)
            self._pages.put_nowait(page)
