"""What is kept of an owner in memory, and what can be asked of it. No change is made here."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection as AnyOf
from collections.abc import Iterable
from dataclasses import dataclass, field

from archive_crypt.model import (
    Collection,
    Form,
    Item,
    Link,
    LinkName,
    Micros,
    PlainItem,
    SealedItem,
    UploadedItem,
    UploadedKey,
    WrappedKey,
)
from archive_crypt.store.interfaces import ListFilter, Modification, OwnerState


@dataclass
class Kept:
    """A collection with all that is in it. `stamp`: of its latest change; `archived`: when its
    last item was; `key_names`: the data keys that the recorder may seal with."""

    shown: Collection
    stamp: Micros = 0
    archived: Micros = 0
    items: dict[int, Item] = field(default_factory=dict)
    key_names: set[str] = field(default_factory=set)
    keys: list[WrappedKey] = field(default_factory=list)
    links: dict[LinkName, Link] = field(default_factory=dict)
    form: Form | None = None

    def copy(self) -> Kept:
        """The same, free to be changed: the values in it are frozen."""
        return dataclasses.replace(
            self,
            items=dict(self.items),
            key_names=set(self.key_names),
            keys=list(self.keys),
            links=dict(self.links),
        )

    @property
    def identity(self) -> tuple[str, Micros]:
        return self.shown.with_, self.shown.start


@dataclass
class Owned:
    """All of one owner. `stamp`: the last that was given; `now`: when the running batch is made,
    `bumped`: the collections whose version it raised, `full`: whether it refused something. `ended`: the
    collections that something was refused for; `buried`: whose tombstones they are."""

    kept: dict[int, Kept] = field(default_factory=dict)
    tombstones: dict[tuple[str, Micros], Modification] = field(default_factory=dict)
    state: OwnerState = OwnerState()
    stamp: Micros = 0
    now: Micros = 0
    bumped: set[int] = field(default_factory=set)
    full: bool = False
    ended: set[int] = field(default_factory=set)
    buried: dict[tuple[str, Micros], int] = field(default_factory=dict)

    def copy(self, now: Micros) -> Owned:
        """The same for a batch made `now`, free to be changed."""
        kept = {number: kept.copy() for number, kept in self.kept.items()}
        stones, ended, buried = dict(self.tombstones), set(self.ended), dict(self.buried)
        return Owned(kept, stones, self.state, self.stamp, now, ended=ended, buried=buried)

    def find(self, with_: str, start: Micros) -> Kept | None:
        """The collection of exactly this identity."""
        return next((kept for kept in self.kept.values() if kept.identity == (with_, start)), None)

    def is_removed(self, id_: int) -> bool:
        """Whether there is a tombstone of the collection."""
        return any(self.buried.get(identity) == id_ for identity in self.tombstones)

    def in_order(self) -> list[Kept]:
        """All collections by (start, id)."""
        return sorted(self.kept.values(), key=lambda kept: (kept.shown.start, kept.shown.id))

    def next_stamp(self) -> Micros:
        """The time, but always above the last stamp."""
        self.stamp = max(self.stamp + 1, self.now)
        return self.stamp


def matches(which: ListFilter, shown: Collection) -> bool:
    """Whether a list filtered by `which` shows this collection."""
    if which.identity:
        return (which.with_, which.start) == (shown.with_, shown.start)
    if which.start is not None and shown.start < which.start:
        return False
    if which.end is not None and shown.start >= which.end:
        return False
    if which.with_ is None:
        return True
    jid = bare(shown.with_)
    return which.with_ == shown.with_ or (not which.exact and which.with_ in (jid, jid.rpartition("@")[2]))


def is_for(key: WrappedKey, recipients: AnyOf[str]) -> bool:
    """Whether a data key is wrapped for any of these public keys."""
    if isinstance(key, UploadedKey):
        return any(recipient in recipients for recipient in key.recipients)
    return key.recipient in recipients


def named(items: Iterable[Item], form: Form | None) -> list[str]:
    """The data keys that items and a form name, each once, in their order."""
    names = list(form.key_names) if form else []
    for item in items:
        if isinstance(item, SealedItem):
            names.append(item.key_name)
        elif isinstance(item, UploadedItem):
            names += item.key_names
    return list(dict.fromkeys(names))


def needs(kept: Kept) -> set[str]:
    """The data keys that a collection cannot be read without, now or when the recorder goes on."""
    return kept.key_names.union(named(kept.items.values(), kept.form))


def octets(item: Item) -> int:
    """How large an item is."""
    return len(item.cipher if isinstance(item, SealedItem) else item.content.encode())


def recipients(key: UploadedKey) -> tuple[str, ...]:
    """The public keys that an uploaded EncryptedKey is for, each once; "" if it names none."""
    return tuple(dict.fromkeys(key.recipients)) or ("",)


def size(key: WrappedKey) -> int:
    """How large an EncryptedKey is: an uploaded one, as often as it names public keys."""
    if isinstance(key, UploadedKey):
        return len(key.content.encode()) * len(recipients(key))
    return len(key.cipher)


def weight(kept: Kept) -> int:
    """How large a collection is with all in it."""
    form = len(kept.form.content.encode()) if kept.form else 0
    return form + sum(map(octets, kept.items.values())) + sum(map(size, kept.keys))


def is_crypt(kept: Kept) -> bool:
    """Whether EncryptedData or EncryptedKey are in a collection, its form counted."""
    plain = all(isinstance(item, PlainItem) for item in kept.items.values())
    return not plain or bool(kept.key_names or kept.keys or (kept.form and kept.form.key_names))


def bare(jid: str) -> str:
    """A JID without its resource."""
    return jid.partition("/")[0]
