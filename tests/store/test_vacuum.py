"""What replaced rows leave behind in PostgreSQL, and that it is swept."""

from contextlib import closing

import psycopg2
from pytest_twisted import ensureDeferred

from tests.store.kit import opened, plain


def swept(dsn):
    """How often the table of items was vacuumed, autovacuum not counted."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'item'")
        return cursor.fetchone()[0]


@ensureDeferred
async def test_vacuum_really_happens(pgsql, dsn):
    """When `vacuum` is done the table of items was vacuumed, each time."""
    await pgsql.apply([opened(), plain(0)])
    before = swept(dsn)
    await pgsql.vacuum()
    assert swept(dsn) == before + 1
    await pgsql.vacuum()
    assert swept(dsn) == before + 2
