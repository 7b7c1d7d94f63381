"""Two processes on one database: users split between them, and one user on both (HOUSE D3)."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pytest_twisted import ensureDeferred
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath
from twisted.internet.defer import Deferred, gatherResults

from archive_crypt.core.dialect import F
from tests.e2e.conftest import DOMAIN, PATIENCE, USERS, awaited
from tests.kit import LAPTOP, opened

CHILD = """
import json, sys
from twisted.internet import reactor
from archive_crypt.config import Config, Database, Host
from archive_crypt.tap import ArchiveService

dsn, domain, data, users = json.loads(sys.argv[1])
service = ArchiveService(Config(Database(dsn), host=Host(domain, port=0, data=data, users=users)), reactor)
reactor.callWhenRunning(service.startService)
reactor.callWhenRunning(lambda: print(service.address.port, flush=True))
reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
reactor.run()
"""
JULIET = f"juliet@{DOMAIN}"
NO_MORE = f"<pref xmlns='{F.namespace}'><default save='false' otr='concede'/></pref>"
START = "2026-01-01T00:00:00Z"


@pytest.fixture
def other(dsn, tls_folder):
    """The same service in another process."""
    arguments = json.dumps([dsn, DOMAIN, str(tls_folder), USERS])
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    port = int(process.stdout.readline())
    yield SimpleNamespace(address=SimpleNamespace(port=port))
    process.terminate()
    assert process.wait(PATIENCE) == 0


def pushed(client):
    """A Deferred that fires with the next preferences pushed to a client."""
    from twisted.internet import reactor

    found = Deferred()

    def heard(iq):
        if iq["type"] == "set" and not found.called:
            found.callback(iq.xml[0])

    client.xmpp.register_handler(
        Callback("push", MatchXPath(f"{{jabber:client}}iq/{{{F.namespace}}}pref"), heard)
    )
    return found.addTimeout(PATIENCE, reactor)


@ensureDeferred
async def test_split_users(service, other, login):
    """Users of different processes each have their archive, whichever process they come to next."""
    romeo, juliet = await login(service, "romeo"), await login(other, "juliet")
    await romeo.record((LAPTOP, "laptop"))
    await juliet.record(encrypt=False)
    await romeo.says(f"nurse@{DOMAIN}", "from the one")
    await juliet.says(f"nurse@{DOMAIN}", "from the other")
    there = await login(other, "romeo", "elsewhere")
    (shown,) = await there.collections()
    (item,) = opened(await there.page(shown), LAPTOP)
    assert item.bodies == ((None, "from the one"),)
    assert len(await juliet.collections()) == 1


@ensureDeferred
async def test_a_preference_holds_everywhere_at_once(service, other, login):
    """What one user sets through one process, the other heeds at his very next message."""
    here, there = await login(service, "romeo"), await login(other, "romeo", "elsewhere")
    await there.record(encrypt=False)
    await there.says(JULIET, "to be kept")
    assert len(await there.collections()) == 1  # now it is written
    answer = await here.ask(NO_MORE, "set")
    assert answer.get("type") == "result"
    await there.says(JULIET, "not to be kept")
    (shown,) = await here.collections()
    page = await here.page(shown)
    assert [body.text for body in page.iter(f"{{{F.namespace}}}body")] == ["to be kept"]


@pytest.mark.clause("0136-pref-determine-19")
@ensureDeferred
async def test_pushes_reach_all_processes(service, other, login):
    """Resources on either process that asked for preferences are told of a change."""
    here, there = await login(service, "romeo"), await login(other, "romeo", "elsewhere")
    for client in (here, there):
        await client.ask(f"<pref xmlns='{F.namespace}'/>")
    both = gatherResults([pushed(here), pushed(there)])
    await here.ask(NO_MORE, "set")
    for pref in await both:
        assert [child.get("save") for child in pref] == ["false"]


@pytest.mark.clause("INT-11")
@ensureDeferred
async def test_parallel_saves(service, other, login):
    """Of 50 saves at once to one collection, through both processes, none is lost: version 49."""
    here, there = await login(service, "romeo"), await login(other, "romeo", "elsewhere")

    def save(client, n):
        body = f"<to secs='0'><body>{n}</body></to>"
        chat = f"<chat with='{JULIET}' start='{START}'>{body}</chat>"
        return client.ask(f"<save xmlns='{F.namespace}'>{chat}</save>", "set")

    saves = [save(client, n) for n in range(25) for client in (here, there)]
    answers = await awaited(asyncio.gather(*map(_as_future, saves)))
    assert {answer.get("type") for answer in answers} == {"result"}
    versions = sorted(int(answer[0][0].get("version")) for answer in answers)
    assert versions == list(range(50))
    (shown,) = await here.collections()
    assert shown.get("version") == "49"
    page = await there.page(shown)
    assert len(page.findall(f"{{{F.namespace}}}to")) == 50
    modified = await here.ask(f"<modified xmlns='{F.namespace}' start='1970-01-01T00:00:00Z'/>")
    assert len(modified[0].findall(f"{{{F.namespace}}}changed")) == 1


def _as_future(coroutine):
    return Deferred.fromCoroutine(coroutine).asFuture(asyncio.get_event_loop())


@ensureDeferred
async def test_one_removes_what_another_records(service, other, login):
    """A collection removed through one process while another records it: the recorder soon begins a
    new one, and nothing hangs."""
    here, there = await login(service, "romeo"), await login(other, "romeo", "elsewhere")
    await there.record((LAPTOP, "laptop"))
    await there.says(JULIET, "one")
    assert len(await there.collections()) == 1  # now it is written
    assert (await here.ask(f"<remove xmlns='{F.namespace}'/>", "set")).get("type") == "result"
    await there.says(JULIET, "two")
    await there.collections()
    await there.says(JULIET, "three")
    (shown,) = await there.collections()
    (item,) = opened(await there.page(shown), LAPTOP)
    assert item.bodies == ((None, "three"),)
