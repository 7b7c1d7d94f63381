"""A writer with a spool beside it: a real file, a real thread, real PostgreSQL."""

import uuid
from contextlib import closing

import psycopg2
import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread

from archive_crypt.errors import ConfigurationError, StorageUnavailable
from archive_crypt.model import Mark
from archive_crypt.store.pgsql import PgStorage
from archive_crypt.store.spoolthread import SpoolThread
from archive_crypt.store.writer import Writer
from tests.store.kit import JULIET, ROMEO, numbers, opened, paged, plain, said, save, sealed, sealed_open

ID = str(uuid.UUID(int=7))
SECONDS = 20  # until a test gives up


class Process:
    """A writer, its spool in `folder`, and its storage."""

    def __init__(self, dsn, folder, most_octets=1_000_000):
        self.thread = SpoolThread(str(folder / "spool"), most_octets, reactor)
        self.storage = PgStorage(dsn, reactor)
        self.writer = Writer(self.storage, reactor, spooling=self.thread.spooling)

    async def says(self, *changes):
        """All of it is acknowledged."""
        await gatherResults([self.writer.submit(change) for change in changes]).addTimeout(SECONDS, reactor)

    async def ends(self):
        """In good order, with no time to wait for a database."""
        await self.writer.abandon()
        self.storage.close()
        self.thread.close()
        return self.writer.lost


@pytest_twisted.async_yield_fixture
async def begin(dsn, tmp_path):
    """Starts a process; `away`: it finds no database."""
    processes = []

    def begin(away=False, **more):
        processes.append(Process("host=127.0.0.1 port=1 dbname=x" if away else dsn, tmp_path, **more))
        return processes[-1]

    yield begin
    for process in processes:
        if not process.writer._abandoned:
            await process.ends()


@ensureDeferred
async def test_across_a_restart(begin):
    """What was said while the database was away is acknowledged, and written by the next process, in order."""
    first = begin(away=True)
    await first.says(sealed_open(), *(sealed(number) for number in range(20)))
    assert await first.ends() == 0
    second = begin()
    await second.says(sealed(20))
    assert numbers(await paged(second.storage)) == list(range(21))
    assert second.thread.spooling.records == 0


@ensureDeferred
async def test_who_has_something_in_the_spool(begin):
    """A request of an owner who has something in the spool fails at once, to be tried again later."""
    process = begin(away=True)
    await process.says(sealed_open())
    with pytest.raises(StorageUnavailable):
        await process.writer.flushed(ROMEO)
    await process.writer.flushed(JULIET)


@ensureDeferred
async def test_nothing_in_clear_is_spooled(begin, tmp_path):
    """What is recorded in clear waits in memory, and what its owner says after it; others do not wait."""
    process = begin(away=True)
    waiting = [process.writer.submit(change) for change in (opened(), plain(0, "secret words"), sealed(1))]
    await process.says(sealed_open(owner=JULIET))
    assert not any(d.called for d in waiting)
    spooled = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert JULIET.encode() in spooled
    assert ROMEO.encode() not in spooled
    assert b"secret words" not in spooled
    for d in waiting:
        d.addErrback(lambda failure: failure.trap(StorageUnavailable))
    assert await process.ends() == 3


@ensureDeferred
async def test_requests_are_not_spooled(begin):
    """What a client asked for fails when the database is found to be away."""
    process = begin(away=True)
    with pytest.raises(StorageUnavailable):
        await process.writer.submit(save(items=(said(),))).addTimeout(SECONDS, reactor)


@ensureDeferred
async def test_full(begin):
    """A spool that is full is said to be: nothing more should be read, and nothing is acknowledged."""
    process = begin(away=True, most_octets=1000)
    await process.says(sealed_open())
    late = process.writer.submit(sealed(0, cipher=b"x" * 1000, owner=JULIET))
    late.addErrback(lambda failure: failure.trap(StorageUnavailable))
    while not process.thread.spooling.full:
        await deferLater(reactor, 0.01)
    assert process.writer.load >= 1
    assert not late.called
    assert await process.ends() == 1


@ensureDeferred
async def test_a_second_process(begin, tmp_path):
    """Two processes never have one spool."""
    begin()
    with pytest.raises(ConfigurationError, match="in use by process"):
        SpoolThread(str(tmp_path / "spool"), 1000, Clock())


@ensureDeferred
async def test_a_mark(storage):
    """A batch under a mark is made once, by whatever process; what its line had before is not made again."""
    await storage.apply([sealed_open(), sealed(0)], mark=Mark(ID, "records", 2))
    await storage.apply([sealed(1)], mark=Mark(ID, "records", 3))
    for number in (2, 3):
        assert await storage.apply([sealed(9)], mark=Mark(ID, "records", number)) == [None]
    assert numbers(await paged(storage)) == [0, 1]


@ensureDeferred
async def test_two_lines(storage):
    """The two lines of a spool are counted apart, and so are spools."""
    other = str(uuid.uuid4())
    assert await storage.marks(other) == (0, 0)
    await storage.apply([sealed_open(owner=JULIET)], mark=Mark(other, "batches", 1))
    await storage.apply([sealed(0, owner=JULIET)], mark=Mark(other, "records", 1))
    await storage.apply([sealed(1, owner=JULIET)], mark=Mark(other, "records", 17))
    assert await storage.marks(other) == (1, 17)
    assert await storage.marks(str(uuid.uuid4())) == (0, 0)


@ensureDeferred
async def test_a_batch_that_is_not_over(pgsql, dsn):
    """Whoever asks waits for the very first batch of a spool, if a process that was killed left it running."""
    first = str(uuid.uuid4())
    with closing(psycopg2.connect(dsn)) as left, closing(psycopg2.connect(dsn)) as watching:
        left.cursor().execute("INSERT INTO spool (id, batches) VALUES (%s, 1)", (first,))
        asked = pgsql.marks(first)
        watching.autocommit = True
        await deferToThread(_until_somebody_waits, watching.cursor())
        assert not asked.called
        left.commit()
    assert await asked == (1, 0)


def _until_somebody_waits(cursor):
    waiting = 0
    while not waiting:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        (waiting,) = cursor.fetchone()
