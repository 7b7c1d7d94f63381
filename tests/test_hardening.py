"""Hardened mode: what the process is begun with, what it tells, and what it refuses."""

import json
import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import pytest

from archive_crypt import cli, hardening
from archive_crypt.errors import ConfigurationError
from tests.crypto.kit import UNPRIVILEGED

ROOT = Path(__file__).parents[1]
PLAIN = {name: value for name, value in os.environ.items() if name not in hardening.environment({})}


@pytest.fixture
def configuration(tmp_path):
    """A function that writes a configuration with this [hardening]; its path."""

    def write(settings):
        path = tmp_path / "archive.toml"
        path.write_text(
            f'[database]\ndsn = "host=/nowhere"\n[host]\nport = 0\ndata = {json.dumps(str(tmp_path))}\n'
            f'[host.users]\nromeo = "romeo"\n[hardening]\n{settings}\n'
        )
        return path

    return write


@contextmanager
def served(path):
    """A running `archive-crypt serve`, and its log up to where it listens."""
    command = [sys.executable, "-m", "archive_crypt.cli", "serve", "--config", str(path)]
    with subprocess.Popen(command, env=PLAIN, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = []
            while "starting on" not in (lines[-1] if lines else ""):
                lines.append(process.stderr.readline())
                assert lines[-1], lines
            yield process, lines
        finally:
            process.terminate()
            process.wait(20)


def told(**given):
    """The protections of a process with this in its environment."""
    command = [sys.executable, "-m", "archive_crypt.hardening"]
    done = subprocess.run(command, env=PLAIN | given, cwd=ROOT, capture_output=True, check=True)
    return {what: holds for holds, what, *_ in json.loads(done.stdout)}


def test_the_environment_is_added_once():
    """What hardening takes is added to what is there, other tunables of glibc included, and only once."""
    given = {"HOME": "/", "GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.perturb=0"}
    made = hardening.environment(given)
    assert made == hardening.environment(made)
    assert made == {
        "HOME": "/",
        "LD_BIND_NOW": "1",
        "PYTHONMALLOC": "malloc",
        "GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
    }


def test_serve_begins_anew_hardened(configuration):
    """With `memory = true` the same process runs with that environment, without core dumps or lookers-on, and says so."""
    with served(configuration("memory = true")) as (process, log):
        about = Path(f"/proc/{process.pid}")
        environment = dict(
            one.partition("=")[::2] for one in (about / "environ").read_text().split("\0") if one
        )
        limits = (about / "limits").read_text().splitlines()
        owner = (about / "mem").stat().st_uid
    assert (environment["LD_BIND_NOW"], environment["PYTHONMALLOC"]) == ("1", "malloc")
    assert environment["GLIBC_TUNABLES"].startswith("glibc.malloc.perturb=165")  # glibc cuts it to pieces
    assert next(line.split()[4:6] for line in limits if line.startswith("Max core")) == ["0", "0"]
    assert owner == 0  # what prctl(2) makes of a process that nobody may look into
    for what in ("key memory: ", "freed memory: overwritten", "registers: not", "core dumps: none", "swap: "):
        assert sum(what in line for line in log) == 1


def test_serve_is_not_hardened_unasked(configuration):
    """Without the setting the process keeps the environment it was given."""
    with served(configuration("")) as (process, log):
        environment = Path(f"/proc/{process.pid}/environ").read_text()
    assert "PYTHONMALLOC" not in environment
    assert not any("freed memory" in line for line in log)


def test_whether_freed_memory_is_overwritten_is_tried():
    """It holds where nothing of a freed sample is left, and does not hold if any part of the environment is missing."""
    hardened = hardening.environment({})
    assert told(**hardened)["freed memory"]
    assert not told()["freed memory"]
    for name in ("PYTHONMALLOC", "GLIBC_TUNABLES"):
        assert not told(**{key: value for key, value in hardened.items() if key != name})["freed memory"]
    assert not told(**hardened | {"GLIBC_TUNABLES": "glibc.malloc.perturb=165"})["freed memory"]


def test_check_tells_the_protections(configuration, capsys):
    """`check` tells what would hold in a hardened server; without the setting, that it is off, and where to turn it on."""
    cli.main(["check", "--config", str(configuration("memory = true")), "--json"])
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert (found["freed memory"]["ok"], found["freed memory"]["found"]) == (True, "overwritten at once")
    assert {"key memory", "registers", "core dumps", "other processes", "swap"} <= set(found)
    path = configuration("")
    cli.main(["check", "--config", str(path)])
    assert f"ok   hardening: off; see {path}:8: hardening.memory" in capsys.readouterr().out


@pytest.mark.parametrize("executable", ["", "/nowhere/python", "/bin/false"])
def test_a_python_that_cannot_be_begun(configuration, capsys, monkeypatch, executable):
    """Where Python does not know its own program, or that fails, `check` says so in a line, and `serve` what to do."""
    path = str(configuration("memory = true"))
    monkeypatch.setattr(sys, "executable", executable)
    cli.main(["check", "--config", path, "--json"])
    found = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert not found["hardening"]["ok"]
    assert "could not be tried" in found["hardening"]["found"]
    if executable != "/bin/false":
        with pytest.raises(ConfigurationError, match=r"hardening\.memory: .* cannot be begun anew"):
            hardening.enter()


def test_a_service_can_refuse_to_run_without_locked_memory(configuration):
    """With `require_locked_memory = true` it does not start where nothing can be locked, and says what to raise."""
    script = f"""
{textwrap.dedent(UNPRIVILEGED)}
import sys
from pathlib import Path
from archive_crypt import serving
from archive_crypt.config import load
from archive_crypt.errors import ConfigurationError
config = load(Path(sys.argv[1]))
limit(0)
try:
    serving.serve(config)
except ConfigurationError as error:
    sys.exit(str(error))
"""
    path = configuration("require_locked_memory = true")
    ended = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("hardening.require_locked_memory: nothing can be locked")
