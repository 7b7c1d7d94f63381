"""The storage that forgets: for the tests of what is above it. Keeps `Storage`'s contract to the letter."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred

from archive_crypt.errors import NoSuchCollection, StorageRefused
from archive_crypt.model import (
    MILLISECOND,
    SECOND,
    AutoState,
    Collection,
    EncryptedKey,
    Item,
    Micros,
    Page,
    PlainItem,
    Position,
    SealedItem,
    Window,
)
from archive_crypt.store.interfaces import (
    MOST_PAGE,
    AddKeys,
    Append,
    Change,
    CollectionPage,
    ListFilter,
    Open,
    Rename,
    Reseal,
    SetAuto,
)

T = TypeVar("T")


@dataclass
class _Kept:
    """A collection with all that is in it."""

    shown: Collection
    items: dict[int, Item] = field(default_factory=dict)
    key_names: set[str] = field(default_factory=set)
    keys: list[EncryptedKey] = field(default_factory=list)


@dataclass
class _Owned:
    """All of one owner; `bumped` are the collections whose version the running batch raised."""

    kept: dict[int, _Kept] = field(default_factory=dict)
    auto: AutoState = AutoState()
    bumped: set[int] = field(default_factory=set)


class MemoryStorage:
    """A `Storage` in a dictionary. While `failing` is set every method fails with it."""

    def __init__(self) -> None:
        self.failing: Exception | None = None
        self._owners: dict[str, _Owned] = {}
        self._makers: dict[type, Callable[[_Owned, Any], None]] = {
            Open: self._open,
            Append: self._append,
            AddKeys: self._add_keys,
            Rename: self._rename,
            Reseal: self._reseal,
            SetAuto: self._set_auto,
        }

    def apply(self, changes: Sequence[Change], again: bool = False) -> Deferred[None]:
        return self._run(self._apply, changes)

    def auto(self, owner: str) -> Deferred[AutoState]:
        return self._run(lambda: self._owned(owner).auto)

    def collections(self, owner: str, which: ListFilter, window: Window) -> Deferred[Page[Collection]]:
        return self._run(self._collections, owner, which, window)

    def page(
        self, owner: str, with_: str, start: Micros, window: Window, recipients: Sequence[str]
    ) -> Deferred[CollectionPage]:
        return self._run(self._page, owner, with_, start, window, recipients)

    def plain_items(self, owner: str, collection: int, after: int, limit: int) -> Deferred[list[PlainItem]]:
        return self._run(self._plain_items, owner, collection, after, limit)

    def vacuum(self) -> Deferred[None]:
        return self._run(lambda: None)

    def _run(self, method: Callable[..., T], *args: Any) -> Deferred[T]:
        if self.failing is not None:
            return defer.fail(self.failing)
        return defer.execute(method, *args)

    def _owned(self, owner: str) -> _Owned:
        return self._owners.get(owner, _Owned())

    def _apply(self, changes: Sequence[Change]) -> None:
        work = {change.owner: copy.deepcopy(self._owned(change.owner)) for change in changes}
        for change in changes:
            owned = work[change.owner]
            if not isinstance(change, Open | Append):
                owned.bumped.clear()
            self._makers[type(change)](owned, change)
        for owned in work.values():
            owned.bumped.clear()
        self._owners.update(work)

    def _open(self, owned: _Owned, change: Open) -> None:
        if change.collection in owned.kept:
            return
        taken = {(kept.shown.with_, kept.shown.start) for kept in owned.kept.values()}
        candidates = range(change.start, change.start + SECOND, MILLISECOND)
        start = next((start for start in candidates if (change.with_, start) not in taken), None)
        if start is None:
            raise StorageRefused
        shown = Collection(
            change.collection,
            change.with_,
            start,
            thread=change.thread,
            crypt=change.key_name is not None,
        )
        names = {change.key_name} if change.key_name else set()
        owned.kept[change.collection] = _Kept(shown, key_names=names, keys=list(change.keys))
        owned.bumped.add(change.collection)

    def _append(self, owned: _Owned, change: Append) -> None:
        kept, item = owned.kept.get(change.collection), change.item
        if kept is None or (isinstance(item, SealedItem) and item.key_name not in kept.key_names):
            raise StorageRefused
        if any(number >= item.number for number in kept.items):
            return
        kept.items[item.number] = item
        _bump(owned, kept)

    def _add_keys(self, owned: _Owned, change: AddKeys) -> None:
        kept = owned.kept.get(change.collection)
        if kept is None:
            return
        new = [key for key in change.keys if key not in kept.keys]
        if new or change.key_name not in kept.key_names:
            kept.keys += new
            kept.key_names.add(change.key_name)
            kept.shown = dataclasses.replace(kept.shown, crypt=True)
            _bump(owned, kept)

    def _rename(self, owned: _Owned, change: Rename) -> None:
        kept = owned.kept.get(change.collection)
        if kept is None or any(
            (change.with_, kept.shown.start) == (other.shown.with_, other.shown.start)
            for other in owned.kept.values()
        ):
            return
        kept.shown = dataclasses.replace(kept.shown, with_=change.with_)
        _bump(owned, kept)

    def _reseal(self, owned: _Owned, change: Reseal) -> None:
        kept = owned.kept.get(change.collection)
        if kept is None or change.key_name in kept.key_names:
            return
        plain = {number for number, item in kept.items.items() if isinstance(item, PlainItem)}
        if plain != {item.number for item in change.items}:
            raise StorageRefused
        kept.items.update((item.number, item) for item in change.items)
        kept.keys += change.keys
        kept.key_names.add(change.key_name)
        kept.shown = dataclasses.replace(kept.shown, crypt=True)
        _bump(owned, kept)

    def _set_auto(self, owned: _Owned, change: SetAuto) -> None:
        owned.auto = change.auto

    def _collections(self, owner: str, which: ListFilter, window: Window) -> Page[Collection]:
        found = [kept.shown for kept in self._owned(owner).kept.values() if _matches(which, kept.shown)]
        return _part({(shown.start, shown.id): shown for shown in found}, window)

    def _page(
        self, owner: str, with_: str, start: Micros, window: Window, recipients: Sequence[str]
    ) -> CollectionPage:
        owned = self._owned(owner)
        kept = next(
            (kept for kept in owned.kept.values() if (kept.shown.with_, kept.shown.start) == (with_, start)),
            None,
        )
        if kept is None:
            raise NoSuchCollection
        page = _light({(number,): item for number, item in kept.items.items()}, window)
        names = dict.fromkeys(item.key_name for item in page.items if isinstance(item, SealedItem))
        wrapped = {key for other in owned.kept.values() for key in other.keys}
        keys = {
            name: sorted(
                (k for k in wrapped if k.key_name == name and (not recipients or k.recipient in recipients)),
                key=lambda key: key.recipient,
            )
            for name in names
        }
        return CollectionPage(kept.shown, page, keys)

    def _plain_items(self, owner: str, collection: int, after: int, limit: int) -> list[PlainItem]:
        kept = self._owned(owner).kept.get(collection)
        items = sorted(kept.items.items()) if kept else []
        plain = [item for number, item in items if isinstance(item, PlainItem) and number > after]
        return plain[:limit]


def _bump(owned: _Owned, kept: _Kept) -> None:
    if kept.shown.id not in owned.bumped:
        kept.shown = dataclasses.replace(kept.shown, version=kept.shown.version + 1)
        owned.bumped.add(kept.shown.id)


def _matches(which: ListFilter, shown: Collection) -> bool:
    if which.start is not None and shown.start < which.start:
        return False
    if which.end is not None and shown.start >= which.end:
        return False
    if which.with_ is None:
        return True
    bare = shown.with_.partition("/")[0]
    domain = bare.rpartition("@")[2]
    return which.with_ == shown.with_ or (not which.exact and which.with_ in (bare, domain))


def _part(items: dict[Position, T], window: Window) -> Page[T]:
    order = sorted(items)
    inside = [
        position
        for position in order
        if (window.after is None or position > window.after)
        and (window.before is None or position < window.before)
    ][window.index or 0 :]
    chosen = inside[max(0, len(inside) - window.limit) :] if window.backwards else inside[: window.limit]
    index = order.index(chosen[0]) if chosen else 0
    return Page([items[position] for position in chosen], index, len(order))


def _light(items: dict[Position, Item], window: Window) -> Page[Item]:
    """A part that ends with the item that reaches MOST_PAGE, counted from where it begins."""
    page, size, count = _part(items, window), 0, 0
    for item in reversed(page.items) if window.backwards else page.items:
        if size >= MOST_PAGE:
            break
        size += len(item.cipher if isinstance(item, SealedItem) else item.content.encode())
        count += 1
    dropped = len(page.items) - count
    if window.backwards:
        return Page(page.items[dropped:], page.index + dropped, page.count)
    return Page(page.items[:count], page.index, page.count)
