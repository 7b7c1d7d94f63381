"""Connections to PostgreSQL that break when it matters."""

from contextlib import closing

import psycopg2
import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from archive_crypt.errors import StorageUnavailable
from archive_crypt.model import SealedItem
from archive_crypt.store import pgsql as module
from archive_crypt.store.interfaces import AddKeys, Reseal
from archive_crypt.store.pgsql import PgStorage
from tests.store.kit import (
    GCM,
    ROMEO,
    carried,
    data,
    everything,
    only,
    opened,
    paged,
    plain,
    remove,
    said,
    save,
    sealed,
    sealed_open,
    texts,
    versions,
    wrapped,
)


@pytest.fixture
def lose_answer():
    """Breaks the connection at the next COMMIT, which is done before or not at all."""
    with pytest.MonkeyPatch.context() as patch:

        def lose(*, done):
            def commit(connection):
                patch.undo()
                connection._connection.commit() if done else connection._connection.rollback()
                connection._connection.close()
                raise psycopg2.OperationalError

            patch.setattr(module._Connection, "commit", commit, raising=False)

        yield lose


@pytest_twisted.async_yield_fixture
async def another(dsn):
    """The storage of another process on the same database."""
    from twisted.internet import reactor

    storage = PgStorage(dsn, reactor)
    yield storage
    storage.close()


def kill(dsn):
    """End all connections of storages to a database, and wait until they are gone."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'archive_crypt'"
        )


async def fails(d):
    with pytest.raises(StorageUnavailable):
        await d


@ensureDeferred
async def test_an_answer_is_lost(pgsql, another, lose_answer):
    """Uploads whose COMMIT was not answered are not made twice: the same outcomes, the same archive."""
    await only(pgsql, save(items=(said("a"),)))
    batch = [save(items=(said("b"),), subject="s"), save(items=(data(),)), remove(with_="nobody@x.lit")]
    lose_answer(done=True)
    await fails(pgsql.apply(batch))
    assert pgsql.uncertain
    archive = await everything(another)
    outcomes = await pgsql.apply(batch, again=True)
    assert (outcomes[0].version, outcomes[0].subject, outcomes[2]) == (1, "s", 0)
    assert await everything(pgsql) == archive
    assert texts(await paged(pgsql)) == [said("a").content, said("b").content]


@ensureDeferred
async def test_answers_are_lost_again(pgsql, lose_answer):
    """Nor are they when the second try is not answered either."""
    upload = save(items=(said("a"),))
    for again in (False, True):
        lose_answer(done=True)
        await fails(pgsql.apply([upload], again=again))
    (made,) = await pgsql.apply([upload], again=True)
    assert (made.version, (await paged(pgsql)).page.count) == (0, 1)


@ensureDeferred
async def test_a_commit_is_lost(pgsql, lose_answer):
    """Uploads whose COMMIT never arrived are made when they are applied again."""
    upload = save(items=(said("a"),))
    lose_answer(done=False)
    await fails(pgsql.apply([upload]))
    (made,) = await pgsql.apply([upload], again=True)
    assert (made.version, (await paged(pgsql)).page.count) == (0, 1)


@ensureDeferred
async def test_a_batch_that_found_no_connection(pgsql, lose_answer, monkeypatch):
    """A batch that found no connection is not taken for the one before it, which was made."""
    await only(pgsql, save(items=(said("a"),)))
    lose_answer(done=True)
    await fails(pgsql.forget_tombstones(0, 1))
    with monkeypatch.context() as patch:
        patch.setattr(psycopg2, "connect", refuse)
        await fails(pgsql.apply([save(items=(said("b"),))]))
    assert not pgsql.uncertain
    (made,) = await pgsql.apply([save(items=(said("b"),))], again=True)
    assert made.version == 1
    assert await versions(pgsql) == [(made.with_, made.start, 1, False)]


def refuse(*args, **more):
    raise psycopg2.OperationalError


@ensureDeferred
async def test_numbers_of_data_keys_that_were_rolled_back(pgsql, another, lose_answer):
    """A data key whose COMMIT was lost, while another process added one, is not taken for that one."""
    await pgsql.apply([sealed_open(), sealed(0)])
    batch = [AddKeys(ROMEO, 1, "k2", GCM, (wrapped("k2"),)), sealed(1, "k2")]
    lose_answer(done=False)
    await fails(pgsql.apply(batch))
    await only(another, save(items=(data("x", "k3"),), keys=(carried("k3"),)))
    await pgsql.apply(batch, again=True)
    assert (await paged(pgsql)).page.items[1] == SealedItem(1, "k2", GCM, b"cipher")


@ensureDeferred
async def test_a_connection_that_died_in_silence(pgsql, dsn):
    """A batch that found its connection dead is made at the second try."""
    await pgsql.apply([sealed_open(), sealed(0)])
    kill(dsn)
    await fails(pgsql.apply([sealed(1)]))
    await pgsql.apply([sealed(1)], again=True)
    assert (await paged(pgsql)).page.count == 2


@ensureDeferred
async def test_reads_notice_nothing(pgsql, dsn):
    """Reads take another connection by themselves."""
    await pgsql.apply([sealed_open(), sealed(0)])
    before = await everything(pgsql)
    kill(dsn)
    assert await everything(pgsql) == before


@ensureDeferred
async def test_a_connection_that_carried_what_is_sealed_now_is_given_up(pgsql):
    """libpq keeps what it last sent and read: once a collection is sealed anew, none of these connections is left."""
    await pgsql.apply([opened(), plain(0)])
    sent = set(pgsql._writer.connections.values())
    items = await pgsql.plain_items(ROMEO, 1, -1, 10)
    assert len(items) == 1
    assert list(pgsql._readers.connections.values()) == []
    cipher = SealedItem(0, "k1", GCM, b"a")
    await pgsql.apply([Reseal(ROMEO, 1, "k1", GCM, (wrapped("k1"),), (cipher,))])
    assert [connection.closed for connection in sent] == [1]
    assert [item.cipher for item in (await paged(pgsql)).page.items] == [b"a"]
