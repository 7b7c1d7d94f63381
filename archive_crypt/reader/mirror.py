"""What ``sync`` does: a mirror becomes as the archive is, by what the server tells to have changed
(XEP-0136 10).

The server's cursor is kept with what it stands for, so that a sync which is interrupted goes on where
it was. A collection that changes while it is fetched is told of after the cursor: it is fetched again,
and there is no end before the server tells of no change.

What the server says was removed goes. If it does not know the cursor, or counts fewer collections than it
told of, it is asked for everything anew. What it just does not list any more then, or has an earlier
version of, stays: it was emptied, or set back, and the mirror is the last copy. If it lists everything all
the same, it counts by guess (XEP-0059), and is asked again only if more is wanting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from lxml import etree

from archive_crypt.core.times import EARLIEST
from archive_crypt.model import SECOND, Micros
from archive_crypt.reader.errors import NotFound, NotUnderstood, Refused
from archive_crypt.reader.mirrordb import Mirror, Pending, Stored
from archive_crypt.reader.mirrorrows import Head
from archive_crypt.reader.opening import Book, Entry
from archive_crypt.reader.protocol import ChangesPage, ChatPage, Listed
from archive_crypt.reader.xep_0241.encryption import Wanted

#: Collections that are fetched at once: what a distant server takes to answer is waited for together.
_AT_ONCE = 4
#: How often the server is asked what changed while its changes were fetched.
_ROUNDS = 20
#: After so long a server may have forgotten what was removed (a year is the least that ours keeps it):
#: it is asked for everything anew.
_STALE: Micros = 300 * 24 * 3600 * SECOND


class Source(Protocol):
    """Where collections come from: `archive_crypt.reader.archive.Archive`."""

    def modified(
        self, start: Micros = EARLIEST, after: str | None = None
    ) -> AsyncGenerator[ChangesPage, None]: ...

    def pages(self, collection: Listed, wanted: Wanted) -> AsyncGenerator[ChatPage, None]: ...

    async def count(self) -> int | None: ...


@dataclass(slots=True)
class Report:
    """What a sync did. `fetched`: in how many places of each collection, by its contact and start, there
    is something suspicious; `removed`: how many were, on the server; `unlisted`: how many it does not list
    any more since this sync, or gave an earlier version of; `unfetched`: what it told of and did not give,
    and why not; `settled`: whether the mirror has all that it has."""

    fetched: dict[tuple[str, Micros], int] = field(default_factory=dict)
    removed: int = 0
    unlisted: int = 0
    unfetched: list[tuple[Listed, str]] = field(default_factory=list)
    settled: bool = False

    @property
    def troubles(self) -> int:
        """In how many places there is something suspicious."""
        return sum(self.fetched.values()) + self.unlisted + len(self.unfetched)


class Sync:
    """One run. `book` has the private keys; `progress` is told how many collections were fetched, of how
    many."""

    def __init__(
        self, source: Source, mirror: Mirror, book: Book, progress: Callable[[int, int], None]
    ) -> None:
        self._source = source
        self._mirror = mirror
        self._book = book
        self._progress = progress
        self._report = Report()
        self._unfetched: dict[Pending, str] = {}
        self._restarted = False

    async def run(self, now: Micros) -> Report:
        """Make the mirror as the archive is `now`.

        :raises NotUnderstood: the server tells of changes as nobody can follow.
        :raises Problem: the mirror cannot be used. Whatever was fetched before is kept.
        """
        mirror = self._mirror
        mirror.try_keys(self._book.key_names)
        if now - (mirror.synced or now) > _STALE:
            mirror.restart(mirror.cursor)
        for _ in range(_ROUNDS):
            since, count = mirror.cursor, await self._source.count()
            await self._look()
            wanted = [pending for pending in mirror.pending() if pending not in self._unfetched]
            # If nothing changed from before it is counted until after, so many are expected here, too:
            # unless the server was emptied, or set back, and takes any cursor for its own.
            short = 0 if count is None else max(0, mirror.expected() - count)
            if wanted or mirror.cursor != since:
                await self._fetch_all(wanted)
            elif short > mirror.uncounted and not self._restarted:
                self._restart(since)
            else:
                mirror.settle(now, short if self._restarted else mirror.uncounted)
                self._report.settled = True
                break
        return self._reported()

    def _restart(self, cursor: str | None) -> None:
        self._restarted = True
        self._mirror.restart(cursor)

    async def _look(self) -> None:
        """Note what changed since the cursor, and where that goes on."""
        cursor = self._mirror.cursor
        try:
            await self._look_after(cursor)
        except NotFound:  # the server does not know it (any more)
            if cursor is None or self._restarted:
                raise NotUnderstood("The server does not know where its changes go on.") from None
            self._restart(cursor)
            await self._look_after(None)

    async def _look_after(self, since: str | None) -> None:
        cursor = since
        async with aclosing(self._source.modified(after=since)) as pages:
            async for page in pages:
                if not page.changes:
                    continue
                if page.cursor is None or page.cursor == cursor:
                    raise NotUnderstood("The server tells of changes, and not where to go on from.")
                removed = self._mirror.note(page.changes, page.cursor, cursor)
                if removed is None:
                    return  # another sync is at it: go on from where that got to
                self._report.removed += removed
                cursor = page.cursor
        self._report.unlisted += self._mirror.keep_unseen(cursor)

    async def _fetch_all(self, wanted: Sequence[Pending]) -> None:
        """All of these, some at a time."""
        left, done = iter(wanted), 0

        async def fetch_some() -> None:
            nonlocal done
            for pending in left:
                await self._fetch(pending, self._book.blank())
                done += 1
                self._progress(done, len(wanted))

        tasks = [asyncio.ensure_future(fetch_some()) for _ in range(_AT_ONCE)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, pending: Pending, book: Book) -> None:
        asked = pending.collection
        try:
            head, entries = await self._read(asked, book)
        except NotFound:  # if it was removed, or renamed, that is told next
            self._unfetched[pending] = "the server tells of it, but it is not there"
        except (Refused, NotUnderstood) as error:
            self._unfetched[pending] = str(error)
        else:
            stored = self._mirror.store(pending, head, entries)
            if stored is Stored.ALL:
                self._report.fetched[asked.with_, asked.start] = _troubles(head, entries)
            elif stored is Stored.SET_BACK:
                self._report.unlisted += 1

    async def _read(self, asked: Listed, book: Book) -> tuple[Head, list[Entry]]:
        book.begin(asked)
        entries, head, count = list[Entry](), Head(asked), None
        async with aclosing(self._source.pages(asked, book)) as pages:
            async for page in pages:
                entries += book.read(page)
                # Whatever the answer calls itself, it is kept as what was asked for.
                shown = replace(page.collection, with_=asked.with_, start=asked.start, told=asked.told)
                form = book.form(page)
                head = Head(shown, page.links, None if form is None else etree.tostring(form).decode())
                count = page.info.count if page.info else None
        return replace(head, missing=book.end(count)), entries

    def _reported(self) -> Report:
        report, pending = self._report, set(self._mirror.pending())
        report.unfetched = [(one.collection, why) for one, why in self._unfetched.items() if one in pending]
        for kept in self._mirror.reusing():
            name = (kept.collection.with_, kept.collection.start)
            if name in report.fetched:
                entries = [entry for _, entry in self._mirror.entries(kept)]
                report.fetched[name] = _troubles(kept.head, entries)
        return report


def _troubles(head: Head, entries: Sequence[Entry]) -> int:
    return sum(entry.suspicious for entry in entries) + (head.missing > 0)
