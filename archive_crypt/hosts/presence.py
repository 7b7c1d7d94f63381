"""Presence and rosters, RFC 6121 4, in the smallest correct form: every user of the server is in
everybody's roster with subscription 'both', and that never changes."""

from __future__ import annotations

import re
from collections.abc import Callable

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from archive_crypt.hosts.sasl import Accounts
from archive_crypt.hosts.sessions import Session, Sessions
from archive_crypt.hosts.wire import NS_CLIENT, bare, copied

_PRIORITY = re.compile(r"[+-]?[0-9]{1,3}")
_MOST_DIRECTED = 1000  # addresses that one session may keep informed directly


class Presences:
    """Takes the presence stanzas of clients and tells whom it concerns."""

    def __init__(
        self, accounts: Accounts, sessions: Sessions, deliver: Callable[[Session, Element], None]
    ) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._deliver = deliver
        self._broadcasts = {"available": self._available, "unavailable": self._unavailable}
        self._directed = {
            "available": self._tell,
            "unavailable": self._tell,
            "error": self._tell,
            "probe": self._probe,
            "subscribe": self._subscribe,
            # These three would change a roster, which here nothing does.
            "subscribed": self._ignore,
            "unsubscribe": self._ignore,
            "unsubscribed": self._ignore,
        }

    def receive(self, session: Session, presence: Element, to: JID | None) -> None:
        """Take a presence stanza from a client.

        :raises StanzaError: the client must be told that it is not valid or goes nowhere.
        """
        kind = presence.getAttribute("type", "available")
        if to is None:
            if kind not in self._broadcasts:
                raise StanzaError("bad-request")
            self._broadcasts[kind](session, presence)
        elif kind not in self._directed:
            raise StanzaError("bad-request")
        elif to.host == self._accounts.domain:
            self._directed[kind](session, presence, to)
        elif kind != "unavailable":
            raise StanzaError("remote-server-not-found")

    def gone(self, session: Session) -> None:
        """The session has ended without saying so (RFC 6121 4.5.2)."""
        presence = Element((None, "presence"))
        presence["from"], presence["type"] = session.jid.full(), "unavailable"
        self._unavailable(session, presence)

    # broadcast

    def _available(self, session: Session, presence: Element) -> None:
        session.priority = _priority(presence)
        first = not session.available
        session.presence = presence
        for other in self._everybody():
            self._deliver(other, copied(presence, bare(other.jid)))
        if first:  # instead of probes: everybody is here, and known (4.2.2)
            for other in self._everybody():
                if other is not session and other.presence is not None:
                    self._deliver(session, copied(other.presence, session.jid))

    def _unavailable(self, session: Session, presence: Element) -> None:
        told = self._everybody() if session.available else []
        for jid in session.directed:
            told += [other for other in self._targets(jid) if other not in told]
        session.presence = None
        session.directed.clear()
        for other in told:
            self._deliver(other, copied(presence, bare(other.jid)))

    def _everybody(self) -> list[Session]:
        """All who are interested: contacts and own resources, the sender's own session included."""
        return [session for session in self._sessions if session.available]

    # directed

    def _targets(self, to: JID) -> list[Session]:
        if to.resource:
            session = self._sessions.find(to)
            return [session] if session is not None else []
        return [session for session in self._sessions.of(to) if session.available]

    def _tell(self, session: Session, presence: Element, to: JID) -> None:
        kind = presence.getAttribute("type")
        if kind is None:
            if len(session.directed) >= _MOST_DIRECTED:
                raise StanzaError("resource-constraint")
            session.directed.add(to)
        elif kind == "unavailable":
            session.directed.discard(to)
        for other in self._targets(to):
            self._deliver(other, presence)

    def _probe(self, session: Session, _: Element, to: JID) -> None:
        if to.user not in self._accounts:
            return
        found = [other.presence for other in self._targets(to) if other.presence is not None]
        for presence in found:
            self._deliver(session, copied(presence, session.jid))
        if not found:
            self._deliver(session, _answer(to, session.jid, "unavailable"))

    def _subscribe(self, session: Session, _: Element, to: JID) -> None:
        if to.user in self._accounts:  # they are subscribed already (3.1.3)
            self._deliver(session, _answer(bare(to), bare(session.jid), "subscribed"))

    def _ignore(self, session: Session, presence: Element, to: JID) -> None:
        """Valid, and without effect."""


def _priority(presence: Element) -> int:
    """RFC 6121 4.7.2.3: -128 to 127, 0 if none is given."""
    child = next(presence.elements(NS_CLIENT, "priority"), None)
    text = "0" if child is None else str(child).strip()
    if not _PRIORITY.fullmatch(text) or not -128 <= int(text) <= 127:
        raise StanzaError("bad-request")
    return int(text)


def _answer(sender: JID, to: JID, kind: str) -> Element:
    presence = Element((None, "presence"))
    presence["from"], presence["to"], presence["type"] = sender.full(), to.full(), kind
    return presence
