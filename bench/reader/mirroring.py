"""A mirror of a whole archive made over a real connection, made again when nothing changed, and searched."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from archive_crypt.reader import offline, words
from archive_crypt.reader.mirror import Report, Sync
from archive_crypt.reader.mirrordb import Mirror
from archive_crypt.reader.offline import Wanted
from archive_crypt.reader.opening import Book, Entry
from archive_crypt.reader.protocol import Listed
from bench.load import bodies
from bench.reader.bed import Bed, Used

_KEY = bytes(32)


@dataclass(frozen=True)
class Copied:
    """`messages` that the first sync got, and what that `used`; seconds of the one after it, and of
    opening the mirror; octets on disk."""

    messages: int
    used: Used
    again: float
    opening: float
    octets: int


class _Hits:
    """A display of nothing."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self, collection: Listed, *, unlisted: bool = False) -> None:
        pass

    def found(self, entry: Entry, *, hit: bool) -> None:
        self.count += hit

    def gap(self) -> None:
        pass


async def copy(bed: Bed, path: Path) -> Copied:
    """The archive into a new mirror."""
    with Mirror(path, _KEY) as mirror:
        with bed.used() as used:
            await _sync(bed, mirror)
        begun = time.perf_counter()
        assert not (await _sync(bed, mirror)).fetched
        again = time.perf_counter() - begun
        _, messages = mirror.count()
    begun = time.perf_counter()
    Mirror(path, _KEY).__exit__()
    return Copied(messages, used, again, time.perf_counter() - begun, path.stat().st_size)


def searches(path: Path, each: int) -> list[tuple[str, int, float]]:
    """What was searched for, how many messages were found and shown with two around each, and the seconds."""
    said = [word for body in bodies(each) for word in body.split()]
    rare, common = min(said, key=said.count), max(said, key=said.count)
    wanted = {
        "a rare word": Wanted(words.match([rare]) or "", context=2),
        "the same, one contact": Wanted(words.match([rare]) or "", "peer7@capulet.lit", context=2),
        "the most common word": Wanted(words.match([common]) or "", context=2),
    }
    with Mirror(path, _KEY) as mirror:
        return [(name, *_timed(lambda one=one: _search(mirror, one))) for name, one in wanted.items()]


async def _sync(bed: Bed, mirror: Mirror) -> Report:
    async with bed.archive() as archive:
        sync = Sync(archive, mirror, Book([bed.key]), lambda done, of: None)
        report = await sync.run(time.time_ns() // 1000)
    assert report.settled
    assert not report.troubles
    return report


def _search(mirror: Mirror, wanted: Wanted) -> int:
    hits = _Hits()
    offline.search(mirror, wanted, hits)
    return hits.count


def _timed(doing: Callable[[], int]) -> tuple[int, float]:
    begun = time.perf_counter()
    return doing(), time.perf_counter() - begun
