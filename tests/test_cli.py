"""``archive-crypt`` at the command line: what it says, and how it ends."""

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from archive_crypt import cli
from archive_crypt.config import Database
from archive_crypt.databasechecks import spool_finding
from archive_crypt.hosts.tls import server_tls
from archive_crypt.store.migrate import pending
from archive_crypt.store.spool import Spool

ROOT = Path(__file__).parents[1]


@pytest.fixture
def written(tmp_path, postgres):
    """A function that writes a configuration for the tests' database; its path."""

    def write(host="", users='romeo = "a password"', dsn=postgres):
        path = tmp_path / "archive.toml"
        lines = ["[database]", f"dsn = {json.dumps(dsn)}", "[host]", f"data = {json.dumps(str(tmp_path))}"]
        if "port" not in host:
            lines.append("port = 0")
        path.write_text("\n".join([*lines, host, "[host.users]", users]))
        return path

    return write


@pytest.fixture
def checked(written, capsys):
    """A function: check such a configuration; its exit code, and what is BAD of it."""

    def check(*args, **kwargs):
        code = cli.main(["check", "--config", str(written(*args, **kwargs))])
        said = capsys.readouterr().out.splitlines()
        assert {line[:5] for line in said} <= {"ok   ", "warn ", "BAD  "}
        return code, [line[5:] for line in said if line.startswith("BAD")]

    return check


def test_check_finds_nothing_wrong(written, capsys, tmp_path):
    """Where all is well each thing is named and found well; nothing is made, and the exit code is 0."""
    path = written()
    before = sorted(tmp_path.iterdir())
    assert cli.main(["check", "--config", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [finding["what"] for finding in found] == [
        *(
            "configuration",
            "database",
            "tables",
            "rights",
            "key memory",
            "hardening",
            "users",
            "certificate",
            "listening",
        )
    ]
    assert all(finding["ok"] for finding in found)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("host", "users", "said"),
    [
        ("port = 70000", "", "configuration: "),
        ('domain = "bad domain@/"', "", "configuration: "),
        ('interface = "not an ip"', 'romeo = "x"', "listening: not an ip port 0: "),
        (f'interface = "{"x" * 70}"', 'romeo = "x"', "listening: "),
        ("", '"a@b" = "x"', "host: users: 'a@b' cannot be the name of an XMPP user; see [host] in "),
        ("", 'romeo = ""', "host: users: 'romeo' has no password; see [host] in "),
        ("", "", "users: there are none: add [host.users] to "),
    ],
)
def test_check_finds_what_cannot_start(checked, host, users, said):
    """What keeps the server from starting is found before the start."""
    code, (bad,) = checked(host, users)
    assert code == 1
    assert bad.startswith(said)


@pytest.fixture
def spooled(written, capsys):
    """A function: check a configuration with a spool; the line about it."""

    def check(spool):
        path = written()
        text = path.read_text().replace("[host]\n", f"spool = {json.dumps(str(spool))}\n[host]\n", 1)
        path.write_text(text)
        cli.main(["check", "--config", str(path)])
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line[5:].startswith("spool: ")]
        return line

    return check


def test_check_looks_at_the_spool(spooled, tmp_path):
    """What waits in the spool is told, and who has it; none is made."""
    path = tmp_path / "spool"
    assert spooled(path) == f"ok   spool: {path}: 0 record(s) wait"
    assert not path.exists()
    spool = Spool(path, 1000)
    spool.open()
    try:
        assert spooled(path) == f"ok   spool: {path}: 0 record(s) wait, in use by process {os.getpid()}"
    finally:
        spool.close()


def test_check_finds_where_no_spool_can_be(spooled, tmp_path):
    """A folder that is not there, a file of somebody else's and a disk that is too small are named."""
    assert "none can be kept in /nowhere: no such directory" in spooled("/nowhere/spool")
    foreign = tmp_path / "diary"
    foreign.write_text("dear diary" * 100)
    assert spooled(foreign).startswith(
        f"BAD  spool: database.spool: {foreign} is no spool of archive_crypt: "
    )
    assert (
        "its disk has room for "
        in spool_finding(
            tmp_path / "archive.toml", Database(spool=str(tmp_path / "spool"), spool_octets=2**62)
        ).found
    )


def test_check_finds_a_taken_port(checked):
    """A port that somebody else listens on is named."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        code, (bad,) = checked(f"port = {port}")
    assert code == 1
    assert bad.startswith(f"listening: 127.0.0.1 port {port}: Address already in use; see [host]")


def test_check_finds_where_no_certificate_can_be(written, capsys):
    """A data folder that cannot be made, and a certificate that cannot be read, are named."""
    path = written()
    folder = path.parent
    path.write_text(path.read_text().replace(f"data = {json.dumps(str(folder))}", 'data = "/etc/passwd/x"'))
    assert cli.main(["check", "--config", str(path)]) == 1
    assert (
        "BAD  certificate: none can be kept in /etc/passwd/x; see [host] data in " in capsys.readouterr().out
    )
    path = written()
    server_tls(folder, "localhost")
    assert cli.main(["check", "--config", str(path)]) == 0
    (folder / "localhost.key").write_text("not a key")
    assert cli.main(["check", "--config", str(path)]) == 1
    assert f"BAD  certificate: {folder}/localhost.crt: unreadable with its .key" in capsys.readouterr().out


def test_check_without_a_database(checked):
    """A database that is not there is said to be so."""
    code, (bad,) = checked(dsn="host=/nowhere")
    assert code == 1
    assert bad.startswith("database: ")


def test_migrate(written, fresh, capsys):
    """What is missing is found by check, applied by migrate, and is missing no more."""
    dsn = fresh("by_hand")
    path = written(dsn=dsn)
    assert cli.main(["check", "--config", str(path)]) == 1
    (bad,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert bad.endswith(f"missing: archive-crypt migrate --config {path}")
    assert cli.main(["migrate", "--config", str(path)]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"applied"}
    assert pending(dsn) == []
    assert cli.main(["migrate", "--config", str(path)]) == 0
    assert capsys.readouterr().out == "The tables are up to date.\n"
    assert cli.main(["check", "--config", str(path)]) == 0


def test_failures_are_one_line(written, capsys):
    """A database that is away, and a file that is not there, are one line and exit code 1."""
    path = written(dsn="host=/nowhere")
    for file in (path, path.with_name("nowhere.toml")):
        assert cli.main(["migrate", "--config", str(file)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("archive-crypt: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize("dsn", ["host=x hunter2", "postgresql://u:hunter2 x@h:hunter2/db"])
def test_no_password_is_repeated(written, capsys, dsn):
    """Of a DSN that cannot be understood nothing is repeated: it could be the password."""
    for command in ("check", "migrate"):
        assert cli.main([command, "--config", str(written(dsn=dsn))]) == 1
        out, err = capsys.readouterr()
        assert "not one that libpq understands" in out + err
        assert "hunter2" not in out + err


@pytest.mark.parametrize("port", ["70000", "-1", "xmpp"])
def test_run_takes_only_ports(capsys, port):
    """`run` refuses at once what is no port."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--port", port])
    assert ended.value.code == 2
    assert f"{port!r} is no port" in capsys.readouterr().err


def test_run_with_a_file_for_a_folder(tmp_path, capsys):
    """`run --data FILE` is told in one line."""
    file = tmp_path / "file"
    file.write_text("")
    assert cli.main(["run", "--data", str(file)]) == 1
    err = capsys.readouterr().err
    assert err == f"archive-crypt: --data: {file} cannot be a folder for data: File exists\n"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("port = taken.getsockname()[1]", "host: cannot listen on 127.0.0.1 port "),
        (
            "ArchiveService.startService = lambda service: 1 / 0",
            "cannot start: ZeroDivisionError, see the log",
        ),
    ],
)
def test_run_ends_where_it_cannot_start(tmp_path, made, said):
    """Whatever keeps `run` from starting ends it, with one line."""
    script = f"""
import socket, sys
from pathlib import Path
from twisted.logger import globalLogBeginner
from archive_crypt.config import Config, Database, Host
from archive_crypt.errors import ConfigurationError
from archive_crypt.tap import ArchiveService
from archive_crypt.trial import _serve
globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
port, taken = 0, socket.create_server(("127.0.0.1", 0))
{made}
try:
    _serve(Config(Database("host=/nowhere"), host=Host(port=port, data=sys.argv[1])), False)
except ConfigurationError as error:
    sys.exit(str(error))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith(said)
    assert ended.stderr.count("\n") == 1
