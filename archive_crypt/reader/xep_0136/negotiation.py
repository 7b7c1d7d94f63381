"""Asking an archive, in the best dialect that it has: by what the server announces, and by trying."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from functools import partial
from typing import Literal, Protocol, TypeVar

from lxml import etree
from slixmpp.plugins import BasePlugin
from slixmpp.plugins.xep_0030.stanza.info import DiscoInfo
from slixmpp.xmlstream import ElementBase

from archive_crypt.core.dialect import Dialect
from archive_crypt.core.rsm import PageInfo
from archive_crypt.model import PageRequest
from archive_crypt.reader import exchange, protocol
from archive_crypt.reader.errors import (
    FeatureNotImplemented,
    NotOffered,
    NotUnderstood,
    Refused,
    ServiceUnavailable,
)
from archive_crypt.reader.xep_0136.dialects import PREFERRED, Dialects
from archive_crypt.reader.xep_0136.paging import COLLECTIONS, Paging

Kind = Literal["get", "set"]
Parts = tuple[str, ...]
Build = Callable[[Dialect], ElementBase]


class BuildPage(Protocol):
    """What asks for a page."""

    def __call__(self, dialect: Dialect, *, page: PageRequest) -> ElementBase: ...


class Page(Protocol):
    """What is read from its answer."""

    def __len__(self) -> int: ...

    @property
    def info(self) -> PageInfo | None: ...


P = TypeVar("P", bound=Page)


class Negotiating(BasePlugin):
    """A plugin that asks the account's own archive. It is configured with `timeout` and `list_page`."""

    timeout: float
    list_page: int

    def plugin_init(self) -> None:
        self._accounts: dict[str, Dialects] = {}

    async def announced(self) -> dict[str, tuple[str, ...]]:
        """The archive namespaces that the server announces, best first, each with those parts of the
        protocol that it has ('auto', 'encrypt', 'manage', 'manual', 'pref')."""
        return (await self._dialects()).announced()

    async def get(self, parts: Parts, build: Build, among: Collection[Dialect] = PREFERRED) -> etree._Element:
        """What is answered to a get; see `ask`."""
        _, answer = await self.ask("get", parts, build, among)
        if answer is None:
            raise NotUnderstood("The server's answer is empty.")
        return answer

    async def ask(
        self, kind: Kind, parts: Parts, build: Build, among: Collection[Dialect] = PREFERRED
    ) -> tuple[Dialect, etree._Element | None]:
        """A dialect that has these parts of the protocol ('pref', 'manage', 'manual', 'auto', 'encrypt'),
        one of those `among` which it must be; and what is answered to the request that is built in it.

        The server's dialects are tried from the best on, until one is understood; it is remembered.

        :raises NotOffered: there is none.
        """
        dialects = await self._dialects()
        refused: Refused | None = None
        for dialect in dialects.candidates(parts, among):
            try:
                answer = await self._ask_in(kind, build(dialect))
            except (ServiceUnavailable, FeatureNotImplemented) as error:
                refused = refused or error  # that of the best dialect says most
                continue
            except Refused:
                dialects.learn(parts, dialect)
                raise
            dialects.learn(parts, dialect)
            return dialect, answer
        if refused is not None:
            raise refused
        raise NotOffered(
            f"{self.xmpp.boundjid.domain} offers no archive with {' and '.join(parts)} (XEP-0136, XEP-0241): "
            "ask its operator."
        )

    async def paged(
        self,
        parts: Parts,
        build: BuildPage,
        read: Callable[[etree._Element], P],
        after: str | None = None,
        among: Collection[Dialect] = PREFERRED,
    ) -> AsyncGenerator[P, None]:
        """The pages of a list of collections of some kind, all or those `after` an id; see `ask`."""
        paging = Paging(after, COLLECTIONS)
        while True:
            wanted = PageRequest(max=self.list_page, after=paging.after)
            page = read(await self.get(parts, partial(build, page=wanted), among))
            yield page
            if not paging.next(page.info, len(page)):
                return

    async def ask_server(self, request: ElementBase) -> etree._Element | None:
        """What the account's server itself answers to a get of another standard."""
        return await self._ask_in("get", request, self.xmpp.boundjid.domain)

    async def _dialects(self) -> Dialects:
        account = self.xmpp.boundjid
        if account.bare not in self._accounts:
            told = [await self._features(address) for address in (account.domain, account.bare)]
            self._accounts[account.bare] = Dialects(frozenset().union(*told))
        return self._accounts[account.bare]

    async def _features(self, address: str) -> frozenset[str]:
        """What is announced at an address (XEP-0030): nothing, where that cannot be asked."""
        try:
            answer = await self._ask_in("get", DiscoInfo(), address)
        except Refused as error:
            if error.type == "wait":  # it would be remembered
                raise
            return frozenset()
        return frozenset() if answer is None else protocol.read_features(answer)

    async def _ask_in(self, kind: Kind, request: ElementBase, to: str | None = None) -> etree._Element | None:
        iq = self.xmpp.make_iq(itype=kind, ito=to)
        iq.append(request)
        return await exchange.ask(self.xmpp, iq, self.timeout)
