"""archive-reader rekey, killed again and again: a process of its own, a real server, SIGKILL."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from archive_crypt.core.published import NODES
from archive_crypt.crypto import opening
from archive_crypt.hosts.pep import Pep
from archive_crypt.reader import cli, trust
from archive_crypt.reader.publishing import Publisher
from archive_crypt.xmpp.handler import ArchiveHandler
from tests.kit import LAPTOP, MORNING, PHONE, key_info
from tests.reader.conftest import DOMAIN, USERS, awaited
from tests.reader.test_publishing import put
from tests.reader.test_rekey import NEW, OLD, connected, data, key, read, upload, wrapped_for

ROMEO, JULIET, ROOT = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", Path(__file__).parents[2]
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
    for name, private in (("old", LAPTOP), ("new", PHONE)):
        path = tmp_path / f"{name}.pem"
        path.write_bytes(opening.dump(private, None))
        path.chmod(0o600)
    trust.confirm(tmp_path / "config" / "archive-reader" / "trust.json", [NEW])
    environment = {
        "PYTHONPATH": str(ROOT),
        "HOME": "/nonexistent",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        cli.PASSWORD: USERS["romeo"],
    }

    def start(served, *more):
        keys = ["--old", str(tmp_path / "old.pem"), "--new", str(tmp_path / "new.pem")]
        where = ["--host", "127.0.0.1", "--port", str(served.port), "--ca", str(certificate)]
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "archive_crypt.reader.cli",
                "rekey",
                ROMEO,
                *keys,
                *where,
                "--json",
                *more,
            ],
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


@pytest.mark.clause("0241-6-09")
@ensureDeferred
async def test_killed_when_the_old_key_is_retired(serve, login, command, monkeypatch):
    """Killed as soon as the old key is published no more, by whatever name, it knows that name still when it is
    begun again: what came by then is seen to, and nothing is said to be done that is not."""
    retract, victims = Pep._retract, []

    def deadly(self, request):
        os.kill(victims.pop().pid, signal.SIGKILL)
        return retract(self, request)

    monkeypatch.setattr(Pep, "_retract", deadly)
    served = serve()
    client = await login(served)
    await put(client, NODES[1], key_info(LAPTOP, "my-own"))
    await upload(client, JULIET, data(), key(recipient="my-own"))
    victims.append(process := command(served, "--retire"))
    await deferToThread(process.communicate)
    assert process.returncode == -signal.SIGKILL
    assert [item.fingerprint for item in await awaited(Publisher(client).fetch())] == [NEW]
    assert wrapped_for(served, "my-own") == [0]
    # A server that has not heard of it encrypts for it still.
    await upload(client, JULIET, data(), key(recipient="my-own"), at=MORNING + 60)
    again = command(served, "--retire")
    out, err = await deferToThread(again.communicate)
    assert (again.returncode, err) == (0, b"")
    (told,) = map(json.loads, out.splitlines())
    assert (told["replaced"], told["empty"], told["names"]) == (1, True, [OLD, "my-own"])
    assert wrapped_for(served, "my-own") == [0, 0]
