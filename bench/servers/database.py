"""The PostgreSQL that all systems write to: on TCP, as mod_mam of ejabberd 23.01 knows nothing else."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from socket import socket
from urllib.parse import quote

import psycopg2
from psycopg2.extensions import parse_dsn

from archive_crypt.hosts.postgres import EmbeddedPostgres
from bench.servers import processes


class Database:
    """PostgreSQL of this run alone, with a database for each system in turn."""

    host = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        self._postgres = EmbeddedPostgres(folder / "postgres")

    def start(self) -> None:
        local = self._postgres.start()
        parts = parse_dsn(local)
        self.user, self.password = parts["user"], parts["password"]
        self.port = _free_port(self.host)
        with closing(psycopg2.connect(local)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("ALTER SYSTEM SET listen_addresses = %s", [self.host])
                cursor.execute(f"ALTER SYSTEM SET port = {self.port}")
        self._postgres.stop()
        self._postgres.start()
        self._own = Probe(self.dsn("postgres"))
        folder = self._own.value("SELECT setting FROM pg_settings WHERE name = 'data_directory'")
        self._pid = int(Path(folder, "postmaster.pid").read_text().split()[0])

    def destroy(self) -> None:
        self._postgres.destroy()

    def dsn(self, name: str) -> str:
        """Of the database of that name."""
        return f"postgresql://{self.user}:{quote(self.password)}@{self.host}:{self.port}/{name}"

    def fresh(self, name: str) -> str:
        """A new, empty database in the place of the one of that name; its DSN."""
        self.drop(name)
        self._own.execute(f"CREATE DATABASE {name}")
        return self.dsn(name)

    def drop(self, name: str) -> None:
        self._own.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def checkpoint(self) -> None:
        """So that none falls into what is measured next, where it can be avoided."""
        self._own.execute("CHECKPOINT")

    def cpu(self, *probes: Probe) -> float:
        """Seconds of CPU of all its processes but those that serve these probes."""
        return processes.cpu(self._pid, {self._own.pid, *(probe.pid for probe in probes)})

    @property
    def version(self) -> str:
        return str(self._own.value("SHOW server_version"))


def _free_port(host: str) -> int:
    with socket() as bound:
        bound.bind((host, 0))
        port = int(bound.getsockname()[1])
    # The kit puts a server's own port in for 5347, wherever it finds that in the configuration.
    return _free_port(host) if "534" in str(port) else port


class Probe:
    """A connection that looks at what others wrote."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg2.connect(dsn)
        self._connection.autocommit = True
        self.pid = self._connection.info.backend_pid

    def value(self, query: str):
        """The one value that a query finds."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0]

    def execute(self, statements: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statements)

    def close(self) -> None:
        self._connection.close()
