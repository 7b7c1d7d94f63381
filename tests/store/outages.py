"""A database that goes away at any moment, processes that are killed at any moment, and what must be true
of them all the same."""

import shutil
from collections import deque
from dataclasses import replace
from itertools import count

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.task import Clock

from archive_crypt.errors import ArchiveBusy, ArchiveError, QuotaExceeded, StorageRefused, StorageUnavailable
from archive_crypt.model import SECOND, EncryptedKey, PlainItem, SaveMode, SealedItem
from archive_crypt.store.interfaces import Append, Open, Reseal, SetPreferences, Terms
from archive_crypt.store.memory import MemoryStorage
from archive_crypt.store.quota import Quota
from archive_crypt.store.spool import Spool
from archive_crypt.store.spooling import Spooling
from archive_crypt.store.writer import Writer

FRIAR, GCM, UNHEARD = "friar@verona.lit", "urn:gcm", "unheard of"


class Database(MemoryStorage):
    """Outlives all processes; takes no Open of a thread UNHEARD. `up`: it answers; else it is away. `held`: calls that wait for `answer`,
    if `holding`. `refusing`: it does not say what it has of a spool. `made`: the appends that were, in order."""

    def __init__(self):
        super().__init__()
        self.up, self.holding, self.made = True, False, []
        self._uncertain, self.held, self.refusing = False, deque(), False

    @property
    def uncertain(self):
        return self._uncertain

    def apply(self, changes, again=False, mark=None):
        if not again:
            self._uncertain = False
        assert mark is not None
        return self._ask(lambda: self._make(list(changes), mark))

    def marks(self, spool):
        if self.refusing:
            return fail(StorageRefused())
        return self._ask(lambda: super(Database, self).marks(spool))

    def interrupt(self):
        while self.held:
            self.answer("broken")

    def answer(self, how):
        """Answer the oldest call: "made"; "away", not made; "lost", made, or "broken", not made, without an
        answer after its COMMIT."""
        if self.held:
            call, asked = self.held.popleft()
            self._uncertain = how in ("lost", "broken")
            result = call() if how in ("made", "lost") else None
            if how == "made":
                result.chainDeferred(asked)
            else:
                asked.errback(StorageUnavailable())

    def _ask(self, call):
        asked = Deferred()
        self.held.append((call, asked))
        if not self.holding:
            self.answer("made" if self.up else "away")
        return asked

    def _make(self, changes, mark):
        before = self._marks[mark.line, mark.spool]
        self._last = None  # other processes do not know it either
        if any(isinstance(change, Open) and change.thread == UNHEARD for change in changes):
            return fail(StorageRefused())

        def count(outcomes):
            if self._marks[mark.line, mark.spool] > before:
                made = [one for one, told in zip(changes, outcomes, strict=True) if told is None]
                self.made += [change for change in made if isinstance(change, Append)]
            return outcomes

        return super().apply(changes, mark=mark).addCallback(count)

    def fills(self, octets):
        """An owner may keep so much from now on; None: whatever he likes."""
        self._quota = Quota() if octets is None else Quota(octets)


class Thread:
    """Does one thing after the other, when told to; or at once, unless `holding`."""

    def __init__(self):
        self.waiting, self.holding = deque(), False

    def __call__(self, what, *args):
        done = Deferred()
        self.waiting.append((what, args, done))
        if not self.holding:
            self.step()
        return done

    def step(self):
        if self.waiting:
            what, args, done = self.waiting.popleft()
            maybeDeferred(what, *args).chainDeferred(done)


class Process:
    """A process with its spool in `folder`."""

    def __init__(self, database, folder, most_waiting=1_000_000, most_spooled=1_000_000):
        self.clock, self.thread, self.folder = Clock(), Thread(), folder
        self.spool = Spool(folder / "spool", most_spooled)
        self.spooling = Spooling(self.spool, self.spool.open(), self.clock, self.thread)
        self.writer = Writer(database, self.clock, most_waiting, self.spooling)
        self.database = database

    def passes(self, seconds):
        """Time goes by, in steps."""
        for _ in range(10):
            self.clock.advance(seconds / 10)

    def recovers(self):
        """Everything is well again, and all is written."""
        self.database.up, self.database.holding, self.thread.holding = True, False, False
        while self.thread.waiting:
            self.thread.step()
        while self.database.held:
            self.database.answer("made")
        for _ in range(30):
            self.clock.advance(1)

    def killed(self, folder):
        """What a process finds that comes after kill -9, in `folder`."""
        shutil.copytree(self.folder, folder)
        self.spool.close()
        return Process(self.database, folder)


class Talk:
    """What users say: `said` in order, what of it was `acknowledged`, and what is `bad`: the database will
    not have it."""

    def __init__(self):
        self.said, self.acknowledged, self.bad, self._ids, self._open = [], [], [], count(1), {}
        self._ended = set()

    def says(self, process, owner, sealed):
        """A message more, into a collection that is opened first if this process has none, or if the last
        one came to its end."""
        key = (id(process), owner, sealed)
        if key not in self._open or self._open[key][0] in self._ended:
            name = f"k{owner}" if sealed else None
            self._open[key] = (next(self._ids), count(), name)
            self._submit(process, opened(owner, self._open[key][0], name), None)
        collection, numbers, name = self._open[key]
        number, place = next(numbers), len(self.said)
        change = Append(owner, collection, item(number, name), terms(owner))
        self.said.append(change)
        self._submit(process, change, place)

    def begins_badly(self, process, owner):
        """A collection that no database takes, and a message into it."""
        name, collection = f"k{owner}", next(self._ids)
        self.bad.append(Append(owner, collection, item(0, name), terms(owner)))
        self._submit(process, replace(opened(owner, collection, name), thread=UNHEARD), None)
        self._submit(process, self.bad[-1], len(self.said))

    def seals(self, process, owner):
        """What is recorded in clear is sealed, and goes on sealed."""
        collection, numbers, name = self._open.pop((id(process), owner, False), (0, None, None))
        if collection:
            name, before = f"k{owner}", next(numbers)
            keys = opened(owner, collection, name).keys
            sealed = tuple(item(number, name) for number in range(before))
            self._open[id(process), owner, True] = (collection, count(before), name)
            self._submit(process, Reseal(owner, collection, name, GCM, keys, sealed), None)

    def errs(self, process, owner):
        """Something comes that no database takes."""
        collection, *_ = self._open.get((id(process), owner, True), (0,))
        if collection:
            self.bad.append(Append(owner, collection, SealedItem(10_000, UNHEARD, GCM, b"")))
            self._submit(process, self.bad[-1], None)

    def asks(self, process, owner):
        """A request, which is never spooled."""
        self._submit(process, SetPreferences(owner), None)

    def _submit(self, process, change, place):
        try:
            done = process.writer.submit(change)
        except ArchiveBusy:
            return
        done.addCallback(lambda _: self.acknowledged.append(change) if place is not None else None)
        done.addErrback(self._not_made, change)

    def _not_made(self, failure, change):
        failure.trap(ArchiveError)
        if failure.check(QuotaExceeded):
            self._ended.add(change.collection)

    def check(self, database, parked=()):
        """Nothing that was acknowledged is lost, nothing is there twice, and nothing overtook. `parked`: what
        is kept of what no database takes."""
        made = database.made
        assert len(set(made)) == len(made)
        assert set(self.acknowledged) <= {*made, *parked}
        assert set(parked) <= set(self.bad)
        for owner in {change.owner for change in self.said}:
            of_owner = [change for change in made if change.owner == owner]
            assert of_owner == [
                change for change in self.said if change.owner == owner and change in set(made)
            ]


def opened(owner, collection, name):
    start = collection * SECOND
    if name is None:
        return Open(owner, collection, FRIAR, start)
    keys = (EncryptedKey(name, "laptop", "urn:oaep", b"wrapped"),)
    return Open(owner, collection, FRIAR, start, "t", name, GCM, keys, terms(owner))


def item(number, name):
    if name is None:
        return PlainItem(number, SECOND, "<to><body>secret words</body></to>")
    return SealedItem(number, name, GCM, b"\0cipher\xff")


def terms(owner):
    return Terms(0, SaveMode.BODY, FRIAR, None, SaveMode.BODY, 1)
