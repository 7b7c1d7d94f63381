"""Who gets a message: RFC 6121 8.5 as one table. Sending and archiving are embedded.py's."""

from __future__ import annotations

import enum
from collections.abc import Callable

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from archive_crypt.hosts.offline import Offline, worth_keeping
from archive_crypt.hosts.sasl import Accounts
from archive_crypt.hosts.sessions import Session, Sessions
from archive_crypt.hosts.wire import bare
from archive_crypt.model import Micros


class Fate(enum.Enum):
    """What becomes of a message."""

    AS_BARE = enum.auto()  # as if sent to the user's bare JID
    FORK = enum.auto()  # to every available resource that does not refuse them by priority
    STORE = enum.auto()  # for later
    REFUSE = enum.auto()  # service-unavailable
    DROP = enum.auto()


# For a normal message to a resource that is gone RFC 6121 8.5.3.2.1 would refuse or drop; we
# deliver to the user as for chat, as ejabberd and Prosody do: nothing is lost in a reconnection.
_FATES = {
    # type       resource is gone  somebody takes it  nobody does
    "normal":    (Fate.AS_BARE,    Fate.FORK,         Fate.STORE),
    "chat":      (Fate.AS_BARE,    Fate.FORK,         Fate.STORE),
    "groupchat": (Fate.REFUSE,     Fate.REFUSE,       Fate.REFUSE),
    "headline":  (Fate.DROP,       Fate.FORK,         Fate.DROP),
    "error":     (Fate.DROP,       Fate.DROP,         Fate.DROP),
}  # fmt: skip


class Messages:
    """Finds the recipients of messages, now and later."""

    def __init__(
        self, accounts: Accounts, sessions: Sessions, offline: Offline, clock: Callable[[], Micros]
    ) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._offline = offline
        self._clock = clock

    def recipients(self, message: Element, to: JID) -> list[Session]:
        """The sessions to deliver to now; none if it was stored, or may be dropped.

        :raises StanzaError: the sender must be told that it was not delivered.
        """
        if to.host != self._accounts.domain:
            raise StanzaError("remote-server-not-found")
        if to.user not in self._accounts:
            raise StanzaError("service-unavailable")
        gone, there, away = _FATES.get(message.getAttribute("type", "normal"), _FATES["normal"])
        if to.resource:
            session = self._sessions.find(to)
            if session is not None:
                return [session]  # connected is enough, whatever the type (8.5.3.1)
            if gone is not Fate.AS_BARE:
                return self._finish(gone, message, to, [])
        takers = [session for session in self._sessions.of(to) if session.takes_messages]
        return self._finish(there if takers else away, message, to, takers)

    def waiting(self, session: Session) -> list[Element]:
        """What was stored for this user: to be delivered now, and stored no more."""
        return self._offline.take(bare(session.jid)) if session.takes_messages else []

    def _finish(self, fate: Fate, message: Element, to: JID, takers: list[Session]) -> list[Session]:
        if fate is Fate.FORK:
            return takers
        if fate is Fate.REFUSE:
            raise StanzaError("service-unavailable")
        if fate is Fate.STORE and worth_keeping(message):
            kept = self._offline.put(bare(to), message, self._clock())
            if not kept:
                raise StanzaError("service-unavailable")  # RFC 6121 8.5.2.2.1
        return []
