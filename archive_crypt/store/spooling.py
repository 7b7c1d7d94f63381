"""What the writer does with its spool: which changes go into it while the database is away or slow, whose
wait behind them, and how they come into the database.

Of one owner everything stays in order: what he has in the spool comes before what he has in the queue, and
what may not be spooled holds up what he said after it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute, fail, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from archive_crypt.deferreds import follow
from archive_crypt.errors import ArchiveError, CollectionUnknown, StorageUnavailable
from archive_crypt.model import Mark
from archive_crypt.store.entries import Entry, Taken, is_spoolable
from archive_crypt.store.interfaces import Outcome, Storage
from archive_crypt.store.lines import Lines
from archive_crypt.store.spool import Spool, Waiting
from archive_crypt.store.spoolfile import SpoolDamaged, SpoolFull, SpoolRemoved, SpoolUnsure

T = TypeVar("T")

#: Tries something until the database is there, the first time with False.
Patience = Callable[[Callable[[bool], Deferred[Any]]], Deferred[Any]]

#: Changes and octets of one write to the spool, and of one transaction that empties it.
_MOST_CHANGES = 2000
_MOST_OCTETS = 2 * 1024 * 1024

#: Seconds before a disk that failed is tried again.
_PAUSE = 1.0


class Spooling:
    """The spool `spool`, opened; `waiting` records of each owner lie in it. Whatever blocks is done by `run`,
    one thing after the other: in a thread.

    `clock`: an IReactorTime. `parked`: records that the database refused; `late`: that came after the
    removal of their collection, or that their owner no longer wants; `damaged`: that a broken file cost.
    """

    log = Logger()

    def __init__(
        self,
        spool: Spool,
        waiting: Counter[str],
        clock: Any,
        run: Callable[..., Deferred[Any]] = execute,
    ) -> None:
        self.full = False  #: whether the last that was to go into the spool found no room
        self.most_octets = spool.most_octets
        self.attached = False  #: whether the database has told what it has of it
        self.turn = 0  #: the number of the last batch that was written past the spool
        self.parked = self.late = self.damaged = 0
        self._spool = spool
        self._run = run
        self._clock = clock
        self._stopped = False
        self._owners = waiting
        self.held = Lines()  #: what is kept back, as something of its owner has to be written first
        self._file = 0  # goes up with each file that is moved aside: what was asked of an older one is void
        self._broken = Counter[str]()  # what lies in the file that is being moved aside
        self._anew: Deferred[None] | None = None  # fires when that is done
        self._keeping: Deferred[None] | None = None  # fires when what was taken is in it, or is not
        self._doubt = 0  # the batch of which copies are in the spool
        self._replayed = 0  # the last record that is in the database

    @property
    def records(self) -> int:
        """How many records wait."""
        return self._owners.total()

    @property
    def behind(self) -> bool:
        """Whether anything is to be done once the database is there."""
        return not self.attached or bool(self._owners) or bool(self.held)

    def has(self, owner: str) -> bool:
        """Whether something of this owner is in the spool."""
        return owner in self._owners

    def next_mark(self) -> Mark:
        """The mark of the next batch that is written past the spool."""
        self.turn += 1
        return Mark(self._spool.id, "batches", self.turn)

    # Into the spool.

    def holds(self, entry: Entry) -> bool:
        """Keep a change back if something of its owner has to be written first; whether that is so."""
        owner = entry.change.owner
        if owner not in self._owners and owner not in self.held:
            return False
        self.held.add(entry)
        return True

    def hold_again(self, batch: Sequence[Entry]) -> list[Entry]:
        """Keep back what of a batch that was not made comes after something in the spool now; the others."""
        behind = {entry.change.owner for entry in batch if entry.settled} & self._owners.keys()
        self.held.put_back([e for e in batch if not e.settled and e.change.owner in behind])
        return [entry for entry in batch if entry.settled or entry.change.owner not in behind]

    def released(self) -> list[Entry]:
        """What need not be kept back any more, in order, and older than all of its owners' in the queue."""
        return self.held.released(self._owners)

    def take(self, queue: deque[Entry], batch: Sequence[Entry], flying: Sequence[Entry]) -> Taken:
        """What may go into the spool now: copies of what is `flying` (a part of `batch`) on its way to the
        database, and of the queue what comes first of each owner, unless he waits for the batch."""
        for entry in queue:
            self.held.add(entry)
        queue.clear()
        copies, stuck = [], set()
        # The mark of what is flying is of the file that the database was asked about, and of no later one.
        in_flight = {id(entry) for entry in flying} if self.attached else set()
        for entry in batch:
            owner = entry.change.owner
            if entry.settled or owner in stuck:
                continue
            if id(entry) in in_flight and is_spoolable(entry.change):
                copies.append(entry)
            else:
                stuck.add(owner)
        some = Taken(copies, self.held.spoolable(stuck, _MOST_CHANGES, _MOST_OCTETS))
        self._owners += some.owners
        return some

    def keep(self, some: Taken) -> Deferred[bool]:
        """Whether what was taken is durable now; if not, it is as if it had not been."""
        keeping: Deferred[None] = Deferred()
        self._keeping = keeping

        def over(result: T) -> T:
            self._keeping = None
            keeping.callback(None)
            return result

        return self._keep(some).addBoth(over)

    @inlineCallbacks
    def _keep(self, some: Taken) -> Generator[Deferred[Any], Any, bool]:
        file = self._file
        self._doubt = self.turn if some.copies else self._doubt
        changes = [[entry.change for entry in part] for part in (some.copies, some.queued)]
        try:
            yield self._run(self._spool.put, *changes, self.turn)
        except SpoolDamaged:
            self._give_back(some, file)
            yield self._begin_anew(file)
            return False
        except SpoolFull as error:
            try:
                if isinstance(error, SpoolRemoved):
                    self.log.critical("the spool {path} was removed: put back", path=str(self._spool.path))
                if isinstance(error, SpoolUnsure):
                    yield self._insist(self._spool.mend)
            finally:
                self._give_back(some, file)
            if not self.full:
                self.log.error("the spool takes no more: {why}", why=str(error))
        else:
            self.full = False
            return True
        self.full = True
        return False

    def _give_back(self, some: Taken, file: int) -> None:
        self._subtract(some.owners, file)
        self.held.put_back(some.queued)

    # Out of it.

    @inlineCallbacks
    def decide(self, *, made: bool) -> Generator[Deferred[Any], Any, None]:
        """The batch that was on its way is made, or never will be: what of it is in the spool goes, or
        stays to be replayed."""
        if self._doubt != self.turn:
            return
        # Before any other batch, or one that was not made would be taken for made.
        file = self._file
        self._subtract((yield self._insist(self._spool.decide, self.turn, made)), file)

    @inlineCallbacks
    def attach(self, storage: Storage, patiently: Patience) -> Generator[Deferred[Any], Any, None]:
        """Ask the database what it has of the spool, at the beginning."""
        spool, file = self._spool.id, self._file
        if self._anew is not None:
            yield follow(self._anew)
            return
        batches, records = yield patiently(lambda _: storage.marks(spool).addErrback(_not_yet))
        if file != self._file:
            return
        self.attached, self._replayed = True, 0  # unless it turns out to be damaged
        self._subtract((yield self._insist(self._spool.resolve, batches, records)), file)
        if self._owners:
            self.log.info("{n} spooled change(s) to be written", n=self.records)

    @inlineCallbacks
    def replay(self, storage: Storage, patiently: Patience) -> Generator[Deferred[Any], Any, None]:
        """Write what waits longest, and take it out of the spool.

        :raises StorageUnavailable: `patiently` gave up.
        """
        if not self._owners:
            return
        file = self._file
        try:
            found = yield self._run(self._spool.first, self._replayed, _MOST_CHANGES, _MOST_OCTETS)
            unreadable = next((n for n, one in enumerate(found) if one.change is None), len(found))
            if unreadable:
                yield self._write(storage, patiently, found[:unreadable], file)
            elif found:
                yield self._park(found[0], "unreadable", file)
            elif self._keeping is not None:  # what is believed to wait is on its way there
                yield follow(self._keeping)
            else:
                yield self._recount(file)
        except SpoolDamaged:
            yield self._begin_anew(file)
        except SpoolFull:
            yield self._wait()

    @inlineCallbacks
    def _recount(self, file: int) -> Generator[Deferred[Any], Any, None]:
        """Nothing waits of what was believed to: a removal was made that the disk was not sure of, and made
        again found nothing to remove."""
        believed = Counter(self._owners)
        self._subtract(believed - (yield self._run(self._spool.count, self._replayed)), file)

    @inlineCallbacks
    def _write(
        self, storage: Storage, patiently: Patience, found: list[Waiting], file: int
    ) -> Generator[Deferred[Any], Any, None]:
        """Have records written; some that are refused are halved until the offender stands alone."""
        if file != self._file:
            return
        changes = [one.change for one in found if one.change is not None]
        mark = Mark(self._spool.id, "records", found[-1].number)
        try:
            outcomes = yield patiently(lambda again: storage.apply(changes, again=again, mark=mark))
        except StorageUnavailable:
            raise
        except Exception as refusal:  # noqa: BLE001 - whatever it is, the others must be written
            if len(found) == 1:
                yield self._park(found[0], type(refusal).__name__, file)
                return
            middle = len(found) // 2
            for half in (found[:middle], found[middle:]):
                yield self._write(storage, patiently, half, file)
        else:
            yield self._written(found, outcomes, file)

    @inlineCallbacks
    def _written(
        self, found: list[Waiting], outcomes: Sequence[Outcome], file: int
    ) -> Generator[Deferred[Any], Any, None]:
        late = 0
        for one, outcome in zip(found, outcomes, strict=True):
            if isinstance(outcome, CollectionUnknown):
                # Its Open was put aside; or this is another database, or an older one, put back.
                yield self._put_aside(one, "its collection is not there", file)
            elif isinstance(outcome, ArchiveError):
                late += 1
        self.full = False
        self._subtract(Counter(one.owner for one in found), file)
        self.count_late(late)
        if file == self._file:
            self._replayed = found[-1].number
            yield self._forget(file)

    @inlineCallbacks
    def _forget(self, file: int) -> Generator[Deferred[Any], Any, None]:
        """Take what was replayed out of the file; later, if its disk does not let it."""
        if file != self._file or self._stopped:
            return
        try:
            yield self._run(self._spool.forget, self._replayed)
        except SpoolDamaged:
            yield self._begin_anew(file)
        except SpoolFull:
            self.log.error("the spool's disk is full: nothing can be removed")
            self._clock.callLater(_PAUSE, self._forget, file)

    def count_late(self, late: int) -> None:
        """So many changes in the spool were not made, as their owners wanted."""
        if late:
            self.late += late
            self.log.warn(
                "{n} spooled change(s) not made: what they were for is removed, or no longer to be saved",
                n=late,
            )

    @inlineCallbacks
    def _park(self, one: Waiting, why: str, file: int) -> Generator[Deferred[Any], Any, None]:
        yield self._put_aside(one, why, file)
        if file == self._file:
            self._replayed = one.number
            self._subtract(Counter([one.owner]), file)

    @inlineCallbacks
    def _put_aside(self, one: Waiting, why: str, file: int) -> Generator[Deferred[Any], Any, None]:
        if file != self._file:
            return
        yield self._insist(self._spool.park, one.number)
        self.parked += 1
        self.log.error("a spooled change is put aside until the next start: {why}", why=why)

    # How it is done.

    @inlineCallbacks
    def _begin_anew(self, file: int) -> Generator[Deferred[Any], Any, None]:
        """This file is broken: it is kept, and another one begun, if nobody else did. What is taken from now
        on goes into the other one."""
        if file != self._file:
            if self._anew is not None:
                yield follow(self._anew)
            return
        self._file += 1
        self._broken += self._owners
        self._owners = Counter()
        self.attached, self._doubt, self._replayed = False, 0, 0
        anew = self._anew = Deferred()
        try:
            yield self._insist(self._spool.move_aside)
        finally:
            if self._anew is anew:
                self._anew = None
            anew.callback(None)
        lost, self._broken = self._broken, Counter()
        self.damaged += lost.total()
        self.say_damaged(f"{lost.total()} change(s)")

    def _subtract(self, gone: Counter[str], file: int) -> None:
        owners = self._owners if file == self._file else self._broken
        owners -= gone  # noqa: F841 - in place

    def say_damaged(self, what: str) -> None:
        """Tell the operator that `what` is not written, where it is, and what can be done."""
        self.log.critical(
            "the spool {path} was damaged, and {what} in it is not written: it is kept as {moved}. What"
            " sqlite3 can .recover of that is a spool again: put it in place while the service is stopped",
            path=str(self._spool.path),
            what=what,
            moved=str(self._spool.moved),
        )

    @inlineCallbacks
    def _insist(
        self, what: Callable[..., Counter[str] | None], *args: Any
    ) -> Generator[Deferred[Any], Any, Counter[str]]:
        """Do what has to be done to the file, however long its disk fails: how many records of whom went.

        :raises StorageUnavailable: it still fails, and there is no more time.
        """
        while True:
            file = self._file
            try:
                gone: Counter[str] | None = yield self._run(what, *args)
            except SpoolFull:
                yield self._wait()
            except SpoolDamaged:
                yield self._begin_anew(file)
                return Counter()
            else:
                return gone or Counter()

    def stop(self) -> None:
        """There is no more time for a disk that fails."""
        self._stopped = True

    def _wait(self) -> Deferred[None]:
        if self._stopped:
            return fail(StorageUnavailable())
        return deferLater(self._clock, _PAUSE)


def _not_yet(failure: Failure) -> Failure:
    """A database that refuses to tell (its tables are to be migrated, or the role has no rights) is of no
    more use than one that is away, and may be mended like one."""
    if isinstance(failure.value, ArchiveError):
        raise StorageUnavailable from None
    return failure
