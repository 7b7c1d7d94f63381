"""What is done to a system, and what is measured of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any

from bench.servers import processes
from bench.servers.load import Load
from bench.servers.systems import USERS, Archive, System
from bench.servers.watch import Growth, NotDurable, Watch

#: Messages before anything is measured: caches fill, statements are prepared.
_WARM = 200
#: Copies that a message makes: the sender's and the receiver's.
COPIES = 2
#: Seconds between looks at the database: while latency is measured, and while servers need the processors.
_OFTEN, _SELDOM = 0.0005, 0.005
#: Seconds before the first load, and of load before and after a restart.
_QUIET, _AROUND = 0.3, 3.0
#: Seconds after which a copy that is not there will not come.
_LAST = 10.0

Found = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is done: messages in a flood, in an archive that is read back, in a burst; messages a second
    and seconds where latency is measured; and the seconds that any of it may take."""

    messages: int
    read: int
    burst: int
    rate: float = 50.0
    seconds: float = 5.0
    limit: float = 180.0


class Measuring:
    """Of one system, from its start on: what is asked first is measured first."""

    def __init__(self, system: System, sizes: Sizes) -> None:
        self._system, self._sizes = system, sizes
        streams = system.streams()
        time.sleep(_QUIET)
        self._load = Load(streams)
        self._rows = 0
        self._load.flood(_WARM, sizes.limit)
        self._settle(_WARM)

    def close(self) -> None:
        self._load.close()

    def latency(self) -> list[float]:
        """Seconds from sending until durable, of each message at a pace that leaves everybody time."""
        count = round(self._sizes.rate * self._sizes.seconds)
        before = self._rows
        growth = Growth(self._system.rows, before + COPIES * count)
        watch = Watch(growth.done, _OFTEN, self._sizes.seconds + self._sizes.limit)
        sent = self._load.pace(count, self._sizes.rate, self._sizes.limit)
        watch.ended()
        self._settle(count)
        return [growth.since(before + COPIES * n) - moment for n, moment in enumerate(sent, 1)]

    def flood(self, count: int, pairs: int | None = None) -> Found:
        """As many messages as fast as they are delivered: how fast that was, how fast they were durable, and
        the CPU of it."""
        system, target = self._system, self._rows + COPIES * count
        system.database.checkpoint()
        before, own = system.usage, time.process_time()
        watch = Watch(lambda: system.has(target), _SELDOM, self._sizes.limit) if system.counted else None
        begun, delivered = self._load.flood(count, self._sizes.limit, pairs)
        ended = watch.ended() if watch else delivered
        used, own = system.usage - before, time.process_time() - own
        self._settle(count)
        per_1000 = {name: seconds / count * 1000 for name, seconds in used._asdict().items()}
        return {
            "delivered": count / (delivered - begun),
            "durable": count / (ended - begun) if watch else None,
            "cpu": per_1000 | {"load": own / count * 1000},
        }

    @property
    def archives(self) -> bool:
        """Whether there is anything durable to measure."""
        return bool(self._system.counted)

    def octets_a_row(self) -> float | None:
        return self._system.octets() / self._system.rows() if self.archives else None

    def read(self) -> Found:
        """Read an archive back that has `read` messages, as the first user's has to have."""
        system, count = self._system, self._sizes.read
        stream = system.login(USERS[0], "reader", available=False)
        before, begun = system.usage, time.monotonic()
        pages = list(system.read(stream, count))
        seconds, used = time.monotonic() - begun, system.usage - before
        stream.close()
        got = sum(found for found, _ in pages)
        if got < count:
            raise NotDurable(f"only {got} of {count} messages could be read back")
        return {"seconds": seconds, "cpu": used._asdict(), "pages": [taken for _, taken in pages]}

    def burst(self) -> Found:
        """All at once: the component stands still until the server has delivered everything."""
        system, count = self._archive(), self._sizes.burst
        target = self._rows + COPIES * count
        system.freeze()
        try:
            self._load.flood(count, self._sizes.limit)
        finally:
            begun = time.monotonic()
            system.thaw()
        ended = Watch(lambda: system.has(target), _SELDOM, self._sizes.limit).ended()
        self._settle(count)
        return {"copies": COPIES * count / (ended - begun), "memory": self.memory()}

    def restart(self) -> Found:
        """The component is stopped and started again while users talk: the copies that are lost, and the
        seconds from the stop until something is archived again."""
        system, over = self._archive(), Event()
        count = round(self._sizes.rate * 2 * _AROUND)
        target = self._rows + COPIES * count
        growth = Growth(system.rows, target)
        watch = Watch(lambda: growth.done() or over.is_set(), _SELDOM, self._sizes.limit)
        # The load has the thread: a program that a thread starts ends with it (see Process).
        with ThreadPoolExecutor(1) as thread:
            load = thread.submit(self._load.pace, count, self._sizes.rate, self._sizes.limit)
            time.sleep(_AROUND)
            stopped, ended = system.restart()
            load.result()
        lost = self._missing(target)
        self._rows = target - lost
        over.set()
        watch.ended()
        return {"lost": lost, "seconds": growth.first_after(ended) - stopped}

    def memory(self) -> Found:
        """MB that each process had at most."""
        found = {"server": processes.peak_memory(self._system.server.process.pid)}
        if isinstance(self._system, Archive):
            found["component"] = processes.peak_memory(self._system.component.pid)
        return found

    def _archive(self) -> Archive:
        assert isinstance(self._system, Archive), "only our component can be frozen and restarted"
        return self._system

    def _settle(self, messages: int) -> None:
        """All copies of those messages are durable, and nothing else."""
        if not self._system.counted:
            return
        self._rows += COPIES * messages
        missing = self._missing(self._rows)
        if missing:
            raise NotDurable(f"{missing} copies of {self._rows} are missing in the database")

    def _missing(self, rows: int) -> int:
        """How many are missing when nothing more comes; negative if there are too many."""
        end = time.monotonic() + _LAST
        while (found := self._system.rows()) < rows and time.monotonic() < end:
            time.sleep(_SELDOM)
        return rows - found
