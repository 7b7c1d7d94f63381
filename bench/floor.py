"""The floors: psycopg2 alone writing the same rows into the same table, nothing else to do."""

from __future__ import annotations

import struct
import time
from contextlib import closing
from io import BytesIO

import psycopg2
from psycopg2.extras import execute_values

BATCH = 500
_ROW = struct.Struct("!hiqiqiiihii")


def rows(dsn: str) -> list[tuple[int, int, int, int, bytes]]:
    """All items that are there: what the floors write again."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT owner, collection, number, key, content FROM item ORDER BY number, owner")
        return [(*row[:4], bytes(row[4])) for row in cursor.fetchall()]


def insert(dsn: str, written: list[tuple[int, int, int, int, bytes]]) -> float:
    """Rows a second by multi-row INSERT, a COMMIT each BATCH rows."""

    def one(cursor, part):
        execute_values(
            cursor,
            "INSERT INTO item (owner, collection, number, key, content) VALUES %s",
            [(*row[:4], psycopg2.Binary(row[4])) for row in part],
            page_size=BATCH,
        )

    return _timed(dsn, written, one)


def copy(dsn: str, written: list[tuple[int, int, int, int, bytes]]) -> float:
    """Rows a second by COPY BINARY, a COMMIT each BATCH rows."""

    def one(cursor, part):
        buffer = BytesIO()
        buffer.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for owner, collection, number, key, content in part:
            buffer.write(_ROW.pack(6, 8, owner, 8, collection, 4, number, 2, key, -1, len(content)) + content)
        buffer.write(b"\xff\xff")
        buffer.seek(0)
        columns = "owner, collection, number, key, at, content"
        size = buffer.getbuffer().nbytes
        cursor.copy_expert(f"COPY item ({columns}) FROM STDIN (FORMAT binary)", buffer, size)

    return _timed(dsn, written, one)


def _timed(dsn, written, one) -> float:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE item")
        connection.commit()
        begun = time.perf_counter()
        for start in range(0, len(written), BATCH):
            one(cursor, written[start : start + BATCH])
            connection.commit()
        return len(written) / (time.perf_counter() - begun)
