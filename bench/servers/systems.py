"""What is measured: each server alone, with its own archive, and with archive_crypt beside it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from os import kill
from pathlib import Path
from typing import NamedTuple

from archive_crypt.core.dialect import F
from archive_crypt.crypto import opening
from archive_crypt.store.migrate import migrate
from bench.servers import configuration, processes, reading
from bench.servers.client import Stream
from bench.servers.database import Database, Probe
from tests.kit import key_info
from tests.servers.archive import written
from tests.servers.kit import DOMAINS, Process, Target, start_server
from tests.servers.targets import PROJECT

#: The first talks to the second, the third to the fourth.
PAIRS = 10
USERS = [f"user{number}@{DOMAINS[0]}" for number in range(2 * PAIRS)]
_DATABASE = "bench"
#: Of the public key that all is sealed for.
_BITS = 2048
#: Seconds that a component has until it records, and between looks.
_PATIENCE, _LOOK = 30, 0.05


class Usage(NamedTuple):
    """Seconds of CPU."""

    server: float
    component: float
    database: float

    def __sub__(self, before: Usage) -> Usage:
        return Usage(*(now - then for now, then in zip(self, before, strict=True)))


class System:
    """A server, running with an account for each of USERS; alone, as it is here.

    An archive has, in the database: `tables`, of which `counted` holds a row for each copy of a message (two
    for a message), and `nearly`, a query that is cheaper than counting and never less.
    """

    kind = "alone"
    tables: tuple[str, ...] = ()
    counted = nearly = ""

    def __init__(self, target: Target, database: Database, folder: Path) -> None:
        self.target, self.database, self.folder = target, database, folder
        self.dsn = database.fresh(_DATABASE)
        self._probe = Probe(self.dsn)
        self.prepare()
        self.server = start_server(target, folder, self.edit)
        for jid in USERS:
            self.server.register(jid)

    def prepare(self) -> None:
        """What the database needs before the server starts."""

    def edit(self, operators: str) -> str:
        """What the server is given in the place of the file in contrib/."""
        return configuration.alone(self.target.name, operators)

    def streams(self) -> list[Stream]:
        """All users logged in, and from now on what they say is archived."""
        return [self.login(jid) for jid in USERS]

    def login(self, jid: str, resource: str = "bench", *, available: bool = True) -> Stream:
        return Stream(self.server.plain_port, jid, resource, available=available)

    def read(self, stream: Stream, count: int) -> Iterator[tuple[int, float]]:
        """See `reading`."""
        return reading.by_mam(stream, count)

    def rows(self) -> int:
        """Copies that another process can read now."""
        return int(self._probe.value(f"SELECT count(*) FROM {self.counted}")) if self.counted else 0

    def has(self, rows: int) -> bool:
        """Whether there are as many; cheap while there are not."""
        return int(self._probe.value(self.nearly)) >= rows and self.rows() >= rows

    def octets(self) -> int:
        """On disk, indexes included."""
        sizes = " + ".join(f"pg_total_relation_size('{table}')" for table in self.tables)
        return int(self._probe.value(f"SELECT {sizes}"))

    @property
    def usage(self) -> Usage:
        """So far."""
        server = processes.cpu(self.server.process.pid)
        return Usage(server, self.component_cpu(), self.database.cpu(self._probe))

    def component_cpu(self) -> float:
        return 0.0

    def close(self) -> None:
        """Stop it, and drop what it wrote."""
        self.server.kill()
        self._probe.close()
        self.database.drop(_DATABASE)


class Mam(System):
    """With the archive that comes with it, of all messages."""

    kind = "mod_mam"

    def prepare(self) -> None:
        if self.target.name == "ejabberd":
            self.tables, self.counted = ("archive",), "archive"
            self._probe.execute((self.target.root / "usr/share/ejabberd/sql/pg.sql").read_text())
        else:
            self.tables, self.counted = ("prosodyarchive",), "prosodyarchive"
        sequence = "archive_id_seq" if self.target.name == "ejabberd" else "prosodyarchive_sort_id_seq"
        self.nearly = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"

    def edit(self, operators: str) -> str:
        return configuration.with_mam(self.target.name, operators, self.database, _DATABASE)


class Archive(System):
    """With archive_crypt beside it, as operators run it; all is sealed."""

    kind = "archive_crypt"
    tables = ("owner", "collection", "change", "data_key", "encrypted_key", "item")
    counted, nearly = "item", "SELECT coalesce(sum(items), 0) FROM change"

    def prepare(self) -> None:
        migrate(self.dsn)

    def edit(self, operators: str) -> str:
        return operators

    def streams(self) -> list[Stream]:
        self._file = written(self.server, self.dsn, self.folder)
        self.start()
        streams = super().streams()
        key = key_info(opening.generate(_BITS), "bench")
        auto = f"<auto xmlns='{F.namespace}' save='true' scope='global' encrypt='true'>{key}</auto>"
        for stream in streams:
            self._until(lambda stream=stream: self._accepted(stream, f"<iq type='set' id='auto'>{auto}</iq>"))
        return streams

    def start(self) -> None:
        """Start the component."""
        command = [sys.executable, "-m", "archive_crypt.cli", "serve", "--config", self._file]
        environment = self.server.environment(PYTHONPATH=PROJECT)
        self.component = Process(command, environment, self.folder)

    def restart(self) -> tuple[float, float]:
        """Stop the component, and start it again; when it was told to stop, and when it had ended."""
        told = time.monotonic()
        self.component.stop()
        ended = time.monotonic()
        self.start()
        return told, ended

    def freeze(self) -> None:
        """Have the component do nothing, which the server does not know."""
        kill(self.component.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        kill(self.component.pid, signal.SIGCONT)

    def read(self, stream: Stream, count: int) -> Iterator[tuple[int, float]]:
        return reading.by_retrieve(stream, count)

    def component_cpu(self) -> float:
        return processes.cpu(self.component.pid)

    def close(self) -> None:
        if hasattr(self, "component"):
            self.component.kill()
        super().close()

    @staticmethod
    def _accepted(stream: Stream, request: str) -> bool:
        return b"type='result'" in stream.answer("auto", request)

    @staticmethod
    def _until(true: Callable[[], bool]) -> None:
        """The server delegates a moment after the component has connected."""
        end = time.monotonic() + _PATIENCE
        while not true():
            if time.monotonic() > end:
                raise TimeoutError("the archive does not answer")
            time.sleep(_LOOK)
