"""What the spool costs, idle and at work; and for how long a message is neither acknowledged nor safe, which
is what kill -9 loses."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from twisted.internet import defer, task
from twisted.internet.threads import deferToThread

from archive_crypt.store.spoolthread import SpoolThread
from bench.archive import Bench
from bench.load import messages

OWNERS = 400
#: Messages of the paced load, the seconds between two, and how many of the first are not counted.
PACED, PAUSE, WARM = 2000, 0.002, 100


@dataclass(frozen=True)
class Spooled:
    """Messages a second with an idle spool (`idle`), with the database away (`away`), and written from the
    spool when it is back (`replayed`); octets a message takes in the file; and (p50, p99) of the milliseconds
    from a message's arrival to its acknowledgement, at 500 messages a second."""

    idle: float
    away: float
    replayed: float
    octets: float
    window: tuple[float, float]
    window_away: tuple[float, float]


@defer.inlineCallbacks
def measure(postgres, dsn, reactor, postmaster: int, folder: Path, count: int):
    """`Spooled`, with `count` messages; the database `postgres` is stopped for a while."""
    thread = SpoolThread(str(folder / "idle"), 2**30, reactor)
    bench = Bench(dsn, reactor, postmaster, thread.spooling)
    recorded = yield bench.record(count, OWNERS)
    window = yield _paced(bench)
    yield bench.close()
    thread.close()
    thread = SpoolThread(str(folder / "active"), 2**30, reactor)
    bench = Bench(dsn, reactor, postmaster, thread.spooling)
    yield bench.record(OWNERS, OWNERS)  # so that a collection is open for each
    writer = bench.archiver._works.writer
    yield deferToThread(postgres.stop)
    yield bench.hand_over(messages(1, 1))
    load, begun = messages(count, OWNERS), time.perf_counter()
    yield bench.hand_over(load)
    away = count / (time.perf_counter() - begun)
    octets = thread._spool.octets / thread.spooling.records
    window_away = yield _paced(bench)
    yield deferToThread(postgres.start)
    while writer.unavailable:
        yield task.deferLater(reactor, 0.01)
    begun, left = time.perf_counter(), thread.spooling.records
    while thread.spooling.records:
        yield task.deferLater(reactor, 0.01)
    replayed = left / max(time.perf_counter() - begun, 0.01)
    yield bench.close()
    thread.close()
    return Spooled(recorded.rate, away, replayed, octets, window, window_away)


@defer.inlineCallbacks
def _paced(bench: Bench):
    """(p50, p99) in milliseconds."""
    times: list[float] = []
    waiting = []

    def one(n, message):
        begun = time.perf_counter()
        waiting.append(
            bench.hand_over([message], n).addCallback(lambda _: times.append(time.perf_counter() - begun))
        )

    for n, message in enumerate(messages(PACED, OWNERS)):
        one(n, message)
        yield task.deferLater(bench.reactor, PAUSE)
    yield defer.gatherResults(waiting)
    cuts = statistics.quantiles(times[WARM:], n=100)
    return cuts[49] * 1000, cuts[98] * 1000
