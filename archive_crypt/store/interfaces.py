"""The contract of a storage, and the changes it applies. Nothing here knows SQL, XML or keys.

Storages see no data key and, of sealed collections, no plaintext: the import list shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from archive_crypt.model import (
    AutoState,
    Collection,
    EncryptedKey,
    Item,
    Micros,
    Page,
    PlainItem,
    SealedItem,
    Window,
)

#: Octets of items that one page reads at most, its last item apart.
MOST_PAGE = 128 * 1024


@dataclass(frozen=True, slots=True)
class Open:
    """A new collection, version 0. `key_name` None: in clear.

    If the owner already has (`with_`, `start`), the start is bumped by whole milliseconds, to
    less than a second later. Applied twice, the second time does nothing.
    """

    owner: str
    collection: int
    with_: str
    start: Micros
    thread: str | None = None
    key_name: str | None = None
    algorithm: str | None = None
    keys: tuple[EncryptedKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Append:
    """One item more in a collection; version +1 for all that one batch appends to it.

    Refused if the collection is gone. Applied `again`, an item that is there does nothing.
    """

    owner: str
    collection: int
    item: Item


@dataclass(frozen=True, slots=True)
class AddKeys:
    """A further data key in a collection (with its algorithm), or a known one wrapped for more."""

    owner: str
    collection: int
    key_name: str
    algorithm: str
    keys: tuple[EncryptedKey, ...]


@dataclass(frozen=True, slots=True)
class Rename:
    """Another ``with`` for a collection: replicas see removed + changed. Not done if it would
    take the identity of another collection."""

    owner: str
    collection: int
    with_: str


@dataclass(frozen=True, slots=True)
class Reseal:
    """What a collection held in clear is replaced by the same items sealed (XEP-0241 3)."""

    owner: str
    collection: int
    key_name: str
    algorithm: str
    keys: tuple[EncryptedKey, ...]
    items: tuple[SealedItem, ...]


@dataclass(frozen=True, slots=True)
class SetAuto:
    """The auto-archiving setting that outlives streams."""

    owner: str
    auto: AutoState


Change = Open | Append | AddKeys | Rename | Reseal | SetAuto


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Which collections: `with_` a full JID, bare JID or domain, matching all below it unless
    `exact`; `start` <= start < `end`. None: any."""

    with_: str | None = None
    exact: bool = False
    start: Micros | None = None
    end: Micros | None = None


@dataclass(frozen=True, slots=True)
class CollectionPage:
    """One page of a collection, and of each data key its items name all the EncryptedKeys that
    the owner has in any collection, filtered by recipient if asked."""

    collection: Collection
    page: Page[Item]
    keys: Mapping[str, Sequence[EncryptedKey]]


class Storage(Protocol):
    """Where archives are kept. Every method is one transaction and returns a Deferred.

    All may fail with StorageUnavailable (try again) or StorageRefused (never will do).
    """

    def apply(self, changes: Sequence[Change], again: bool = False) -> Deferred[None]:
        """Make all of `changes` durable, in order, or none of them.

        `again`: they may have been made before (a COMMIT whose answer was lost); what was made
        is not made twice.
        """

    def auto(self, owner: str) -> Deferred[AutoState]:
        """The setting that outlives streams; AutoState() if the owner never set one."""

    def collections(self, owner: str, which: ListFilter, window: Window) -> Deferred[Page[Collection]]:
        """A part of the owner's collections ordered by (start, id), which are their positions.

        An owner nobody knows has none.
        """

    def page(
        self, owner: str, with_: str, start: Micros, window: Window, recipients: Sequence[str]
    ) -> Deferred[CollectionPage]:
        """A part of one collection's items, ordered by (number,). `recipients` empty: all keys.

        Items end with the one that reaches MOST_PAGE, so that there is one if the window has
        any. No part of a change is seen without its other parts.

        :raises NoSuchCollection: the owner has no collection of exactly this identity.
        """

    def plain_items(self, owner: str, collection: int, after: int, limit: int) -> Deferred[list[PlainItem]]:
        """The next items that a collection holds in clear, numbers above `after`, in order."""

    def vacuum(self) -> Deferred[None]:
        """Let the rows that were replaced be overwritten soon."""
