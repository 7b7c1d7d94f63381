"""A user's archive on the server: what it offers, turning it on, its collections, their pages.

Asks by a connection; what requests and answers look like is `protocol`'s.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Protocol

from lxml import etree

from archive_crypt.core.dialect import Dialect
from archive_crypt.core.rsm import PageInfo
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.model import PageRequest
from archive_crypt.reader import protocol
from archive_crypt.reader.connection import Connection
from archive_crypt.reader.failures import NotOffered, NotUnderstood, Refused
from archive_crypt.reader.protocol import ChatPage, Listed, Query

#: Collections, and items, that are asked for at once. Items are few, as they may be large (XEP-0241 5).
LIST_PAGE, ITEM_PAGE = 100, 20


class Wanted(Protocol):
    """Whose EncryptedKeys are wanted: those for public keys of these names."""

    @property
    def key_names(self) -> tuple[str, ...]:
        """None: all EncryptedKeys are wanted."""

    def lacks_keys(self, page: ChatPage) -> bool:
        """Whether none came for some item: ours may go by other names there."""


class Archive:
    """The archive of the connection's user, in one dialect."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection = connection
        self.dialect = dialect

    @classmethod
    async def find(cls, connection: Connection, *parts: str) -> Archive:
        """The archive, in the best dialect that has these parts of the protocol ('auto', ...).

        :raises NotOffered: neither the server nor the account announces them.
        """
        account = connection.account
        for address in (account.domain, account.bare):
            dialect = protocol.choose(await _features(connection, address), *parts)
            if dialect is not None:
                return cls(connection, dialect)
        raise NotOffered(
            f"{account.domain} offers no archive with {' and '.join(parts)} (XEP-0136, XEP-0241): "
            "ask its operator."
        )

    async def set_auto(self, keys: Sequence[PublicKey], *, encrypt: bool, lasting: bool) -> bool:
        """Turn archiving on, sealed for these keys if `encrypt`. Whether the setting outlives the
        stream, which only some dialects can.

        :raises Refused: no key can be used, or there is none.
        """
        request = protocol.write_auto(self.dialect, keys, encrypt=encrypt, lasting=lasting)
        await self._connection.ask("set", request)
        return lasting and self.dialect.scoped

    async def collections(self, query: Query) -> AsyncGenerator[Listed, None]:
        """The collections that match, by their start.

        :raises NotUnderstood: the server gives one page again and again.
        """
        cursor: str | None = None
        while True:
            request = PageRequest(max=LIST_PAGE, after=cursor)
            page = protocol.read_list(await self._get(protocol.write_list(self.dialect, query, request)))
            for collection in page.collections:
                yield collection
            cursor = _next(page.info, len(page.collections), cursor)
            if cursor is None:
                return

    async def pages(self, collection: Listed, wanted: Wanted) -> AsyncIterator[ChatPage]:
        """All pages of a collection, first to last.

        :raises Refused: it is not there (any more).
        :raises NotUnderstood: the server gives one page again and again.
        """
        cursor: str | None = None
        index = 0
        while True:
            page = await self._page(collection, PageRequest(max=ITEM_PAGE, after=cursor), wanted, index)
            yield page
            index = page.index + len(page.parts)
            cursor = _next(page.info, len(page.parts), cursor)
            if cursor is None:
                return

    async def last_pages(self, collection: Listed, wanted: Wanted, most: int) -> list[ChatPage]:
        """The pages that hold the last `most` items of a collection, first to last; one at least.

        :raises Refused: it is not there (any more).
        """
        pages: list[ChatPage] = []
        before = ""
        while most > 0:
            page = await self._page(
                collection, PageRequest(max=min(most, ITEM_PAGE), before=before), wanted, 0
            )
            if page.parts or not pages:  # an empty one still tells the count
                pages.insert(0, page)
            most -= len(page.parts)
            first = page.info.first if page.info else None
            if not page.parts or not page.index or not first or first == before:
                break
            before = first
        return pages

    async def _page(self, collection: Listed, request: PageRequest, wanted: Wanted, index: int) -> ChatPage:
        """A page with the EncryptedKeys of our fingerprints, or if items lack theirs, with all."""
        written = protocol.write_retrieve(self.dialect, collection, wanted.key_names, request)
        page = protocol.read_chat(await self._get(written), index)
        if wanted.key_names and wanted.lacks_keys(page):
            written = protocol.write_retrieve(self.dialect, collection, (), request)
            page = protocol.read_chat(await self._get(written), index)
        return page

    async def _get(self, request: str) -> etree._Element:
        answer = await self._connection.ask("get", request)
        if answer is None:
            raise NotUnderstood("The server's answer is empty.")
        return answer


async def _features(connection: Connection, address: str) -> frozenset[str]:
    """What is announced at an address: nothing, where that cannot be asked."""
    try:
        answer = await connection.ask("get", protocol.DISCO_INFO, address)
    except Refused:
        return frozenset()
    return frozenset() if answer is None else protocol.read_features(answer)


def _next(info: PageInfo | None, length: int, cursor: str | None) -> str | None:
    """Where the next page begins after one of `length` items that began at `cursor`; None: nowhere."""
    if info is None or not info.last or not length:
        return None
    if info.index is not None and info.count is not None and info.index + length >= info.count:
        return None
    if info.last == cursor:
        raise NotUnderstood("The server gives the same page again and again.")
    return info.last
