"""Messages that wait, in memory, for a user who is away (XEP-0160). Nothing reaches a disk."""

from __future__ import annotations

from collections import deque

from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from archive_crypt.core import times
from archive_crypt.hosts.limits import Limits
from archive_crypt.hosts.wire import NS_CHAT_STATES, NS_DELAY, NS_HINTS, copied, has_child, render
from archive_crypt.model import Micros


class Offline:
    """A bounded queue for each user."""

    def __init__(self, domain: str, limits: Limits) -> None:
        self._domain = domain
        self._limits = limits
        self._waiting: dict[str, deque[tuple[Element, int]]] = {}

    def put(self, user: JID, message: Element, when: Micros) -> bool:
        """Keep a message, stamped with `when`; False: there is no room."""
        queue = self._waiting.get(user.userhost(), deque())
        delayed = self._delayed(message, when)
        size = len(render(delayed))
        full = len(queue) >= self._limits.offline_messages
        if full or sum(s for _, s in queue) + size > self._limits.offline_bytes:
            return False
        queue.append((delayed, size))
        self._waiting[user.userhost()] = queue
        return True

    def take(self, user: JID) -> list[Element]:
        """The user's messages, oldest first; they are forgotten here."""
        return [message for message, _ in self._waiting.pop(user.userhost(), ())]

    def _delayed(self, message: Element, when: Micros) -> Element:
        copy = copied(message)
        delay = copy.addElement((NS_DELAY, "delay"))
        delay["from"], delay["stamp"] = self._domain, times.render(when)
        delay.parent = None  # in a circle the message would live on when it is over
        return copy


def worth_keeping(message: Element) -> bool:
    """Whether a message still means something later (XEP-0160 3, XEP-0334 4.3)."""
    if has_child(message, NS_HINTS, "no-store"):
        return False
    children = list(message.elements())
    only_state = children and all(c.uri == NS_CHAT_STATES or c.name == "thread" for c in children)
    return not only_state
