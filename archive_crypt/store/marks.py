"""The rows of spools: how far each has come. The row's lock makes whoever asks wait for a transaction that
nobody waits for any more, but that may still be committed.
"""

from __future__ import annotations

from typing import Any

import psycopg2.errors

from archive_crypt.errors import StorageUnavailable
from archive_crypt.model import Mark


def advance(cursor: Any, mark: Mark) -> bool:
    """Whether the line had not come so far; now it has."""
    line = {"batches": "batches", "records": "records"}[mark.line]
    _patiently(
        cursor,
        f"INSERT INTO spool AS s (id, {line}) VALUES (%s, %s)"
        f" ON CONFLICT (id) DO UPDATE SET {line} = excluded.{line} WHERE s.{line} < excluded.{line}",
        (mark.spool, mark.number),
    )
    return bool(cursor.rowcount)


def read(cursor: Any, spool: str) -> tuple[int, int]:
    """How far the batches and the records have come."""
    # Not a SELECT: it would not see, nor wait for, the very first batch, while that is not committed.
    _patiently(
        cursor,
        "INSERT INTO spool AS s (id) VALUES (%s) ON CONFLICT (id) DO UPDATE SET id = s.id"
        " RETURNING batches, records",
        (spool,),
    )
    batches, records = cursor.fetchone()
    return batches, records


def _patiently(cursor: Any, statement: str, values: tuple[Any, ...]) -> None:
    try:
        cursor.execute(statement, values)
    except psycopg2.errors.QueryCanceled:  # the row is locked by what is not over yet
        raise StorageUnavailable("The connection is lost, but its transaction is not over yet.") from None
