"""The rows of what outlives messages: preferences, auto-archiving, published keys; and small changes to
collections that are being recorded. Each function applies one change to an owner who is locked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg2.extras import execute_values

from archive_crypt.model import (
    AutoState,
    ContactModes,
    Modes,
    Otr,
    Preferences,
    PublishedKey,
    SaveMode,
    SessionMode,
    SuppliedKey,
    Use,
)
from archive_crypt.store import sql
from archive_crypt.store.interfaces import (
    AddKeys,
    OwnerState,
    Prolong,
    Rename,
    SetAuto,
    SetPreferences,
    SetPublished,
)
from archive_crypt.store.sql import Growth, Locked

#: Where other processes hear of changed preferences: a JSON list, the owner's JID and the revision.
CHANNEL = "archive_crypt_preferences"


def add_keys(cursor: Any, owner: Locked, change: AddKeys) -> None:
    """A data key more, or one wrapped for more."""
    place = (owner.id, change.collection)
    cursor.execute("UPDATE collection SET crypt = true WHERE owner = %s AND id = %s", place)
    if not cursor.rowcount:
        return
    new = sql.insert_data_key(cursor, place, change.key_name, change.algorithm)
    octets = sql.insert_keys(cursor, [(place, key) for key in change.keys])
    if new or octets:
        sql.bump_one(cursor, owner, place, Growth(0, sum(octets)))


def rename(cursor: Any, owner: Locked, change: Rename) -> None:
    """Another ``with``: the old identity gets a tombstone, the new one is a change."""
    place = (owner.id, change.collection)
    cursor.execute("SELECT with_, start FROM collection WHERE owner = %s AND id = %s", place)
    row = cursor.fetchone()
    if row is None or row[0] == change.with_ or sql.taken(cursor, owner.id, change.with_, row[1]):
        return
    cursor.execute("UPDATE collection SET with_ = %s WHERE owner = %s AND id = %s", (change.with_, *place))
    # One collection never has two such tombstones, as it only ever goes from bare to full and
    # back, so the negative id is free.
    tomb = (owner.id, -change.collection)
    drawn = sql.stamps(cursor, [tomb, place])
    cursor.execute(
        "INSERT INTO change (owner, collection, with_, start, version, stamp, items, removed)"
        " SELECT owner, %s, with_, start, version, %s, 0, true FROM change"
        " WHERE owner = %s AND collection = %s"
        " ON CONFLICT (owner, collection) DO UPDATE"
        " SET with_ = excluded.with_, version = excluded.version, stamp = excluded.stamp",
        (tomb[1], drawn[tomb], *place),
    )
    sql.end_tombstones(cursor, [(owner.id, change.with_, row[1])])
    cursor.execute(
        "UPDATE change SET with_ = %s WHERE owner = %s AND collection = %s", (change.with_, *place)
    )
    sql.bump(cursor, [place], drawn, {})


def set_auto(cursor: Any, owner: Locked, change: SetAuto) -> None:
    """The auto-archiving settings in place of those before; their keys go with them."""
    settings = dict(change.streams)
    if change.auto is not None:
        settings[""] = change.auto
    cursor.execute("DELETE FROM auto WHERE owner = %s AND resource = ANY(%s)", (owner.id, list(settings)))
    kept = [(resource, auto) for resource, auto in settings.items() if auto is not None]
    rows = [(owner.id, resource, auto.save, auto.encrypt, auto.namespace) for resource, auto in kept]
    _insert(cursor, "auto (owner, resource, save, encrypt, namespace)", rows)
    keys = [(owner.id, resource, key.name, key.der) for resource, auto in kept for key in auto.keys]
    _insert(cursor, "supplied_key (owner, resource, name, der)", keys)


def forget_streams(cursor: Any, domain: str, but: Sequence[tuple[str, str]]) -> int:
    """How many settings of streams of a domain were forgotten: all but these, by owner and resource."""
    cursor.execute(
        "DELETE FROM auto a USING owner o WHERE o.id = a.owner AND a.resource <> ''"
        " AND split_part(o.jid, '@', 2) = %s AND NOT EXISTS (SELECT FROM unnest(%s::text[], %s::text[])"
        " AS v(jid, resource) WHERE v.jid = o.jid AND v.resource = a.resource)",
        (domain, [owner for owner, _ in but], [resource for _, resource in but]),
    )
    return int(cursor.rowcount)


def set_published(cursor: Any, owner: Locked, change: SetPublished) -> None:
    """The published keys in place of those before."""
    cursor.execute("DELETE FROM published_key WHERE owner = %s", (owner.id,))
    rows = [(owner.id, n, key.name, key.der, key.begin, key.end) for n, key in enumerate(change.keys)]
    _insert(cursor, "published_key (owner, position, name, der, since, until)", rows)


def set_preferences(cursor: Any, owner: Locked, change: SetPreferences) -> Preferences:
    """What is named set or removed; and other processes told of it when it is committed."""
    for table, column, gone in (
        ("preference_item", "jid", [*change.remove_items, *(item.jid for item in change.items)]),
        ("preference_session", "thread", [*change.remove_sessions, *(s.thread for s in change.sessions)]),
        ("preference_method", "type", list(change.methods)),
    ):
        if gone:
            cursor.execute(f"DELETE FROM {table} WHERE owner = %s AND {column} = ANY(%s)", (owner.id, gone))
    if change.default:
        cursor.execute("DELETE FROM preference_default WHERE owner = %s", (owner.id,))
        row = (owner.id, *_written(change.default))
        _insert(cursor, "preference_default (owner, save, otr, expire)", [row])
    items = [(owner.id, item.jid, item.exact, *_written(item.modes)) for item in change.items]
    _insert(cursor, "preference_item (owner, jid, exact, save, otr, expire)", items)
    sessions = [
        (owner.id, s.thread, s.save.value, s.otr and s.otr.value, s.timeout, s.until) for s in change.sessions
    ]
    _insert(cursor, "preference_session (owner, thread, save, otr, timeout, until)", sessions)
    methods = [(owner.id, kind, use.value) for kind, use in change.methods.items()]
    _insert(cursor, "preference_method (owner, type, use)", methods)
    cursor.execute("UPDATE owner SET revision = revision + 1 WHERE id = %s RETURNING revision", (owner.id,))
    (owner.revision,) = cursor.fetchone()  # what follows in this batch is held to it already
    cursor.execute("SELECT pg_notify(%s, %s)", (CHANNEL, json.dumps([change.owner, owner.revision])))
    return preferences(cursor, owner.id)


def prolong(cursor: Any, owner: Locked, change: Prolong) -> None:
    """A session lasts until later; nobody needs to be told."""
    cursor.execute(
        "UPDATE preference_session SET until = greatest(until, %s) WHERE owner = %s AND thread = %s",
        (change.until, owner.id, change.thread),
    )


def preferences(cursor: Any, owner: int) -> Preferences:
    """The preferences of an owner as this transaction sees them."""
    cursor.execute("SELECT revision FROM owner WHERE id = %s", (owner,))
    (revision,) = cursor.fetchone()
    return _preferences(cursor, {owner: revision})[owner]


def states(cursor: Any, jids: Sequence[str]) -> dict[str, OwnerState]:
    """All that outlives the streams of these owners, as far as there are any."""
    cursor.execute("SELECT id, jid, revision FROM owner WHERE jid = ANY(%s)", (list(jids),))
    rows = cursor.fetchall()
    owners = [owner for owner, _, _ in rows]
    autos, published = _autos(cursor, owners), _published(cursor, owners)
    wishes = _preferences(cursor, {owner: revision for owner, _, revision in rows})
    found = {}
    for owner, jid, _ in rows:
        streams = autos[owner]
        auto = streams.pop("", AutoState())
        found[jid] = OwnerState(auto, wishes[owner], tuple(published[owner]), streams)
    return found


def _preferences(cursor: Any, revisions: Mapping[int, int]) -> dict[int, Preferences]:
    """The preferences of some owners, whose revisions are known."""
    defaults = _by_owner(cursor, "save, otr, expire FROM preference_default", revisions)
    items = _by_owner(cursor, "jid, exact, save, otr, expire FROM preference_item", revisions, "jid")
    sessions = _by_owner(
        cursor, "thread, save, timeout, until, otr FROM preference_session", revisions, "thread"
    )
    methods = _by_owner(cursor, "type, use FROM preference_method", revisions)
    return {
        owner: Preferences(
            _read(*defaults[owner][0]) if defaults[owner] else None,
            tuple(ContactModes(jid, _read(*modes), exact) for jid, exact, *modes in items[owner]),
            tuple(
                SessionMode(thread, SaveMode(save), timeout, until, Otr(otr) if otr else None)
                for thread, save, timeout, until, otr in sessions[owner]
            ),
            {kind: Use(use) for kind, use in methods[owner]},
            revision,
        )
        for owner, revision in revisions.items()
    }


def _autos(cursor: Any, owners: Sequence[int]) -> dict[int, dict[str, AutoState]]:
    """Settings with their keys, by resource."""
    keys: dict[tuple[int, str], tuple[SuppliedKey, ...]] = {}
    for owner, rows in _by_owner(cursor, "resource, name, der FROM supplied_key", owners, "name").items():
        for resource, name, der in rows:
            keys[owner, resource] = (*keys.get((owner, resource), ()), SuppliedKey(name, bytes(der)))
    return {
        owner: {
            resource: AutoState(save, encrypt, namespace, keys.get((owner, resource), ()))
            for resource, save, encrypt, namespace in rows
        }
        for owner, rows in _by_owner(cursor, "resource, save, encrypt, namespace FROM auto", owners).items()
    }


def _published(cursor: Any, owners: Sequence[int]) -> dict[int, list[PublishedKey]]:
    found = _by_owner(cursor, "name, der, since, until FROM published_key", owners, "position")
    return {
        owner: [PublishedKey(name, bytes(der), begin, end) for name, der, begin, end in rows]
        for owner, rows in found.items()
    }


def _by_owner(
    cursor: Any, what: str, owners: Iterable[int], order: str = "owner"
) -> dict[int, list[tuple[Any, ...]]]:
    """Rows of a table, for each of the owners: `what` are columns and table."""
    found: dict[int, list[tuple[Any, ...]]] = {owner: [] for owner in owners}
    cursor.execute(f"SELECT owner, {what} WHERE owner = ANY(%s) ORDER BY {order}", (list(found),))
    for owner, *row in cursor.fetchall():
        found[owner].append(tuple(row))
    return found


def _insert(cursor: Any, into: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        execute_values(cursor, f"INSERT INTO {into} VALUES %s", rows)


def _written(modes: Modes) -> tuple[str, str, int | None]:
    return modes.save.value, modes.otr.value, modes.expire


def _read(save: str, otr: str, expire: int | None) -> Modes:
    return Modes(SaveMode(save), Otr(otr), expire)
