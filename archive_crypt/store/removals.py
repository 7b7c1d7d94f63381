"""The rows that go: collections removed by their owner or by time, EncryptedKeys deleted, and the
tombstones that tell replicas.
"""

from __future__ import annotations

from typing import Any

from archive_crypt.errors import NoSuchCollection, WouldLoseData
from archive_crypt.model import Micros
from archive_crypt.store import sql, uploads
from archive_crypt.store.burials import bury
from archive_crypt.store.interfaces import DeleteKeys, Expire, ListFilter, Remove
from archive_crypt.store.sql import Growth, Locked, Place

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
    bury(cursor, owner, ids)
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
    bury(cursor, owner, expired[: change.limit])
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
        f"DELETE FROM encrypted_key WHERE owner = %s AND collection = %s AND {_THESE}"
        " RETURNING octet_length(cipher)",
        (*place, *these),
    )
    growth = Growth(0, -sum(octets for (octets,) in cursor.fetchall()))
    uploads.refresh_crypt(cursor, place)
    sql.bump_one(cursor, owner, place, growth)
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
