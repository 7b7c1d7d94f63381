"""The floor: psycopg2 writes as many rows as an archive has to, of as many octets, and does nothing else."""

from __future__ import annotations

import random
import time
from contextlib import closing
from dataclasses import dataclass

import psycopg2
from psycopg2.extras import execute_values

from bench.servers.database import Database, Probe

#: Rows a COMMIT; octets of a row's content: with them a row takes as much of the disk as the archives' do.
BATCH, OCTETS = 500, 400
_DATABASE = "floor"
_TABLE = """
    CREATE TABLE floor (
        id bigserial PRIMARY KEY, owner int NOT NULL, at bigint NOT NULL, content bytea NOT NULL
    );
    CREATE INDEX ON floor (owner, at)
"""


@dataclass(frozen=True)
class Floor:
    """Rows a second; seconds of CPU per 1000 rows, of this process and PostgreSQL; octets a row."""

    rate: float
    cpu: float
    octets: float


def measure(database: Database, rows: int, owners: int) -> Floor:
    """Write so many rows."""
    dsn = database.fresh(_DATABASE)
    source = random.Random(136)
    content = [source.randbytes(OCTETS) for _ in range(100)]
    made = [(n % owners, time.time_ns() // 1000, content[n % 100]) for n in range(rows)]
    probe = Probe(dsn)
    probe.execute(_TABLE)
    database.checkpoint()
    before, own, begun = database.cpu(probe), time.process_time(), time.monotonic()
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        for start in range(0, rows, BATCH):
            part = made[start : start + BATCH]
            execute_values(cursor, "INSERT INTO floor (owner, at, content) VALUES %s", part, page_size=BATCH)
            connection.commit()
        seconds = time.monotonic() - begun
        cpu = time.process_time() - own + database.cpu(probe) - before
    octets = probe.value("SELECT pg_total_relation_size('floor')") / rows
    probe.close()
    database.drop(_DATABASE)
    return Floor(rows / seconds, cpu / rows * 1000, octets)
