"""Preferences: asked for, set, told of by the server; and obeyed (XEP-0136 2.1, 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from slixmpp import JID, Callback
from slixmpp.xmlstream import StanzaBase
from slixmpp.xmlstream.matcher import StanzaPath

from archive_crypt.core.dialect import DIALECTS, Dialect, F, T
from archive_crypt.core.prefstanzas import SessionRule
from archive_crypt.model import ContactModes, Modes, Otr, SaveMode, Use
from archive_crypt.reader import exchange
from archive_crypt.reader.errors import (
    CannotAsk,
    FeatureNotImplemented,
    NotAllowed,
    NotOffered,
    NotUnderstood,
    NotWanted,
    ServiceUnavailable,
)
from archive_crypt.reader.xep_0136 import preferences, requests, stanza
from archive_crypt.reader.xep_0136.dialects import EXACT, PREFERRED
from archive_crypt.reader.xep_0136.negotiation import Build, Negotiating
from archive_crypt.reader.xep_0136.preferences import Preferences

_TOLD_BY = (stanza.Preferences, stanza.ItemRemove, stanza.SessionRemove)


class Preferring(Negotiating):
    """A plugin that knows what its user prefers."""

    #: As of now, as the server tells of each change; None: to be asked for. And how often that came to be.
    _known: Preferences | None = None
    _changes = 0

    def plugin_init(self) -> None:
        super().plugin_init()
        for path in _paths():
            self.xmpp.register_handler(Callback(path, StanzaPath(path), self._on_push))

    def plugin_end(self) -> None:
        for path in _paths():
            self.xmpp.remove_handler(path)

    def session_bind(self, jid: JID) -> None:
        self.forget()

    async def get_preferences(self) -> Preferences:
        """All preferences. From now on changes come as `archive_preferences`."""
        before = self._changes
        found = preferences.read(await self.get(("pref",), requests.preferences))
        if before == self._changes:  # else they changed while the answer was on its way
            self._known = found
        return found

    async def set_default(
        self, save: SaveMode = SaveMode.BODY, otr: Otr = Otr.CONCEDE, expire: int | None = None
    ) -> None:
        """The modes for everybody who has none; what was saved expires after `expire` seconds.

        :raises CannotAsk: off the record is required, and something would be saved.
        """
        await self._prefer(default=_modes(save, otr, expire))

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
        matches (a domain's users, a user's resources).

        :raises NotOffered: the server cannot be `exact` (0.13).
        :raises CannotAsk: off the record is required, and something would be saved.
        """
        address = JID(jid)
        item = ContactModes(str(address if full else address.bare), _modes(save, otr, expire), exact)
        await self._prefer(items=[item], among=EXACT if exact else PREFERRED)

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
        await self.prefer(partial(requests.remove_items, jids=[str(jid) for jid in jids]), (F, T))

    async def remove_sessions(self, *threads: str) -> None:
        """These threads have no modes of their own any more.

        :raises NotOffered: the server has no such modes.
        """
        await self.prefer(partial(requests.remove_sessions, threads=threads), (F,))

    async def set_auto(self, save: bool, *, lasting: bool = False, force: bool = False) -> bool:
        """Automatic archiving, in clear, on or off: for this stream, or `lasting` for all later ones.
        Whether it outlives the stream, which only some dialects can.

        :raises NotWanted: the user forbids it; unless it is `force`.
        :raises NotAllowed: the operator decided that it is on (FeatureNotImplemented in 0.13).
        """
        if save and not force:
            await self.check_wanted("auto")
        build = partial(requests.auto, save=save, lasting=lasting)
        dialect, _ = await self.ask("set", ("auto",), build)
        return lasting and dialect.scoped

    async def can_stop_auto(self) -> bool:
        """Whether automatic archiving can be turned off; on this stream it is, if so. Who does not
        know that may not agree to talk off the record (4.1)."""
        try:
            await self.set_auto(False)
        except (NotAllowed, FeatureNotImplemented):
            return False
        return True

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
        await self.prefer(build, among)

    async def prefer(self, build: Build, among: Collection[Dialect] = PREFERRED) -> Dialect:
        """A change of preferences, which `build` makes of the dialect; the dialect."""
        try:
            dialect, _ = await self.ask("set", ("pref",), build, among)
        finally:
            self.forget()
        return dialect

    async def check_wanted(self, method: str) -> None:
        """Nothing, if the user does not forbid this method of archiving ('auto', 'local', 'manual').

        :raises NotWanted: he does.
        """
        if (await self.wishes()).methods.get(method) is Use.FORBID:
            raise NotWanted(
                f"Your preferences forbid {_METHODS[method]}. Change them, or say that it is meant."
            )

    async def wanted_mode(self, with_: str, thread: str | None = None) -> SaveMode:
        """How much of what is exchanged with somebody, in a thread, the user wants saved: whole
        messages, where he does not say and the server has no preferences."""
        return preferences.save_mode(await self.wishes(), with_, thread)

    async def wanted_modes(self, with_: str, thread: str | None = None) -> Modes:
        """The same, with what the user wants of off the record, and of expiry."""
        return preferences.modes(await self.wishes(), with_, thread)

    async def check_saving(self, with_: str, thread: str | None = None) -> SaveMode:
        """How much of what is uploaded of somebody, in a thread, the user wants saved.

        :raises NotWanted: he forbids uploads, or wants nothing saved.
        """
        await self.check_wanted("manual")
        mode = await self.wanted_mode(with_, thread)
        if mode is SaveMode.FALSE:
            raise NotWanted(
                f"Your preferences are that nothing with {with_} is saved. Change them, or say that it is "
                "meant."
            )
        return mode

    async def wishes(self) -> Preferences:
        """The preferences there are: none, where none can be stored."""
        if self._known is not None:
            return self._known
        try:
            return await self.get_preferences()
        except (NotOffered, FeatureNotImplemented, ServiceUnavailable):
            self._known = Preferences()
            return self._known

    def forget(self) -> None:
        """The preferences are asked for when they are wanted next."""
        self._known = None
        self._changes += 1

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
        self.forget()
        self.xmpp.event("archive_preferences", changed)


_METHODS = {"auto": "automatic archiving", "local": "local archiving", "manual": "uploads to the archive"}


def _modes(save: SaveMode, otr: Otr, expire: int | None) -> Modes:
    if otr is Otr.REQUIRE and save is not SaveMode.FALSE:
        raise CannotAsk("What is to be off the record always (otr='require') is not saved: save='false'.")
    return Modes(save, otr, expire)


def _paths() -> list[str]:
    """What matches the iqs that tell of changes."""
    classes = [stanza.in_dialect(root, dialect) for root in _TOLD_BY for dialect in DIALECTS.values()]
    return [f"iq@type=set/{element.plugin_attrib}" for element in classes]


def _answer_error(iq: StanzaBase, condition: str, type_: str) -> None:
    reply = iq.reply()
    reply["error"]["condition"], reply["error"]["type"] = condition, type_
    reply.send()
