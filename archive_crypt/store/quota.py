"""How much one owner may keep. What there is no room for is refused; or the oldest collections go, as the
operator decides. Never a part of one: a record has no holes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from archive_crypt.model import SECOND, SealedItem, Settings, WhenFull
from archive_crypt.store.burials import bury
from archive_crypt.store.interfaces import Append, Open
from archive_crypt.store.sql import Locked, Place

#: Octets of a batch at most: the writer's, and its last upload. Who is further from full is not looked at.
_NEAR = 64 * 1024 * 1024

#: Collections that go at once to make room, so that the others in the transaction need not wait long.
MOST_OLDEST = 100

#: Collections that are remembered to have been refused something. More than can still be waiting for it.
_MOST_ENDED = 10_000


class Quota(NamedTuple):
    """What one owner may keep: `octets` of items, forms and EncryptedKeys, in so many `collections`.

    `rolling`: when it is full, those begun longest ago go, but for what something came into within the
    last `settled` seconds, as it may still be being recorded.
    """

    octets: int = 2**63 - 1
    collections: int = 2**31 - 1
    rolling: bool = False
    settled: float = 0.0

    def fits(self, kept: tuple[int, int], octets: int, collections: int) -> bool:
        """Whether who has `kept` so many octets and collections may keep so many more. None always fit."""
        return (octets <= 0 or kept[0] + octets <= self.octets) and (
            collections <= 0 or kept[1] + collections <= self.collections
        )


def quota_of(settings: Settings) -> Quota:
    """What an operator lets each owner keep."""
    limits = settings.limits
    rolling = limits.when_full is WhenFull.EXPIRE
    return Quota(limits.octets, limits.collections, rolling, settings.silence)


class Ended:
    """Collections that something was refused for: what was on its way to them, too, is refused, or there
    would be a hole when room is made meanwhile."""

    def __init__(self) -> None:
        self._places: OrderedDict[Place, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._places)

    def __contains__(self, place: Place) -> bool:
        return place in self._places

    def add(self, place: Place) -> None:
        """Something of it was refused."""
        self._places[place] = None
        if len(self._places) > _MOST_ENDED:
            self._places.popitem(last=False)


def refused(
    cursor: Any,
    quota: Quota,
    ended: Ended,
    owners: Mapping[str, Locked],
    changes: Sequence[Open | Append],
    but: Container[int],
) -> set[int]:
    """The places in `changes` of what there is no room for, those in `but` apart. Once anything of an
    owner's is refused, so is the rest: small messages do not slip in between."""
    near = {one.id for one in owners.values() if not quota.fits(one.kept, _NEAR, len(changes))}
    if not near and not ended:
        return set()
    octets, opened, full, found = Counter[int](), Counter[int](), set[int](), set[int]()
    for n, change in enumerate(changes):
        if n in but:
            continue
        owner = owners[change.owner]
        place, size = (owner.id, change.collection), _size(change)
        new = isinstance(change, Open)
        if place in ended or owner.id in full:
            found.add(n)
        elif owner.id in near and not make_room(
            cursor, quota, owner, octets[owner.id] + size, opened[owner.id] + new
        ):
            full.add(owner.id)
            found.add(n)
        else:
            octets[owner.id] += size
            opened[owner.id] += new
            continue
        ended.add(place)
    return found


def make_room(
    cursor: Any, quota: Quota, owner: Locked, octets: int, collections: int, but: Place | None = None
) -> bool:
    """Whether so many octets and collections more fit; after the oldest went, but never `but`, where that
    is what the operator wants. If they do not fit all the same, nothing goes."""
    if quota.fits(owner.kept, octets, collections):
        return True
    if not quota.rolling or octets > quota.octets:
        return False
    # The oldest first, and then which may go: those being recorded are few, and not among the oldest.
    cursor.execute(
        "SELECT h.collection, h.octets FROM"
        " (SELECT owner, id FROM collection WHERE owner = %s ORDER BY id LIMIT %s) c"
        " JOIN change h ON h.owner = c.owner AND h.collection = c.id AND h.collection <> %s"
        " AND h.archived < (extract(epoch FROM clock_timestamp()) * 1e6)::bigint - %s ORDER BY c.id",
        (owner.id, MOST_OLDEST, but[1] if but else -1, int(quota.settled * SECOND)),
    )
    may_go = deque(cursor.fetchall())
    freed = sum(size for _, size in may_go)
    if not quota.fits(owner.kept, octets - freed, collections - len(may_go)):
        return False
    kept = owner.kept
    cursor.execute("SAVEPOINT room")
    while may_go and not quota.fits(owner.kept, octets, collections):
        # Keys that others need move to those: what goes may free less than it takes.
        bury(cursor, owner, _enough(quota, owner, octets, collections, may_go))
    if quota.fits(owner.kept, octets, collections):
        return True
    cursor.execute("ROLLBACK TO SAVEPOINT room")
    owner.octets, owner.collections = kept
    return False


def _enough(
    quota: Quota, owner: Locked, octets: int, collections: int, may_go: deque[tuple[int, int]]
) -> list[int]:
    """The first of those that `may_go`, taken from there: as many as must go, by what they take."""
    going: list[int] = []
    while may_go and not quota.fits(owner.kept, octets, collections - len(going)):
        collection, size = may_go.popleft()
        going.append(collection)
        octets -= size
    return going


def _size(change: Open | Append) -> int:
    if isinstance(change, Open):
        return sum(len(key.cipher) for key in change.keys)
    item = change.item
    return len(item.cipher if isinstance(item, SealedItem) else item.content.encode())
