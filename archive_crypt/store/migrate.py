"""Brings a database's schema up to date with ``sql/migrations/``. Blocking: for the command line.

yoyo-migrations applies the files. Its own lock is a row that a crash leaves behind, so a
PostgreSQL advisory lock, which ends with its connection, is taken around it.
"""

from __future__ import annotations

from contextlib import closing
from importlib.resources import as_file, files
from typing import Any

import psycopg2
import yoyo
from psycopg2.extensions import parse_dsn
from yoyo.backends.core.postgresql import PostgresqlBackend
from yoyo.connections import DatabaseURI

#: Any number that nobody else uses for an advisory lock: "archive" in ASCII.
_LOCK = int.from_bytes(b"archive", "big")
_TABLE = "_yoyo_migration"


def migrate(dsn: str) -> list[str]:
    """Apply what is missing, oldest first; the names of what was applied.

    :raises psycopg2.Error: the database cannot be reached or refused a file.
    """
    with closing(psycopg2.connect(dsn)) as guard:
        guard.autocommit = True
        guard.cursor().execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        with _backend(dsn) as backend:
            backend.init_database()
            backend.break_lock()  # we hold the real one: this row is from a run that crashed
            missing = backend.to_apply(_migrations())
            with backend.lock():
                backend.apply_migrations(missing)
            return [migration.id for migration in missing]


def pending(dsn: str) -> list[str]:
    """The names of the migrations that `migrate` would apply. Changes nothing.

    :raises psycopg2.Error: the database cannot be reached.
    """
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (_TABLE,))
        (known,) = cursor.fetchone() or (False,)
        done = set()
        if known:
            cursor.execute(f"SELECT migration_id FROM {_TABLE}")
            done = {name for (name,) in cursor.fetchall()}
    return [migration.id for migration in _migrations() if migration.id not in done]


def _migrations() -> Any:
    with as_file(files("archive_crypt") / "sql" / "migrations") as folder:
        migrations = yoyo.read_migrations(str(folder))
        for migration in migrations:
            migration.load()
        return migrations


def _backend(dsn: str) -> PostgresqlBackend:
    rest: dict[str, Any] = dict(parse_dsn(dsn))
    uri = DatabaseURI(
        scheme="postgresql",
        username=rest.pop("user", None),
        password=rest.pop("password", None),
        hostname=rest.pop("host", None),
        port=rest.pop("port", None),
        database=rest.pop("dbname", None),
        args=rest,
    )
    return PostgresqlBackend(uri, _TABLE)
