"""XEP-0241 for slixmpp: encrypted archives. What is sealed is opened by `archive_crypt.reader.opening`.

What requests can raise is in `archive_crypt.reader.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, Unpack, cast

from lxml import etree
from slixmpp import Iq
from slixmpp.plugins import BasePlugin
from slixmpp.xmlstream import register_stanza_plugin

from archive_crypt.core.dialect import DIALECTS
from archive_crypt.core.items import ReadItem
from archive_crypt.crypto.envelope import AES256_GCM, RSA_OAEP
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.model import EncryptedKey, Micros, PageRequest
from archive_crypt.reader import protocol
from archive_crypt.reader.errors import BadRequest, FeatureNotImplemented, NotUnderstood, NotWanted
from archive_crypt.reader.protocol import ChatPage, Listed
from archive_crypt.reader.xep_0136 import XEP_0136
from archive_crypt.reader.xep_0136.paging import Paging
from archive_crypt.reader.xep_0136.stanza import in_dialect
from archive_crypt.reader.xep_0136.uploads import How, Saved
from archive_crypt.reader.xep_0241 import requests, stanza
from archive_crypt.reader.xep_0241.sealing import Sealer, write_key


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

    async def enable(
        self, keys: Sequence[PublicKey] = (), *, lasting: bool = False, force: bool = False
    ) -> bool:
        """Turn automatic archiving on, encrypted for these keys and those the account publishes
        (XEP-0189): for this stream, or `lasting` for all later ones. Whether it outlives the
        stream, which only some dialects can.

        :raises NotWanted: the user forbids automatic archiving; unless it is `force`.
        :raises NotOffered: the server does not encrypt.
        :raises NotAcceptable: no key can be used, or there is none.
        :raises FeatureNotImplemented: the same in 0.13; or the server does not encrypt after all.
        """
        if not force:
            await self._archive.check_wanted("auto")
        build = partial(requests.auto, keys=keys, lasting=lasting)
        dialect, _ = await self._archive.ask("set", ("auto", "encrypt"), build)
        return lasting and dialect.scoped

    async def save(
        self,
        collection: Listed,
        items: Sequence[ReadItem],
        keys: Sequence[PublicKey],
        *,
        confirm: Callable[[str], bool] = lambda subject: False,
        algorithm: str = AES256_GCM,
        wrapping: str = RSA_OAEP,
        **how: Unpack[How],
    ) -> Saved:
        """As `XEP_0136.save`, sealed for these public keys, each of which must be known to be the
        user's own: that it is published proves nothing. The items of each upload are sealed as one,
        all under one data key; of a form, what it holds is sealed. A subject stays readable for the
        server: it is sent only if `confirm`, which is asked with it, says so. `algorithm` and
        `wrapping`: URIs of `archive_crypt.crypto.envelope`, for readers that know none of today's.

        :raises NotWanted: the user prefers nothing to be saved, or the subject was not confirmed.
        :raises NotAcceptable: it is too large, or what is there is in clear.
        :raises CannotAsk: an item cannot be uploaded, or there is no key.
        :raises UnusableKey: a key is not fit for `wrapping`.
        """
        subject = how.get("subject")
        if subject and not confirm(subject):
            raise NotWanted(
                "The subject of an encrypted collection can be read by the server: leave it out, or "
                "confirm it."
            )
        with Sealer(keys, algorithm, wrapping) as sealer:
            return await self._archive.save_as(sealer, collection, items, **how)

    async def save_keys(self, collection: Listed, keys: Sequence[EncryptedKey]) -> Listed | None:
        """Add EncryptedKeys to a collection, one upload: data keys of it that were wrapped for another public
        key (6). The collection as it is now; None: nothing is told (0.13).

        :raises NotAcceptable: what is there is in clear.
        """
        return await self._archive.upload(collection, [write_key(key) for key in keys])

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
