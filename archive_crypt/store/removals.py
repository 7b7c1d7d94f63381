"""The rows that go: collections removed by their owner or by time, EncryptedKeys deleted, and the
tombstones that tell replicas.
"""

from __future__ import annotations

from typing import Any

from archive_crypt.errors import NoSuchCollection, WouldLoseData
from archive_crypt.model import Micros
from archive_crypt.store import sql, uploads
from archive_crypt.store.interfaces import DeleteKeys, Expire, ListFilter, Remove
from archive_crypt.store.sql import Locked, Place

_DIGEST = "substr(sha256(cipher), 1, 8)"  # as in the index
#: For these public keys; an uploaded one with all its rows, whomever else it is for.
_THESE = f"(recipient = ANY(%s) OR algorithm = '' AND {_DIGEST} = ANY(%s))"


def matching(which: ListFilter) -> tuple[str, tuple[Any, ...]]:
    """SQL and values of a filter on `collection c`; each way has its index."""
    clauses: list[str] = []
    values: list[Any] = []
    if which.with_ is not None:
        column = "with_"
        if not (which.exact or which.identity) and "/" not in which.with_:
            column = "bare" if "@" in which.with_ else "domain"
        clauses.append(f" AND c.{column} = %s")
        values.append(which.with_)
    if which.start is not None:
        clauses.append(f" AND c.start {'=' if which.identity else '>='} %s")
        values.append(which.start)
    if which.end is not None:
        clauses.append(" AND c.start < %s")
        values.append(which.end)
    return "".join(clauses), tuple(values)


def remove(cursor: Any, owner: Locked, change: Remove) -> int:
    """How many of the collections asked for there were; they are gone."""
    where, values = matching(change.which)
    if change.ids is not None:
        where, values = f"{where} AND c.id = ANY(%s)", (*values, list(change.ids))
    cursor.execute(
        f"SELECT c.id FROM collection c WHERE c.owner = %s{where} ORDER BY c.start, c.id LIMIT %s",
        (owner.id, *values, change.limit),
    )
    ids = [id_ for (id_,) in cursor.fetchall()]
    _bury(cursor, owner.id, ids)
    return len(ids)


def expire(cursor: Any, owner: Locked, change: Expire) -> int:
    """How many collections had expired; they are gone.

    What was archived before some moment was also stamped before it, unless it was changed since
    in another way: one index has the former, another the few others.
    """
    cursor.execute(
        "SELECT h.collection, h.with_, h.archived FROM change h"
        " WHERE h.owner = %(owner)s AND NOT h.removed AND h.stamp < %(before)s"
        " UNION SELECT h.collection, h.with_, h.archived FROM change h"
        " WHERE h.owner = %(owner)s AND h.archived < h.stamp AND h.archived < %(before)s AND NOT h.removed"
        " ORDER BY 1",
        {"owner": owner.id, "before": change.before},
    )
    expired = [id_ for id_, with_, archived in cursor.fetchall() if change.expired(with_, archived)]
    _bury(cursor, owner.id, expired[: change.limit])
    return len(expired[: change.limit])


def delete_keys(cursor: Any, owner: Locked, change: DeleteKeys) -> int:
    """How many EncryptedKeys were for these public keys; they are gone.

    :raises NoSuchCollection: there is none of this identity.
    :raises WouldLoseData: a data key in use would have none left.
    """
    known = sql.find(cursor, owner.id, change.with_, change.start)
    if known is None:
        raise NoSuchCollection
    place = (owner.id, known.id)
    recipients = sql.asked(change.recipients)
    cursor.execute(
        f"SELECT DISTINCT name, {_DIGEST}, CASE WHEN algorithm <> '' THEN recipient END FROM encrypted_key"
        " WHERE owner = %s AND collection = %s AND recipient = ANY(%s)",
        (*place, recipients),
    )
    doomed = cursor.fetchall()
    if not doomed:
        return 0
    these = (recipients, [bytes(digest) for _, digest, _ in doomed])
    if change.guard and _orphans(cursor, place, [name for name, *_ in doomed], these):
        raise WouldLoseData
    cursor.execute(
        f"DELETE FROM encrypted_key WHERE owner = %s AND collection = %s AND {_THESE}",
        (*place, *these),
    )
    uploads.refresh_crypt(cursor, place)
    sql.bump_one(cursor, place)
    return len(doomed)


def forget(cursor: Any, before: Micros, limit: int) -> int:
    """How many tombstones older than `before` were forgotten."""
    cursor.execute(
        "DELETE FROM change c USING (SELECT owner, collection FROM change WHERE removed AND stamp < %s"
        " ORDER BY stamp LIMIT %s) AS old WHERE c.owner = old.owner AND c.collection = old.collection",
        (before, limit),
    )
    return int(cursor.rowcount)


def _orphans(cursor: Any, place: Place, names: list[str], these: tuple[list[str], list[bytes]]) -> set[str]:
    """The data keys in use that no EncryptedKey of the owner would be left for without `these`."""
    owner, collection = place
    cursor.execute(
        "SELECT DISTINCT name FROM encrypted_key WHERE owner = %s AND name = ANY(%s)"
        f" AND NOT (collection = %s AND {_THESE})",
        (owner, names, collection, *these),
    )
    left = {name for (name,) in cursor.fetchall()}
    cursor.execute(
        "SELECT name FROM data_key WHERE owner = %s AND name = ANY(%s)"
        " UNION SELECT unnest(form_keys) FROM collection"
        " WHERE owner = %s AND form_keys <> '{}' AND form_keys && %s",
        (owner, names, owner, names),
    )
    used = {name for (name,) in cursor.fetchall()}
    return used & (set(names) - left)


def _bury(cursor: Any, owner: int, ids: list[int]) -> None:
    """Delete collections with all in them, and leave their tombstones."""
    if not ids:
        return
    _rehome_keys(cursor, owner, ids)
    for table, column in (("item", "collection"), ("collection", "id")):
        cursor.execute(f"DELETE FROM {table} WHERE owner = %s AND {column} = ANY(%s)", (owner, ids))
    drawn = sql.stamps(cursor, [(owner, id_) for id_ in ids])
    cursor.execute(
        "UPDATE change c SET removed = true, stamp = v.stamp, items = 0, octets = 0"
        " FROM unnest(%s::bigint[], %s::bigint[]) AS v(collection, stamp)"
        " WHERE c.owner = %s AND c.collection = v.collection",
        (ids, [drawn[owner, id_] for id_ in ids], owner),
    )


def _rehome_keys(cursor: Any, owner: int, ids: list[int]) -> None:
    """Give EncryptedKeys that others' data needs to one of those others: they are looked for
    among all of the owner's (XEP-0241 5)."""
    cursor.execute(
        "WITH doomed AS (SELECT * FROM encrypted_key WHERE owner = %(owner)s AND collection = ANY(%(ids)s)),"
        " needed AS (SELECT name, collection FROM data_key WHERE owner = %(owner)s"
        "   AND name IN (SELECT name FROM doomed) AND NOT collection = ANY(%(ids)s)"
        "  UNION ALL SELECT unnest(form_keys), id FROM collection"
        "   WHERE owner = %(owner)s AND form_keys <> '{}' AND NOT id = ANY(%(ids)s))"
        " INSERT INTO encrypted_key (owner, collection, name, recipient, algorithm, cipher)"
        " SELECT d.owner, n.collection, d.name, d.recipient, d.algorithm, d.cipher FROM doomed d"
        " JOIN (SELECT name, min(collection) AS collection FROM needed GROUP BY name) n ON n.name = d.name"
        " ON CONFLICT DO NOTHING",
        {"owner": owner, "ids": ids},
    )
