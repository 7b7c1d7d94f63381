"""Changes -> rows: the SQL of the writer, in a handful of statements for a batch of any size.

Every batch takes its owners' row locks first, in the order of their ids, and draws its stamps
under them. Items reach PostgreSQL only by COPY: psycopg2 writes parameters into the statement's
text, which `log_statement` would show.
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any

from psycopg2.extras import execute_values

from archive_crypt.errors import StorageRefused
from archive_crypt.model import MILLISECOND, SECOND, EncryptedKey, Item, Micros, SealedItem
from archive_crypt.store.interfaces import AddKeys, Append, Change, Open, Rename, Reseal, SetAuto

#: (owner id, collection id)
Place = tuple[int, int]

#: COPY BINARY: a signature, flags and no header extension; then the rows; then the trailer.
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
#: Six fields, each its length and its value: owner, collection, number, key, at, content.
_SEALED = struct.Struct("!hiqiqiiihii")
_PLAIN = struct.Struct("!hiqiqiiiiqi")
_NULL = -1

#: Data keys whose numbers are remembered; above it all are forgotten and looked up again.
_MOST_NUMBERS = 100_000


class Rows:
    """Applies batches of changes, one at a time, with the cursor of a writing connection."""

    def __init__(self) -> None:
        #: (owner, collection, data key's name) -> its number there. These never change.
        self._numbers: dict[tuple[int, int, str], int] = {}
        self._singly: dict[type, Callable[[Any, int, Any], None]] = {
            AddKeys: self._add_keys,
            Rename: self._rename,
            Reseal: self._reseal,
            SetAuto: self._set_auto,
        }

    def apply(self, cursor: Any, changes: Sequence[Change], again: bool) -> None:
        """Make all of `changes`, in order. `again`: they may have been committed before."""
        try:
            owners = _lock(cursor, {change.owner for change in changes})
            for bulk, group in itertools.groupby(changes, lambda c: isinstance(c, Open | Append)):
                if bulk:
                    self._record(cursor, owners, list(group), again)
                else:
                    for change in group:
                        self._singly[type(change)](cursor, owners[change.owner], change)
        except BaseException:
            self._numbers.clear()  # what is rolled back may get another number
            raise

    def _record(self, cursor: Any, owners: dict[str, int], changes: list[Change], again: bool) -> None:
        opens = [change for change in changes if isinstance(change, Open)]
        items = [
            ((owners[change.owner], change.collection), change.item)
            for change in changes
            if isinstance(change, Append)
        ]
        opened = self._open(cursor, owners, opens) if opens else {}
        if again:
            items = _unwritten(cursor, items)
        self._copy(cursor, items)
        counts = Counter(place for place, _ in items)
        touched = dict.fromkeys((*opened, *counts))
        stamps = _stamps(cursor, list(touched))
        if opened:
            _insert_changes(cursor, opened, stamps, counts)
        grown = [place for place in counts if place not in opened]
        if len(_bump(cursor, grown, stamps, counts)) < len(grown):
            raise StorageRefused("A collection that was to grow is gone.")

    def _open(
        self, cursor: Any, owners: dict[str, int], opens: list[Open]
    ) -> dict[Place, tuple[str, Micros]]:
        """Insert collections with their data keys; the identities of those that were new."""
        starts = _free_starts(cursor, owners, opens)
        rows = [
            (owners[o.owner], o.collection, o.with_, start, o.thread, o.key_name is not None)
            for o, start in zip(opens, starts, strict=True)
        ]
        new = execute_values(
            cursor,
            "INSERT INTO collection (owner, id, with_, start, thread, crypt) VALUES %s"
            " ON CONFLICT (owner, id) DO NOTHING RETURNING owner, id, with_, start",
            rows,
            fetch=True,
        )
        opened = {(owner, id_): (with_, start) for owner, id_, with_, start in new}
        sealed = [
            (owners[o.owner], o) for o in opens if (owners[o.owner], o.collection) in opened and o.key_name
        ]
        if sealed:
            execute_values(
                cursor,
                "INSERT INTO data_key (owner, collection, key, name, algorithm) VALUES %s",
                [(owner, o.collection, 0, o.key_name, o.algorithm) for owner, o in sealed],
            )
            _insert_keys(cursor, [(owner, o.collection, key) for owner, o in sealed for key in o.keys])
        self._remember({(owner, o.collection, o.key_name or ""): 0 for owner, o in sealed})
        return opened

    def _copy(self, cursor: Any, items: Iterable[tuple[Place, Item]]) -> None:
        buffer = BytesIO()
        buffer.write(_SIGNATURE)
        for (owner, collection), item in items:
            if isinstance(item, SealedItem):
                number = self._number(cursor, owner, collection, item.key_name)
                head = _SEALED.pack(
                    6, 8, owner, 8, collection, 4, item.number, 2, number, _NULL, len(item.cipher)
                )
                buffer.write(head + item.cipher)
            else:
                content = item.content.encode()
                head = _PLAIN.pack(
                    6, 8, owner, 8, collection, 4, item.number, _NULL, 8, item.at, len(content)
                )
                buffer.write(head + content)
        buffer.write(_TRAILER)
        buffer.seek(0)
        columns = "owner, collection, number, key, at, content"
        # In one piece: between its pieces psycopg2 gives up the GIL and has to wait for it again.
        size = buffer.getbuffer().nbytes
        cursor.copy_expert(f"COPY item ({columns}) FROM STDIN (FORMAT binary)", buffer, size)

    def _number(self, cursor: Any, owner: int, collection: int, name: str) -> int:
        number = self._numbers.get((owner, collection, name))
        if number is None:
            cursor.execute(
                "SELECT key FROM data_key WHERE owner = %s AND collection = %s AND name = %s",
                (owner, collection, name),
            )
            row = cursor.fetchone()
            if row is None:
                raise StorageRefused("A collection does not know the data key of an item.")
            (number,) = row
            self._remember({(owner, collection, name): number})
        return int(number)

    def _remember(self, numbers: dict[tuple[int, int, str], int]) -> None:
        if len(self._numbers) > _MOST_NUMBERS:
            self._numbers.clear()
        self._numbers.update(numbers)

    def _add_keys(self, cursor: Any, owner: int, change: AddKeys) -> None:
        place = (owner, change.collection)
        cursor.execute("UPDATE collection SET crypt = true WHERE owner = %s AND id = %s", place)
        if not cursor.rowcount:
            return
        new = _insert_data_key(cursor, place, change.key_name, change.algorithm)
        new += _insert_keys(cursor, [(*place, key) for key in change.keys])
        if new:
            _bump(cursor, [place], _stamps(cursor, [place]), Counter())

    def _rename(self, cursor: Any, owner: int, change: Rename) -> None:
        place = (owner, change.collection)
        cursor.execute("SELECT with_, start FROM collection WHERE owner = %s AND id = %s", place)
        row = cursor.fetchone()
        if row is None or row[0] == change.with_ or _taken(cursor, owner, change.with_, row[1]):
            return
        cursor.execute(
            "UPDATE collection SET with_ = %s WHERE owner = %s AND id = %s", (change.with_, *place)
        )
        # The tombstone of the old identity: one collection never has two, as it only ever goes
        # from bare to full and back, so the negative id is free.
        tomb = (owner, -change.collection)
        stamps = _stamps(cursor, [tomb, place])
        cursor.execute(
            "INSERT INTO change (owner, collection, with_, start, version, stamp, items, removed)"
            " SELECT owner, %s, with_, start, version, %s, 0, true FROM change"
            " WHERE owner = %s AND collection = %s"
            " ON CONFLICT (owner, collection) DO UPDATE"
            " SET with_ = excluded.with_, version = excluded.version, stamp = excluded.stamp",
            (tomb[1], stamps[tomb], *place),
        )
        _end_tombstones(cursor, [(owner, change.with_, row[1])])
        cursor.execute(
            "UPDATE change SET with_ = %s WHERE owner = %s AND collection = %s", (change.with_, *place)
        )
        _bump(cursor, [place], stamps, Counter())

    def _reseal(self, cursor: Any, owner: int, change: Reseal) -> None:
        place = (owner, change.collection)
        cursor.execute("UPDATE collection SET crypt = true WHERE owner = %s AND id = %s", place)
        if not cursor.rowcount or not _insert_data_key(cursor, place, change.key_name, change.algorithm):
            return  # gone, or done before
        _insert_keys(cursor, [(*place, key) for key in change.keys])
        cursor.execute(
            "DELETE FROM item WHERE owner = %s AND collection = %s AND key IS NULL RETURNING number", place
        )
        if {number for (number,) in cursor.fetchall()} != {item.number for item in change.items}:
            raise StorageRefused("What is to be sealed is not what the collection holds in clear.")
        self._copy(cursor, [(place, item) for item in change.items])
        _bump(cursor, [place], _stamps(cursor, [place]), Counter())

    def _set_auto(self, cursor: Any, owner: int, change: SetAuto) -> None:
        auto = change.auto
        cursor.execute("DELETE FROM auto WHERE owner = %s", (owner,))
        cursor.execute(
            "INSERT INTO auto (owner, save, encrypt, namespace) VALUES (%s, %s, %s, %s)",
            (owner, auto.save, auto.encrypt, auto.namespace),
        )
        rows = [(owner, key.name, key.der) for key in auto.keys]
        if rows:
            execute_values(cursor, "INSERT INTO supplied_key (owner, name, der) VALUES %s", rows)


def _lock(cursor: Any, jids: set[str]) -> dict[str, int]:
    """The ids of these owners, new ones made, all locked until the transaction ends."""
    names = sorted(jids)
    query = "SELECT jid, id FROM owner WHERE jid = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
    cursor.execute(query, (names,))
    owners = dict(cursor.fetchall())
    if len(owners) < len(names):
        new = [(name,) for name in names if name not in owners]
        execute_values(cursor, "INSERT INTO owner (jid) VALUES %s ON CONFLICT DO NOTHING", new)
        cursor.execute(query, (names,))
        owners = dict(cursor.fetchall())
    return owners


def _stamps(cursor: Any, places: list[Place]) -> dict[Place, Micros]:
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
    stamps = {}
    for place in places:
        stamps[place] = following[place[0]]
        following[place[0]] += 1
    return stamps


def _free_starts(cursor: Any, owners: dict[str, int], opens: list[Open]) -> list[Micros]:
    """A start for each new collection that its owner does not have with this contact yet.

    Moved on by milliseconds and within a second: readers accept so much from what is bound
    inside sealed items, and no more.
    """
    cursor.execute(
        "SELECT c.owner, c.with_, c.start FROM unnest(%s::bigint[], %s::text[], %s::bigint[])"
        " AS v(owner, with_, start) JOIN collection c"
        " ON c.owner = v.owner AND c.with_ = v.with_ AND c.start >= v.start AND c.start < v.start + %s",
        ([owners[o.owner] for o in opens], [o.with_ for o in opens], [o.start for o in opens], SECOND),
    )
    taken = set(cursor.fetchall())
    starts = []
    for o in opens:
        candidates = range(o.start, o.start + SECOND, MILLISECOND)
        identities = ((owners[o.owner], o.with_, start) for start in candidates)
        identity = next((i for i in identities if i not in taken), None)
        if identity is None:
            raise StorageRefused("One contact has a collection in every millisecond of this second.")
        taken.add(identity)
        starts.append(identity[2])
    return starts


def _unwritten(cursor: Any, items: list[tuple[Place, Item]]) -> list[tuple[Place, Item]]:
    """Those items that an earlier try did not commit: a collection is only ever written upwards."""
    places = list({place for place, _ in items})
    cursor.execute(
        "SELECT owner, collection, (SELECT number FROM item i WHERE i.owner = v.owner"
        " AND i.collection = v.collection ORDER BY number DESC LIMIT 1)"
        " FROM unnest(%s::bigint[], %s::bigint[]) AS v(owner, collection)",
        ([owner for owner, _ in places], [collection for _, collection in places]),
    )
    last = {(owner, collection): number for owner, collection, number in cursor.fetchall()}
    return [(place, item) for place, item in items if last[place] is None or item.number > last[place]]


def _insert_changes(
    cursor: Any,
    opened: dict[Place, tuple[str, Micros]],
    stamps: dict[Place, Micros],
    counts: Counter[Place],
) -> None:
    _end_tombstones(cursor, [(owner, *identity) for (owner, _), identity in opened.items()])
    execute_values(
        cursor,
        "INSERT INTO change (owner, collection, with_, start, version, stamp, items) VALUES %s",
        [(*place, *opened[place], 0, stamps[place], counts[place]) for place in opened],
    )


def _end_tombstones(cursor: Any, identities: list[tuple[int, str, Micros]]) -> None:
    cursor.execute(
        "DELETE FROM change c USING unnest(%s::bigint[], %s::text[], %s::bigint[]) AS v(owner, with_, start)"
        " WHERE c.removed AND c.owner = v.owner AND c.with_ = v.with_ AND c.start = v.start",
        tuple(map(list, zip(*identities, strict=True))),
    )


def _bump(
    cursor: Any, places: list[Place], stamps: dict[Place, Micros], counts: Counter[Place]
) -> set[Place]:
    """Version +1 with its stamp; which of `places` there are."""
    if not places:
        return set()
    cursor.execute(
        "UPDATE change c SET version = c.version + 1, stamp = v.stamp, items = c.items + v.items"
        " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::int[])"
        " AS v(owner, collection, stamp, items)"
        " WHERE c.owner = v.owner AND c.collection = v.collection AND NOT c.removed"
        " RETURNING c.owner, c.collection",
        (
            [owner for owner, _ in places],
            [collection for _, collection in places],
            [stamps[place] for place in places],
            [counts[place] for place in places],
        ),
    )
    return set(cursor.fetchall())


def _taken(cursor: Any, owner: int, with_: str, start: Micros) -> bool:
    cursor.execute(
        "SELECT 1 FROM collection WHERE owner = %s AND with_ = %s AND start = %s", (owner, with_, start)
    )
    return cursor.fetchone() is not None


def _insert_data_key(cursor: Any, place: Place, name: str, algorithm: str) -> int:
    cursor.execute(
        "INSERT INTO data_key (owner, collection, key, name, algorithm)"
        " SELECT %s, %s, coalesce(max(key) + 1, 0), %s, %s FROM data_key"
        " WHERE owner = %s AND collection = %s ON CONFLICT (owner, collection, name) DO NOTHING",
        (*place, name, algorithm, *place),
    )
    return int(cursor.rowcount)


def _insert_keys(cursor: Any, rows: list[tuple[int, int, EncryptedKey]]) -> int:
    if not rows:
        return 0
    execute_values(
        cursor,
        "INSERT INTO encrypted_key (owner, collection, name, recipient, algorithm, cipher) VALUES %s"
        " ON CONFLICT DO NOTHING",
        [
            (owner, collection, k.key_name, k.recipient, k.algorithm, k.cipher)
            for owner, collection, k in rows
        ],
        page_size=len(rows),
    )
    return int(cursor.rowcount)
