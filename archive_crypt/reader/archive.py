"""A user's archive on the server, as the commands see it: over the plugins, which do the asking.

What requests can raise is in `archive_crypt.reader.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Unpack, cast

from lxml import etree

from archive_crypt.core.items import ReadItem
from archive_crypt.core.times import EARLIEST
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.model import EncryptedKey, Micros, PageRequest
from archive_crypt.reader import protocol, xep_0136, xep_0241
from archive_crypt.reader.connection import Connection
from archive_crypt.reader.errors import NotOffered, NotUnderstood, Refused
from archive_crypt.reader.protocol import ChangesPage, ChatPage, Listed, Query
from archive_crypt.reader.xep_0136 import XEP_0136
from archive_crypt.reader.xep_0136.preferences import Preferences
from archive_crypt.reader.xep_0136.uploads import How, Saved
from archive_crypt.reader.xep_0241 import XEP_0241, requests
from archive_crypt.reader.xep_0241.encryption import Wanted

#: Items that are asked for at once. Sealed ones may be large (XEP-0241 5 has few of them), but the servers
#: that seal are ours, and bound their answers in octets. So many take half the time that a fifth takes.
ITEM_PAGE = 100


class Archive:
    """The archive of the connection's user. `plain` and `sealed` are slixmpp's plugins for what has
    no method here."""

    def __init__(self, connection: Connection) -> None:
        client = connection.client
        sizes = {"item_page": ITEM_PAGE, "sealed_page": ITEM_PAGE}
        client.register_plugin("xep_0136", sizes, module=xep_0136)
        client.register_plugin("xep_0241", module=xep_0241)
        self.plain = cast(XEP_0136, client.plugin.get("xep_0136", None))
        self.sealed = cast(XEP_0241, client.plugin.get("xep_0241", None))

    async def preferences(self) -> Preferences:
        """What the user prefers (XEP-0136 3)."""
        return await self.plain.get_preferences()

    async def set_auto(
        self, keys: Sequence[PublicKey], *, encrypt: bool, lasting: bool, force: bool = False
    ) -> bool:
        """Turn archiving on, sealed for these keys if `encrypt`. Whether the setting outlives the
        stream, which only some dialects can.

        :raises NotWanted: the user's preferences forbid it; unless it is `force`.
        :raises NotOffered: the server cannot.
        :raises NotAcceptable: no key can be used, or there is none (FeatureNotImplemented in 0.13).
        """
        if encrypt:
            return await self.sealed.enable(keys, lasting=lasting, force=force)
        return await self.plain.set_auto(True, lasting=lasting, force=force)

    async def save(
        self,
        collection: Listed,
        items: Sequence[ReadItem],
        keys: Sequence[PublicKey] | None,
        *,
        confirm: Callable[[str], bool] = lambda subject: False,
        **how: Unpack[How],
    ) -> Saved:
        """Add messages and notes to a collection, which is made if need be (`Listed.named` names one):
        sealed for these public keys, which must be known to be the user's own; in clear only if
        `keys` is None. Each item needs its time. `how`: see `uploads.How`. Where it is sealed,
        `confirm` is asked about a subject, which the server could read. All items are
        looked at before the first upload.

        :raises NotWanted: the user prefers nothing to be saved, or the subject was not confirmed.
        :raises NotAcceptable: it is too large, or would mix what is sealed with what is in clear.
        :raises CannotAsk: an item cannot be uploaded, or `keys` is empty.
        """
        if keys is None:
            return await self.plain.save(collection, items, **how)
        return await self.sealed.save(collection, items, keys, confirm=confirm, **how)

    async def save_keys(self, collection: Listed, keys: Sequence[EncryptedKey]) -> Listed | None:
        """Add EncryptedKeys to a collection: data keys of it that were wrapped for another public key. The
        collection as it is now; None: nothing is told (0.13).

        :raises NotAcceptable: what is there is in clear.
        """
        return await self.sealed.save_keys(collection, keys)

    def collections(self, query: Query) -> AsyncGenerator[Listed, None]:
        """The collections that match, by their start.

        :raises NotUnderstood: the server repeats itself, or gives other than it counts.
        """
        return self.plain.collections(query)

    async def count(self) -> int | None:
        """How many collections there are; None: the server does not say, or not in any sense."""
        try:
            _, count = await self.plain.newest()
        except (NotOffered, NotUnderstood, Refused):
            return None
        return count

    def pages(self, collection: Listed, wanted: Wanted) -> AsyncGenerator[ChatPage, None]:
        """All pages of a collection, first to last, with the EncryptedKeys that are wanted.

        :raises NotFound: it is not there (any more).
        :raises NotUnderstood: the server gives one page again and again.
        """
        return self.sealed.pages(collection, wanted)

    async def last_pages(self, collection: Listed, wanted: Wanted, most: int) -> list[ChatPage]:
        """The pages that hold the last `most` items of a collection, first to last; one at least.

        :raises NotFound: it is not there (any more).
        """
        pages: list[ChatPage] = []
        before = ""
        while most > 0:
            request = PageRequest(max=min(most, ITEM_PAGE), before=before)
            page = await self.sealed.page(collection, wanted, request)
            if page.parts or not pages:  # an empty one still tells the count
                pages.insert(0, page)
            most -= len(page.parts)
            first = page.info.first if page.info else None
            if not page.parts or not page.index or not first or first == before:
                break
            before = first
        return pages

    async def remove(self, collection: Listed) -> None:
        """Remove one collection.

        :raises NotFound: it is not there (any more).
        """
        await self.plain.remove(collection)

    async def remove_matching(self, query: Query, *, recording: bool = False) -> None:
        """Remove all collections that match; `recording`: of those, what is being recorded now.

        :raises NotFound: there is none.
        :raises CannotAsk: the query has a start and no end.
        """
        await self.plain.remove_matching(query, recording=recording)

    def modified(
        self, start: Micros = EARLIEST, after: str | None = None
    ) -> AsyncGenerator[ChangesPage, None]:
        """What was made, changed or removed since `start`, in pages, oldest first; or since the page
        whose `cursor` was kept as `after`.

        :raises NotFound: the server does not know that cursor any more: begin again.
        """
        return self.plain.modified(start, after)

    def keys(self, names: Sequence[str]) -> AsyncGenerator[tuple[Listed, tuple[etree._Element, ...]], None]:
        """Each collection with EncryptedKeys for the public keys of these names, and those.

        :raises NotUnderstood: the server repeats itself, or gives other than it counts.
        """
        return self.sealed.keys(names)

    async def count_keys(self, names: Sequence[str]) -> int | None:
        """In how many collections there are EncryptedKeys for the public keys of these names; None: the
        server does not count."""
        build = partial(requests.keys, names=names, page=PageRequest(max=1))
        page = protocol.read_keys(await self.plain.get(("manage",), build))
        if page.info is None:
            return None if page.collections else 0
        return page.info.count

    async def delete(self, collection: Listed, names: Sequence[str]) -> None:
        """Delete a collection's EncryptedKeys for the public keys of these names. There may be none.

        :raises NotFound: the collection is not there (any more).
        :raises Conflict: they are the last that open something, and the server guards those.
        """
        await self.sealed.delete(collection, names)
