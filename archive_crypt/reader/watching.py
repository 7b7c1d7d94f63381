"""What is new in an archive since somebody began to watch: asked for again and again, as a server tells of
no message that it archived. Each message is shown once, in its collection's order.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from archive_crypt.core import jids
from archive_crypt.model import SECOND, Micros, PageRequest
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import NotFound, NotUnderstood
from archive_crypt.reader.opening import Book, Entry
from archive_crypt.reader.protocol import ChatPage, Listed, Query
from archive_crypt.reader.reading import Report
from archive_crypt.reader.xep_0136.paging import Paging

#: Seconds before the beginning in which a collection changed that may still be open. Servers close
#: one after some minutes of silence.
_RECENT = 3600


@dataclass(slots=True)
class _Followed:
    """A collection: `book` has read it as far as `last`, the id of an item; None: from its beginning.
    Of what it holds, what was said before `since` is not shown."""

    book: Book
    last: str | None = None
    since: Micros | None = None


class Watch:
    """The collections of an archive that match a query, as they grow."""

    def __init__(self, archive: Archive, book: Book, query: Query, report: Report) -> None:
        """`book` has the private keys; `report` is told of a collection where the server makes no sense."""
        self._archive = archive
        self._book = book
        self._query = query
        self._report = report
        self._followed: dict[tuple[str, Micros], _Followed] = {}
        self._begun: Micros = 0
        self._cursor: str | None = None

    async def begin(self) -> None:
        """What is there now is not new."""
        self._begun = time.time_ns() // 1000 + await self._archive.plain.clock_offset()
        async for page in self._archive.modified(self._begun - _RECENT * SECOND):
            self._cursor = page.cursor or self._cursor
            for change in page.changes:
                if not change.removed and self._matches(change.collection):
                    await self._skip(change.collection)

    async def news(self) -> AsyncIterator[tuple[Listed, list[Entry]]]:
        """What came since the last call: collections, each with its new messages, in the order in which
        they changed. One that was removed comes with none."""
        gone: dict[tuple[str, Micros], tuple[Listed, _Followed]] = {}
        changed: dict[tuple[str, Micros], Listed] = {}
        async for page in self._archive.modified(self._begun - _RECENT * SECOND, self._cursor):
            self._cursor = page.cursor or self._cursor
            for change in page.changes:
                which = change.collection.with_, change.collection.start
                changed.pop(which, None)
                if not change.removed:
                    changed[which] = change.collection
                elif which in self._followed:
                    gone[_bare(change.collection)] = change.collection, self._followed.pop(which)
        for which, collection in changed.items():
            if self._matches(collection):
                if _bare(collection) in gone and which not in self._followed:  # it was renamed
                    self._followed[which] = gone.pop(_bare(collection))[1]
                entries = await self._entries(collection)
                if entries:
                    yield collection, entries
        for removed, _ in gone.values():
            yield removed, []

    def _matches(self, collection: Listed) -> bool:
        wanted = self._query.with_
        bare = jids.bare(collection.with_)
        return wanted is None or wanted in (collection.with_, bare, bare.rpartition("@")[2])

    async def _skip(self, collection: Listed) -> None:
        """Follow a collection from its present end on. If that cannot be told, what is said from now on is
        shown when it changes."""
        book = self._book.blank()
        try:
            page = await self._archive.sealed.page(collection, book, PageRequest(max=1, before=""))
        except NotFound:
            return
        except NotUnderstood as error:
            self._report(collection, str(error))
            return
        book.begin(collection, page.index + len(page))
        last = page.info.last if page.info else None
        self._followed[collection.with_, collection.start] = _Followed(book, last)

    async def _entries(self, collection: Listed) -> list[Entry]:
        which = collection.with_, collection.start
        if which not in self._followed:
            self._follow(collection)
        try:
            try:
                pages = await self._pages(collection)
            except NotFound:  # so is the item after which it was to go on
                self._follow(collection)
                pages = await self._pages(collection)
        except NotFound:
            return []
        except NotUnderstood as error:
            self._report(collection, str(error))
            return []
        followed = self._followed[which]
        entries = [entry for page in pages for entry in followed.book.read(page)]
        since = followed.since
        return [one for one in entries if since is None or one.at is None or one.at >= since]

    def _follow(self, collection: Listed) -> None:
        """From its beginning on: if it began before us, only what was said since."""
        book = self._book.blank()
        book.begin(collection)
        since = self._begun if collection.start < self._begun else None
        self._followed[collection.with_, collection.start] = _Followed(book, None, since)

    async def _pages(self, collection: Listed) -> list[ChatPage]:
        followed = self._followed[collection.with_, collection.start]
        paging, pages = Paging(followed.last), list[ChatPage]()
        while True:
            request = PageRequest(after=paging.after)
            page = await self._archive.sealed.page(collection, followed.book, request)
            pages.append(page)
            if not paging.next(page.info, len(page), complete=False):
                break
        followed.last = next((p.info.last for p in reversed(pages) if p.info and p.info.last), followed.last)
        return pages


def _bare(collection: Listed) -> tuple[str, Micros]:
    return jids.bare(collection.with_), collection.start
