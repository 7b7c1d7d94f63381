"""What other processes tell through PostgreSQL: heard at once, and again after the connection broke."""

from contextlib import closing

import psycopg2
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import DeferredQueue
from twisted.internet.epollreactor import EPollReactor

from archive_crypt.model import Modes, Otr, SaveMode
from archive_crypt.store import notices as module
from archive_crypt.store.interfaces import SetPreferences
from archive_crypt.store.notices import Notices
from tests.store.kit import JULIET, ROMEO, only, said, save

SECONDS = 10  # until a test gives up


class Ear:
    """Hears what other processes tell: `changed` and `missed` fire for each call, in order."""

    def __init__(self, dsn, reactor):
        self._reactor, self._changed, self._missed = reactor, DeferredQueue(), DeferredQueue()
        self.notices = Notices(
            dsn, reactor, lambda *notice: self._changed.put(notice), lambda: self._missed.put(None)
        )

    def changed(self):
        return self._changed.get().addTimeout(SECONDS, self._reactor)

    def missed(self):
        return self._missed.get().addTimeout(SECONDS, self._reactor)

    @property
    def silent(self):
        return not (self._changed.pending or self._missed.pending)

    @property
    def watched(self):
        return self.notices in self._reactor.getReaders()


@async_yield_fixture
async def ear(dsn, monkeypatch):
    """One that is not listening yet, and does not wait long."""
    from twisted.internet import reactor

    monkeypatch.setattr(module, "_PAUSE", 0.01)
    ear = Ear(dsn, reactor)
    yield ear
    ear.notices.close()


def prefer(owner=ROMEO):
    return SetPreferences(owner, default=Modes(SaveMode.BODY, Otr.CONCEDE))


def kill_listeners(dsn):
    """End the connections that listen; how many there were."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"
        )
        return cursor.rowcount


def test_its_pause():
    """It tries again soon, but not in haste."""
    assert 1 <= module._PAUSE <= 10


@ensureDeferred
async def test_preferences(ear, pgsql):
    """Every change of preferences is told with its owner and revision, in order."""
    await ear.notices.start()
    await ear.missed()
    for change in (prefer(), prefer(JULIET), prefer()):
        await only(pgsql, change)
    assert [await ear.changed() for _ in range(3)] == [(ROMEO, 1), (JULIET, 1), (ROMEO, 2)]
    assert ear.silent


@ensureDeferred
async def test_one_batch(ear, pgsql):
    """The changes of one batch are told when it is committed; nothing else of it is."""
    await ear.notices.start()
    await ear.missed()
    await pgsql.apply([prefer(), save(items=(said(),)), prefer(JULIET)])
    assert [await ear.changed() for _ in range(2)] == [(ROMEO, 1), (JULIET, 1)]
    assert ear.silent


@ensureDeferred
async def test_any_jid(ear, pgsql):
    """An owner's JID is told whatever is in it."""
    owner = "o'\"\\ü\U0001f600@montague.lit"
    await ear.notices.start()
    await only(pgsql, prefer(owner))
    assert await ear.changed() == (owner, 1)


@ensureDeferred
async def test_a_broken_connection(ear, pgsql, dsn):
    """When its connection breaks it connects anew, says that something may have been missed, and hears."""
    await ear.notices.start()
    await ear.missed()
    for revision in (1, 2):
        assert kill_listeners(dsn) == 1
        await ear.missed()
        await only(pgsql, prefer())
        assert await ear.changed() == (ROMEO, revision)
    assert ear.silent


@ensureDeferred
async def test_no_connection_at_first(ear, pgsql, monkeypatch):
    """Where there is no connection yet it tries again."""
    tries = []

    def refuse(*args, **more):
        tries.append(args)
        if len(tries) == 3:
            patch.undo()
        raise psycopg2.OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(psycopg2, "connect", refuse)
        await ear.notices.start()
        assert (ear.silent, ear.watched) == (True, False)
        await ear.missed()
    assert len(tries) == 3
    await only(pgsql, prefer())
    assert await ear.changed() == (ROMEO, 1)


@ensureDeferred
async def test_closed(ear, pgsql, dsn):
    """Closed, it hears nothing, has no connection and makes none."""
    await ear.notices.start()
    assert ear.watched
    await ear.missed()
    ear.notices.close()
    assert not ear.watched
    assert kill_listeners(dsn) == 0
    await only(pgsql, prefer())
    assert ear.silent


@ensureDeferred
async def test_closed_while_it_connects(ear, dsn):
    """Closed before it is connected, it gives the connection up."""
    connecting = ear.notices.start()
    ear.notices.close()
    await connecting
    assert (ear.silent, ear.watched) == (True, False)


@ensureDeferred
async def test_closed_while_it_pauses(ear, dsn, monkeypatch):
    """Closed, as often as one likes, while it waits for another try, it makes none."""
    from twisted.internet import reactor

    calls = set(reactor.getDelayedCalls())
    monkeypatch.setattr(module, "_PAUSE", 3600)
    await ear.notices.start()
    ear.notices.connectionLost(None)
    (pause,) = set(reactor.getDelayedCalls()) - calls
    for _ in range(2):
        ear.notices.close()
    assert not pause.active()
    assert not ear.watched


def test_twistds_reactor(dsn, pgsql):
    """A connection that broke leaves nothing behind in the reactor that twistd uses on Linux, which would keep
    the service from ending."""
    reactor = EPollReactor()  # the tests' own is another
    notices = Notices(dsn, reactor, lambda *notice: None, lambda: None)
    notices._connected(module._listening(dsn, "archive_crypt"))
    assert kill_listeners(dsn) == 1
    for _ in range(3):  # its last words, and the end
        reactor.doPoll(0.5)
    assert notices not in reactor.getReaders()
    notices.close()
