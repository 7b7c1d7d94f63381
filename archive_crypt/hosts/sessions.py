"""Who is bound now: one Session for each client stream past login, found by address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from archive_crypt.hosts.c2s import ClientStream


@dataclass(eq=False, slots=True)
class Session:
    """A bound client stream. `presence` is its last broadcast one, None until it has become
    available (RFC 6121 4.2) and after it has become unavailable."""

    jid: JID
    stream: ClientStream
    presence: Element | None = None
    priority: int = 0
    #: Whom it has told of its presence directly (RFC 6121 4.6).
    directed: set[JID] = field(default_factory=set)

    @property
    def available(self) -> bool:
        return self.presence is not None

    @property
    def takes_messages(self) -> bool:
        """Whether messages to the bare JID go here too (RFC 6121 8.5.2)."""
        return self.available and self.priority >= 0


class Sessions:
    """All sessions of the server."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Session]] = {}

    def add(self, session: Session) -> None:
        self._of.setdefault(_user(session.jid), {})[session.jid.resource or ""] = session

    def remove(self, session: Session) -> None:
        user = _user(session.jid)
        of_user = self._of.get(user, {})
        if of_user.get(session.jid.resource or "") is session:
            del of_user[session.jid.resource or ""]
            if not of_user:
                del self._of[user]

    def find(self, jid: JID) -> Session | None:
        """The session with this full JID."""
        return self._of.get(jid.user or "", {}).get(jid.resource or "")

    def of(self, jid: JID) -> list[Session]:
        """The sessions of this JID's user, oldest first."""
        return list(self._of.get(_user(jid), {}).values())

    def __iter__(self) -> Iterator[Session]:
        return iter([session for of_user in self._of.values() for session in of_user.values()])


def _user(jid: JID) -> str:
    return jid.user or ""
