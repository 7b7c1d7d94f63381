"""The writer: order, batches, what a failing database does to whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from archive_crypt.errors import ArchiveBusy, StorageRefused, StorageUnavailable
from archive_crypt.model import SECOND, PlainItem, SealedItem, Window
from archive_crypt.store.interfaces import Append, ListFilter, Open, Reseal
from archive_crypt.store.memory import MemoryStorage
from archive_crypt.store.pgsql import PgStorage
from archive_crypt.store.writer import MOST_CHANGES, Writer

ROMEO, JULIET, NURSE = "romeo@montague.lit", "juliet@capulet.lit", "nurse@capulet.lit"
WITH, START = "friar@verona.lit", SECOND


def opened(owner=ROMEO, collection=1):
    return Open(owner, collection, WITH, START)


def said(owner=ROMEO, number=0, collection=1, text="hi"):
    return Append(owner, collection, PlainItem(number, START, f"<to><body>{text}</body></to>"))


def unsealable(owner, number):
    """A change that every database refuses: its data key is unknown."""
    return Append(owner, 1, SealedItem(number, "unheard of", "urn:gcm", b"cipher"))


class SlowStorage(MemoryStorage):
    """Applies a batch when told to, and remembers the batches it was given."""

    def __init__(self):
        super().__init__()
        self.batches, self.running = [], None

    def apply(self, changes, again=False):
        self.batches.append(list(changes))
        self.running = Deferred()
        return self.running.addCallback(lambda _: super(SlowStorage, self).apply(changes, again))

    def go_on(self):
        self.running.callback(None)


def outcome(d):
    """A list that receives True or the class of the failure."""
    result = []
    d.addCallbacks(lambda _: result.append(True), lambda f: result.append(f.type))
    return result


def texts(storage, owner, collection=1):
    found = []
    storage.page(owner, WITH, START, Window(limit=100), ()).addCallback(
        lambda page: found.extend(item.number for item in page.page.items)
    )
    return found


def test_batches_form_by_themselves():
    """What is submitted while a transaction runs shares the next one."""
    clock, storage = Clock(), SlowStorage()
    writer = Writer(storage, clock)
    writer.submit(opened())
    clock.advance(0)
    for number in range(3):
        writer.submit(said(number=number))
    assert [len(batch) for batch in storage.batches] == [1]
    storage.go_on()
    assert [len(batch) for batch in storage.batches] == [1, 3]


def test_batches_are_bounded():
    """A transaction has at most MOST_CHANGES changes."""
    clock, storage = Clock(), SlowStorage()
    writer = Writer(storage, clock)
    for number in range(MOST_CHANGES + 1):
        writer.submit(said(number=number))
    clock.advance(0)
    assert len(storage.batches[0]) == MOST_CHANGES


def test_acknowledged_after_commit():
    """A change's Deferred fires when it is durable, and not before."""
    clock, storage = Clock(), SlowStorage()
    writer = Writer(storage, clock)
    done = outcome(writer.submit(opened()))
    clock.advance(0)
    assert done == []
    storage.go_on()
    assert done == [True]


def test_flushed_waits_for_what_came_before():
    """flushed() fires when the owner's changes of before are written, whatever comes after."""
    clock, storage = Clock(), SlowStorage()
    writer = Writer(storage, clock)
    writer.submit(opened())
    clock.advance(0)
    flushed = outcome(writer.flushed(ROMEO))
    writer.submit(said())
    assert flushed == []
    storage.go_on()
    assert flushed == [True]


def test_flushed_does_not_wait_for_others():
    """flushed() of an owner with nothing on the way fires at once."""
    clock, storage = Clock(), SlowStorage()
    writer = Writer(storage, clock)
    writer.submit(opened())
    clock.advance(0)
    assert outcome(writer.flushed(JULIET)) == [True]


def test_database_away_is_waited_for():
    """While the database is away nothing is lost or reordered; requests fail at once; then all is written."""
    clock, storage = Clock(), MemoryStorage()
    writer = Writer(storage, clock)
    storage.failing = StorageUnavailable()
    done = [outcome(writer.submit(change)) for change in (opened(), said(number=0))]
    flushed = outcome(writer.flushed(ROMEO))
    clock.pump([0, 0.1, 0.5, 1])
    assert (done, flushed) == ([[], []], [StorageUnavailable])
    assert outcome(writer.flushed(ROMEO)) == [StorageUnavailable]
    done.append(outcome(writer.submit(said(number=1))))
    storage.failing = None
    clock.advance(5)
    assert done == [[True], [True], [True]]
    assert texts(storage, ROMEO) == [0, 1]
    assert outcome(writer.flushed(ROMEO)) == [True]


def test_queue_is_bounded():
    """Beyond its octets the writer takes nothing more, and says so at once."""
    clock, storage = Clock(), MemoryStorage()
    writer = Writer(storage, clock, most_waiting=2_000)
    storage.failing = StorageUnavailable()
    while writer.octets < 1_500:
        writer.submit(opened(owner=f"{writer.octets}@verona.lit")).addErrback(lambda f: None)
    with pytest.raises(ArchiveBusy):
        writer.submit(opened())
    assert writer.octets <= 2_000


def test_nobody_fills_the_queue():
    """One owner's part of what waits is a quarter: what is more of his is refused, whatever others have, and
    theirs is taken. A single change of his always is, as is what seals what is in clear."""
    clock, storage = Clock(), MemoryStorage()
    writer = Writer(storage, clock, most_waiting=400_000)
    storage.failing = StorageUnavailable()
    for number in range(60):
        writer.submit(said(ROMEO, number, text="x" * 1_000)).addErrback(lambda f: None)
    with pytest.raises(ArchiveBusy):
        writer.submit(said(ROMEO, 60, text="x" * 10_000))
    writer.submit(Reseal(ROMEO, 1, "k1", "urn:gcm", (), ())).addErrback(lambda f: None)
    writer.submit(said(JULIET, text="x" * 110_000)).addErrback(lambda f: None)
    with pytest.raises(ArchiveBusy):
        writer.submit(said(JULIET, 1))
    storage.failing = None
    while writer.octets:
        clock.advance(1)
    writer.submit(said(ROMEO, 60, text="x" * 90_000)).addErrback(lambda f: None)


def test_queue_empties():
    """When all is written nothing counts as waiting."""
    clock, storage = Clock(), MemoryStorage()
    writer = Writer(storage, clock)
    writer.submit(opened())
    drained = outcome(writer.drained())
    clock.advance(0)
    assert (writer.octets, drained) == (0, [True])


def test_abandoned_changes_fail():
    """What is given up at a shutdown fails, is counted, and the writer is drained."""
    clock, storage = Clock(), MemoryStorage()
    writer = Writer(storage, clock)
    storage.failing = StorageUnavailable()
    done = [outcome(writer.submit(change)) for change in (opened(), said())]
    clock.advance(0)
    drained = outcome(writer.drained())
    writer.abandon()
    assert writer.lost == 2
    assert (done, drained) == ([[StorageUnavailable], [StorageUnavailable]], [True])
    with pytest.raises(ArchiveBusy):
        writer.submit(opened())


@given(st.lists(st.tuples(st.sampled_from([ROMEO, JULIET, NURSE]), st.booleans()), max_size=30))
def test_a_bad_row_stops_nobody(plan):
    """Whatever changes the database refuses, every other one is written, in its owner's order."""
    clock, storage = Clock(), MemoryStorage()
    writer = Writer(storage, clock)
    for owner in (ROMEO, JULIET, NURSE):
        writer.submit(opened(owner))
    outcomes = []
    for number, (owner, good) in enumerate(plan):
        change = said(owner, number) if good else unsealable(owner, number)
        outcomes.append((good, outcome(writer.submit(change))))
    clock.advance(0)
    assert all(result == [True if good else StorageRefused] for good, result in outcomes)
    for owner in (ROMEO, JULIET, NURSE):
        assert texts(storage, owner) == [n for n, (who, good) in enumerate(plan) if who == owner and good]
    assert writer.parked == sum(not good for _, good in plan)


@ensureDeferred
async def test_two_writers_on_one_database(dsn):
    """Two processes' writers lose no stamp, never deadlock, and never make equal starts."""
    from twisted.internet import reactor

    storages = [PgStorage(dsn, reactor), PgStorage(dsn, reactor)]
    writers = [Writer(storage, reactor) for storage in storages]
    owners = [f"user{n}@verona.lit" for n in range(20)]
    done = []
    for turn in range(30):
        for which, writer in enumerate(writers):
            for owner in owners if turn % 2 else reversed(owners):
                collection = turn * 2 + which
                done.append(writer.submit(opened(owner, collection)))
                done += [writer.submit(said(owner, n, collection)) for n in range(3)]
    await gatherResults(done)
    everything = Window(limit=1000)
    for owner in owners:
        page = await storages[0].collections(owner, ListFilter(), everything)
        assert page.count == 60
        assert len({shown.start for shown in page.items}) == 60
    stamps = await storages[0]._readers.runQuery(
        "SELECT count(*), count(DISTINCT (owner, stamp)) FROM change"
    )
    assert stamps == [(60 * len(owners), 60 * len(owners))]
    assert all(writer.parked == 0 for writer in writers)
    for storage in storages:
        storage.close()
