"""XEP-0136 for slixmpp: preferences, collections, uploads, in the best dialect that the server has.

Requests go to the account's own archive. What they can raise is in `archive_crypt.reader.errors`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Unpack
from xml.etree import ElementTree

from slixmpp import Iq
from slixmpp.plugins.xep_0202.stanza import EntityTime
from slixmpp.xmlstream import ElementBase, register_stanza_plugin

from archive_crypt.core import times
from archive_crypt.core.dialect import DIALECTS, Dialect
from archive_crypt.core.items import ReadItem
from archive_crypt.core.times import EARLIEST
from archive_crypt.errors import BadRequest
from archive_crypt.model import Micros, PageRequest, SaveMode
from archive_crypt.reader import protocol
from archive_crypt.reader.errors import NotUnderstood, Refused
from archive_crypt.reader.protocol import ChangesPage, ChatPage, Listed, Query
from archive_crypt.reader.xep_0136 import requests, stanza, uploads
from archive_crypt.reader.xep_0136.dialects import EXACT, PREFERRED
from archive_crypt.reader.xep_0136.paging import Paging
from archive_crypt.reader.xep_0136.uploads import PLAIN, How, Links, Saved, Style, Timed
from archive_crypt.reader.xep_0136.wishes import Preferring

_EVERYTHING = Query()
_FIRST = PageRequest()


class XEP_0136(Preferring):
    """XEP-0136: Message Archiving.

    Configuration: `timeout`, seconds until an answer is waited for no longer; `list_page`,
    `item_page`, `sealed_page`: collections, items, items of an encrypted collection asked for at
    once; `largest_stanza`, `most_items`: octets, and items, of one upload.

    Events: `archive_preferences`, with a `Preferences` of what changed; only once preferences were
    asked for on this stream, and only from the account's own server.
    """

    name = "xep_0136"
    description = "XEP-0136: Message Archiving"
    dependencies: ClassVar[set[str]] = {"xep_0004", "xep_0030", "xep_0059"}
    default_config: ClassVar[dict[str, Any]] = {
        "timeout": 30,
        "list_page": 100,
        "item_page": 50,
        "sealed_page": 5,
        "largest_stanza": 60_000,
        "most_items": 200,
    }
    stanza = stanza

    item_page: int
    sealed_page: int
    largest_stanza: int
    most_items: int

    def plugin_init(self) -> None:
        super().plugin_init()
        for dialect in DIALECTS.values():
            for root in stanza.ROOTS:
                register_stanza_plugin(Iq, stanza.in_dialect(root, dialect))

    # Uploads (5)

    async def save(self, collection: Listed, items: Sequence[ReadItem], **how: Unpack[How]) -> Saved:
        """Add messages and notes to a collection, in clear, in as many uploads as it takes; it is made
        if need be, with its thread. Each item needs its time. `how`: see `uploads.How`. All
        items are looked at before the first upload.

        :raises NotWanted: the user prefers nothing to be saved.
        :raises NotAcceptable: it is too large, or what is there is sealed.
        :raises CannotAsk: an item cannot be uploaded.
        """
        return await self.save_as(PLAIN, collection, items, **how)

    async def save_as(
        self, style: Style, collection: Listed, items: Sequence[ReadItem], **how: Unpack[How]
    ) -> Saved:
        """The same in a style of another standard."""
        kept, left_out = await self._sifted(collection, items, how)
        if left_out and not (kept or "form" in how or "subject" in how or "links" in how):
            return Saved(None, 0, tuple(left_out))
        first = style.first(how.get("form", ""), bool(kept))
        room = self.largest_stanza - uploads.ENVELOPE - sum(map(uploads.sent_size, first))
        timed = uploads.timed(kept, collection.start, how.get("since"))
        portions = list(uploads.portions(timed, style.size, room, self.most_items))
        progress, now, count = how.get("progress"), None, 0
        extras = how.get("subject"), how.get("links")
        for portion in portions or [[]]:
            write = partial(_portion, style, first, portion)
            now = await self.upload(collection, write, *extras)
            first, extras, count = [], (None, None), count + len(portion)
            if progress is not None:
                progress(count)
        return Saved(now, count, tuple(left_out))

    async def _sifted(
        self, collection: Listed, items: Sequence[ReadItem], how: How
    ) -> tuple[list[ReadItem], list[ReadItem]]:
        mode = SaveMode.MESSAGE
        if how.get("room"):
            uploads.check_room(collection.with_, items)
        if not how.get("force"):
            mode = await self.check_saving(collection.with_, collection.thread)
        return uploads.sift(items, mode)

    async def upload(
        self,
        collection: Listed,
        parts: Sequence[str] | Callable[[Dialect], Sequence[str]],
        subject: str | None = None,
        links: Links | None = None,
    ) -> Listed | None:
        """One ``<save/>``: `parts`, which are XML texts of items, a form, EncryptedData, EncryptedKeys, are
        added to the collection, which is made if need be; or those that a function gives of the
        dialect. `subject` and `links`: see `uploads.How`. The collection as it is now; None: nothing
        is told (0.13).

        :raises NotAcceptable: it is too large, or what is sealed and what is in clear would be mixed.
        :raises CannotAsk: there is something in it that slixmpp cannot send.
        """

        def build(dialect: Dialect) -> ElementBase:
            written = uploads.elements(dialect.namespace, parts(dialect) if callable(parts) else parts)
            return requests.save(dialect, collection, written, subject, links or {})

        _, answer = await self.ask("set", ("manual",), build)
        return None if answer is None else protocol.read_saved(answer)

    async def clock_offset(self) -> Micros:
        """How far the server's clock is ahead of ours (XEP-0202), 0 where it does not say: to be added
        to the start of a collection that is made, and taken off from one that is shown (12.2)."""
        sent = time.time_ns()
        try:
            answer = await self.ask_server(EntityTime())
        except Refused:
            return 0
        utc = None if answer is None else answer.findtext("{*}utc")
        try:
            told = times.parse(utc or "")
        except BadRequest:
            return 0
        return told - (sent + time.time_ns()) // 2 // 1000

    # Collections (8, 10)

    async def collections(self, query: Query = _EVERYTHING) -> AsyncGenerator[Listed, None]:
        """The collections that match, by their start.

        :raises NotOffered: the server has no archive, or cannot be exact (0.13).
        :raises NotUnderstood: the server repeats itself, or gives other than it counts.
        """
        seen = set[tuple[str, Micros]]()
        build = partial(requests.listing, query=query)
        among = EXACT if query.exact else PREFERRED
        async for page in self.paged(("manage",), build, protocol.read_list, among=among):
            for collection in page.collections:
                if (collection.with_, collection.start) in seen:
                    raise NotUnderstood("The server lists one collection twice.")
                seen.add((collection.with_, collection.start))
                yield collection

    async def newest(self, query: Query = _EVERYTHING) -> tuple[Listed | None, int | None]:
        """The last of the collections that match, if any does; and how many do, None where the server
        does not count."""
        build = partial(requests.listing, query=query, page=PageRequest(max=1, before=""))
        page = protocol.read_list(await self.get(("manage",), build))
        if not page.collections:  # whatever stands beside that: servers send nothing, as XEP-0136 8.1 does
            return None, 0
        return page.collections[-1], page.info.count if page.info else None

    async def pages(
        self, collection: Listed, *, children: Sequence[ElementTree.Element] = ()
    ) -> AsyncGenerator[ChatPage, None]:
        """All pages of a collection, first to last; see `page`. That the server gave fewer items than
        it counts is for the caller to see, who has the pages.

        :raises NotFound: it is not there (any more).
        """
        paging, index = Paging(), 0
        while True:
            page = await self.page(collection, PageRequest(after=paging.after), index, children=children)
            yield page
            index = page.index + len(page)
            if not paging.next(page.info, len(page), complete=False):
                return

    async def page(
        self,
        collection: Listed,
        wanted: PageRequest = _FIRST,
        expected_index: int = 0,
        *,
        children: Sequence[ElementTree.Element] = (),
    ) -> ChatPage:
        """One page of a collection: its first, or as `wanted` says: `after` or `before` an id that came
        as `info.last` or `info.first` of another page; `before` "": the last; of at most `max` items,
        else as configured. Where the server tells no index, `expected_index` is believed. `children`
        go into the request.

        :raises NotFound: it is not there (any more).
        """
        size = self.sealed_page if collection.crypt else self.item_page
        page = wanted if wanted.max is not None else replace(wanted, max=size)
        build = partial(requests.retrieve, collection=collection, page=page, children=children)
        return protocol.read_chat(await self.get(("manage",), build), expected_index)

    async def remove(self, collection: Listed) -> None:
        """Remove one collection.

        :raises NotFound: it is not there (any more).
        """
        await self.ask("set", ("manage",), partial(requests.remove, collection=collection))

    async def remove_matching(self, query: Query, *, recording: bool = False) -> None:
        """Remove all collections that match; `recording`: of those, what is being recorded now.

        :raises NotFound: there is none.
        :raises NotOffered: the server cannot be exact (0.13).
        :raises CannotAsk: the query has a start and no end.
        """
        build = partial(requests.remove_matching, query=query, recording=recording)
        await self.ask("set", ("manage",), build, EXACT if query.exact else PREFERRED)

    async def modified(
        self, start: Micros = EARLIEST, after: str | None = None
    ) -> AsyncGenerator[ChangesPage, None]:
        """What was made, changed or removed since `start`, in pages, oldest first; or since the page
        whose `cursor` was kept as `after`.

        :raises NotFound: the server does not know that cursor any more.
        """
        build = partial(requests.modified, start=start)
        async for page in self.paged(("manage",), build, protocol.read_modified, after):
            yield page


def _portion(style: Style, first: Sequence[str], items: Sequence[Timed], dialect: Dialect) -> list[str]:
    """The parts of one upload."""
    return [*first, *style.write(dialect.namespace, items)]
