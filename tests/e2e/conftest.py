"""The whole house: the service as an operator starts it, its PostgreSQL, and slixmpp clients over TLS."""

import asyncio
from dataclasses import dataclass
from itertools import count

import pytest
import pytest_twisted
from lxml import etree
from slixmpp import ClientXMPP
from slixmpp.xmlstream import ET, tostring
from twisted.internet.defer import Deferred

from archive_crypt.config import Config, Database, Host
from archive_crypt.core.dialect import F
from archive_crypt.hosts.tls import certificate_path, server_tls
from archive_crypt.model import Settings
from archive_crypt.tap import ArchiveService
from tests.kit import key_info

DOMAIN = "localhost"
#: Everybody's password.
USERS = {"romeo": "Kyd-1592", "juliet": "Kyd-1594", "nurse": "Kyd-1597"}
#: Seconds until a test that waits for something in vain fails.
PATIENCE = 20


def awaited(coroutine):
    """What an asyncio coroutine gives, as a Deferred."""
    return Deferred.fromFuture(asyncio.ensure_future(coroutine))


@dataclass
class Client:
    """A logged-in slixmpp client, and a few ways to talk with it."""

    xmpp: ClientXMPP
    numbers: count

    async def ask(self, xml, kind="get", to=None):
        """The answer to an archive request, as lxml has it: result or error."""
        iq = self.xmpp.Iq()
        iq["type"], iq["id"] = kind, f"ask{next(self.numbers)}"
        if to:
            iq["to"] = to
        iq.xml.append(ET.fromstring(xml))
        answer = await awaited(_answered(iq))
        return etree.fromstring(tostring(answer.xml))

    async def record(self, *keys, encrypt=True):
        """Turn automatic archiving on, sealed for these (private key, name) pairs."""
        infos = "".join(key_info(key, name) for key, name in keys)
        flag = " encrypt='true'" if encrypt else ""
        answer = await self.ask(f"<auto xmlns='{F.namespace}' save='true'{flag}>{infos}</auto>", "set")
        assert answer.get("type") == "result", etree.tostring(answer)

    async def says(self, to, *texts, thread=None):
        """Send messages and wait until the server has seen them."""
        for text in texts:
            message = self.xmpp.make_message(to, text, mtype="chat")
            if thread:
                message["thread"] = thread
            message.send()
        await awaited(self.xmpp.plugin["xep_0199"].ping(DOMAIN, timeout=PATIENCE))

    async def collections(self, **attributes):
        """The <chat/> elements of a list."""
        text = "".join(f" {name}='{value}'" for name, value in attributes.items())
        answer = await self.ask(f"<list xmlns='{F.namespace}'{text}/>")
        return answer.findall(f".//{{{F.namespace}}}chat")

    async def page(self, shown, inner="", namespace=F.namespace):
        """One page of a collection that was listed."""
        where = f"with='{shown.get('with')}' start='{shown.get('start')}'"
        answer = await self.ask(f"<retrieve xmlns='{namespace}' {where}>{inner}</retrieve>")
        return answer[0]


async def _answered(iq):
    from slixmpp.exceptions import IqError

    try:
        return await iq.send(timeout=PATIENCE)
    except IqError as error:
        return error.iq


@pytest.fixture(scope="session")
def tls_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("e2e-tls")
    server_tls(folder, DOMAIN)
    return folder


@pytest.fixture
def serve(dsn, tls_folder):
    """A function that starts the service; all are stopped at the end."""
    from twisted.internet import reactor

    services = []

    def start(dsn=dsn, spool="", **settings):
        host = Host(DOMAIN, port=0, data=str(tls_folder), users=USERS)
        service = ArchiveService(Config(Database(dsn, spool=spool), Settings(**settings), host), reactor)
        service.startService()
        services.append(service)
        return service

    yield start
    for service in services:
        if service.running:
            pytest_twisted.blockon(service.stopService())


@pytest.fixture
def service(serve):
    return serve()


@pytest.fixture
def login(tls_folder):
    """A function that logs a user in at a service, over TLS, by SCRAM."""
    clients = []

    async def start(service, user, resource="slix", presence=True, ca=None, password=None):
        xmpp = ClientXMPP(f"{user}@{DOMAIN}/{resource}", password or USERS[user])
        clients.append(xmpp)
        xmpp.enable_direct_tls = False
        xmpp.ca_certs = ca or certificate_path(tls_folder, DOMAIN)
        for plugin in ("xep_0030", "xep_0199"):
            xmpp.register_plugin(plugin)
        started = awaited(xmpp.wait_until("session_start", PATIENCE))
        xmpp.connect(host="127.0.0.1", port=service.address.port)
        await started
        if presence:
            xmpp.send_presence()
        return Client(xmpp, count())

    yield start
    for xmpp in clients:
        pytest_twisted.blockon(awaited(xmpp.disconnect()))
