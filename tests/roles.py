"""A database as docs/component.rst has it made: for tests of the role that the service runs as."""

from contextlib import closing
from importlib.resources import files

import psycopg2
from psycopg2.extensions import make_dsn

from archive_crypt.store.migrate import migrate

ROLE, PASSWORD = "archive-crypt", "of the role"


def bounded(dsn):
    """Run sql/roles.sql as the superuser of `dsn`; the DSN of the role."""
    execute(dsn, (files("archive_crypt") / "sql" / "roles.sql").read_text())
    execute(dsn, f'ALTER ROLE "{ROLE}" PASSWORD %s', PASSWORD)
    return make_dsn(dsn, user=ROLE, password=PASSWORD)


def prepared(dsn):
    """Make the tables and the role in an empty database; the DSN of the role."""
    migrate(dsn)
    return bounded(dsn)


def execute(dsn, query, *values):
    """Execute and commit a statement; its rows, if it gives any."""
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall() if cursor.description else None
