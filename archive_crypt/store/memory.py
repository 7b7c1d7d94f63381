"""The storage that forgets: for the tests of what is above it. Keeps `Storage`'s contract to the letter."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred

from archive_crypt.errors import NoSuchCollection
from archive_crypt.model import (
    Collection,
    EncryptedKey,
    Item,
    Mark,
    Micros,
    Page,
    PlainItem,
    Position,
    Preferences,
    UploadedKey,
    Window,
    WrappedKey,
)
from archive_crypt.store.interfaces import (
    MOST_PAGE,
    Change,
    CollectionPage,
    ListFilter,
    Modification,
    Outcome,
    OwnerState,
)
from archive_crypt.store.memory_changes import make
from archive_crypt.store.memory_state import Owned, is_for, matches, named, octets
from archive_crypt.store.quota import Quota
from archive_crypt.store.whole import check_whole

T = TypeVar("T")


class MemoryStorage:
    """A `Storage` in a dictionary. While `failing` is set every method fails with it, and nothing
    is made. `now`: the time that changes are stamped with; `quota`: what each owner may keep."""

    def __init__(
        self,
        now: Callable[[], Micros] = lambda: time.time_ns() // 1000,
        quota: Quota = Quota(),  # noqa: B008 - it is frozen
    ) -> None:
        self.failing: Exception | None = None
        self._quota = quota
        self._now = now
        self._owners: dict[str, Owned] = {}
        self._marks = Counter[tuple[str, str]]()
        self._last: tuple[list[Change], list[Outcome]] | None = None

    @property
    def uncertain(self) -> bool:
        return False

    def apply(
        self, changes: Sequence[Change], again: bool = False, mark: Mark | None = None
    ) -> Deferred[list[Outcome]]:
        if again and self._last is not None and self._last[0] == list(changes):
            last = self._last
            return self._run(lambda: list(last[1]))
        self._last = None  # nothing was made by what fails now
        return self._run(self._apply, changes, mark)

    def marks(self, spool: str) -> Deferred[tuple[int, int]]:
        return self._run(lambda: (self._marks["batches", spool], self._marks["records", spool]))

    def interrupt(self) -> None:
        pass

    def state(self, owner: str) -> Deferred[OwnerState]:
        return self._run(lambda: self._owned(owner).state)

    def collections(self, owner: str, which: ListFilter, window: Window) -> Deferred[Page[Collection]]:
        return self._run(self._collections, owner, which, window)

    def page(
        self, owner: str, with_: str, start: Micros, window: Window, recipients: Sequence[str]
    ) -> Deferred[CollectionPage]:
        return self._run(self._page, owner, with_, start, window, recipients)

    def keys(
        self, owner: str, recipients: Sequence[str], window: Window
    ) -> Deferred[Page[tuple[Collection, Sequence[WrappedKey]]]]:
        return self._run(self._keys, owner, recipients, window)

    def modified(self, owner: str, after: Micros, window: Window) -> Deferred[Page[Modification]]:
        return self._run(self._modified, owner, after, window)

    def plain_items(self, owner: str, collection: int, after: int, limit: int) -> Deferred[list[PlainItem]]:
        return self._run(self._plain_items, owner, collection, after, limit)

    def expiring(self, after: str, limit: int, everyone: bool) -> Deferred[list[tuple[str, Preferences]]]:
        return self._run(self._expiring, after, limit, everyone)

    def forget_tombstones(self, before: Micros, limit: int) -> Deferred[int]:
        return self._run(self._forget_tombstones, before, limit)

    def forget_streams(self, domain: str, but: Sequence[tuple[str, str]]) -> Deferred[int]:
        return self._run(self._forget_streams, domain, but)

    def vacuum(self) -> Deferred[None]:
        return self._run(lambda: None)

    def _run(self, method: Callable[..., T], *args: Any) -> Deferred[T]:
        if self.failing is not None:
            return defer.fail(self.failing)
        return defer.execute(method, *args)

    def _owned(self, owner: str) -> Owned:
        return self._owners.get(owner, Owned())

    def _apply(self, changes: Sequence[Change], mark: Mark | None) -> list[Outcome]:
        if mark is not None and self._marks[mark.line, mark.spool] >= mark.number:
            return [None] * len(changes)
        now = self._now()
        work = {jid: self._owned(jid).copy(now) for jid in {change.owner for change in changes}}
        spooled = mark is not None and mark.replays
        outcomes = [make(work[change.owner], change, self._quota, spooled=spooled) for change in changes]
        if mark is not None and not spooled:
            check_whole(changes, outcomes)
        self._owners.update(work)
        if mark is not None:
            self._marks[mark.line, mark.spool] = mark.number
        self._last = (list(changes), list(outcomes))
        return outcomes

    def _collections(self, owner: str, which: ListFilter, window: Window) -> Page[Collection]:
        found = [kept.shown for kept in self._owned(owner).kept.values() if matches(which, kept.shown)]
        return _part({(shown.start, shown.id): shown for shown in found}, window)

    def _page(
        self, owner: str, with_: str, start: Micros, window: Window, recipients: Sequence[str]
    ) -> CollectionPage:
        owned = self._owned(owner)
        kept = owned.find(with_, start)
        if kept is None:
            raise NoSuchCollection
        page = _light({(number,): item for number, item in kept.items.items()}, window)
        wrapped = [
            key
            for other in owned.in_order()
            for key in other.keys
            if not recipients or is_for(key, recipients)
        ]
        keys = {
            name: _ordered(key for key in wrapped if key.key_name == name)
            for name in named(page.items, kept.form)
        }
        return CollectionPage(kept.shown, page, keys, dict(kept.links), kept.form)

    def _keys(
        self, owner: str, recipients: Sequence[str], window: Window
    ) -> Page[tuple[Collection, Sequence[WrappedKey]]]:
        found = {
            (kept.shown.start, kept.shown.id): (
                kept.shown,
                _ordered(key for key in kept.keys if is_for(key, recipients)),
            )
            for kept in self._owned(owner).kept.values()
        }
        return _part({position: (shown, keys) for position, (shown, keys) in found.items() if keys}, window)

    def _modified(self, owner: str, after: Micros, window: Window) -> Page[Modification]:
        owned = self._owned(owner)
        changed = [
            Modification(*kept.identity, kept.shown.version, kept.stamp, removed=False)
            for kept in owned.kept.values()
        ]
        found = (one for one in (*changed, *owned.tombstones.values()) if one.stamp > after)
        return _part({(one.stamp,): one for one in found}, window)

    def _plain_items(self, owner: str, collection: int, after: int, limit: int) -> list[PlainItem]:
        kept = self._owned(owner).kept.get(collection)
        items = sorted(kept.items.items()) if kept else []
        plain = [item for number, item in items if isinstance(item, PlainItem) and number > after]
        return plain[:limit]

    def _expiring(self, after: str, limit: int, everyone: bool) -> list[tuple[str, Preferences]]:
        owners = ((jid, owned.state.preferences) for jid, owned in sorted(self._owners.items()))
        found = [(jid, wanted) for jid, wanted in owners if jid > after and (everyone or _expires(wanted))]
        return found[:limit]

    def _forget_tombstones(self, before: Micros, limit: int) -> int:
        old = [
            (owned, identity)
            for owned in self._owners.values()
            for identity, stone in owned.tombstones.items()
            if stone.stamp < before
        ][:limit]
        for owned, identity in old:
            del owned.tombstones[identity]
        return len(old)

    def _forget_streams(self, domain: str, but: Sequence[tuple[str, str]]) -> int:
        count = 0
        for jid, owned in self._owners.items():
            streams = owned.state.streams
            if jid.partition("@")[2] == domain:
                kept = {resource: auto for resource, auto in streams.items() if (jid, resource) in but}
                owned.state = dataclasses.replace(owned.state, streams=kept)
                count += len(streams) - len(kept)
        return count


def _expires(preferences: Preferences) -> bool:
    modes = [item.modes for item in preferences.items]
    modes += [preferences.default] if preferences.default else []
    return any(one.expire is not None for one in modes)


def _ordered(keys: Iterable[WrappedKey]) -> list[WrappedKey]:
    """Each key once: those of the server by recipient, then the uploaded as they came."""
    found = dict.fromkeys(keys)
    recorded = [key for key in found if isinstance(key, EncryptedKey)]
    uploaded = [key for key in found if isinstance(key, UploadedKey)]
    return [*sorted(recorded, key=lambda key: key.recipient), *uploaded]


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
        size += octets(item)
        count += 1
    dropped = len(page.items) - count
    if window.backwards:
        return Page(page.items[dropped:], page.index + dropped, page.count)
    return Page(page.items[:count], page.index, page.count)
