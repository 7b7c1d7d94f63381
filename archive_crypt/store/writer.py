"""Group commit: all changes of all owners in one line, a transaction at a time.

While one transaction runs, the next gathers: batches form by themselves. What waits here of a
sealed collection is ciphertext, and with a spool it waits on disk when the database is away or slow; what
waits of others is bounded like it, and never on disk.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.logger import Logger

from archive_crypt.deferreds import follow
from archive_crypt.errors import ArchiveBusy, PartlyRefused, StorageUnavailable
from archive_crypt.model import Mark
from archive_crypt.store.entries import REQUESTS, Ended, Entry, halves, is_late
from archive_crypt.store.interfaces import Change, Outcome, Storage
from archive_crypt.store.shares import MOST_WAITING, Shares
from archive_crypt.store.spooling import Spooling

#: Changes and octets of one transaction at most. More owners share one COMMIT in a larger batch;
#: beyond this size nothing is gained and the others wait longer.
MOST_CHANGES = 2000
MOST_OCTETS = 4 * 1024 * 1024

#: Seconds before a batch is tried again, growing to the last.
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)

#: Seconds that a transaction may take, and the part of what may wait (under a SHARE), before the spool helps.
_SLOW = 1.0
_MUCH = 5

#: Seconds before a spool that is full is tried again; before all that waits is looked through again.
_FULL_PAUSE = 1.0
_MUCH_PAUSE = 0.05


class Writer:
    """Writes changes to `storage` in the order they were submitted.

    `clock`: an IReactorTime, for the pauses before another try. `spooling`: where what is sealed waits while
    the database does not take it; None: only here.
    """

    log = Logger()

    def __init__(
        self, storage: Storage, clock: Any, most_waiting: int = MOST_WAITING, spooling: Spooling | None = None
    ) -> None:
        self.octets = 0  #: octets that wait now
        self.parked = 0  #: changes that the database refused for good
        self.lost = 0  #: changes that were given up
        self.unavailable = False  #: whether the database was away at the last tries
        self.spooling = spooling
        self._storage = storage
        self._clock = clock
        self._most_waiting = most_waiting
        self._queue: deque[Entry] = deque()
        self._batch: list[Entry] = []
        self._flying: list[Entry] = []  # the part of the batch that is tried now
        self._ended = Ended()
        self._last: dict[str, Entry] = {}
        self._shares = Shares(most_waiting, spooling)
        self._running: Deferred[None] | None = None
        self._moving: Deferred[None] | None = None
        self._drainers: list[Deferred[None]] = []
        self._pause: Deferred[None] | None = None
        self._applying = self._slow = self._abandoned = False
        if spooling is not None:
            self._start()  # an earlier process may have left something

    @property
    def load(self) -> float:
        """How full it is: from 1 on it should get nothing more, if that can be helped."""
        full = self.spooling is not None and self.spooling.full and self._pressed
        return max(2 * self.octets / self._most_waiting, float(full))

    def submit(self, change: Change) -> Deferred[Any]:
        """A Deferred that fires with the outcome of `change` when it is durable; None when it is in the
        spool.

        Fails with the ArchiveError that is its outcome, or with StorageRefused if the database will not have
        it; no other change suffers, but for what comes after it into a collection that ends so.

        :raises ArchiveBusy: too much waits already, in all or of its owner's; nothing was taken.
        """
        entry, error = Entry(change), self._ended.find(change)
        if error is not None:
            return fail(error)
        if self._abandoned or self.octets + entry.size > self._most_waiting or not self._shares.fits(entry):
            raise ArchiveBusy
        self.octets += self._shares.add(entry)
        self._queue.append(entry)
        self._last[change.owner] = entry
        if self._running is None:
            self._start()
        elif self.spooling is not None:
            self._press()
        return entry.done

    def flushed(self, owner: str) -> Deferred[None]:
        """A Deferred that fires when all that `owner` has submitted by now is written or refused.

        Fails with StorageUnavailable when the database is found to be away, and at once if any of it is in
        the spool.
        """
        if self.spooling is not None and self.spooling.has(owner):
            return fail(StorageUnavailable())
        entry = self._last.get(owner)
        if entry is None:
            return succeed(None)
        if self.unavailable:
            return fail(StorageUnavailable())
        waiter: Deferred[None] = Deferred()
        entry.waiters.append(waiter)
        return waiter

    def drained(self) -> Deferred[None]:
        """A Deferred that fires when nothing waits here any more, nor in the spool, unless the database does
        not take it."""
        waiter: Deferred[None] = Deferred()
        self._drainers.append(waiter)
        self._tell_drainers()
        return waiter

    @inlineCallbacks
    def abandon(self) -> Generator[Deferred[Any], Any, None]:
        """Give up what waits and cannot be spooled, for a shutdown that cannot wait longer; `lost` says how
        much that is. Fires when nothing is done any more.

        What a running transaction holds may be written all the same.
        """
        self._abandoned = True
        if self.spooling is not None:
            self.spooling.stop()
            yield self._moved()
        waiting = self._waiting()
        self._take_out(waiting)
        self.lost += sum(not entry.settled for entry in (*self._batch, *waiting))
        self._fail(waiting, StorageUnavailable())
        if self._pause is not None:
            self._pause.callback(None)
        if self._applying:
            self._storage.interrupt()
        if self._running is not None:
            yield follow(self._running)

    def _waiting(self) -> list[Entry]:
        return [*self._queue, *(self.spooling.held.all() if self.spooling is not None else ())]

    def _take_out(self, entries: Collection[Entry]) -> None:
        gone = set(entries)
        self._queue = deque(entry for entry in self._queue if entry not in gone)
        if self.spooling is not None:
            self.spooling.held.drop(gone)

    # The line to the database.

    def _start(self) -> None:
        self._running = Deferred()
        self._clock.callLater(0, self._run)

    @inlineCallbacks
    def _run(self) -> Generator[Deferred[Any], Any, None]:
        while self._queue or (self.spooling is not None and self.spooling.behind):
            try:
                if self.spooling is not None:
                    yield self._replay(self.spooling)
                self._batch = self._gather()
                if self._batch:
                    yield self._commit(self._batch)
            except StorageUnavailable as error:  # and there is no more time
                self._fail(self._batch, error)
                break
            finally:
                self._batch = []
        running, self._running = self._running, None
        if running is not None:
            running.callback(None)
        self._tell_drainers()

    @inlineCallbacks
    def _replay(self, spooling: Spooling) -> Generator[Deferred[Any], Any, None]:
        """Write what the spool has, a batch of it; then whom it held back may go on."""
        if self._abandoned:
            raise StorageUnavailable
        while not spooling.attached:
            yield spooling.attach(self._storage, self._patiently)
        yield spooling.replay(self._storage, self._patiently)
        self._queue.extendleft(reversed(spooling.released()))

    def _gather(self) -> list[Entry]:
        batch: list[Entry] = []
        octets = 0
        while self._queue and len(batch) < MOST_CHANGES and octets < MOST_OCTETS:
            entry = self._queue.popleft()
            if self.spooling is not None and self.spooling.holds(entry):
                continue
            octets += entry.size
            batch.append(entry)
        return batch

    @inlineCallbacks
    def _commit(self, batch: list[Entry]) -> Generator[Deferred[Any], Any, None]:
        """Write a batch; one that is refused is halved until the offender stands alone."""
        self._flying = batch
        mark = None if self.spooling is None else self.spooling.next_mark()
        try:
            outcomes = yield self._persist(batch, mark)
        except StorageUnavailable as error:
            self._fail(batch, error)
        except PartlyRefused as some:
            # What of it is in the spool is acknowledged: it stays there, and will be written.
            yield self._decided(made=False)
            self._settle([batch[n] for n in some.outcomes], list(some.outcomes.values()))
            yield self._commit(self._left(batch))
        except Exception as refusal:  # noqa: BLE001 - whatever it is, the line must go on
            yield self._decided(made=False)
            if len(batch) == 1:
                self._fail(batch, refusal)
                return
            for half in halves(self._left(batch)):
                if self._left(half):
                    yield self._commit(self._left(half))
        else:
            yield self._decided(made=True)
            if self.spooling is not None:
                self.spooling.count_late(sum(map(is_late, batch, outcomes)))
            self._settle(batch, outcomes)

    def _left(self, part: list[Entry]) -> list[Entry]:
        """What is still to be written of a part of the batch: neither what is in the spool meanwhile nor what
        comes after that."""
        if self.spooling is not None:
            self._batch = self.spooling.hold_again(self._batch)
        left = {id(entry) for entry in self._batch}
        return [entry for entry in part if id(entry) in left and not entry.settled]

    def _persist(self, batch: list[Entry], mark: Mark | None) -> Deferred[list[Outcome]]:
        """Have a batch applied, waiting for the database as long as it takes. Requests do not wait:
        they are taken out of it, and fail."""
        more = {} if mark is None else {"mark": mark}

        def attempt(again: bool) -> Deferred[list[Outcome]]:
            if not batch:
                return succeed([])
            return self._storage.apply([entry.change for entry in batch], again=again, **more)

        return self._patiently(attempt)

    def _decided(self, *, made: bool) -> Deferred[None]:
        """What became of a batch is known; fires when copies of it in the spool are no longer in doubt."""
        self._flying = []
        return succeed(None) if self.spooling is None else self.spooling.decide(made=made)

    @inlineCallbacks
    def _patiently(self, attempt: Callable[[bool], Deferred[Any]]) -> Generator[Deferred[Any], Any, Any]:
        """Try something until the database is there; `attempt` is told whether it was tried before.

        :raises StorageUnavailable: it is not, and there is no more time.
        """
        for tries in itertools.count():
            try:
                result = yield self._watched(attempt(tries > 0))
            except StorageUnavailable:
                if self._abandoned:
                    raise
                if tries:  # the first may be a deadlock: the second try is quick
                    self._declare_unavailable()
                yield self._wait(_PAUSES[min(tries, len(_PAUSES) - 1)])
                if self._abandoned:
                    raise
            else:
                self.unavailable = False
                return result
        raise AssertionError("unreachable")

    def _watched(self, attempt: Deferred[Any]) -> Deferred[Any]:
        """The same, noticed if it takes long."""
        self._applying = True
        slow = self._clock.callLater(_SLOW, self._find_slow) if self.spooling is not None else None

        def over(result: Any) -> Any:
            self._applying = self._slow = False
            if slow is not None and slow.active():
                slow.cancel()
            return result

        return attempt.addBoth(over)

    def _find_slow(self) -> None:
        self._slow = True
        self._press()
        self._tell_drainers()

    def _declare_unavailable(self) -> None:
        self.unavailable = True
        waiting = self._waiting()
        for entry in (*self._batch, *waiting):
            entry.release(StorageUnavailable())
        requests = [entry for entry in waiting if isinstance(entry.change, REQUESTS)]
        self._take_out(requests)
        if not self._storage.uncertain:  # else they may have been made, and must not be said not to be
            mine = [entry for entry in self._flying if isinstance(entry.change, REQUESTS)]
            self._flying[:] = [entry for entry in self._flying if entry not in mine]
            requests = mine + requests
        self._settle(requests, [StorageUnavailable()] * len(requests))
        self._press()
        self._tell_drainers()

    def _wait(self, seconds: float) -> Deferred[None]:
        """A pause that `abandon` ends."""
        pause: Deferred[None] = Deferred()
        self._pause = pause
        call = self._clock.callLater(seconds, pause.callback, None)

        def over(_: None) -> None:
            self._pause = None
            if call.active():
                call.cancel()

        return pause.addCallback(over)

    # The way into the spool.

    @property
    def _pressed(self) -> bool:
        """Whether what is sealed should not wait for the database."""
        return self.unavailable or self._slow or self._abandoned or self.octets > self._most_waiting // _MUCH

    def _press(self) -> None:
        """Have the spool take what it can, if that is needed."""
        if self.spooling is not None and self._moving is None and self._pressed:
            self._moving = Deferred()
            at_once = self.unavailable or self._slow or self._abandoned
            pause = _FULL_PAUSE if self.spooling.full else 0 if at_once else _MUCH_PAUSE
            self._clock.callLater(pause, self._move, self.spooling)

    def _moved(self) -> Deferred[None]:
        """Fires when what can be spooled is."""
        self._press()
        return succeed(None) if self._moving is None else follow(self._moving)

    @inlineCallbacks
    def _move(self, spooling: Spooling) -> Generator[Deferred[Any], Any, None]:
        with suppress(StorageUnavailable):  # a disk that fails, and there is no more time
            while self._pressed:
                some = spooling.take(self._queue, self._batch, self._flying)
                if not some or not (yield spooling.keep(some)):
                    break
                self._shares.spooled(some.entries)
                self._settle(some.entries, [None] * len(some.entries))
        moving, self._moving = self._moving, None
        if moving is not None:
            moving.callback(None)
        if spooling.full and not self._abandoned:
            self._press()
        self._tell_drainers()

    # What became of changes.

    def _fail(self, batch: Iterable[Entry], error: Exception) -> None:
        failed = [entry for entry in batch if not entry.settled]
        if failed:
            self.parked += 0 if self._abandoned else len(failed)
            self.log.error("{n} change(s) not written: {kind}", n=len(failed), kind=type(error).__name__)
        self._settle(failed, [error] * len(failed))

    def _settle(self, batch: Sequence[Entry], outcomes: Sequence[Outcome | Exception]) -> None:
        ended = False
        for entry, outcome in zip(batch, outcomes, strict=True):
            if entry.settled:  # it was spooled meanwhile
                continue
            self.octets -= self._shares.remove(entry)
            if self._last.get(entry.change.owner) is entry:
                del self._last[entry.change.owner]
            ended |= self._ended.note(entry.change, outcome)
            entry.settle(outcome)
        if ended:
            self._refuse_more()

    def _refuse_more(self) -> None:
        """What waits for collections that have ended is refused, while it is not in the spool."""
        found = [(entry, self._ended.find(entry.change)) for entry in self._waiting()]
        refused = {entry: error for entry, error in found if error is not None}
        self._take_out(refused)
        self._settle(list(refused), list(refused.values()))

    def _tell_drainers(self) -> None:
        away = self.spooling is not None and (self.unavailable or self._slow)
        if self._running is None or (away and not self.octets):
            drainers, self._drainers = self._drainers, []
            for drainer in drainers:
                drainer.callback(None)
