"""The role that the service runs as can do all that the archive needs, and nothing else."""

import psycopg2
import pytest
import pytest_twisted
from psycopg2.errors import InsufficientPrivilege
from pytest_twisted import ensureDeferred

from archive_crypt.errors import StorageRefused
from archive_crypt.model import AutoState, Modes, Otr, SaveMode, SuppliedKey
from archive_crypt.store.interfaces import Prolong, SetAuto, SetPreferences, SetPublished
from archive_crypt.store.migrate import pending
from archive_crypt.store.notices import Notices
from archive_crypt.store.pgsql import PgStorage
from tests.roles import ROLE, bounded, execute, prepared
from tests.store.kit import ALL, ROMEO, everything, listed, opened, plain
from tests.store.test_histories import Dice


@pytest.fixture
def role(fresh):
    """The DSN of the role, in a database of its own."""
    return prepared(fresh("bounded"))


@pytest_twisted.async_yield_fixture
async def storage(role):
    """A storage that works as the role."""
    from twisted.internet import reactor

    storage = PgStorage(role, reactor)
    yield storage
    storage.close()


@ensureDeferred
async def test_it_can_do_what_storages_do(storage, role):
    """Any history of changes, all that is read, expiry, old removals and streams forgotten, vacuuming."""
    dice = Dice(1)
    for _ in range(150):
        await storage.apply(dice.throw())
    modes = Modes(SaveMode.BODY, Otr.CONCEDE, 1000)
    settings = AutoState(True, True, "urn:x", (SuppliedKey("laptop", b"der"),))
    await storage.apply(
        [
            SetAuto(ROMEO, settings, {"a": settings}),
            SetPublished(ROMEO, ()),
            SetPreferences(ROMEO, default=modes, methods={}),
            Prolong(ROMEO, "t", 1),
        ]
    )
    await everything(storage)
    await storage.keys(ROMEO, ("laptop",), ALL)
    assert await storage.expiring("", 10, False)
    assert await storage.forget_tombstones(2**60, 1000)
    assert await storage.forget_streams("montague.lit", []) == 1
    await storage.vacuum()
    assert pending(role) == []


@ensureDeferred
async def test_it_hears_of_preferences(storage, role):
    """It hears what other processes tell through the database."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    heard = Deferred()
    notices = Notices(role, reactor, lambda *what: heard.callback(what), lambda: None)
    try:
        await notices.start()
        await storage.apply([SetPreferences(ROMEO, default=Modes(SaveMode.BODY, Otr.CONCEDE))])
        assert await heard.addTimeout(10, reactor) == (ROMEO, 1)
    finally:
        notices.close()


FORBIDDEN = [
    "CREATE TABLE x (y int)",
    "CREATE TEMPORARY TABLE x (y int)",
    "CREATE VIEW x AS SELECT 1",
    "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA x",
    "CREATE DATABASE x",
    "CREATE ROLE x",
    "CREATE INDEX x ON item (at)",
    "CREATE TRIGGER x AFTER INSERT ON item EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "DROP TABLE item",
    "DROP SCHEMA public CASCADE",
    "DROP INDEX collection_by_start",
    "DROP DATABASE bounded",
    f'DROP ROLE "{ROLE}"',
    "TRUNCATE item",
    "ALTER TABLE item ADD x int",
    "ALTER TABLE item DISABLE TRIGGER ALL",
    "ALTER DATABASE bounded SET log_statement = 'all'",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SET log_statement = 'all'",
    "SET session_replication_role = replica",
    f'ALTER ROLE "{ROLE}" SUPERUSER',
    f'ALTER ROLE "{ROLE}" CREATEDB',
    "SET ROLE postgres",
    "SELECT * FROM secrets.of_others",
    "INSERT INTO secrets.of_others VALUES (1)",
    "SELECT * FROM pg_authid",
    "SELECT pg_read_file('/etc/hostname')",
    "SELECT lo_creat(-1)",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_import('/etc/hostname')",
    "COPY item TO '/var/tmp/x'",
    "COPY item TO PROGRAM 'cat'",
    "INSERT INTO _yoyo_migration (migration_hash) VALUES ('x')",
    "DELETE FROM _yoyo_migration",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
]


def test_it_can_do_nothing_else(fresh):
    """It cannot make, change or drop anything but rows, read another's schema or files, become somebody else, or
    turn on a log of what is written."""
    dsn = fresh("bounded")
    role = prepared(dsn)
    execute(dsn, "CREATE SCHEMA secrets; CREATE TABLE secrets.of_others (x int)")
    for statement in FORBIDDEN:
        with pytest.raises(InsufficientPrivilege):
            pytest.fail(f"{statement}: {execute(role, statement)}")


def test_it_cannot_bound_itself(role):
    """The role that is to be bounded is not who runs sql/roles.sql."""
    with pytest.raises(psycopg2.Error, match="as a superuser"):
        bounded(role)


def test_what_it_owned_is_taken_from_it(fresh):
    """A database that the role owned, tables and all, it may only use afterwards; and what was kept is there."""
    dsn = fresh("bounded")
    role = prepared(dsn)
    execute(dsn, f'ALTER DATABASE bounded OWNER TO "{ROLE}"; ALTER TABLE item OWNER TO "{ROLE}"')
    execute(dsn, f'ALTER ROLE "{ROLE}" CREATEDB; GRANT pg_read_all_data TO "{ROLE}"')
    execute(role, "INSERT INTO owner (jid) VALUES ('romeo@montague.lit')")
    bounded(dsn)
    for statement in ("CREATE SCHEMA x", "DROP TABLE item", "CREATE DATABASE x"):
        with pytest.raises(InsufficientPrivilege):
            execute(role, statement)
    assert execute(role, "SELECT jid FROM owner") == [("romeo@montague.lit",)]
    assert execute(dsn, "SELECT count(*) FROM pg_auth_members WHERE member = %s::regrole", f'"{ROLE}"') == [
        (0,)
    ]


def test_later_tables_can_be_used(fresh):
    """A table that a later migration makes can be used, before anybody runs sql/roles.sql again."""
    dsn = fresh("bounded")
    role = prepared(dsn)
    execute(dsn, "CREATE TABLE later (x int)")
    execute(role, "INSERT INTO later VALUES (1); SELECT * FROM later")


@ensureDeferred
async def test_a_vacuum_that_was_skipped_is_told(fresh):
    """A role that may not vacuum is told so, as PostgreSQL itself only warns and goes on."""
    from twisted.internet import reactor

    dsn = fresh("bounded")
    role = prepared(dsn)
    execute(dsn, f'REVOKE MAINTAIN ON item FROM "{ROLE}"')
    storage = PgStorage(role, reactor)
    try:
        await storage.apply([opened(), plain(0)])
        with pytest.raises(StorageRefused):
            await storage.vacuum()
        assert len((await listed(storage)).items) == 1
    finally:
        storage.close()
