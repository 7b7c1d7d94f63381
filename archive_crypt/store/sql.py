"""The rows that every kind of change touches: owners and their locks, stamps, versions, tombstones,
keys, and items by COPY. All of it runs with a cursor of the writing connection.

Items reach PostgreSQL only by COPY: psycopg2 writes parameters into the statement's text, which
`log_statement` would show.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

from psycopg2.extras import execute_values

from archive_crypt.model import Collection, EncryptedKey, Micros

#: (owner id, collection id)
Place = tuple[int, int]

#: COPY BINARY: a signature, flags and no header extension; then the rows; then the trailer.
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
#: Six fields, each its length and its value: owner, collection, number, key, at, content.
_SEALED = struct.Struct("!hiqiqiiihii")
_PLAIN = struct.Struct("!hiqiqiiiiqi")
_UPLOADED = struct.Struct("!hiqiqiiiii")
_NULL = -1

COLLECTION = (
    "SELECT c.id, c.with_, c.start, h.version, c.thread, c.subject, c.crypt{more}"
    " FROM {source} c JOIN change h ON h.owner = c.owner AND h.collection = c.id{rest}"
)


@dataclass(slots=True)
class Locked:
    """An owner whose row is locked until the transaction ends. `revision`: of the preferences. `octets` and
    `collections`: what he keeps now; `settle` stores that, if it is not what is `stored`."""

    id: int
    revision: int
    octets: int
    collections: int
    stored: tuple[int, int]

    @property
    def kept(self) -> tuple[int, int]:
        return self.octets, self.collections


class Row(NamedTuple):
    """A row of `item`. `key` numbers its data key; `at` is None of what is encrypted."""

    place: Place
    number: int
    key: int | None
    at: Micros | None
    content: bytes


@dataclass(slots=True)
class Growth:
    """By how much a collection grows: `octets` of items, form and EncryptedKeys."""

    items: int = 0
    octets: int = 0


def lock(cursor: Any, jids: set[str]) -> tuple[dict[str, Locked], int]:
    """These owners, new ones made, all locked until the transaction ends; and the transaction's id."""
    names = sorted(jids)
    query = (
        "SELECT jid, id, revision, octets, collections, pg_current_xact_id()::text FROM owner"
        " WHERE jid = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
    )
    cursor.execute(query, (names,))
    rows = cursor.fetchall()
    if len(rows) < len(names):
        known = {row[0] for row in rows}
        new = [(name,) for name in names if name not in known]
        execute_values(cursor, "INSERT INTO owner (jid) VALUES %s ON CONFLICT DO NOTHING", new)
        cursor.execute(query, (names,))
        rows = cursor.fetchall()
    locked = {
        jid: Locked(id_, revision, octets, collections, (octets, collections))
        for jid, id_, revision, octets, collections, _ in rows
    }
    return locked, int(rows[0][5]) if rows else 0


def settle(cursor: Any, owners: Iterable[Locked]) -> None:
    """Store how much each owner keeps by now."""
    changed = [one for one in owners if one.kept != one.stored]
    if not changed:
        return
    cursor.execute(
        "UPDATE owner o SET octets = v.octets, collections = v.collections"
        " FROM unnest(%s::bigint[], %s::bigint[], %s::int[]) AS v(id, octets, collections)"
        " WHERE o.id = v.id",
        (
            [one.id for one in changed],
            [one.octets for one in changed],
            [one.collections for one in changed],
        ),
    )


def stamps(cursor: Any, places: Sequence[Place]) -> dict[Place, Micros]:
    """A new stamp for each change: the time, but always above the owner's last one.

    A statement of its own after the lock: only so does it see what the lock's last holder wrote.
    """
    owners = sorted({owner for owner, _ in places})
    cursor.execute(
        "SELECT o, greatest((extract(epoch FROM clock_timestamp()) * 1e6)::bigint,"
        " (SELECT stamp + 1 FROM change WHERE owner = o ORDER BY stamp DESC LIMIT 1))"
        " FROM unnest(%s::bigint[]) AS o",
        (owners,),
    )
    following = dict(cursor.fetchall())
    drawn = {}
    for place in places:
        drawn[place] = following[place[0]]
        following[place[0]] += 1
    return drawn


def bump(
    cursor: Any, places: Sequence[Place], drawn: Mapping[Place, Micros], growth: Mapping[Place, Growth]
) -> set[Place]:
    """Version +1 with its stamp; which of `places` there are."""
    if not places:
        return set()
    grown = [growth.get(place) or Growth() for place in places]
    cursor.execute(
        "UPDATE change c SET version = c.version + 1, stamp = v.stamp, items = c.items + v.items,"
        " octets = c.octets + v.octets, archived = CASE WHEN v.items > 0 THEN v.stamp ELSE c.archived END"
        " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::int[], %s::bigint[])"
        " AS v(owner, collection, stamp, items, octets)"
        " WHERE c.owner = v.owner AND c.collection = v.collection AND NOT c.removed"
        " RETURNING c.owner, c.collection",
        (
            [owner for owner, _ in places],
            [collection for _, collection in places],
            [drawn[place] for place in places],
            [one.items for one in grown],
            [one.octets for one in grown],
        ),
    )
    return set(cursor.fetchall())


def removed(cursor: Any, places: set[Place]) -> set[Place]:
    """Which of `places` have a tombstone."""
    cursor.execute(
        "SELECT c.owner, c.collection FROM change c"
        " JOIN unnest(%s::bigint[], %s::bigint[]) AS v(owner, collection)"
        " ON c.owner = v.owner AND c.collection = v.collection WHERE c.removed",
        ([owner for owner, _ in places], [collection for _, collection in places]),
    )
    return set(cursor.fetchall())


def bump_one(cursor: Any, owner: Locked, place: Place, growth: Growth | None = None) -> None:
    """Version +1 of one collection."""
    growth = growth or Growth()
    bump(cursor, [place], stamps(cursor, [place]), {place: growth})
    owner.octets += growth.octets


def insert_changes(
    cursor: Any,
    opened: Mapping[Place, tuple[str, Micros]],
    drawn: Mapping[Place, Micros],
    growth: Mapping[Place, Growth],
) -> None:
    """The first change of new collections, given by their identities: version 0."""
    end_tombstones(cursor, [(owner, *identity) for (owner, _), identity in opened.items()])
    rows = []
    for place, identity in opened.items():
        grown, stamp = growth.get(place) or Growth(), drawn[place]
        rows.append((*place, *identity, 0, stamp, grown.items, grown.octets, stamp))
    execute_values(
        cursor,
        "INSERT INTO change (owner, collection, with_, start, version, stamp, items, octets, archived)"
        " VALUES %s",
        rows,
    )


def end_tombstones(cursor: Any, identities: Sequence[tuple[int, str, Micros]]) -> None:
    """A collection of (owner, with, start) is there again: its removal is no longer the latest change."""
    cursor.execute(
        "DELETE FROM change c USING unnest(%s::bigint[], %s::text[], %s::bigint[]) AS v(owner, with_, start)"
        " WHERE c.removed AND c.owner = v.owner AND c.with_ = v.with_ AND c.start = v.start",
        tuple(map(list, zip(*identities, strict=True))),
    )


def find(cursor: Any, owner: int, with_: str, start: Micros) -> Collection | None:
    """The collection of exactly this identity."""
    where = " WHERE c.owner = %s AND c.with_ = %s AND c.start = %s"
    cursor.execute(COLLECTION.format(more="", source="collection", rest=where), (owner, with_, start))
    row = cursor.fetchone()
    return None if row is None else Collection(*row)


def taken(cursor: Any, owner: int, with_: str, start: Micros) -> bool:
    """Whether the owner has a collection of this identity."""
    return find(cursor, owner, with_, start) is not None


def asked(recipients: Iterable[str]) -> list[str]:
    """The public keys that are asked for, without "": so the rows of EncryptedKeys say that they are for
    no one in particular."""
    return [recipient for recipient in recipients if recipient]


def insert_data_key(cursor: Any, place: Place, name: str, algorithm: str) -> int:
    """1 if the collection did not know this data key, else 0."""
    cursor.execute(
        "INSERT INTO data_key (owner, collection, key, name, algorithm)"
        " SELECT %s, %s, coalesce(max(key) + 1, 0), %s, %s FROM data_key"
        " WHERE owner = %s AND collection = %s ON CONFLICT (owner, name, collection) DO NOTHING",
        (*place, name, algorithm, *place),
    )
    return int(cursor.rowcount)


def insert_keys(cursor: Any, rows: Iterable[tuple[Place, EncryptedKey]]) -> list[int]:
    """How large each of these EncryptedKeys is that was not there yet."""
    values = [(*place, k.key_name, k.recipient, k.algorithm, k.cipher) for place, k in rows]
    if not values:
        return []
    inserted = execute_values(
        cursor,
        "INSERT INTO encrypted_key (owner, collection, name, recipient, algorithm, cipher) VALUES %s"
        " ON CONFLICT DO NOTHING RETURNING octet_length(cipher)",
        values,
        page_size=len(values),
        fetch=True,
    )
    return [octets for (octets,) in inserted]


def copy(cursor: Any, rows: Iterable[Row]) -> None:
    """Insert items, however many, in one COPY."""
    parts = [_SIGNATURE]
    for (owner, collection), number, key, at, content in rows:
        size = len(content)
        if key is not None:
            parts.append(_SEALED.pack(6, 8, owner, 8, collection, 4, number, 2, key, _NULL, size))
        elif at is not None:
            parts.append(_PLAIN.pack(6, 8, owner, 8, collection, 4, number, _NULL, 8, at, size))
        else:
            parts.append(_UPLOADED.pack(6, 8, owner, 8, collection, 4, number, _NULL, _NULL, size))
        parts.append(content)
    parts.append(_TRAILER)
    octets = b"".join(parts)
    columns = "owner, collection, number, key, at, content"
    # In one piece: between its pieces psycopg2 gives up the GIL and has to wait for it again.
    cursor.copy_expert(f"COPY item ({columns}) FROM STDIN (FORMAT binary)", BytesIO(octets), len(octets))
