"""One message, archived once: tells the copies that several streams get of it, and what rooms replay,
from what is said again.

Holds no text, only hashes, and those not for long.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any

from archive_crypt.model import Micros

#: Seconds that a copy may come after the first: one with an id may be sent again by a client that was
#: cut off, others fork at once. And how many messages are remembered for that.
_MOST_SECONDS = {True: 60.0, False: 2.0}
_MOST_REMEMBERED = 256

#: Rooms of users, and messages of rooms, that are remembered.
_MOST_REPLAYS = 20_000


class Copies:
    """Of one user's streams. `clock` is an IReactorTime.

    A message that forks to two streams comes once on each; one that was said twice comes twice
    on one of them. So a copy is new if its stream has now seen more of them than were archived.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._seen: OrderedDict[int, tuple[float, Counter[str]]] = OrderedDict()

    def is_new(self, stream: str, named: bool, *message: object) -> bool:
        """Whether this copy, on `stream`, of what `message` tells apart, is the first of its kind.
        `named`: whether it has an id."""
        now = self._clock.seconds()
        digest = hash(message)
        since, counts = self._seen.pop(digest, (now, Counter()))
        if now - since > _MOST_SECONDS[named]:
            since, counts = now, Counter()
        archived = max(counts.values(), default=0)
        counts[stream] += 1
        self._seen[digest] = (since, counts)
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return bool(counts[stream] > archived)


class Replays:
    """What rooms said before: whoever enters one is told its last messages again (XEP-0045 7.2.14).

    Of all users, and not forgotten with their streams: one who comes back is told them once more.
    """

    def __init__(self) -> None:
        self._live: OrderedDict[tuple[str, str], Micros] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()

    def is_new(self, owner: str, room: str, said: Micros, now: Micros, *message: str | None) -> bool:
        """Whether a message of a room, said at `said`, is not yet archived. The first of what else
        tells messages apart is its id."""
        key, digest = (owner, room), hash((owner, room, *message))
        known = message[0] is not None and digest in self._seen
        replayed = said < now and (known or said < self._live.get(key, said))
        _remember(self._seen, digest, None)
        if said >= now:
            _remember(self._live, key, now)
        return not replayed


def _remember(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _MOST_REPLAYS:
        kept.popitem(last=False)
