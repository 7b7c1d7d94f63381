"""Threads of one user that two people agreed to keep off the record (XEP-0155): not recorded, and what
was recorded of them since the offer removed. A safety net: the duty is the clients' (XEP-0136 4).
"""

from __future__ import annotations

from archive_crypt.conversations import Conversations
from archive_crypt.core import policy
from archive_crypt.core.conversation import Peer
from archive_crypt.core.message import Message
from archive_crypt.core.negotiation import Negotiations, Verdict
from archive_crypt.model import Direction
from archive_crypt.store.interfaces import ListFilter, Remove

_Key = tuple[str, str | None]


class OffTheRecord:
    """What one user negotiates, and what of his conversations depends on it."""

    def __init__(self, owner: str, conversations: Conversations) -> None:
        self._owner = owner
        self._conversations = conversations
        self._negotiations = Negotiations()
        #: The collections begun in a thread since it was offered to be kept off the record.
        self._since_offer: dict[_Key, list[int]] = {}

    def saw(self, message: Message, direction: Direction, peer: Peer) -> tuple[bool, Remove | None]:
        """Whether a message must not be recorded; and what of earlier ones is to be removed.

        From the offer on, a thread stands in collections of its own, so that these can go.
        """
        if self._negotiations.idle and not policy.may_negotiate(message):
            return False, None
        verdict = self._negotiations.saw(message, direction, peer.key)
        key, remove = (peer.key, peer.thread), None
        if verdict is Verdict.OFFERED:
            self._stop(key)
            self._since_offer[key] = []
        elif verdict is Verdict.AGREED:
            self._stop(key)
            gone = self._since_offer.pop(key, [])
            remove = Remove(self._owner, ListFilter(), len(gone), frozenset(gone)) if gone else None
        elif verdict is Verdict.ON:
            self._since_offer.pop(key, None)
        return verdict in (Verdict.OFF, Verdict.AGREED), remove

    def recorded(self, peer: Peer) -> None:
        """A message was recorded, perhaps in a thread of which it is open whether it may be."""
        if not self._since_offer:
            return
        ids = self._since_offer.get((peer.key, peer.thread))
        talk = self._conversations.find(peer.key, peer.thread)
        if ids is not None and talk is not None and talk.id not in ids:
            ids.append(talk.id)

    def _stop(self, key: _Key) -> None:
        talk = self._conversations.find(*key)
        if talk is not None:
            self._conversations.stop_one(talk)
