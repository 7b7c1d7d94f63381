"""What each change makes of the memory of an owner: `make` does one, or says why it was not made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from archive_crypt.core import times
from archive_crypt.core.preferences import ORDER, save_mode, without_lapsed
from archive_crypt.errors import (
    CollectionGone,
    CollectionUnknown,
    NoSuchCollection,
    NotAcceptable,
    QuotaExceeded,
    StorageRefused,
    Withheld,
    WouldLoseData,
)
from archive_crypt.model import (
    MILLISECOND,
    SECOND,
    Collection,
    Link,
    PlainItem,
    SealedItem,
    UploadedItem,
    UploadedKey,
)
from archive_crypt.store.interfaces import (
    FIRST_UPLOAD,
    MOST_WRAPPED,
    AddKeys,
    Append,
    Change,
    DeleteKeys,
    Expire,
    Modification,
    Open,
    Outcome,
    Prolong,
    Remove,
    Rename,
    Reseal,
    Save,
    SetAuto,
    SetPreferences,
    SetPublished,
    Terms,
)
from archive_crypt.store.memory_state import (
    Kept,
    Owned,
    bare,
    is_crypt,
    is_for,
    matches,
    needs,
    octets,
    size,
    weight,
)
from archive_crypt.store.quota import MOST_OLDEST, Quota


def make(owned: Owned, change: Change, quota: Quota, *, spooled: bool) -> Outcome:
    """Make one change of a batch; its outcome. `spooled`: it was said to be durable, so there is room for it.

    :raises StorageRefused: nothing of the batch may be made.
    """
    if isinstance(change, Open | Append):
        return _record(owned, change, None if spooled else quota)
    owned.bumped.clear()
    owned.full = False
    if isinstance(change, Save):
        return _save(owned, change, quota)
    return _MAKERS[type(change)](owned, change)


def _record(owned: Owned, change: Open | Append, quota: Quota | None) -> Outcome:
    if _withheld(owned, change.terms):
        return Withheld()
    if quota is None:
        return _MAKERS[type(change)](owned, change)
    new = isinstance(change, Open)
    more = sum(map(size, change.keys)) if isinstance(change, Open) else octets(change.item)
    if owned.full or change.collection in owned.ended or not _make_room(owned, quota, more, new):
        owned.full = owned.full or change.collection not in owned.ended
        owned.ended.add(change.collection)
        return QuotaExceeded()
    return _MAKERS[type(change)](owned, change)


def _make_room(owned: Owned, quota: Quota, octets: int, collections: int, but: Kept | None = None) -> bool:
    """Whether so much more fits, after the oldest collections went, if they may and that is enough."""

    def fits(owned: Owned) -> bool:
        kept = sum(map(weight, owned.kept.values())), len(owned.kept)
        return quota.fits(kept, octets, collections)

    def expire(owned: Owned) -> bool:
        for id_, kept in sorted(owned.kept.items())[:MOST_OLDEST]:
            mine = but is not None and id_ == but.shown.id
            if not fits(owned) and not mine and kept.archived < owned.now - int(quota.settled * SECOND):
                _remove_all(owned, [kept])
        return fits(owned)

    if fits(owned) or not quota.rolling or octets > quota.octets:
        return fits(owned)
    return expire(owned.copy(owned.now)) and expire(owned)


def _open(owned: Owned, change: Open) -> Outcome:
    if change.collection in owned.kept:
        return None
    candidates = range(change.start, change.start + SECOND, MILLISECOND)
    start = next((start for start in candidates if not owned.find(change.with_, start)), None)
    if start is None:
        raise StorageRefused
    kept = Kept(Collection(change.collection, change.with_, start, thread=change.thread))
    if change.key_name:
        kept.key_names.add(change.key_name)
    kept.keys += change.keys
    parents = [
        other.identity
        for other in owned.in_order()
        if change.parent is not None
        and other.shown.thread == change.parent
        and bare(other.shown.with_) == bare(change.with_)
        and other.shown.start <= start
    ]
    if parents:
        kept.links["previous"] = Link(*parents[-1])
    _begin(owned, kept)
    owned.bumped.add(change.collection)
    return None


def _append(owned: Owned, change: Append) -> Outcome:
    kept, item = owned.kept.get(change.collection), change.item
    if kept is None:
        return CollectionGone() if owned.is_removed(change.collection) else CollectionUnknown()
    if item.number in kept.items or (isinstance(item, SealedItem) and item.key_name not in kept.key_names):
        raise StorageRefused
    kept.items[item.number] = item
    kept.archived = owned.now
    if change.collection not in owned.bumped:
        _bump(owned, kept)
        owned.bumped.add(change.collection)
    return None


def _add_keys(owned: Owned, change: AddKeys) -> Outcome:
    kept = owned.kept.get(change.collection)
    if kept is None:
        return None
    new = [key for key in change.keys if key not in kept.keys]
    if new or change.key_name not in kept.key_names:
        kept.keys += new
        kept.key_names.add(change.key_name)
        _bump(owned, kept)
    return None


def _rename(owned: Owned, change: Rename) -> Outcome:
    kept = owned.kept.get(change.collection)
    if kept is None or owned.find(change.with_, kept.shown.start):
        return None
    _bury(owned, kept, -kept.shown.id)
    kept.shown = dataclasses.replace(kept.shown, with_=change.with_)
    owned.tombstones.pop(kept.identity, None)
    _bump(owned, kept)
    return None


def _reseal(owned: Owned, change: Reseal) -> Outcome:
    kept = owned.kept.get(change.collection)
    if kept is None or change.key_name in kept.key_names:
        return None
    plain = {number for number, item in kept.items.items() if isinstance(item, PlainItem)}
    if plain != {item.number for item in change.items}:
        raise StorageRefused
    kept.items.update((item.number, item) for item in change.items)
    kept.keys += change.keys
    kept.key_names.add(change.key_name)
    _bump(owned, kept)
    return None


def _set_auto(owned: Owned, change: SetAuto) -> Outcome:
    before = owned.state
    settings = {**before.streams, **change.streams}
    streams = {resource: auto for resource, auto in settings.items() if auto is not None}
    lasting = before.auto if change.auto is None else change.auto
    owned.state = dataclasses.replace(before, auto=lasting, streams=streams)
    return None


def _set_published(owned: Owned, change: SetPublished) -> Outcome:
    owned.state = dataclasses.replace(owned.state, published=change.keys)
    return None


def _set_preferences(owned: Owned, change: SetPreferences) -> Outcome:
    old = owned.state.preferences
    items = {item.jid: item for item in old.items if item.jid not in change.remove_items}
    sessions = {one.thread: one for one in old.sessions if one.thread not in change.remove_sessions}
    items.update((item.jid, item) for item in change.items)
    sessions.update((session.thread, session) for session in change.sessions)
    new = dataclasses.replace(
        old,
        default=change.default or old.default,
        items=tuple(items.values()),
        sessions=tuple(sessions.values()),
        methods={**old.methods, **change.methods},
        revision=old.revision + 1,
    )
    owned.state = dataclasses.replace(owned.state, preferences=new)
    return new


def _prolong(owned: Owned, change: Prolong) -> Outcome:
    wishes = owned.state.preferences
    sessions = tuple(
        dataclasses.replace(session, until=max(session.until, change.until))
        if session.thread == change.thread
        else session
        for session in wishes.sessions
    )
    owned.state = dataclasses.replace(owned.state, preferences=dataclasses.replace(wishes, sessions=sessions))
    return None


def _too_many_keys(owned: Owned, kept: Kept, change: Save) -> bool:
    others = [key for other in owned.kept.values() if other.shown.id != kept.shown.id for key in other.keys]
    uploaded = [key for key in (*others, *kept.keys) if isinstance(key, UploadedKey)]
    return any(
        sum(size(key) for key in uploaded if key.key_name == name) > MOST_WRAPPED
        for name in {key.key_name for key in change.keys}
    )


def _save(owned: Owned, change: Save, quota: Quota) -> Outcome:
    old = owned.find(change.with_, change.start)
    if old is None and change.collection in owned.kept:
        raise StorageRefused
    kept = old.copy() if old else Kept(Collection(change.collection, change.with_, change.start))
    _take_attributes(kept, change)
    _take_items(kept, change)
    known = {key.content for key in kept.keys if isinstance(key, UploadedKey)}
    kept.keys += {key.content: key for key in change.keys if key.content not in known}.values()
    if is_crypt(kept) and any(isinstance(item, PlainItem) for item in kept.items.values()):
        return NotAcceptable("A collection holds either encrypted messages or messages in clear.")
    more = weight(kept) - (weight(old) if old else 0)
    if more > 0 and weight(kept) > change.most_octets:
        return NotAcceptable("The collection would be too large.")
    if _too_many_keys(owned, kept, change):
        return NotAcceptable("There are too many EncryptedKeys of one data key.")
    if not _make_room(owned, quota, more, old is None, old):
        return QuotaExceeded()
    if change.items:
        kept.archived = owned.now
    if old is None:
        _begin(owned, kept)
    elif kept != old:
        owned.kept[kept.shown.id] = kept
        _bump(owned, kept)
    return kept.shown


def _take_attributes(kept: Kept, change: Save) -> None:
    shown = kept.shown
    subject = shown.subject if change.subject is None else change.subject or None
    kept.shown = dataclasses.replace(shown, thread=shown.thread or change.thread or None, subject=subject)
    for name, link in change.links.items():
        if link is None:
            kept.links.pop(name, None)
        else:
            kept.links[name] = link
    if change.form is not None:
        kept.form = change.form if change.form.content else None


def _take_items(kept: Kept, change: Save) -> None:
    last = kept.items.get(max(kept.items, default=0))
    first = max((FIRST_UPLOAD - 1, *kept.items)) + 1
    at = last.at if isinstance(last, PlainItem) else kept.shown.start
    for number, item in enumerate(change.items, first):
        if item.encrypted:
            kept.items[number] = UploadedItem(number, item.content, item.key_names)
        else:
            at = min(at + item.secs * SECOND, times.LATEST)
            kept.items[number] = PlainItem(number, at, item.content)


def _remove(owned: Owned, change: Remove) -> Outcome:
    found = [
        kept
        for kept in owned.in_order()
        if matches(change.which, kept.shown) and (change.ids is None or kept.shown.id in change.ids)
    ]
    return _remove_all(owned, found[: change.limit])


def _expire(owned: Owned, change: Expire) -> Outcome:
    found = [
        kept
        for _, kept in sorted(owned.kept.items())
        if kept.archived < change.before and change.expired(kept.shown.with_, kept.archived)
    ]
    return _remove_all(owned, found[: change.limit])


def _remove_all(owned: Owned, gone: list[Kept]) -> int:
    for kept in gone:
        del owned.kept[kept.shown.id]
        _bury(owned, kept, kept.shown.id)
    # What is needed of its keys stays, with the first collection that needs it (XEP-0241 5).
    homes: dict[str, Kept] = {}
    for _, kept in sorted(owned.kept.items()):
        for name in needs(kept):
            homes.setdefault(name, kept)
    for key in (key for kept in gone for key in kept.keys if key.key_name in homes):
        home = homes[key.key_name]
        if key not in home.keys:
            home.keys.append(key)
    return len(gone)


def _delete_keys(owned: Owned, change: DeleteKeys) -> Outcome:
    kept = owned.find(change.with_, change.start)
    if kept is None:
        return NoSuchCollection()
    left = [key for key in kept.keys if not is_for(key, change.recipients)]
    gone = [key for key in kept.keys if is_for(key, change.recipients)]
    others = [key for other in owned.kept.values() if other is not kept for key in other.keys]
    lost = {key.key_name for key in gone} - {key.key_name for key in (*left, *others)}
    needed = {name for other in owned.kept.values() for name in needs(other)}
    if change.guard and lost & needed:
        return WouldLoseData()
    if gone:
        kept.keys = left
        _bump(owned, kept)
    return len(gone)


def _withheld(owned: Owned, terms: Terms | None) -> bool:
    """Whether less is to be saved by now than when the terms were found."""
    preferences = owned.state.preferences
    if terms is None or terms.revision == preferences.revision:
        return False
    preferences = without_lapsed(preferences, terms.at)
    mode = save_mode(preferences, terms.with_, terms.thread, terms.default)
    return ORDER.index(mode) < ORDER.index(terms.mode)


def _begin(owned: Owned, kept: Kept) -> None:
    """Keep a new collection: version 0, and its identity is no longer removed."""
    owned.tombstones.pop(kept.identity, None)
    owned.kept[kept.shown.id] = kept
    kept.stamp, kept.archived = owned.next_stamp(), owned.now
    kept.shown = dataclasses.replace(kept.shown, crypt=is_crypt(kept))


def _bump(owned: Owned, kept: Kept) -> None:
    """A new version of a collection."""
    kept.stamp = owned.next_stamp()
    kept.shown = dataclasses.replace(kept.shown, version=kept.shown.version + 1, crypt=is_crypt(kept))


def _bury(owned: Owned, kept: Kept, id_: int) -> None:
    """Remember that there is no longer a collection of this identity."""
    shown = kept.shown
    stone = Modification(shown.with_, shown.start, shown.version, owned.next_stamp(), removed=True)
    owned.tombstones[kept.identity] = stone
    owned.buried[kept.identity] = id_


_MAKERS: dict[type, Callable[[Owned, Any], Outcome]] = {
    Open: _open,
    Append: _append,
    AddKeys: _add_keys,
    Rename: _rename,
    Reseal: _reseal,
    SetAuto: _set_auto,
    SetPublished: _set_published,
    Remove: _remove,
    Expire: _expire,
    DeleteKeys: _delete_keys,
    SetPreferences: _set_preferences,
    Prolong: _prolong,
}
