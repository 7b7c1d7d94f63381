"""What recording is done with, and the values that pass between those who do it. No behaviour."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from archive_crypt.core.conversation import Peer, State
from archive_crypt.crypto.keyring import DataKey, KeyRing
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.model import MILLISECOND, Micros, Settings
from archive_crypt.store.interfaces import Change, Storage, Terms
from archive_crypt.store.writer import Writer


@dataclass(frozen=True, slots=True)
class Works:
    """What recording is done with; handed in."""

    storage: Storage
    writer: Writer
    keyring: KeyRing
    clock: Any
    settings: Settings


@dataclass(frozen=True, slots=True)
class Sealing:
    """How to seal: for which public keys, and in which archive namespace the items are written."""

    keys: tuple[PublicKey, ...]
    namespace: str


class Arrival(NamedTuple):
    """A message to record: `content` as `items.content` makes it; `sealing` None: in clear;
    `terms` None: whatever its owner prefers; `now`: when it is recorded, whenever it was said."""

    peer: Peer
    content: str
    at: Micros
    sealing: Sealing | None
    terms: Terms | None
    now: Micros


@dataclass(slots=True, eq=False)
class Conversation:
    """One conversation that is being recorded into one collection.

    `settled`: its ``with`` is for good. `wrapped`: the public keys its data key is wrapped for.
    `held`: changes that wait until what was recorded in clear is sealed, with their Deferreds;
    None at all other times.
    """

    key: tuple[str, str | None]
    id: int
    with_: str
    start: Micros
    settled: bool = False
    state: State = State.IDLE
    items: int = 0
    octets: int = 0
    data_key: DataKey | None = None
    sealing: Sealing | None = None
    wrapped: tuple[PublicKey, ...] = ()
    held: list[tuple[Change, Deferred[None]]] | None = None


def new_id(now: Micros) -> int:
    """An id for a collection, unique for its owner: made without asking anybody, sorting by time."""
    return (now // MILLISECOND) % 2**41 << 22 | secrets.randbits(22)
