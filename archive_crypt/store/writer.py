"""Group commit: all changes of all owners in one line, a transaction at a time.

While one transaction runs, the next gathers: batches form by themselves. What waits here of a
sealed collection is ciphertext; what waits of others is bounded like it, and never on disk.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.logger import Logger

from archive_crypt.deferreds import follow
from archive_crypt.errors import ArchiveBusy, StorageUnavailable
from archive_crypt.model import Item, SealedItem
from archive_crypt.store.interfaces import (
    Append,
    Change,
    DeleteKeys,
    Open,
    Outcome,
    Remove,
    Reseal,
    Save,
    SetAuto,
    SetPreferences,
    Storage,
)

#: Changes and octets of one transaction at most. More owners share one COMMIT in a larger batch;
#: beyond this size nothing is gained and the others wait longer.
MOST_CHANGES = 2000
MOST_OCTETS = 4 * 1024 * 1024

#: Octets that may wait, at most.
MOST_WAITING = 64 * 1024 * 1024

#: Seconds before a batch is tried again, growing to the last.
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)

#: Octets a waiting change takes besides its content, roughly.
_OVERHEAD = 512


#: What a client waits for: told that the database is away, it can ask again.
_REQUESTS = (Save, Remove, DeleteKeys, SetPreferences, SetAuto)


class _Entry:
    """A change that waits, and who waits for it."""

    __slots__ = ("change", "done", "size", "waiters")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.size = _OVERHEAD + _content_size(change)
        self.done: Deferred[Any] = Deferred()
        self.waiters: list[Deferred[None]] = []

    def settle(self, outcome: Outcome | Exception) -> None:
        """Tell the submitter what became of the change, and the others that it is settled."""
        if isinstance(outcome, Exception):
            self.done.errback(outcome)
        else:
            self.done.callback(outcome)
        if self.waiters:
            self.release(None)

    def release(self, error: Exception | None) -> None:
        """Let those go who wait for this change to be settled."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.callback(None) if error is None else waiter.errback(error)


class Writer:
    """Writes changes to `storage` in the order they were submitted.

    `clock`: an IReactorTime, for the pauses before another try.
    """

    log = Logger()

    def __init__(self, storage: Storage, clock: Any, most_waiting: int = MOST_WAITING) -> None:
        self.octets = 0  #: octets that wait now
        self.parked = 0  #: changes that the database refused for good
        self.lost = 0  #: changes that were given up
        self.unavailable = False  #: whether the database was away at the last tries
        self._storage = storage
        self._clock = clock
        self._most_waiting = most_waiting
        self._queue: deque[_Entry] = deque()
        self._batch: list[_Entry] = []
        self._last: dict[str, _Entry] = {}
        self._running: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._abandoned = False

    def submit(self, change: Change) -> Deferred[Any]:
        """A Deferred that fires with the outcome of `change` when it is durable.

        Fails with the ArchiveError that is its outcome, or with StorageRefused if the database will
        not have it; no other change suffers.

        :raises ArchiveBusy: too much waits already; nothing was taken.
        """
        entry = _Entry(change)
        if self._abandoned or self.octets + entry.size > self._most_waiting:
            raise ArchiveBusy
        self.octets += entry.size
        self._queue.append(entry)
        self._last[change.owner] = entry
        if self._running is None:
            self._running = Deferred()
            self._clock.callLater(0, self._run)
        return entry.done

    def flushed(self, owner: str) -> Deferred[None]:
        """A Deferred that fires when all that `owner` has submitted by now is written or refused.

        Fails with StorageUnavailable when the database is found to be away.
        """
        entry = self._last.get(owner)
        if entry is None:
            return succeed(None)
        if self.unavailable:
            return fail(StorageUnavailable())
        waiter: Deferred[None] = Deferred()
        entry.waiters.append(waiter)
        return waiter

    def drained(self) -> Deferred[None]:
        """A Deferred that fires when nothing waits any more."""
        return succeed(None) if self._running is None else follow(self._running)

    def abandon(self) -> None:
        """Give up what waits, for a shutdown that cannot wait longer; `lost` says how much that is.

        What a running transaction holds may be written all the same.
        """
        self._abandoned = True
        waiting = list(self._queue)
        self._queue.clear()
        self.lost = len(self._batch) + len(waiting)
        self._fail(waiting, StorageUnavailable())
        if self._pause is not None:
            self._pause.callback(None)

    @inlineCallbacks
    def _run(self) -> Generator[Deferred[Any], Any, None]:
        while self._queue:
            self._batch = self._gather()
            yield self._commit(self._batch)
            self._batch = []
        running, self._running = self._running, None
        if running is not None:
            running.callback(None)

    def _gather(self) -> list[_Entry]:
        batch: list[_Entry] = []
        octets = 0
        while self._queue and len(batch) < MOST_CHANGES and octets < MOST_OCTETS:
            entry = self._queue.popleft()
            octets += entry.size
            batch.append(entry)
        return batch

    @inlineCallbacks
    def _commit(self, batch: list[_Entry]) -> Generator[Deferred[Any], Any, None]:
        """Write a batch; one that is refused is halved until the offender stands alone."""
        try:
            outcomes = yield self._persist(batch)
        except Exception as refusal:  # noqa: BLE001 - whatever it is, the line must go on
            if len(batch) <= 1 or isinstance(refusal, StorageUnavailable):
                self._fail(batch, refusal)
                return
            for half in _halves(batch):
                yield self._commit(half)
        else:
            self._settle(batch, outcomes)

    @inlineCallbacks
    def _persist(self, batch: list[_Entry]) -> Generator[Deferred[Any], Any, list[Outcome]]:
        """Have a batch applied, waiting for the database as long as it takes. Requests do not wait:
        they are taken out of it, and fail."""
        for tries in itertools.count():
            if not batch:
                return []
            try:
                outcomes = yield self._storage.apply([entry.change for entry in batch], again=tries > 0)
            except StorageUnavailable:
                if self._abandoned:
                    raise
                if tries:  # the first may be a deadlock: the second try is quick
                    self._declare_unavailable(batch)
                yield self._wait(_PAUSES[min(tries, len(_PAUSES) - 1)])
            else:
                self.unavailable = False
                return list(outcomes)
        raise AssertionError("unreachable")

    def _declare_unavailable(self, batch: list[_Entry]) -> None:
        self.unavailable = True
        for entry in (*self._batch, *self._queue):
            entry.release(StorageUnavailable())
        requests = [entry for entry in self._queue if isinstance(entry.change, _REQUESTS)]
        for entry in requests:
            self._queue.remove(entry)
        if not self._storage.uncertain:  # else they may have been made, and must not be said not to be
            mine = [entry for entry in batch if isinstance(entry.change, _REQUESTS)]
            batch[:] = [entry for entry in batch if entry not in mine]
            requests = mine + requests
        self._settle(requests, [StorageUnavailable()] * len(requests))

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

    def _fail(self, batch: Sequence[_Entry], error: Exception) -> None:
        if batch:
            self.parked += 0 if self._abandoned else len(batch)
            self.log.error("{n} change(s) not written: {kind}", n=len(batch), kind=type(error).__name__)
        self._settle(batch, [error] * len(batch))

    def _settle(self, batch: Sequence[_Entry], outcomes: Sequence[Outcome | Exception]) -> None:
        for entry, outcome in zip(batch, outcomes, strict=True):
            self.octets -= entry.size
            if self._last.get(entry.change.owner) is entry:
                del self._last[entry.change.owner]
            entry.settle(outcome)


def _halves(batch: list[_Entry]) -> tuple[list[_Entry], list[_Entry]]:
    """A batch in two, each in order: by owners while there are several, as changes of one owner
    can build on each other."""
    owners = list(dict.fromkeys(entry.change.owner for entry in batch))
    if len(owners) == 1:
        middle = len(batch) // 2
        return list(batch[:middle]), list(batch[middle:])
    first = set(owners[: len(owners) // 2])
    return (
        [entry for entry in batch if entry.change.owner in first],
        [entry for entry in batch if entry.change.owner not in first],
    )


def _content_size(change: Change) -> int:
    if isinstance(change, Append):
        return _item_size(change.item)
    if isinstance(change, Open):
        keys = sum(_OVERHEAD + len(key.cipher) for key in change.keys)
        return len(change.with_) + len(change.thread or "") + keys
    if isinstance(change, Reseal):
        return sum(_OVERHEAD + _item_size(item) for item in change.items)
    if isinstance(change, Save):
        parts = (*change.items, *change.keys, *((change.form,) if change.form else ()))
        return sum(_OVERHEAD + len(part.content) for part in parts)
    return 0


def _item_size(item: Item) -> int:
    return len(item.cipher if isinstance(item, SealedItem) else item.content)
