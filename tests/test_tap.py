"""The service under a real twistd, as an operator starts it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from archive_crypt.config import load
from archive_crypt.store.spool import Spool
from archive_crypt.tap import ArchiveService, Options, makeService

ROOT = Path(__file__).parents[1]
#: Seconds that a process may take to start, or to end.
PATIENCE = 30


@pytest.fixture
def written(tmp_path, postgres):
    """A function that writes a configuration for the tests' database; its path."""

    def write(host="port = 0", dsn=postgres):
        path = tmp_path / "archive.toml"
        database = f"[database]\ndsn = {json.dumps(dsn)}\n"
        path.write_text(f"{database}[host]\n{host}\ndata = {json.dumps(str(tmp_path))}\nusers.romeo = 'x'\n")
        return path

    return write


def twistd(path, *more):
    """``twistd -n archive-crypt --config``, started."""
    program = Path(sys.executable).with_name("twistd")
    return subprocess.Popen(
        [program, "-n", "--pidfile=", "archive-crypt", "--config", str(path), *more],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_start_and_stop(written):
    """It listens for clients, and SIGTERM ends it in good order."""
    with twistd(written()) as process:
        try:
            for line in process.stdout:
                if port := re.search(r"EmbeddedServer starting on (\d+)", line):
                    break
            with closing(socket.create_connection(("127.0.0.1", int(port[1])), PATIENCE)) as client:
                client.sendall(
                    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' to='localhost'"
                    b" xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
                )
                assert b"<stream:" in client.recv(4096)
            process.terminate()
            said = process.stdout.read()
            assert (
                process.wait(PATIENCE) == -signal.SIGTERM
            )  # which twistd ends itself with, when all is done
            assert "Server Shut Down" in said
            assert "Traceback" not in said
        finally:
            process.kill()


def test_hardened_under_twistd(written):
    """twistd is not begun anew: the log warns of what it had to be begun with, and has the rest."""
    path = written()
    path.write_text(f"{path.read_text()}\n[hardening]\nmemory = true\n")
    with twistd(path) as process:
        try:
            log = []
            while "starting on" not in (log[-1] if log else ""):
                log.append(process.stdout.readline())
                assert log[-1], log
        finally:
            process.kill()
    assert any("freed memory: not overwritten: start with " in line for line in log)
    assert any("core dumps: none" in line for line in log)
    assert any("other processes: of the same user cannot look into this one" in line for line in log)


def failed(path):
    """What twistd said that could not start, without the greetings of its log."""
    process = twistd(path)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    return [line for line in said.splitlines() if "UnixAppLogger" not in line]


def test_a_taken_port(written):
    """A start that fails says why, in one line."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        (line,) = failed(written(f"port = {port}"))
    assert "archive-crypt: host: cannot listen on 127.0.0.1 port " in line
    assert "Address already in use" in line


def test_a_spool_in_use(written, tmp_path):
    """So does a spool that another process has."""
    path = written()
    text = path.read_text().replace("[host]", f"spool = {json.dumps(str(tmp_path / 'spool'))}\n[host]")
    path.write_text(text)
    spool = Spool(tmp_path / "spool", 1000)
    spool.open()
    try:
        (line,) = failed(path)
    finally:
        spool.close()
    assert f"spool is in use by process {os.getpid()}: stop that one, or name another file" in line


def test_migrations_pending(written, fresh):
    """With tables that are not up to date nothing starts, and the mend is named, in one line."""
    (line,) = failed(written(dsn=fresh("behind")))
    assert line.endswith("migration(s) missing in the database: archive-crypt migrate --config FILE")


def test_a_wrong_configuration(written):
    """A configuration that is wrong is told in one line, with the line of the file."""
    path = written("port = 'x'")
    assert failed(path) == [f"archive-crypt: {path}:4: host.port: write a whole number from 0 to 65535"]


@pytest_twisted.inlineCallbacks
def test_limits_are_kept(written):
    """The server keeps the limits of its configuration: here, one connection."""
    from twisted.internet import reactor

    service = ArchiveService(load(written("port = 0\nlimits.connections = 1")), reactor)
    service.startService()
    try:
        port = service.address.port
        first, second = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(2)]
        with closing(first), closing(second):
            assert (yield deferToThread(second.recv, 1)) == b""
            first.setblocking(False)
            with pytest.raises(BlockingIOError):
                first.recv(1)
    finally:
        yield service.stopService()


def test_what_twistd_is_given(written):
    """The plugin gives twistd the service."""
    options = Options()
    options.parseOptions(["--config", str(written())])
    assert isinstance(makeService(options), ArchiveService)
