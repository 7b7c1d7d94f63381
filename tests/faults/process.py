"""The processes that faults are done to: the archive, and its PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from archive_crypt.hosts.postgres import EmbeddedPostgres
from archive_crypt.store.migrate import migrate

ROOT = Path(__file__).parents[2]
#: Seconds that anything may take.
PATIENCE = 60


class Acknowledged:
    """A log of what was acknowledged, on disk before anybody relies on it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self.said: set[tuple[str, str]] = set()

    def add(self, lines: list[str]) -> None:
        """`lines`: an owner and a body each."""
        self._file.write("".join(f"{line}\n" for line in lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.said.update(tuple(line.split(" ", 1)) for line in lines)

    def close(self) -> None:
        self._file.close()


class Archive(ProcessProtocol):
    """The service, with the configuration file `config`; its log goes to `log`. `port`: where it listens
    while it runs."""

    def __init__(self, config: Path, log: Path, acknowledged: Acknowledged) -> None:
        self._config, self._log, self._acknowledged = config, log, acknowledged
        self.port = None

    async def start(self) -> None:
        """Run it; it has started."""
        self._rest, self._asked = b"", []
        self._started, self._ended = Deferred(), Deferred()
        with self._log.open("ab") as log:
            arguments = [sys.executable, "-m", "tests.faults.child", str(self._config)]
            files = {0: "w", 1: "r", 2: log.fileno()}
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            reactor.spawnProcess(self, sys.executable, arguments, env, str(ROOT), childFDs=files)
        self.port = await self._started.addTimeout(PATIENCE, reactor)

    async def kill(self) -> None:
        """SIGKILL, at this very moment; all that it had said is taken notice of."""
        self.port = None
        self.transport.signalProcess("KILL")
        await self._ended

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.port = None
        self.transport.signalProcess("TERM")
        return await self._ended.addTimeout(PATIENCE, reactor)

    async def ends(self, result) -> None:
        """`stop`, which is `wrong` with a result if it goes wrong."""
        code = await self.stop()
        if code:
            result.wrong.append(f"exit code {code}")

    async def state(self) -> dict:
        """What waits in it."""
        return json.loads(await self.order("state"))

    def order(self, text: str) -> Deferred:
        """Have it do something; what it says to that."""
        asked = Deferred()
        self._asked.append(asked)
        self.transport.write(f"{text}\n".encode())
        return asked.addTimeout(PATIENCE, reactor)

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        told = [line.decode().partition(" ") for line in lines]
        acknowledged = [matter for kind, _, matter in told if kind == "ack"]
        if acknowledged:
            self._acknowledged.add(acknowledged)
        for kind, _, matter in told:
            if kind == "started":
                self._started.callback(int(matter))
            elif kind != "ack":
                self._asked.pop(0).callback(matter)

    def processEnded(self, reason) -> None:
        self.port = None
        for asked in [*self._asked, *([] if self._started.called else [self._started])]:
            asked.errback(reason)
        self._ended.callback(reason.value.exitCode)


class Database:
    """A PostgreSQL of our own in `folder`, and all that can happen to it."""

    def __init__(self, folder: Path) -> None:
        self._postgres = EmbeddedPostgres(folder / "postgres", lambda text: None)
        self._pid_file = folder / "postgres" / "cluster" / "postmaster.pid"
        self.dsn = self._postgres.start()
        migrate(self.dsn)

    def stop(self) -> Deferred:
        """Orderly; clients are disconnected."""
        return deferToThread(self._postgres.stop)

    def start(self) -> Deferred:
        """And what was left behind is recovered."""
        return deferToThread(self._postgres.start)

    async def crash(self) -> None:
        """kill -9 of all of it."""
        self.freeze()  # so that it begets no more
        for pid in self._frozen:
            _signal(pid, signal.SIGKILL)
        for _ in range(PATIENCE * 20):  # as long as there is one of them, if only its number, none can start
            if not any(Path(f"/proc/{pid}").exists() for pid in self._frozen):
                break
            await deferLater(reactor, 0.05)
        await self.stop()

    def freeze(self) -> None:
        """Nothing of it runs any more."""
        postmaster = int(self._pid_file.read_text().split()[0])
        _signal(postmaster, signal.SIGSTOP)
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        self._frozen = [postmaster, *map(int, children)]
        for pid in self._frozen:
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        for pid in self._frozen:
            _signal(pid, signal.SIGCONT)

    def terminate(self) -> Deferred:
        """All connections of archives are ended."""
        return deferToThread(self._terminate)

    def destroy(self) -> None:
        self._postgres.destroy()

    def _terminate(self) -> None:
        with closing(psycopg2.connect(self.dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'archive_crypt%'"
            )


def _signal(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        pass
