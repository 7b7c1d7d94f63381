"""A real server with a real archive in memory, on a socket with TLS; clients that talk; the reader's
commands run against it in the same process."""

import asyncio
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import pytest_twisted
from slixmpp import ClientXMPP
from twisted.internet.defer import Deferred
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.archiver import Archiver
from archive_crypt.core import published, stanzas
from archive_crypt.core.dialect import F, stream_features
from archive_crypt.crypto import opening
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.hosts.embedded import EmbeddedServer
from archive_crypt.hosts.seam import ArchivePlug
from archive_crypt.hosts.tls import certificate_path, server_tls
from archive_crypt.model import SECOND, Direction, Settings
from archive_crypt.owners import REQUIRED
from archive_crypt.reader import cli, protocol, ssn, trust, xep_0136, xep_0155, xep_0241
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.connection import Account, Connection
from archive_crypt.store.memory import MemoryStorage
from archive_crypt.store.writer import Writer
from archive_crypt.works import Works
from archive_crypt.xmpp.handler import ArchiveHandler, offered
from tests.kit import LAPTOP, MORNING, PHONE, element
from tests.reader.kit import turning_on
from tests.reader.patience import PATIENCE, awaited
from tests.reader.sides import Side

DOMAIN = "montague.example"
USERS = {"romeo": "r0meo", "juliet": "pencil"}


@pytest.fixture(scope="session")
def tls_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader-tls")
    server_tls(folder, DOMAIN)
    return folder


@pytest.fixture(scope="session")
def certificate(tls_folder) -> Path:
    return certificate_path(tls_folder, DOMAIN)


@pytest.fixture
def key_files(key_folder, environment):
    """The private keys LAPTOP and PHONE of tests/kit.py as files, by name; the phone's has a passphrase. The
    user confirmed both."""
    trust.confirm(trust.default_path(), [LAPTOP.fingerprint, PHONE.fingerprint])
    return key_folder


@pytest.fixture(scope="session")
def key_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    files = {}
    for name, key, passphrase in (("laptop", LAPTOP, None), ("phone", PHONE, b"secret")):
        files[name] = folder / f"{name}.pem"
        files[name].write_bytes(opening.dump(key, passphrase))
        files[name].chmod(0o600)
    return files


class Served:
    """A server with its archive; `port` is where it listens. `handler`: what makes the handler of a
    stream's archive iqs, of the archiver and the stream's JID."""

    def __init__(self, reactor, tls, settings, features, handler, storage=None):
        self.storage = storage or MemoryStorage()
        self.writer = Writer(self.storage, reactor)
        self.archiver = Archiver(Works(self.storage, self.writer, KeyRing(), reactor, settings))
        announced = offered(settings) if features is None else features
        nodes = published.watched(openpgp=settings.openpgp_keys)
        default = stream_features(settings.automatic in REQUIRED)
        plug = ArchivePlug(self.archiver, partial(handler, self.archiver), announced, default, nodes)
        self.server = EmbeddedServer(reactor, DOMAIN, USERS, tls=tls, archive=plug)
        self.port = self.server.listen().getHost().port

    async def record(self, *texts, keys=(LAPTOP,), to=f"juliet@{DOMAIN}", thread=None, at=MORNING, more=""):
        """Romeo says these to somebody, a second apart from `at` on, on a stream that is gone afterwards.
        `more`: what else is in each message."""
        label = f"<thread>{thread}</thread>" if thread else ""
        said = [f"<body>{text}</body>{label}{more}" for text in texts]
        await self.hear(*said, keys=keys, to=to, at=at)

    async def hear(self, *said, keys=(LAPTOP,), to=f"juliet@{DOMAIN}", at=MORNING, direction=Direction.TO):
        """The same of messages that hold these elements; or they come from there."""
        jid = JID(f"romeo@{DOMAIN}/feeder")
        await self.archiver.stream_opened(jid)
        public = [key.public() for key in keys]
        request = turning_on(F, public)
        await self.archiver.switching.set(jid, stanzas.parse("set", protocol.parse(request.encode())))
        for second, inner in enumerate(said):
            message = element(f"<message {direction.value}='{to}' type='chat'>{inner}</message>")
            await self.archiver.message(jid, direction, message, round((at + second) * SECOND))
        self.archiver.stream_closed(jid)

    @property
    def kept(self):
        """What the storage holds of romeo's collections, by their start; to be tampered with."""
        owned = self.storage._owners[f"romeo@{DOMAIN}"]
        return sorted(owned.kept.values(), key=lambda kept: kept.shown.start)

    async def close(self):
        await self.server.close()
        await self.archiver.close()


@pytest.fixture
def serve(tls_folder):
    """A function that starts a server. `tls` None: with its certificate; False: without any.
    `features` None: what the archive offers. `storage` None: in memory."""
    from twisted.internet import reactor

    started = []

    def start(*, tls=None, features=None, handler=ArchiveHandler, storage=None, **settings):
        if tls is None:
            tls = server_tls(tls_folder, DOMAIN)
        served = Served(reactor, tls or None, Settings(**settings), features, handler, storage)
        started.append(served)
        return served

    yield start
    for served in started:
        pytest_twisted.blockon(Deferred.fromCoroutine(served.close()))


@pytest.fixture
def served(serve):
    return serve()


@pytest.fixture
def talk(served, certificate):
    """A function: romeo says, juliet answers, in turns; both have their own clients for it."""

    async def start(*texts, to="juliet"):
        users = [await logged_in(served, certificate, user) for user in ("romeo", to)]
        try:
            for number, text in enumerate(texts):
                speaker, listener = users[number % 2], users[(number + 1) % 2]
                heard = asyncio.ensure_future(listener.wait_until("message", PATIENCE))
                speaker.send_message(listener.boundjid.bare, text, mtype="chat")
                await awaited(heard)
        finally:
            for user in users:
                await awaited(leave(user))

    return start


@pytest.fixture
def login(certificate):
    """A function that logs a user in, romeo unless told, with the two plugins; the slixmpp client."""
    clients = []

    async def start(served, user="romeo", resource="study", **config):
        client = await logged_in(served, certificate, user, resource)
        clients.append(client)
        client.register_plugin("xep_0136", config, module=xep_0136)
        client.register_plugin("xep_0241", module=xep_0241)
        return client

    yield start
    for client in clients:
        pytest_twisted.blockon(awaited(leave(client)))


@pytest.fixture
def side(certificate):
    """A function that logs somebody in who negotiates."""
    clients = []

    async def start(served, user, resource, *, able=True, roster=True, auto=True, asks=True, **config):
        def prepare(client):
            client.register_plugin("xep_0136", module=xep_0136)
            if able:
                client.register_plugin("xep_0155", config, module=xep_0155)

        client = await logged_in(served, certificate, user, resource, prepare=prepare, roster=roster)
        clients.append(client)
        one = Side(client)
        if asks:
            await one.answered()
        if auto:
            await awaited(one.archive.set_auto(True))
        return one

    yield start
    for client in clients:
        pytest_twisted.blockon(awaited(leave(client)))


@pytest.fixture
def pair(served, side):
    """A function: romeo and juliet, both archiving, who prefer this and that."""

    async def start(his, hers, at=served, **config):
        romeo = await side(at, "romeo", "orchard", **config)
        juliet = await side(at, "juliet", "balcony", **config)
        await romeo.prefers(his)
        await juliet.prefers(hers)
        return romeo, juliet

    return start


@pytest.fixture
def visited(served, side):
    """A function: juliet, who prefers this, and romeo, who says whatever he likes."""

    async def start(mode, **config):
        romeo = await side(served, "romeo", "orchard", able=False)
        juliet = await side(served, "juliet", "balcony", **config)
        await juliet.prefers(mode)
        romeo.client.plugin["xep_0030"].add_feature(ssn.FEATURE)
        return romeo, juliet

    return start


@pytest.fixture
def using(certificate):
    """A function that runs something with romeo's archive on a server."""

    def start(served, use):
        async def run():
            account = Account(f"romeo@{DOMAIN}", "127.0.0.1", served.port, certificate)
            async with Connection(account, USERS["romeo"]) as connection:
                return await use(Archive(connection))

        return awaited(run())

    return start


async def leave(client):
    await client.disconnect()
    client._run_out_filters.cancel()  # slixmpp's sending task would outlive the stream


def with_nothing(client):
    """What a client gets before it connects."""


async def logged_in(served, certificate, user, resource="balcony", *, prepare=with_nothing, roster=True):
    """A slixmpp client, which is there for its contacts; `prepare` comes before it connects."""
    client = ClientXMPP(f"{user}@{DOMAIN}/{resource}", USERS[user])
    client.enable_direct_tls = False
    client.ca_certs = certificate
    prepare(client)
    started = awaited(client.wait_until("session_start", PATIENCE))
    client.connect(host="127.0.0.1", port=served.port)
    await started
    client.send_presence()
    if roster:
        await awaited(client.get_roster())  # by its answer the server has our presence
    return client


@dataclass
class Ran:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self):
        """The objects that --json printed."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """The user's: his password, and no configuration yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv(cli.PASSWORD, USERS["romeo"])
    monkeypatch.delenv(cli.PASSPHRASE, raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def reader(environment, certificate, capsys):
    """A function that runs a command of the reader's, against a server if one is given."""

    async def run(command, *arguments, at=None):
        where = ("--host", "127.0.0.1", "--port", str(at.port), "--ca", str(certificate)) if at else ()
        capsys.readouterr()
        code = await awaited(cli.run([command, *map(str, arguments), *where]))
        return Ran(code, *capsys.readouterr())

    return run
