"""XEP-0136 for slixmpp: preferences, collections, uploads, in the best dialect that the server has.

Requests go to the account's own archive. What they can raise is in `archive_crypt.reader.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, TypeVar
from xml.etree import ElementTree

from lxml import etree
from slixmpp import JID, Callback, Iq
from slixmpp.plugins import BasePlugin
from slixmpp.plugins.xep_0030.stanza.info import DiscoInfo
from slixmpp.xmlstream import ElementBase, StanzaBase, register_stanza_plugin
from slixmpp.xmlstream.matcher import StanzaPath

from archive_crypt.core.dialect import DIALECTS, Dialect, F, T
from archive_crypt.core.prefstanzas import SessionRule
from archive_crypt.core.rsm import PageInfo
from archive_crypt.core.times import EARLIEST
from archive_crypt.model import (
    ContactModes,
    Link,
    LinkName,
    Micros,
    Modes,
    Otr,
    PageRequest,
    SaveMode,
    Use,
)
from archive_crypt.reader import exchange, protocol
from archive_crypt.reader.errors import (
    FeatureNotImplemented,
    NotOffered,
    NotUnderstood,
    Refused,
    ServiceUnavailable,
)
from archive_crypt.reader.protocol import ChangesPage, ChatPage, Listed, Query
from archive_crypt.reader.xep_0136 import preferences, requests, stanza
from archive_crypt.reader.xep_0136.dialects import PREFERRED, Dialects
from archive_crypt.reader.xep_0136.paging import Paging
from archive_crypt.reader.xep_0136.preferences import Preferences

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

_FIRST = PageRequest()
_EVERYTHING = Query()


class XEP_0136(BasePlugin):
    """XEP-0136: Message Archiving.

    Configuration: `timeout`, seconds until an answer is waited for no longer; `list_page`,
    `item_page`, `sealed_page`: collections, items, items of an encrypted collection asked for at once.

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
    }
    stanza = stanza

    timeout: float
    list_page: int
    item_page: int
    sealed_page: int

    def plugin_init(self) -> None:
        self._accounts: dict[str, Dialects] = {}
        for dialect in DIALECTS.values():
            for root in stanza.ROOTS:
                register_stanza_plugin(Iq, stanza.in_dialect(root, dialect))
            for root in (stanza.Preferences, stanza.ItemRemove, stanza.SessionRemove):
                path = f"iq@type=set/{stanza.in_dialect(root, dialect).plugin_attrib}"
                self.xmpp.register_handler(Callback(path, StanzaPath(path), self._on_push))

    def plugin_end(self) -> None:
        for dialect in DIALECTS.values():
            for root in (stanza.Preferences, stanza.ItemRemove, stanza.SessionRemove):
                self.xmpp.remove_handler(f"iq@type=set/{stanza.in_dialect(root, dialect).plugin_attrib}")

    # Preferences (3)

    async def get_preferences(self) -> Preferences:
        """All preferences. From now on changes come as `archive_preferences`."""
        return preferences.read(await self.get(("pref",), requests.preferences))

    async def set_default(
        self, save: SaveMode = SaveMode.BODY, otr: Otr = Otr.CONCEDE, expire: int | None = None
    ) -> None:
        """The modes for everybody who has none; what was saved expires after `expire` seconds."""
        await self._prefer(default=Modes(save, otr, expire))

    async def set_item(
        self,
        jid: JID | str,
        save: SaveMode = SaveMode.BODY,
        otr: Otr = Otr.CONCEDE,
        expire: int | None = None,
        *,
        full: bool = False,
        exact: bool = False,
    ) -> None:
        """The modes for a contact: for the bare JID, unless `full`. `exact`: for nobody else who
        matches (a domain's users, a user's resources), in dialects that know it."""
        address = JID(jid)
        item = ContactModes(str(address if full else address.bare), Modes(save, otr, expire), exact)
        await self._prefer(items=[item])

    async def set_methods(self, **methods: Use) -> None:
        """What is thought of the methods `auto`, `local`, `manual`."""
        await self._prefer(methods=methods)

    async def set_session(self, thread: str, save: SaveMode, otr: Otr | None = None) -> None:
        """The modes for a thread, until it is silent for as long as the server says. Set again, it
        lasts longer.

        :raises NotOffered: the server has no such modes (they came with 1.2).
        """
        await self._prefer(sessions=[SessionRule(thread, save, otr)], among=(F,))

    async def remove_items(self, *jids: JID | str) -> None:
        """These contacts have no modes of their own any more.

        :raises NotOffered: the server cannot remove any (0.13).
        """
        build = partial(requests.remove_items, jids=[str(jid) for jid in jids])
        await self.ask("set", ("pref",), build, (F, T))

    async def remove_sessions(self, *threads: str) -> None:
        """These threads have no modes of their own any more.

        :raises NotOffered: the server has no such modes.
        """
        await self.ask("set", ("pref",), partial(requests.remove_sessions, threads=threads), (F,))

    async def set_auto(self, save: bool, *, lasting: bool = False) -> bool:
        """Automatic archiving, in clear, on or off: for this stream, or `lasting` for all later ones.
        Whether it outlives the stream, which only some dialects can."""
        build = partial(requests.auto, save=save, lasting=lasting)
        dialect, _ = await self.ask("set", ("auto",), build)
        return lasting and dialect.scoped

    async def _prefer(
        self,
        default: Modes | None = None,
        items: Sequence[ContactModes] = (),
        sessions: Sequence[SessionRule] = (),
        methods: Mapping[str, Use] | None = None,
        among: Collection[Dialect] = PREFERRED,
    ) -> None:
        build = partial(
            requests.preferences, default=default, items=items, sessions=sessions, methods=methods
        )
        await self.ask("set", ("pref",), build, among)

    # Collections (8, 10)

    async def collections(self, query: Query = _EVERYTHING) -> AsyncGenerator[Listed, None]:
        """The collections that match, by their start.

        :raises NotUnderstood: the server repeats itself, or gives other than it counts.
        """
        seen = set[tuple[str, Micros]]()
        build = partial(requests.listing, query=query)
        async for page in self.paged(("manage",), build, protocol.read_list):
            for collection in page.collections:
                if (collection.with_, collection.start) in seen:
                    raise NotUnderstood("The server lists one collection twice.")
                seen.add((collection.with_, collection.start))
                yield collection

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

    async def upload(
        self,
        collection: Listed,
        parts: Sequence[ElementTree.Element] = (),
        links: Mapping[LinkName, Link | None] | None = None,
    ) -> Listed | None:
        """One ``<save/>`` (5): `parts`, which are items, a form, EncryptedKeys, are added to the collection,
        which is made if need be. Its thread, and its subject unless None, are set; an empty subject and
        links that are None are removed. The collection as it is now; None: in 0.13 nothing is told.

        :raises NotAcceptable: it is too large, or what is sealed and what is in clear would be mixed.
        :raises ValueError: there is something in it that slixmpp cannot send.
        """
        build = partial(requests.save, collection=collection, parts=parts, links=links or {})
        _, answer = await self.ask("set", ("manual",), build)
        return None if answer is None else protocol.read_saved(answer)

    async def remove(self, collection: Listed) -> None:
        """Remove one collection.

        :raises NotFound: it is not there (any more).
        """
        await self.ask("set", ("manage",), partial(requests.remove, collection=collection))

    async def remove_matching(self, query: Query, *, recording: bool = False) -> None:
        """Remove all collections that match; `recording`: of those, what is being recorded now.

        :raises NotFound: there is none.
        :raises ValueError: the query has a start and no end.
        """
        build = partial(requests.remove_matching, query=query, recording=recording)
        await self.ask("set", ("manage",), build)

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

    # How it is asked

    async def get(self, parts: Parts, build: Build) -> etree._Element:
        """What is answered to a get; see `ask`."""
        _, answer = await self.ask("get", parts, build)
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
        self, parts: Parts, build: BuildPage, read: Callable[[etree._Element], P], after: str | None = None
    ) -> AsyncGenerator[P, None]:
        """The pages of a list of collections of some kind, all or those `after` an id."""
        paging = Paging(after)
        while True:
            wanted = PageRequest(max=self.list_page, after=paging.after)
            page = read(await self.get(parts, partial(build, page=wanted)))
            yield page
            if not paging.next(page.info, len(page)):
                return

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
        except Refused:
            return frozenset()
        return frozenset() if answer is None else protocol.read_features(answer)

    async def _ask_in(self, kind: Kind, request: ElementBase, to: str | None = None) -> etree._Element | None:
        iq = self.xmpp.make_iq(itype=kind, ito=to)
        iq.append(request)
        return await exchange.ask(self.xmpp, iq, self.timeout)

    def _on_push(self, iq: StanzaBase) -> None:
        """The server tells of changed preferences; nobody else may."""
        account = self.xmpp.boundjid
        if str(iq["from"]) not in ("", account.bare, account.domain):
            _answer_error(iq, "service-unavailable", "cancel")
            return
        try:
            changed = preferences.read(exchange.tree(iq.xml)[0])
        except NotUnderstood:
            _answer_error(iq, "bad-request", "modify")
            return
        iq.reply().send()
        self.xmpp.event("archive_preferences", changed)


def _answer_error(iq: StanzaBase, condition: str, type_: str) -> None:
    reply = iq.reply()
    reply["error"]["condition"], reply["error"]["type"] = condition, type_
    reply.send()
