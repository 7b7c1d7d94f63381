"""XEP-0241 for slixmpp: encrypted archives. What is sealed is opened by `archive_crypt.reader.opening`.

What requests can raise is in `archive_crypt.reader.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, cast

from lxml import etree
from slixmpp import Iq
from slixmpp.plugins import BasePlugin
from slixmpp.xmlstream import register_stanza_plugin

from archive_crypt.core.dialect import DIALECTS
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.model import Micros, PageRequest
from archive_crypt.reader import protocol
from archive_crypt.reader.errors import BadRequest, FeatureNotImplemented, NotUnderstood
from archive_crypt.reader.protocol import ChatPage, Listed
from archive_crypt.reader.xep_0136 import XEP_0136
from archive_crypt.reader.xep_0136.paging import Paging
from archive_crypt.reader.xep_0136.stanza import in_dialect
from archive_crypt.reader.xep_0241 import requests, stanza


class Wanted(Protocol):
    """Whose EncryptedKeys are wanted: those for public keys of these names."""

    @property
    def key_names(self) -> tuple[str, ...]:
        """None: all EncryptedKeys are wanted."""

    def lacks_keys(self, page: ChatPage) -> bool:
        """Whether none came for some item: ours may go by other names there."""


class XEP_0241(BasePlugin):
    """XEP-0241: Encryption of Archived Messages."""

    name = "xep_0241"
    description = "XEP-0241: Encryption of Archived Messages"
    dependencies: ClassVar[set[str]] = {"xep_0136"}
    default_config: ClassVar[dict[str, Any]] = {}
    stanza = stanza

    def plugin_init(self) -> None:
        for dialect in DIALECTS.values():
            for root in stanza.ROOTS:
                register_stanza_plugin(Iq, in_dialect(root, dialect))

    async def enable(self, keys: Sequence[PublicKey] = (), *, lasting: bool = False) -> bool:
        """Turn automatic archiving on, encrypted for these keys and those the account publishes
        (XEP-0189): for this stream, or `lasting` for all later ones. Whether it outlives the
        stream, which only some dialects can.

        :raises NotOffered: the server does not encrypt.
        :raises NotAcceptable: no key can be used, or there is none.
        :raises FeatureNotImplemented: the same in 0.13; or the server does not encrypt after all.
        """
        build = partial(requests.auto, keys=keys, lasting=lasting)
        dialect, _ = await self._archive.ask("set", ("auto", "encrypt"), build)
        return lasting and dialect.scoped

    async def pages(self, collection: Listed, wanted: Wanted) -> AsyncGenerator[ChatPage, None]:
        """All pages of a collection, first to last, with the EncryptedKeys that are wanted; see `page`.

        :raises NotFound: it is not there (any more).
        """
        paging, index = Paging(), 0
        while True:
            page = await self.page(collection, wanted, PageRequest(after=paging.after), index)
            yield page
            index = page.index + len(page)
            if not paging.next(page.info, len(page), complete=False):
                return

    async def page(
        self,
        collection: Listed,
        wanted: Wanted,
        request: PageRequest = PageRequest(),  # noqa: B008 - it is frozen
        expected_index: int = 0,
    ) -> ChatPage:
        """One page of a collection, as `XEP_0136.page` gives it, with the EncryptedKeys that are
        wanted; with all, if some item came without any.

        :raises NotFound: it is not there (any more).
        """
        names = [stanza.key_name(name) for name in wanted.key_names]
        page = await self._archive.page(collection, request, expected_index, children=names)
        if names and wanted.lacks_keys(page):
            page = await self._archive.page(collection, request, expected_index)
        return page

    async def keys(
        self, names: Sequence[str]
    ) -> AsyncGenerator[tuple[Listed, tuple[etree._Element, ...]], None]:
        """Each collection with EncryptedKeys for the public keys of these names, and those.

        :raises NotUnderstood: the server repeats itself, or gives other than it counts.
        """
        seen = set[tuple[str, Micros]]()
        build = partial(requests.keys, names=names)
        async for page in self._archive.paged(("manage",), build, protocol.read_keys):
            for collection, keys in page.collections:
                if (collection.with_, collection.start) in seen:
                    raise NotUnderstood("The server lists one collection twice.")
                seen.add((collection.with_, collection.start))
                yield collection, keys

    async def delete(self, collection: Listed, names: Sequence[str]) -> None:
        """Delete a collection's EncryptedKeys for the public keys of these names. There may be none.

        :raises NotFound: the collection is not there (any more).
        :raises Conflict: they are the last that open something, and the server guards those.
        """
        build = partial(requests.delete, collection=collection, names=names)
        try:
            await self._archive.ask("set", ("manage",), build)
        except (BadRequest, FeatureNotImplemented):
            await self._archive.ask("get", ("manage",), build)  # as XEP-0241 prints it

    @property
    def _archive(self) -> XEP_0136:
        return cast(XEP_0136, self.xmpp.plugin.get("xep_0136", None))
