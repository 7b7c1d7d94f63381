"""One conversation -> one collection: the state table, and which conversation a message is of.

The core decides and returns effects; the recorder acts on them.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from archive_crypt.core import jids, policy, tree
from archive_crypt.core.message import Message
from archive_crypt.model import Direction

_SPACE = " \t\r\n"  # as XML has it

#: Octets of a thread that conversations are told apart by. A sender chooses it, and every list shows it.
LONGEST_THREAD = 1023


class _ById(enum.Enum):
    """Members are found in tables by what they are: an enum's own hash is that of its name, a call each."""

    __hash__ = object.__hash__


class State(_ById):
    """What is being recorded of one conversation."""

    IDLE = "nothing yet"
    PLAIN = "items in clear"
    RESEALING = "sealed items, while those in clear are being sealed"
    SEALED = "sealed items"
    CLOSING = "nothing more, while items in clear are being sealed"
    CLOSED = "nothing more"


class Event(_ById):
    """What happens to a conversation."""

    MESSAGE = "a message, encryption off"
    SEALED = "a message, encryption on"
    ENCRYPT = "encryption was turned on"
    DECLINE = "encryption was turned off"
    RESEALED = "all that was in clear is sealed, or cannot be"
    STOP = "silence, auto off, last stream gone, limit reached, shutdown"


class Effect(_ById):
    """What the recorder must do, in this order."""

    CREATE_KEY = "bear a data key and wrap it for every public key"
    OPEN = "open a collection"
    APPEND = "append the item in clear"
    SEAL = "seal the item and append it"
    RESEAL = "seal what the collection holds in clear"
    CLOSE = "add nothing more to the collection"
    DESTROY_KEY = "destroy the data key"


#: (state, event) -> (state, effects). What is not here cannot happen.
TRANSITIONS: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    (State.IDLE, Event.MESSAGE): (State.PLAIN, (Effect.OPEN, Effect.APPEND)),
    (State.IDLE, Event.SEALED): (State.SEALED, (Effect.CREATE_KEY, Effect.OPEN, Effect.SEAL)),
    (State.PLAIN, Event.MESSAGE): (State.PLAIN, (Effect.APPEND,)),
    (State.PLAIN, Event.ENCRYPT): (State.RESEALING, (Effect.CREATE_KEY, Effect.RESEAL)),
    (State.PLAIN, Event.SEALED): (State.RESEALING, (Effect.CREATE_KEY, Effect.RESEAL, Effect.SEAL)),
    (State.PLAIN, Event.DECLINE): (State.PLAIN, ()),
    (State.PLAIN, Event.STOP): (State.CLOSED, (Effect.CLOSE,)),
    (State.RESEALING, Event.SEALED): (State.RESEALING, (Effect.SEAL,)),
    (State.RESEALING, Event.ENCRYPT): (State.RESEALING, ()),
    (State.RESEALING, Event.RESEALED): (State.SEALED, ()),
    (State.RESEALING, Event.DECLINE): (State.CLOSING, (Effect.CLOSE,)),
    (State.RESEALING, Event.STOP): (State.CLOSING, (Effect.CLOSE,)),
    (State.CLOSING, Event.RESEALED): (State.CLOSED, (Effect.DESTROY_KEY,)),
    (State.SEALED, Event.SEALED): (State.SEALED, (Effect.SEAL,)),
    (State.SEALED, Event.ENCRYPT): (State.SEALED, ()),
    (State.SEALED, Event.DECLINE): (State.CLOSED, (Effect.CLOSE, Effect.DESTROY_KEY)),
    (State.SEALED, Event.STOP): (State.CLOSED, (Effect.CLOSE, Effect.DESTROY_KEY)),
}


class Peer(NamedTuple):
    """Whom a message was exchanged with.

    (`key`, `thread`) tells the conversation: `key` is the bare JID, but in a room's private
    messages the occupant's full JID. `jid` is what the collection's ``with`` would be if this
    message began it; `name` the sender's nickname in a room; `parent` the thread from which
    `thread` branched off (XEP-0201 3.3).
    """

    key: str
    jid: str
    thread: str | None
    name: str | None = None
    parent: str | None = None


def peer_of(message: Message, direction: Direction, owner: str) -> Peer | None:
    """The peer of a message of `owner` (bare JID); None if it has none that is a valid JID.

    A message without the address is one with the owner's own account (RFC 6120 8.1).
    """
    address = jids.address(message.attributes.get("from" if direction is Direction.FROM else "to") or owner)
    if address is None:
        return None
    bare, full, resource = address
    thread, parent = thread_of(message)
    if thread is not None:
        thread, parent = _kept(thread), _kept(parent)
    if message.type == "groupchat":
        return Peer(bare, bare, thread, resource, parent)
    return Peer(full if policy.is_room_private(message) else bare, full, thread, None, parent)


def thread_of(message: Message) -> tuple[str | None, str | None]:
    """The thread of a message and that thread's parent, either None if there is none (XEP-0201)."""
    if message.thread is None:
        return None, None
    thread = tree.text(message.thread).strip(_SPACE) or None
    parent = (message.thread.getAttribute("parent") or "").strip(_SPACE) or None
    return thread, parent if thread else None


def _kept(thread: str | None) -> str | None:
    if thread is None or len(thread) * 4 <= LONGEST_THREAD:  # UTF-8 takes four octets at most
        return thread
    return thread if len(thread.encode()) <= LONGEST_THREAD else None


def renamed(with_: str, settled: bool, peer: str) -> tuple[str, bool]:
    """(``with``, settled) of a collection when a message exchanged with the JID `peer` joins it.

    Begun under a bare JID it takes the full JID of the first answer; when a second resource
    speaks it becomes the bare JID's for good (XEP-0136 1.3.1, conversation tracking).
    """
    if settled or peer == with_:
        return with_, settled
    bare, _, resource = with_.partition("/")
    _, _, other = peer.partition("/")
    if not other or resource == other:
        return with_, settled
    return (bare, True) if resource else (peer, False)
