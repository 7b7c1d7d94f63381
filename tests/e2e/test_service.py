"""The service as its users and its operator find it: discovery, secrecy, storms."""

import logging
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import slixmpp
from lxml import etree
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

from archive_crypt.core.dialect import RSM, F
from archive_crypt.demo import search_tables
from archive_crypt.hosts.postgres import EmbeddedPostgres
from archive_crypt.store.migrate import migrate
from archive_crypt.trial import postgres_folder
from tests.e2e.conftest import DOMAIN, PATIENCE, awaited
from tests.kit import LAPTOP, opened

SECRET = "Wherefore art thou Romeo"
LIST = f"<list xmlns='{F.namespace}'/>"


@pytest.mark.clause("0136-disco-01", "0136-disco-02", "0241-7-02", "rsm-17")
@ensureDeferred
async def test_discovery(service, login):
    """The archive's features are announced by the server and by the account, in all dialects."""
    romeo = await login(service, "romeo")
    for where in (DOMAIN, f"romeo@{DOMAIN}"):
        info = await awaited(romeo.xmpp.plugin["xep_0030"].get_info(where))
        features = info["disco_info"]["features"]
        assert {
            "http://www.xmpp.org/extensions/xep-0136.html#ns-auto",
            "http://www.xmpp.org/extensions/xep-0136.html#ns-encrypt",
            "urn:xmpp:tmp:archive:encrypt",
            "urn:xmpp:archive:encrypt",
            "urn:xmpp:archive:manage",
            "urn:xmpp:archive",
            "http://jabber.org/protocol/rsm",
        } <= set(features)


@pytest.mark.clause("0136-disco-03", "0241-3-15", "0241-7-02")
@ensureDeferred
async def test_encryption_is_not_announced_where_it_is_not_offered(serve, login):
    """An operator who forbids encrypted archives does not announce them."""
    romeo = await login(serve(encryption=False), "romeo")
    info = await awaited(romeo.xmpp.plugin["xep_0030"].get_info(DOMAIN))
    assert not any("encrypt" in feature for feature in info["disco_info"]["features"])


@pytest.mark.clause("0241-3-04", "0241-3-11")
@ensureDeferred
async def test_no_word_in_database_or_log(service, login, dsn):
    """Of a sealed conversation no word is in any table, as text or octets, nor in any log."""
    events = []
    globalLogPublisher.addObserver(events.append)
    try:
        romeo, juliet = await login(service, "romeo"), await login(service, "juliet")
        await romeo.record((LAPTOP, "laptop"))
        await romeo.says(f"juliet@{DOMAIN}", SECRET, thread="thread-1")
        await juliet.says(f"romeo@{DOMAIN}", f"{SECRET}?")
        (shown,) = [chat for chat in await romeo.collections() if chat.get("thread")]
        (item,) = opened(await romeo.page(shown), LAPTOP)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert item.bodies == ((None, SECRET),)
    rows, found = search_tables(dsn, [SECRET])
    assert rows > 3
    assert found == []
    assert search_tables(dsn, ["thread-1"])[1]  # the search can find
    assert SECRET not in repr(events)


@pytest.mark.clause("0241-3-05")
@ensureDeferred
async def test_sealing_leaves_no_plain_row(service, login, dsn):
    """After encryption was turned on no row of what was being recorded is in clear any more."""
    romeo = await login(service, "romeo")
    await romeo.record(encrypt=False)
    await romeo.says(f"juliet@{DOMAIN}", SECRET, "a second line")
    await romeo.collections()
    assert search_tables(dsn, [SECRET])[1]
    await romeo.record((LAPTOP, "laptop"))
    assert search_tables(dsn, [SECRET, "a second line"])[1] == []
    (shown,) = await romeo.collections()
    assert [item.bodies[0][1] for item in opened(await romeo.page(shown), LAPTOP)] == [
        SECRET,
        "a second line",
    ]


@ensureDeferred
async def test_sealing_sweeps_what_was_in_clear(service, login, dsn):
    """After encryption was turned on the rows that were in clear are vacuumed."""
    romeo = await login(service, "romeo")
    await romeo.record(encrypt=False)
    await romeo.says(f"juliet@{DOMAIN}", SECRET)
    await romeo.collections()
    before = vacuumed(dsn)
    await romeo.record((LAPTOP, "laptop"))
    await service._storage.vacuum()  # ends after the one that runs, if it is not over yet
    assert vacuumed(dsn) >= before + 2


def vacuumed(dsn):
    """How often somebody vacuumed the table of items, autovacuum not counted."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'item'")
        return cursor.fetchone()[0]


@pytest.mark.clause("INT-08")
@ensureDeferred
async def test_two_resources_one_message(service, login):
    """A message that reaches two recording resources of a user is archived once, of two users once each."""
    romeo = await login(service, "romeo", "orchard")
    other = await login(service, "romeo", "balcony")
    juliet = await login(service, "juliet")
    for client in (romeo, other, juliet):
        await client.record((LAPTOP, "laptop"))
    heard = [awaited(client.xmpp.wait_until("message", PATIENCE)) for client in (romeo, other)]
    await juliet.says(f"romeo@{DOMAIN}", "once")
    for message in heard:
        await message
    for client in (romeo, juliet):
        (shown,) = await client.collections()
        assert [item.bodies for item in opened(await client.page(shown), LAPTOP)] == [((None, "once"),)]


@pytest.mark.clause("INT-13")
@ensureDeferred
async def test_hostile_stream_alone_suffers(service, login):
    """A stanza too large ends its own stream; the archive of others goes on."""
    romeo, mallory = await login(service, "romeo"), await login(service, "nurse")
    await romeo.record((LAPTOP, "laptop"))
    gone = awaited(mallory.xmpp.wait_until("disconnected", PATIENCE))
    mallory.xmpp.send_raw(f"<message to='romeo@{DOMAIN}'><body>{'x' * 300_000}</body></message>")
    await gone
    await romeo.says(f"juliet@{DOMAIN}", "still here")
    assert len(await romeo.collections()) == 1


@pytest.fixture
def own_postgres(tmp_path):
    """A PostgreSQL that a test may stop."""
    server = EmbeddedPostgres(tmp_path / "own")
    dsn = server.start()
    migrate(dsn)
    yield server, dsn
    server.destroy()


@ensureDeferred
async def test_database_away_and_back(own_postgres, serve, login, monkeypatch):
    """While PostgreSQL is stopped messages are delivered, requests told to wait; then all is archived."""
    server, dsn = own_postgres
    service = serve(dsn=dsn)
    romeo, juliet = await login(service, "romeo"), await login(service, "juliet")
    await romeo.record((LAPTOP, "laptop"))
    await romeo.says(f"juliet@{DOMAIN}", "before")
    assert len(await romeo.collections()) == 1
    await deferToThread(server.stop)
    heard = awaited(juliet.xmpp.wait_until("message", PATIENCE))
    await romeo.says(f"juliet@{DOMAIN}", "while it is away")
    assert (await heard)["body"] == "while it is away"
    answer = await romeo.ask(LIST)
    assert answer.find(".//{*}internal-server-error") is not None
    assert answer.find("{*}error").get("type") == "wait"
    await deferToThread(server.start)
    await service._archiver._works.writer.drained()
    (shown,) = await romeo.collections()
    texts = [item.bodies[0][1] for item in opened(await romeo.page(shown), LAPTOP)]
    assert texts == ["before", "while it is away"]


@pytest.mark.clause("0241-3-09")
@ensureDeferred
async def test_stop_closes_everything(service, login):
    """When the service stops, streams end, collections are closed and every data key is destroyed."""
    romeo = await login(service, "romeo")
    await romeo.record((LAPTOP, "laptop"))
    await romeo.says(f"juliet@{DOMAIN}", "the last words")
    keyring = service._archiver._works.keyring
    assert len(keyring) == 1
    gone = awaited(romeo.xmpp.wait_until("disconnected", PATIENCE))
    await service.stopService()
    await gone
    assert len(keyring) == 0


@pytest.mark.clause("INT-12", "0241-3-11")
@ensureDeferred
async def test_survives_kill(tmp_path, login):
    """What a list showed is there after kill -9, readable by its owner; what follows is a new collection."""
    log = logging.getLogger(slixmpp.__name__)
    log.setLevel(logging.CRITICAL)
    running = await deferToThread(Running, tmp_path)
    try:
        romeo = await login(running, "romeo", ca=running.certificate, password="romeo")
        await romeo.record((LAPTOP, "laptop"))
        await romeo.says(f"juliet@{DOMAIN}", "before the end")
        (shown,) = await romeo.collections()
        await deferToThread(running.kill)
        running = await deferToThread(Running, tmp_path)
        romeo = await login(running, "romeo", ca=running.certificate, password="romeo")
        (item,) = opened(await romeo.page(shown), LAPTOP)
        assert item.bodies == ((None, "before the end"),)
        await romeo.record((LAPTOP, "laptop"))
        await romeo.says(f"juliet@{DOMAIN}", "after it")
        assert len(await romeo.collections()) == 2
    finally:
        await deferToThread(running.stop)


@pytest.mark.clause("INT-12", "0136-repl-08", "0136-repl-13")
@ensureDeferred
async def test_acknowledged_survives_kill(tmp_path, login):
    """A save, a removal and a preference whose result has come survive kill -9; a replica goes on from its last id."""
    logging.getLogger(slixmpp.__name__).setLevel(logging.CRITICAL)
    running = await deferToThread(Running, tmp_path)
    try:
        romeo = await login(running, "romeo", ca=running.certificate, password="romeo")
        await romeo.ask(_saved("nurse", "removed"), "set")
        last = (await romeo.ask(f"<modified xmlns='{F.namespace}'/>")).findtext(".//{*}last")
        requests = [
            _saved("juliet", "saved"),
            f"<remove xmlns='{F.namespace}' with='nurse@{DOMAIN}' start='1469-07-21T02:56:15Z'/>",
            f"<pref xmlns='{F.namespace}'><default otr='forbid' save='message'/></pref>",
        ]
        answers = await gatherResults([Deferred.fromCoroutine(romeo.ask(one, "set")) for one in requests])
        running.kill()
        assert [answer.get("type") for answer in answers] == ["result"] * 3
        running = await deferToThread(Running, tmp_path)
        romeo = await login(running, "romeo", ca=running.certificate, password="romeo")
        (shown,) = await romeo.collections()
        assert (await romeo.page(shown)).findtext(".//{*}body") == "saved"
        more = f"<set xmlns='{RSM}'><after>{last}</after></set>"
        (told,) = await romeo.ask(
            f"<modified xmlns='{F.namespace}' start='1970-01-01T00:00:00Z'>{more}</modified>"
        )
        assert sorted((etree.QName(one).localname, one.get("with")) for one in told[:2]) == [
            ("changed", f"juliet@{DOMAIN}"),
            ("removed", f"nurse@{DOMAIN}"),
        ]
        (preferences,) = await romeo.ask(f"<pref xmlns='{F.namespace}'/>")
        assert preferences.find("{*}default").get("save") == "message"
    finally:
        await deferToThread(running.stop)


def _saved(user, text):
    chat = f"<chat with='{user}@{DOMAIN}' start='1469-07-21T02:56:15Z'><to><body>{text}</body></to></chat>"
    return f"<save xmlns='{F.namespace}'>{chat}</save>"


class Running:
    """``archive-crypt run`` as a process."""

    def __init__(self, folder):
        import json

        self.folder = folder
        command = [sys.executable, "-m", "archive_crypt.cli", "run", "--json", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--data", str(folder / "data")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        facts = json.loads(self.process.stdout.readline())
        self.certificate = Path(facts["certificate"])
        self.address = type("Address", (), {"port": facts["port"]})

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0
        EmbeddedPostgres(postgres_folder(self.folder / "data")).destroy()
