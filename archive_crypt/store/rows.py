"""Changes -> rows: applies a batch of any size. What is recorded goes in a handful of statements for
the whole batch, everything else change by change.

Every batch takes its owners' row locks first, in the order of their ids, and draws its stamps
under them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from psycopg2.extras import execute_values

from archive_crypt.core import preferences as wishes
from archive_crypt.errors import (
    ArchiveError,
    CollectionGone,
    CollectionUnknown,
    QuotaExceeded,
    StorageRefused,
    StorageUnavailable,
    Withheld,
)
from archive_crypt.model import MILLISECOND, SECOND, Mark, Micros, PlainItem, Preferences, SealedItem
from archive_crypt.store import marks, removals, settled, sql, uploads
from archive_crypt.store.interfaces import (
    AddKeys,
    Append,
    Change,
    DeleteKeys,
    Expire,
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
from archive_crypt.store.quota import Ended, Quota, refused
from archive_crypt.store.sql import Growth, Locked, Place, Row
from archive_crypt.store.whole import check_whole

#: What is recorded. (A tuple: a union is made anew each time it is written.)
_RECORDED = (Append, Open)

#: Data keys whose numbers are remembered; above it all are forgotten and looked up again.
_MOST_NUMBERS = 100_000


class Rows:
    """Applies batches of changes, one at a time, with the cursor of a writing connection."""

    def __init__(self, quota: Quota = Quota()) -> None:  # noqa: B008 - it is frozen
        self._quota = quota
        self._ended = Ended()
        #: (owner, collection, data key's name) -> its number there. These never change.
        self._numbers: dict[tuple[int, int, str], int] = {}
        #: The id of the last batch's transaction and its outcomes, which may have been committed.
        self._last: tuple[int, list[Outcome]] | None = None
        self._singly: dict[type, Callable[[Any, Locked, Any], Outcome]] = {
            AddKeys: settled.add_keys,
            Rename: settled.rename,
            Reseal: self._reseal,
            SetAuto: settled.set_auto,
            SetPublished: settled.set_published,
            SetPreferences: settled.set_preferences,
            Prolong: settled.prolong,
            Save: partial(uploads.save, quota=quota),
            Remove: removals.remove,
            Expire: removals.expire,
            DeleteKeys: removals.delete_keys,
        }

    @property
    def uncertain(self) -> bool:
        """Whether the last batch reached its COMMIT, whatever became of that."""
        return self._last is not None

    def begin(self) -> None:
        """Another batch than the last one comes, though perhaps it finds no connection to be applied on."""
        self._last = None

    def failed(self) -> None:
        """A batch is rolled back, perhaps: its data keys may get other numbers."""
        self._numbers.clear()

    def apply(
        self, cursor: Any, changes: Sequence[Change], again: bool, mark: Mark | None = None
    ) -> list[Outcome]:
        """Make all of `changes`, in order. `again`: the last ones, which may have been committed."""
        if not again:
            self._last = None
        if mark is not None:
            if not marks.advance(cursor, mark):
                return [None] * len(changes) if self._last is None else self._last[1]
        elif self._last is not None and _committed(cursor, self._last[0]):
            return self._last[1]
        # What was said to be durable is kept, however full it gets: no more than a spool holds.
        spooled = mark is not None and mark.replays
        owners, transaction = sql.lock(cursor, {change.owner for change in changes})
        outcomes: list[Outcome] = []
        for bulk, group in itertools.groupby(changes, lambda change: isinstance(change, _RECORDED)):
            if bulk:
                outcomes += self._record(cursor, owners, list(group), spooled)
            else:
                outcomes += [self._single(cursor, owners[change.owner], change) for change in group]
        if mark is not None and not spooled:
            check_whole(changes, outcomes)
        sql.settle(cursor, owners.values())
        self._last = transaction, outcomes
        return outcomes

    def _single(self, cursor: Any, owner: Locked, change: Change) -> Outcome:
        try:
            return self._singly[type(change)](cursor, owner, change)
        except StorageRefused:
            raise
        except ArchiveError as refusal:  # each looks before it writes, so nothing was written
            return refusal

    # What is recorded.

    def _record(
        self, cursor: Any, owners: dict[str, Locked], changes: list[Any], spooled: bool
    ) -> list[Outcome]:
        refusals: dict[int, ArchiveError] = {n: Withheld() for n in _withheld(cursor, owners, changes)}
        if not spooled:
            full = refused(cursor, self._quota, self._ended, owners, changes, refusals)
            refusals.update({n: QuotaExceeded() for n in full})
        kept = [one for n, one in enumerate(changes) if n not in refusals] if refusals else changes
        opens = [change for change in kept if isinstance(change, Open)]
        opened = self._open(cursor, owners, opens) if opens else {}
        rows = [self._row(cursor, owners, change) for change in kept if isinstance(change, Append)]
        sql.copy(cursor, rows)
        growth = _growth(owners, opens, rows)
        drawn = sql.stamps(cursor, list(growth))
        if opened:
            sql.insert_changes(cursor, opened, drawn, growth)
        grown = [place for place in growth if place not in opened]
        gone = set(grown) - sql.bump(cursor, grown, drawn, growth)
        if gone:
            _take_back(cursor, gone)
            removed = sql.removed(cursor, gone)
            for n, change in enumerate(changes):
                place = (owners[change.owner].id, change.collection)
                if n not in refusals and place in gone:
                    refusals[n] = CollectionGone() if place in removed else CollectionUnknown()
        _count(owners, opened, {place: one for place, one in growth.items() if place not in gone})
        return [refusals.get(n) for n in range(len(changes))]

    def _open(
        self, cursor: Any, owners: dict[str, Locked], opens: list[Open]
    ) -> dict[Place, tuple[str, Micros]]:
        """Insert collections with their data keys; their identities."""
        starts = _free_starts(cursor, owners, opens)
        placed = [
            ((owners[o.owner].id, o.collection), o, start) for o, start in zip(opens, starts, strict=True)
        ]
        rows: list[tuple[Any, ...]] = []
        for (owner, collection), o, start in placed:
            before = _parent(cursor, owner, o, start, rows) if o.parent else (None, None)
            rows.append((owner, collection, o.with_, start, o.thread, o.key_name is not None, *before))
        execute_values(
            cursor,
            "INSERT INTO collection (owner, id, with_, start, thread, crypt, previous_with, previous_start)"
            " VALUES %s",
            rows,
        )
        sealed = [(place, o) for place, o, _ in placed if o.key_name]
        if sealed:
            execute_values(
                cursor,
                "INSERT INTO data_key (owner, collection, key, name, algorithm) VALUES %s",
                [(*place, 0, o.key_name, o.algorithm) for place, o in sealed],
            )
            sql.insert_keys(cursor, [(place, key) for place, o in sealed for key in o.keys])
        self._remember({(*place, o.key_name or ""): 0 for place, o in sealed})
        return {place: (o.with_, start) for place, o, start in placed}

    def _row(self, cursor: Any, owners: Mapping[str, Locked], change: Append) -> Row:
        place, item = (owners[change.owner].id, change.collection), change.item
        if isinstance(item, SealedItem):
            return Row(place, item.number, self._number(cursor, place, item.key_name), None, item.cipher)
        if isinstance(item, PlainItem):
            return Row(place, item.number, None, item.at, item.content.encode())
        raise StorageRefused("What is uploaded comes by Save.")

    def _number(self, cursor: Any, place: Place, name: str) -> int:
        number = self._numbers.get((*place, name))
        if number is None:
            cursor.execute(
                "SELECT key FROM data_key WHERE owner = %s AND collection = %s AND name = %s", (*place, name)
            )
            row = cursor.fetchone()
            if row is None:
                return self._unknown(cursor, place)
            (number,) = row
            self._remember({(*place, name): number})
        return int(number)

    def _unknown(self, cursor: Any, place: Place) -> int:
        """The number of a data key that the collection does not know: any, if it is gone altogether."""
        cursor.execute("SELECT 1 FROM collection WHERE owner = %s AND id = %s", place)
        if cursor.fetchone() is not None:
            raise StorageRefused("A collection does not know the data key of an item.")
        return 0

    def _remember(self, numbers: dict[tuple[int, int, str], int]) -> None:
        if len(self._numbers) > _MOST_NUMBERS:
            self._numbers.clear()
        self._numbers.update(numbers)

    def _reseal(self, cursor: Any, owner: Locked, change: Reseal) -> None:
        place = (owner.id, change.collection)
        cursor.execute("UPDATE collection SET crypt = true WHERE owner = %s AND id = %s", place)
        if not cursor.rowcount or not sql.insert_data_key(cursor, place, change.key_name, change.algorithm):
            return  # gone, or done before
        keys = sql.insert_keys(cursor, [(place, key) for key in change.keys])
        cursor.execute(
            "DELETE FROM item WHERE owner = %s AND collection = %s AND at IS NOT NULL"
            " RETURNING number, octet_length(content)",
            place,
        )
        plain = dict(cursor.fetchall())
        if set(plain) != {item.number for item in change.items}:
            raise StorageRefused("What is to be sealed is not what the collection holds in clear.")
        number = self._number(cursor, place, change.key_name)
        sql.copy(cursor, [Row(place, item.number, number, None, item.cipher) for item in change.items])
        more = sum(len(item.cipher) for item in change.items) - sum(plain.values()) + sum(keys)
        sql.bump_one(cursor, owner, place, Growth(0, more))


def _committed(cursor: Any, transaction: int) -> bool:
    """Whether a transaction, whose COMMIT was not answered, was committed all the same."""
    cursor.execute("SELECT pg_xact_status(%s::text::xid8)", (str(transaction),))
    (status,) = cursor.fetchone()
    if status == "in progress":
        raise StorageUnavailable("The connection is lost, but its transaction is not over yet.")
    return bool(status == "committed")


def _withheld(cursor: Any, owners: Mapping[str, Locked], changes: Sequence[Open | Append]) -> set[int]:
    """The places in `changes` of what its owner no longer wants saved: decided under preferences that
    another process has changed since, it is decided again."""
    known: dict[int, Preferences] = {}
    found = set()
    for n, change in enumerate(changes):
        terms, owner = change.terms, owners[change.owner]
        if terms is None or terms.revision == owner.revision:
            continue
        if owner.id not in known:
            known[owner.id] = settled.preferences(cursor, owner.id)
        if not _still(known[owner.id], terms):
            found.add(n)
    return found


def _still(preferences: Preferences, terms: Terms) -> bool:
    preferences = wishes.without_lapsed(preferences, terms.at)
    now = wishes.save_mode(preferences, terms.with_, terms.thread, terms.default)
    return wishes.least(now, terms.mode) is terms.mode


def _growth(owners: Mapping[str, Locked], opens: Sequence[Open], rows: Sequence[Row]) -> dict[Place, Growth]:
    """By how much each collection grows that is opened or appended to."""
    growth: defaultdict[Place, Growth] = defaultdict(Growth)
    for change in opens:
        growth[owners[change.owner].id, change.collection].octets = sum(
            len(key.cipher) for key in change.keys
        )
    for row in rows:
        grows = growth[row.place]
        grows.items += 1
        grows.octets += len(row.content)
    return growth


def _count(owners: Mapping[str, Locked], opened: Iterable[Place], growth: Mapping[Place, Growth]) -> None:
    """Count what its owners keep more."""
    by_id = {one.id: one for one in owners.values()}
    for (owner, _), grown in growth.items():
        by_id[owner].octets += grown.octets
    for owner, _ in opened:
        by_id[owner].collections += 1


def _take_back(cursor: Any, gone: set[Place]) -> None:
    """Delete what was copied for collections that are not there."""
    cursor.execute(
        "DELETE FROM item i USING unnest(%s::bigint[], %s::bigint[]) AS v(owner, collection)"
        " WHERE i.owner = v.owner AND i.collection = v.collection",
        ([owner for owner, _ in gone], [collection for _, collection in gone]),
    )


def _free_starts(cursor: Any, owners: Mapping[str, Locked], opens: Sequence[Open]) -> list[Micros]:
    """A start for each new collection that its owner does not have with this contact yet.

    Moved on by milliseconds and within a second: readers accept so much from what is bound
    inside sealed items, and no more.
    """
    cursor.execute(
        "SELECT c.owner, c.with_, c.start FROM unnest(%s::bigint[], %s::text[], %s::bigint[])"
        " AS v(owner, with_, start) JOIN collection c"
        " ON c.owner = v.owner AND c.with_ = v.with_ AND c.start >= v.start AND c.start < v.start + %s",
        ([owners[o.owner].id for o in opens], [o.with_ for o in opens], [o.start for o in opens], SECOND),
    )
    taken = set(cursor.fetchall())
    starts = []
    for o in opens:
        candidates = range(o.start, o.start + SECOND, MILLISECOND)
        identities = ((owners[o.owner].id, o.with_, start) for start in candidates)
        identity = next((i for i in identities if i not in taken), None)
        if identity is None:
            raise StorageRefused("One contact has a collection in every millisecond of this second.")
        taken.add(identity)
        starts.append(identity[2])
    return starts


def _parent(
    cursor: Any, owner: int, change: Open, start: Micros, new: Sequence[tuple[Any, ...]]
) -> tuple[str | None, Micros | None]:
    """The collection that holds the thread from which this one's branched off (XEP-0201). `new`: rows
    of the same batch, not inserted yet."""
    bare = change.with_.partition("/")[0]
    cursor.execute(
        "SELECT start, id, with_ FROM collection WHERE owner = %s AND bare = %s AND thread = %s"
        " AND start <= %s ORDER BY start DESC, id DESC LIMIT 1",
        (owner, bare, change.parent, start),
    )
    found = cursor.fetchall()
    for of, id_, with_, began, thread, *_ in new:
        if (of, with_.partition("/")[0], thread) == (owner, bare, change.parent) and began <= start:
            found.append((began, id_, with_))
    began, _, with_ = max(found, default=(None, None, None))
    return with_, began
