"""What all tests share: one real PostgreSQL for the run, emptied before each test that asks for it."""

import ctypes
import os
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import pytest_twisted
from hypothesis import settings
from psycopg2.extensions import make_dsn

from archive_crypt.hosts.postgres import EmbeddedPostgres
from archive_crypt.store.memory import MemoryStorage
from archive_crypt.store.migrate import migrate
from archive_crypt.store.pgsql import PgStorage
from tests.realhouse import RealHouse

# Nothing here is a test of speed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The DSN of a running PostgreSQL with our schema."""
    server = EmbeddedPostgres(Path(tmp_path_factory.mktemp("postgres")) / "data")
    dsn = server.start()
    migrate(dsn)
    yield dsn
    server.destroy()


@pytest.fixture
def dsn(postgres):
    """The DSN of an archive database without any rows."""
    with closing(psycopg2.connect(postgres)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE owner, item CASCADE")
    return postgres


@pytest.fixture
def fresh(postgres):
    """A function that makes an empty database and gives its DSN."""

    def make(name):
        with closing(psycopg2.connect(postgres)) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"DROP DATABASE IF EXISTS {name}")
            connection.cursor().execute(f"CREATE DATABASE {name}")
        return make_dsn(postgres, dbname=name)

    return make


@pytest_twisted.async_yield_fixture
async def pgsql(dsn):
    """A PostgreSQL storage, empty."""
    from twisted.internet import reactor

    storage = PgStorage(dsn, reactor)
    yield storage
    storage.close()


@pytest.fixture(params=["memory", "pgsql"])
def storage(request):
    """Each storage in turn, empty."""
    return MemoryStorage() if request.param == "memory" else request.getfixturevalue("pgsql")


@pytest.fixture
def memfd_secret():
    """Nothing, but the test is skipped where the kernel has no memfd_secret(2)."""
    fd = ctypes.CDLL(None, use_errno=True).syscall(447, 0)  # asked without our own code, which is under test
    if fd < 0:
        pytest.skip(f"This kernel offers no memfd_secret(2): {os.strerror(ctypes.get_errno())}.")
    os.close(fd)


@pytest.fixture(scope="session")
def real_house(postgres):
    """The house that dialogues are played in, one after the other."""
    house = RealHouse(postgres)
    yield house
    house.close()
