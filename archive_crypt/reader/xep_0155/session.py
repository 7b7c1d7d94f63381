"""XEP-0155 for slixmpp, as far as logging is concerned: who talks with whom off the record (XEP-0136 4)."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import Any, ClassVar

from slixmpp import JID
from slixmpp.plugins.xep_0030.stanza.info import DiscoInfo
from slixmpp.xmlstream import StanzaBase
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath, StanzaPath
from slixmpp.xmlstream.matcher.base import MatcherBase

from archive_crypt.core.dialect import DIALECTS
from archive_crypt.model import Otr
from archive_crypt.reader import exchange, otr, protocol, ssn
from archive_crypt.reader.errors import CannotAsk, NoAnswer, NotUnderstood, RequestFailed
from archive_crypt.reader.otr import Logging, Outcome
from archive_crypt.reader.xep_0155.answering import Answering
from archive_crypt.reader.xep_0155.talks import LONGEST_THREAD, Negotiated, Talk


class XEP_0155(Answering):
    """XEP-0155: Stanza Session Negotiation, as far as logging is concerned.

    Register it before the client connects: the server says only then whether it archives by itself.

    Configuration: `timeout`, seconds until an answer is waited for no longer; `approve`, an asynchronous
    function of a JID and a thread that asks the human whether a contact may have it off the record, where
    that is to be approved (otr='approve'): without, it may not.

    Events, each with a `Negotiated`: `otr_agreed`, what was agreed is in force, now or anew; `otr_failed`,
    a negotiation came to nothing; `otr_ended`, what was in force is no more. And `otr_left_off`, with
    nothing: whether automatic archiving can be off was tried, and it could not be turned on again. It is
    off until that can be done, which is tried on, or there is another stream.

    Who offers and may not see the user's presence (no contact with subscription 'from' or 'both') is not
    answered: any answer would tell that he is there (XEP-0155 10.1).
    """

    name = "xep_0155"
    description = "XEP-0155: Stanza Session Negotiation (logging)"
    dependencies: ClassVar[set[str]] = {"xep_0030", "xep_0136"}
    default_config: ClassVar[dict[str, Any]] = {"timeout": 30, "approve": None}

    #: The full JID of the stream, or of that before; None: there was none.
    _bound: str | None = None
    #: Whether nobody is answered any more on this stream.
    _closed = False

    def plugin_init(self) -> None:
        super().plugin_init()
        for name, (matcher, handle) in self._handlers().items():
            self.xmpp.register_handler(Callback(name, matcher, handle))
        self.xmpp.add_event_handler("archive_preferences", self._on_preferences)
        self.xmpp.plugin["xep_0030"].add_feature(ssn.FEATURE)

    def plugin_end(self) -> None:
        for name in self._handlers():
            self.xmpp.remove_handler(name)
        self.xmpp.del_event_handler("archive_preferences", self._on_preferences)
        self.xmpp.plugin["xep_0030"].del_feature(feature=ssn.FEATURE)
        for talk in self._talks:
            talk.stop()
        for task in list(self._tasks):
            task.cancel()

    def session_bind(self, jid: JID) -> None:
        before, self._bound, self._closed = self._bound, str(jid), False
        if before is None:
            return
        self._forget_stream()
        if before != self._bound:  # contacts know us as somebody else
            for talk in self._talks:
                self._forget(talk)
        self._spawn(self._upkeep.restore())
        self._on_preferences()

    async def offer(self, jid: JID | str, thread: str | None = None) -> Negotiated:
        """Negotiate as the user prefers, in a new thread unless told; what came of it. Best with a full
        JID: of several clients of a contact the first that accepts counts.

        A contact whose client does not announce this is not bothered: that is as if he did not answer.

        :raises CannotAsk: something is agreed or under way there; or nothing can be offered, as the user
            requires what his server makes impossible.
        """
        address, thread = JID(jid), thread or secrets.token_hex(16)
        self._check_connected()
        offered = await self._offerable(address, thread)
        talk = self._offered(address, thread, offered)
        try:
            await self._await_answer(talk)
        finally:
            if talk.offered and talk.outcome is Outcome.PENDING and talk.busy is None:
                self._fail(talk, Outcome.UNANSWERED)
        return talk.told

    async def renegotiate(self, jid: JID | str, thread: str) -> Negotiated:
        """Offer again, as the user prefers now. If that is not accepted, all stays as it was, as long as
        the user can have it so; else it ends.

        :raises CannotAsk: nothing is agreed there, or it is being renegotiated.
        """
        self._check_connected()
        talk = self._agreed_with(jid, thread)
        offered = await self._offerable(talk.jid, thread)
        if talk.agreed is None or talk.anew or talk.busy is not None:
            raise CannotAsk("That is being negotiated: wait for it to end.")
        await self._renegotiated(talk, offered)
        await self._fit(talk)
        return talk.told

    async def end(self, jid: JID | str, thread: str) -> None:
        """It is over, and the contact is told.

        :raises CannotAsk: nothing is agreed there.
        """
        self._check_connected()
        talk = self._agreed_with(jid, thread)
        self._close(talk, say=True)
        await self._finish(talk)

    async def close(self) -> None:
        """All is over, the contacts are told, and the user's preferences are as they were; but a rule for a
        thread that lapses by itself is left to. Nobody is answered any more on this stream. To be called
        before the client disconnects: else, in the older dialects, a contact's setting stays changed, and
        nothing with him is archived any more.

        :raises RequestFailed: it is not known to be so; `close` can be tried again.
        """
        self._check_connected()
        self._closed = True
        talks = list(self._talks)
        for talk in talks:
            if talk.agreed or talk.is_private:
                self._tell_ended(talk.jid, talk.thread)
            self._on_end(talk)
        for talk in talks:
            await self._upkeep.let_lapse(talk)
        await self._upkeep.restore()

    def negotiated(self, jid: JID | str, thread: str | None = None) -> Negotiated | None:
        """What is known of a conversation; None: nothing was negotiated."""
        talk = self._talks.find(JID(jid), thread)
        return None if talk is None else talk.told

    async def may_send(self, jid: JID | str, thread: str | None = None) -> bool:
        """Whether messages may be sent to somebody in a thread now."""
        return otr.may_send(*await self._standing(jid, thread))

    async def logging(self, jid: JID | str, thread: str | None = None) -> Logging | None:
        """How messages are to be taken that are exchanged now; None: there must be none."""
        return otr.logging(*await self._standing(jid, thread))

    async def negotiates_first(self, jid: JID | str) -> bool:
        """Whether, as the user prefers, a conversation with somebody begins with an offer."""
        return otr.negotiates_first((await self._archive.wanted_modes(str(jid))).otr)

    async def _standing(self, jid: JID | str, thread: str | None) -> tuple[Otr, Outcome | None]:
        """What the user prefers, and how far it has come. What was accepted, though not opened yet, is
        private: who requires that waits for it, and for all others it holds already."""
        mode = (await self._archive.wanted_modes(str(jid), thread)).otr
        talk = self._talks.find(JID(jid), thread)
        if talk is None:
            return mode, None
        if talk.is_private and mode is not Otr.REQUIRE:
            return mode, Outcome.MUSTNOT
        return mode, talk.outcome

    def _offered(self, jid: JID, thread: str, offered: tuple[Logging, ...]) -> Talk:
        """The conversation that is offered: another, or one of which nothing came."""
        known = self._talks.find(jid, thread)
        if known is None:
            if self._talks.is_taken(jid, thread):
                raise CannotAsk("This thread belongs to a conversation with somebody else: take another.")
            self._make_room(jid.bare)
        elif known.agreed is not None or known.busy is not None or known.outcome is Outcome.PENDING:
            raise CannotAsk("That is negotiated already: renegotiate it, or end it first.")
        talk = known or Talk(jid, thread)
        self._talks.bind(talk, jid)
        talk.take_back(Outcome.PENDING)
        talk.offered, talk.spoken = offered, True
        return talk

    async def _offerable(self, jid: JID, thread: str) -> tuple[Logging, ...]:
        mode = (await self._archive.wanted_modes(str(jid), thread)).otr
        offered = otr.offer(mode, switchable=await self._upkeep.can_be_off())
        if not offered:
            raise CannotAsk(
                f"You require that what is exchanged with {jid} is off the record, and your server archives "
                "all: nothing can be offered, nor said."
            )
        return offered

    async def _await_answer(self, talk: Talk) -> None:
        """Our offer goes out, and comes to something."""
        if talk.jid.resource and not await self._is_able(talk.jid):
            return
        if talk.outcome is not Outcome.PENDING or not talk.offered:
            return  # the contact was quicker
        talk.id = self._send(ssn.write_offer(str(talk.jid), talk.thread, talk.offered))
        await self._wait(talk)

    async def _is_able(self, jid: JID) -> bool:
        """Whether a contact's client announces that it negotiates (XEP-0030)."""
        iq = self.xmpp.make_iq(itype="get", ito=jid)
        iq.append(DiscoInfo())
        with contextlib.suppress(RequestFailed):
            answer = await exchange.ask(self.xmpp, iq, self.timeout)
            return answer is not None and ssn.FEATURE in protocol.read_features(answer)
        return False

    def _agreed_with(self, jid: JID | str, thread: str) -> Talk:
        talk = self._talks.find(JID(jid), thread)
        if talk is None or talk.agreed is None:
            raise CannotAsk(f"Nothing is agreed with {jid} in this thread.")
        return talk

    def _check_connected(self) -> None:
        if not self.xmpp.is_connected():
            raise NoAnswer("There is no connection to the server.")

    # What comes

    def _handlers(self) -> dict[str, tuple[MatcherBase, Callable[[StanzaBase], None]]]:
        features, ns = f"{{{self.xmpp.stream_ns}}}features", self.xmpp.default_ns
        return {
            "archived by itself": (MatchXPath(features), self._on_features),
            "warned of archiving": (MatchXPath(f"{{{ns}}}message/{{{ns}}}body"), self._on_warning),
            "negotiates": (MatchXPath(f"{{{ns}}}message/{ssn.ELEMENT}"), self._on_message),
            "refuses to negotiate": (StanzaPath("message@type=error"), self._on_error),
        }

    def _on_features(self, features: StanzaBase) -> None:
        """An empty ``<default/>`` says that archiving is on by itself (XEP-0136 14.1)."""
        paths = (f"{{{namespace}}}feature/{{{namespace}}}default" for namespace in DIALECTS)
        self._upkeep.warned = any(features.xml.find(path) is not None for path in paths)

    def _on_warning(self, message: StanzaBase) -> None:
        """What the server itself says to its users may be the warning that it archives (XEP-0136 7)."""
        if message["from"] == JID(self.xmpp.boundjid.domain):
            self._upkeep.warned = True

    def _on_preferences(self, _: object = None) -> None:
        """They have changed."""
        self._spawn(self._fit_all())

    def _on_message(self, message: StanzaBase) -> None:
        sender = message["from"]
        if self._closed or not sender.resource or not self._is_known(sender):
            return
        with contextlib.suppress(NotUnderstood):
            tree = exchange.tree(message.xml)
            form = ssn.read(tree)
            if form is None or not form.thread or len(form.thread) > LONGEST_THREAD:
                return
            demands = ssn.other_demands(tree) if form.kind == "form" else ()
            if demands:  # an encrypted session, say: to accept that would be a lie
                self._send(ssn.write_unable(str(sender), form.thread, demands))
            else:
                self._take(sender, form.thread, form)

    def _on_error(self, message: StanzaBase) -> None:
        sender, thread = message["from"], message["thread"]
        for talk in self._talks.of(sender.bare):
            from_him = talk.jid in (sender, JID(sender.bare))
            if from_him and talk.awaits_answer and (talk.id == message["id"] or talk.thread == thread):
                with contextlib.suppress(NotUnderstood):
                    self._on_refusal(talk, refused=ssn.is_refusal(exchange.tree(message.xml)))

    def _is_known(self, jid: JID) -> bool:
        """Whether he sees the user's presence anyway, or was made an offer."""
        roster = self.xmpp.client_roster
        if roster.has_jid(jid.bare) and roster[jid.bare]["subscription"] in ("from", "both"):
            return True
        return any(talk.offered for talk in self._talks.of(jid.bare))
