"""archive-reader rekey, killed again and again: a process of its own, a real server, SIGKILL."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from archive_crypt.crypto import opening
from archive_crypt.reader import cli, trust
from archive_crypt.xmpp.handler import ArchiveHandler
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, USERS, awaited
from tests.reader.test_rekey import NEW, OLD, connected, read, wrapped_for

ROMEO, ROOT = f"romeo@{DOMAIN}", Path(__file__).parents[2]
KILLS, COLLECTIONS = 20, 30


class Deadly(ArchiveHandler):
    """Kills the process `victim` when its `last` request comes, which is done all the same, or lost."""

    victim, last, lost = None, None, False

    def onRequest(self, iq):
        cls = Deadly
        if cls.victim is not None and not vars(iq).get("handled"):
            cls.last -= 1
            if cls.last == 0:
                os.kill(cls.victim, signal.SIGKILL)
                if cls.lost:
                    iq.handled = True
                    return
        super().onRequest(iq)


@pytest.fixture
def command(tmp_path, certificate):
    """A function that starts the command against a server; the running process."""
    for name, key in (("old", LAPTOP), ("new", PHONE)):
        path = tmp_path / f"{name}.pem"
        path.write_bytes(opening.dump(key, None))
        path.chmod(0o600)
    trust.confirm(tmp_path / "config" / "archive-reader" / "trust.json", [NEW])
    environment = {
        "PYTHONPATH": str(ROOT),
        "HOME": "/nonexistent",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        cli.PASSWORD: USERS["romeo"],
    }

    def start(served):
        keys = ["--old", str(tmp_path / "old.pem"), "--new", str(tmp_path / "new.pem")]
        where = ["--host", "127.0.0.1", "--port", str(served.port), "--ca", str(certificate)]
        return subprocess.Popen(
            [sys.executable, "-m", "archive_crypt.reader.cli", "rekey", ROMEO, *keys, *where, "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


@pytest.mark.clause("0241-6-09")
@ensureDeferred
async def test_killed_at_random_points(serve, certificate, command, monkeypatch):
    """Killed at 20 random points nothing is ever lost; not killed, it ends, and the new key reads all."""
    served = serve(handler=Deadly)
    texts = [f"{hour}" for hour in range(COLLECTIONS)]
    for hour, text in enumerate(texts):
        await served.record(text, at=MORNING + 3600 * hour)

    async def readable(*keys):
        async with connected(served, certificate) as archive:
            return await read(archive, *keys)

    chance = random.Random(241)
    for _ in range(KILLS):
        process = command(served)
        monkeypatch.setattr(Deadly, "victim", process.pid)
        monkeypatch.setattr(Deadly, "last", chance.randint(1, 12))
        monkeypatch.setattr(Deadly, "lost", chance.random() < 0.5)
        await deferToThread(process.communicate)
        assert process.returncode == -signal.SIGKILL
        monkeypatch.setattr(Deadly, "victim", None)
        assert await awaited(readable(LAPTOP, PHONE)) == texts
    assert 0 < sum(wrapped_for(served, OLD)) < COLLECTIONS
    process = command(served)
    out, err = await deferToThread(process.communicate)
    assert (process.returncode, err) == (0, b"")
    assert b'"empty": true' in out
    assert wrapped_for(served, OLD) == [0] * COLLECTIONS
    assert await awaited(readable(PHONE)) == texts
