"""The end of collections: all in them deleted, a tombstone left of each, and what others need of their
keys handed on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from archive_crypt.store import sql
from archive_crypt.store.sql import Locked


def bury(cursor: Any, owner: Locked, ids: Sequence[int]) -> None:
    """Delete collections with all in them, and leave their tombstones."""
    if not ids:
        return
    ids = list(ids)
    _rehome_keys(cursor, owner, ids)
    for table, column in (("item", "collection"), ("collection", "id")):
        cursor.execute(f"DELETE FROM {table} WHERE owner = %s AND {column} = ANY(%s)", (owner.id, ids))
    drawn = sql.stamps(cursor, [(owner.id, id_) for id_ in ids])
    cursor.execute(
        "SELECT coalesce(sum(octets), 0)::bigint FROM change WHERE owner = %s AND collection = ANY(%s)",
        (owner.id, ids),
    )
    owner.octets -= cursor.fetchone()[0]
    owner.collections -= len(ids)
    cursor.execute(
        "UPDATE change c SET removed = true, stamp = v.stamp, items = 0, octets = 0"
        " FROM unnest(%s::bigint[], %s::bigint[]) AS v(collection, stamp)"
        " WHERE c.owner = %s AND c.collection = v.collection",
        (ids, [drawn[owner.id, id_] for id_ in ids], owner.id),
    )


def _rehome_keys(cursor: Any, owner: Locked, ids: list[int]) -> None:
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
        " ON CONFLICT DO NOTHING RETURNING collection, octet_length(cipher)",
        {"owner": owner.id, "ids": ids},
    )
    homes = Counter[int]()
    for collection, octets in cursor.fetchall():
        homes[collection] += octets
    if not homes:
        return
    owner.octets += homes.total()
    cursor.execute(
        "UPDATE change c SET octets = c.octets + v.octets FROM unnest(%s::bigint[], %s::bigint[])"
        " AS v(collection, octets) WHERE c.owner = %s AND c.collection = v.collection",
        (list(homes), list(homes.values()), owner.id),
    )
