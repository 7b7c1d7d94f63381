"""One message, archived once: tells the copies that several streams get of it, what rooms replay, and what
a server delivers again, from what is said again.

Holds no text, only hashes, and those not for long.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from typing import Any

from archive_crypt.model import Micros

#: Seconds that a copy may come after the first: one with an id may be sent again by a client that was
#: cut off, others fork at once. And how many messages are remembered for that, at most.
_MOST_SECONDS = {True: 60.0, False: 2.0}
_MOST_REMEMBERED = 256

#: Rooms of users, and messages of rooms, that are remembered; and messages that may be delivered again.
_MOST_REPLAYS = 20_000

#: Messages of a stream that its client may not have got: when its connection is lost, and while it is; more
#: than that no server keeps unacknowledged for long.
_MOST_UNNOTICED = 100
_MOST_IN_FLIGHT = 500


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
        self._forget(now)
        return bool(counts[stream] > archived)

    def _forget(self, now: float) -> None:
        """What no copy can be of any more: of 100,000 users it would fill the memory."""
        while self._seen:
            since, _ = next(iter(self._seen.values()))
            if len(self._seen) <= _MOST_REMEMBERED and now - since <= _MOST_SECONDS[True]:
                break
            self._seen.popitem(last=False)


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


class InFlight:
    """What was delivered to streams that lost their connection before the client acknowledged it: the server
    delivers that anew, at a later login or to another resource, perhaps days later (XEP-0198 5, XEP-0160).

    Of all users, and not forgotten with their streams, but with this process.
    """

    def __init__(self) -> None:
        self._of: dict[str, array[int]] = {}  # as an array, as there may be 100,000 streams
        self._lost: OrderedDict[int, None] = OrderedDict()

    def delivered(self, stream: str, digest: int, *, pending: bool) -> None:
        """A message that `digest` tells from others was archived as delivered to this stream; `pending`:
        while its connection was lost."""
        kept = self._of.setdefault(stream, array("q"))
        kept.append(digest)
        del kept[: -(_MOST_IN_FLIGHT if pending else _MOST_UNNOTICED)]

    def closed(self, stream: str, *, pending: bool) -> None:
        """The stream is over; `pending`: while its connection was lost."""
        kept = self._of.pop(stream, ())
        for digest in kept if pending else ():
            _remember(self._lost, digest, None)

    def is_again(self, digest: int) -> bool:
        """Whether a message that the server delivers late was archived when it was sent to a stream
        that is no more."""
        return digest in self._lost


def _remember(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _MOST_REPLAYS:
        kept.popitem(last=False)
