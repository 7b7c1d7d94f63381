"""The embedded PostgreSQL, a real one: started, left behind, stopped."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.postgres import EmbeddedPostgres, socket_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a server was once started, and its data with one row: the slow part, once."""
    data = tmp_path_factory.mktemp("pg") / "data"
    with EmbeddedPostgres(data) as dsn:
        execute(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    yield data
    EmbeddedPostgres(data).destroy()


@pytest.fixture
def running(folder):
    """(data, DSN) of a running server."""
    with EmbeddedPostgres(folder) as dsn:
        yield folder, dsn


def execute(dsn, sql):
    """Run one statement; its first row, if it has any."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone() if cursor.description else None


def pid(data):
    return int((data / "cluster" / "postmaster.pid").read_text().split()[0])


def setting(dsn, name):
    return execute(dsn, f"SHOW {name}")[0]


def test_data_lasts(running):
    """What was stored is there at the next start."""
    assert execute(running[1], "SELECT answer FROM kept") == (42,)


def test_settings(running):
    """It syncs to disk, listens on no network, logs no statement, and counts in UTF-8."""
    _, dsn = running
    assert setting(dsn, "fsync") == "on"
    assert setting(dsn, "listen_addresses") == ""
    assert setting(dsn, "log_error_verbosity") == "terse"
    assert setting(dsn, "log_min_error_statement") == "panic"
    assert setting(dsn, "server_encoding") == "UTF8"


def test_log_shows_nothing_that_was_stored(running):
    """Not even a statement that fails leaves its text or its data in the log."""
    data, dsn = running
    with pytest.raises(psycopg2.Error):
        execute(dsn, "SELECT 'wherefore'::int")
    with pytest.raises(psycopg2.Error):
        execute(dsn, "INSERT INTO wherefore VALUES ('art thou')")
    log = (data / "log").read_text()
    assert 'relation "wherefore" does not exist' in log
    assert "art thou" not in log


def test_password_is_needed(running):
    """Nobody gets in without the password, which only its owner can read."""
    data, dsn = running
    password = (data / "password").read_text()
    assert password in dsn
    assert stat.S_IMODE((data / "password").stat().st_mode) == 0o600
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(dsn.replace(password, "wrong"))
    hba = (data / "cluster" / "pg_hba.conf").read_text()
    assert "trust" not in [word for line in hba.splitlines() if line[:1] != "#" for word in line.split()]


def test_socket_is_private(running):
    """The socket is for the server's own user alone."""
    data, _ = running
    assert stat.S_IMODE((data / ".s.PGSQL.5432").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_not_as_root(running):
    """As root, the server runs as somebody else, and no folder was opened to the world."""
    data, _ = running
    assert Path(f"/proc/{pid(data)}").stat().st_uid != 0
    assert data.is_symlink()
    assert stat.S_IMODE(data.resolve().stat().st_mode) == 0o700
    assert stat.S_IMODE(data.parent.stat().st_mode) & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
def test_data_that_is_gone(tmp_path):
    """As root, where the folder that `data` links to is gone, it is said, once, that all begins anew."""
    data, said = tmp_path / "data", []
    gone = tmp_path / "gone"
    data.symlink_to(gone)
    server = EmbeddedPostgres(data, said.append)
    try:
        with server as dsn:
            assert execute(dsn, "SELECT 1") == (1,)
        with server:
            pass
        assert said == [f"{data}: its data, in {gone}, is gone; a new, empty archive is made"]
    finally:
        server.destroy()


def test_stop(folder):
    """After `stop` no process is left; to stop again does nothing."""
    server = EmbeddedPostgres(folder)
    dsn = server.start()
    server.stop()
    server.stop()
    assert not (folder / "cluster" / "postmaster.pid").exists()
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(dsn)


def test_one_process_at_a_time(running):
    """A second start on the same data is refused, and leaves the first one alone."""
    data, dsn = running
    with pytest.raises(ConfigurationError, match="another process"):
        EmbeddedPostgres(data).start()
    assert execute(dsn, "SELECT 1") == (1,)


def test_leftover_of_a_killed_process(folder):
    """A server whose process was killed is replaced by the next start, nothing lost."""
    script = (
        "import os, pathlib, signal, sys\n"
        "from archive_crypt.hosts.postgres import EmbeddedPostgres\n"
        "EmbeddedPostgres(pathlib.Path(sys.argv[1])).start()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(folder)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    left = pid(folder)
    with EmbeddedPostgres(folder) as dsn:
        assert pid(folder) != left
        assert execute(dsn, "SELECT answer FROM kept") == (42,)


def test_exit_without_stop(folder):
    """A process that ends without `stop` takes its server along."""
    script = (
        "import pathlib, sys\n"
        "from archive_crypt.hosts.postgres import EmbeddedPostgres\n"
        "EmbeddedPostgres(pathlib.Path(sys.argv[1])).start()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], cwd=Path(__file__).parents[2], check=True)
    assert not (folder / "cluster" / "postmaster.pid").exists()


def test_number_of_another_process(folder):
    """A pid file that names somebody else's process, as after a reboot, stops neither."""
    bystander = subprocess.Popen(["/bin/sleep", "60"])
    try:
        (folder / "cluster" / "postmaster.pid").write_text(f"{bystander.pid}\n")
        with EmbeddedPostgres(folder) as dsn:
            assert execute(dsn, "SELECT 1") == (1,)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("name", ["x" * 80, "it's here", "two words"])
def test_socket_folder(tmp_path, name):
    """A path that cannot be a Unix socket's, or would need quoting, is replaced by a private one."""
    folder = socket_folder(tmp_path / name, None)
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(str(folder / ".s.PGSQL.5432.lock")) < 107
    finally:
        folder.rmdir()
    short = Path("/var/tmp/x")
    assert socket_folder(short, None) == short


def test_destroy(tmp_path):
    """A folder where no server was made is left alone."""
    (tmp_path / "mine").mkdir()
    for name in ("mine/letter", "mine/password"):
        (tmp_path / name).write_text("x")
    EmbeddedPostgres(tmp_path / "mine").destroy()
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["letter", "password"]
    EmbeddedPostgres(tmp_path / "none").destroy()


def test_other_version(folder):
    """Data of another PostgreSQL is refused with both numbers, not touched."""
    version = folder / "cluster" / "PG_VERSION"
    version.write_text("17\n")
    try:
        with pytest.raises(ConfigurationError, match="made by PostgreSQL 17, this is 18"):
            EmbeddedPostgres(folder).start()
    finally:
        version.write_text("18\n")
