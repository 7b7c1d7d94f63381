"""What is said goes to its client and into its table, and nowhere else: no log, error, counter or statement has
a word of it, in clear or sealed; nor a password, nor a key."""

import json
import logging
import threading
from base64 import b64encode
from contextlib import closing, suppress
from pathlib import Path

import psycopg2
import pytest
from lxml import etree
from psycopg2.extensions import parse_dsn
from pytest_twisted import ensureDeferred
from slixmpp import ClientXMPP
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import eventAsText, globalLogPublisher

from archive_crypt.core.dialect import F
from archive_crypt.core.xmlenc import read_key
from archive_crypt.crypto import opening
from archive_crypt.demo import search_tables
from archive_crypt.hosts.postgres import EmbeddedPostgres
from archive_crypt.hosts.tls import certificate_path
from archive_crypt.store.migrate import migrate
from tests.e2e.conftest import DOMAIN, PATIENCE, USERS, awaited
from tests.e2e.test_uploads import encrypted
from tests.kit import LAPTOP

#: Whatever users write begins so.
MARK = "Marlowe"
WATCHER = "watcher"
#: An operator who looks at everything.
CURIOUS = {
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_error_verbosity": "verbose",
    "log_min_error_statement": "debug5",
    "log_min_messages": "debug1",
    "track_activity_query_size": "1MB",
}
SAVE = f"""
<save xmlns='{F.namespace}'>
  <chat with='juliet@{DOMAIN}' start='2026-01-0%dT00:00:00Z'>
    <x xmlns='jabber:x:data' type='submit'><field var='mood'><value>{MARK} the form</value></field></x>
    <to secs='0'><body>{MARK} the upload</body></to>
    <note utc='2026-01-01T00:00:00Z'>{MARK} the note</note>
  </chat>
</save>"""
UPLOAD = (
    f"<save xmlns='{F.namespace}'><chat with='juliet@{DOMAIN}' start='2026-01-03T00:00:00Z'>"
    f"{encrypted(f'{MARK} the sealed upload')}</chat></save>"
)


class Places:
    """Everything that an operator could find words in: each place with its text."""

    def __init__(self, server, service):
        self._server, self._service = server, service
        self._events, self._records = [], []
        self.statements = set()
        self.spooled = ""

    def __enter__(self):
        globalLogPublisher.addObserver(self._events.append)
        self._handler = logging.Handler()
        self._handler.emit = self._records.append
        root = logging.getLogger()
        self._level = root.level
        root.addHandler(self._handler)
        root.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_):
        logging.getLogger().removeHandler(self._handler)
        logging.getLogger().setLevel(self._level)
        globalLogPublisher.removeObserver(self._events.append)

    def all(self):
        server = ("slixmpp", "asyncio")  # what the clients log is their own affair
        records = [record for record in self._records if not record.name.startswith(server)]
        events = [event for event in self._events if not str(event.get("log_namespace")).startswith(server)]
        return {
            "log": "\n".join(eventAsText(event) for event in events),
            "log events": repr(events),
            "logging": "\n".join(f"{record.getMessage()} {record.exc_text}" for record in records),
            "counters": repr(self._service._archiver.counts),
            "pg_stat_activity": "\n".join(self.statements),
            "PostgreSQL's log": self._server.log.read_text(errors="replace"),
            "spool": self.spooled,
        }

    def look_into_spool(self, path):
        """What is in the spool now; later it may be gone."""
        parts = [path, path.with_name(f"{path.name}-wal")]
        self.spooled += "".join(part.read_bytes().decode("latin-1") for part in parts if part.exists())


@pytest.fixture
def curious(tmp_path):
    """A PostgreSQL that logs and shows all it can."""
    server = EmbeddedPostgres(tmp_path / "curious")
    dsn = server.start()
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        for name, value in CURIOUS.items():
            connection.cursor().execute(f"ALTER SYSTEM SET {name} = '{value}'")
    server.stop()
    dsn = server.start()
    migrate(dsn)
    server.log = Path(tmp_path / "curious" / "log").resolve()
    yield server, dsn
    server.destroy()


def watch(dsn, statements, stop):
    """What other connections execute, or did last, as often as one can look."""
    with closing(psycopg2.connect(dsn, application_name=WATCHER)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        with suppress(psycopg2.Error):  # it is stopped
            while not stop.is_set():
                cursor.execute("SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
                statements.update(row[0] for row in cursor)


def rows_in_the_way(server, dsn):
    """Whatever is appended next to any collection is refused by PostgreSQL, with an error that names rows."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO item SELECT owner, collection, number + 1, key, at, content FROM item")


def kill_backends(server, dsn):
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name <> %s",
            (WATCHER,),
        )


async def in_spool(service):
    """Wait until what is sealed lies in the spool."""
    from twisted.internet import reactor

    spooling = service._archiver._works.writer.spooling
    for _ in range(400):  # it tells nobody
        if spooling.records:
            return
        await deferLater(reactor, 0.05)
    raise AssertionError("nothing was spooled")


async def saved(client, save):
    """Upload, again as long as the answer is that the database is away."""
    from twisted.internet import reactor

    for _ in range(200):
        answer = await client.ask(save, "set")
        if answer.get("type") == "result":
            return
        assert answer.find("{*}error").get("type") == "wait", "refused for good"
        await deferLater(reactor, 0.1)
    raise AssertionError("the database does not come back")


async def fails_to_log_in(service, ca):
    """A client that mistook its password for one with a letter more."""
    xmpp = ClientXMPP(f"nurse@{DOMAIN}/x", f"{USERS['nurse']}x")
    xmpp.enable_direct_tls, xmpp.ca_certs = False, ca
    failed = awaited(xmpp.wait_until("failed_auth", PATIENCE))
    xmpp.connect(host="127.0.0.1", port=service.address.port)
    await failed
    await awaited(xmpp.disconnect())


def data_keys(dsn):
    """All that seal what is in the database, as their owner knows them, in the forms that one would print."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT algorithm, cipher FROM encrypted_key")
        wrapped = [(algorithm, bytes(cipher)) for algorithm, cipher in cursor]
    keys = {opening.unwrap(LAPTOP, *_as_recorded(*one)) for one in wrapped}
    return [form for key in keys for form in (key.hex(), repr(key)[2:-1], b64encode(key).decode())]


def _as_recorded(algorithm, cipher):
    if algorithm:
        return algorithm, cipher
    read = read_key(etree.fromstring(cipher))  # an uploaded element
    return read.algorithm, read.cipher


def printed(text):
    """The forms in which somebody could have printed a text."""
    octets = text.encode()
    return [text, octets.hex(), b64encode(octets).decode().rstrip("="), json.dumps(text)]


#: What goes wrong, and what PostgreSQL's log says of it.
FAULTS = {
    "nothing": (lambda server, dsn: None, "COMMIT"),
    "rows in the way": (rows_in_the_way, "duplicate key"),
    "backends killed": (kill_backends, "terminating connection"),
    "database stopped": (lambda server, dsn: server.stop(), "database system is shut down"),
}


@pytest.mark.parametrize("fault", FAULTS)
@ensureDeferred
async def test_no_leak(curious, serve, login, tls_folder, tmp_path, fault):
    """Nothing that users say, seal or upload is in logs at any level, counters, PostgreSQL's own log with every
    statement, in what its administrators see, nor in the spool; whether all goes well or not."""
    server, dsn = curious
    cause, trace = FAULTS[fault]
    spool = tmp_path / "spool"
    service, stop = serve(dsn=dsn, spool=str(spool)), threading.Event()
    with Places(server, service) as places:
        watching = deferToThread(watch, dsn, places.statements, stop)
        romeo, juliet = await login(service, "romeo"), await login(service, "juliet")
        await fails_to_log_in(service, certificate_path(tls_folder, DOMAIN))
        await romeo.record((LAPTOP, "laptop"))
        await juliet.record(encrypt=False)
        await romeo.says(f"juliet@{DOMAIN}", f"{MARK} the first")
        await juliet.collections()
        await deferToThread(cause, server, dsn)
        await romeo.says(f"juliet@{DOMAIN}", f"{MARK} the second")
        if fault == "database stopped":
            await in_spool(service)
            places.look_into_spool(spool)
            await deferToThread(server.start)
        for client in (romeo, juliet):
            for save in (SAVE % 1, SAVE % 2, UPLOAD):
                await saved(client, save)
            for shown in await client.collections():
                await client.page(shown)
        keys = data_keys(dsn)
        await service.stopService()
        stop.set()
        await watching
        found = places.all()
    assert search_tables(dsn, [MARK])[1]  # where it has to be
    assert len(keys) >= 2 * 3
    assert "COMMIT" in found["pg_stat_activity"]  # it was looked at
    assert "COPY item" in found["PostgreSQL's log"]
    assert trace in found["PostgreSQL's log"]
    assert ("Append" in found["spool"]) == (fault == "database stopped")
    passwords = [*USERS.values(), parse_dsn(dsn)["password"]]
    secret = [*printed(MARK), *keys, *(form for word in passwords for form in printed(word))]
    assert [(place, word) for place, text in found.items() for word in secret if word in text] == []
