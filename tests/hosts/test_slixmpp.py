"""The host as a client of another make sees it: slixmpp, with TLS and SCRAM."""

from __future__ import annotations

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from slixmpp import ClientXMPP
from twisted.internet.defer import Deferred

from tests.hosts.kit import PATIENCE, USERS


def awaited(coroutine):
    """What an asyncio coroutine gives, as a Deferred."""
    import asyncio

    return Deferred.fromFuture(asyncio.ensure_future(coroutine))


def heard(client, event):
    return awaited(client.wait_until(event, PATIENCE))


@pytest.fixture
def slixmpp(server, certificate):
    """A function that connects a slixmpp client and waits for one of its events."""
    clients = []

    async def start(user, password=None, until="session_start"):
        client = ClientXMPP(f"{user}@capulet.example/slix", password or USERS[user])
        clients.append(client)
        client.enable_direct_tls = False
        client.ca_certs = certificate
        for plugin in ("xep_0030", "xep_0199", "xep_0203"):
            client.register_plugin(plugin)
        event = heard(client, until)
        client.connect(host="127.0.0.1", port=server.port)
        await event
        return client

    yield start
    for client in clients:
        pytest_twisted.blockon(awaited(client.disconnect()))


@ensureDeferred
async def test_login_and_message(slixmpp, recorder):
    """Two clients log in by SCRAM inside TLS, see each other, and talk."""
    juliet, romeo = await slixmpp("juliet"), await slixmpp("romeo")
    assert juliet.plugin["feature_mechanisms"].mech.name == "SCRAM-SHA-256"
    assert juliet.socket.version() == "TLSv1.3"
    here = heard(juliet, "got_online")
    juliet.send_presence()
    await here
    sees = heard(juliet, "got_online")
    romeo.send_presence()
    assert (await sees)["from"] == "romeo@capulet.example/slix"
    arrives = heard(juliet, "message")
    romeo.send_message("juliet@capulet.example", "wherefore")
    assert (await arrives)["body"] == "wherefore"
    assert [call[0] for call in recorder.copies()] == ["to", "from"]


@ensureDeferred
async def test_services(slixmpp):
    """It finds the roster, the features and the ping where it looks for them."""
    juliet = await slixmpp("juliet")
    await awaited(juliet.get_roster())
    assert sorted(juliet.client_roster) == ["nurse@capulet.example", "romeo@capulet.example"]
    info = await awaited(juliet.plugin["xep_0030"].get_info("capulet.example"))
    assert "urn:example:archive" in info["disco_info"]["features"]
    assert await awaited(juliet.plugin["xep_0199"].ping("capulet.example", timeout=PATIENCE)) < 1


@ensureDeferred
async def test_offline(slixmpp):
    """A message from before its login reaches it with its delay."""
    juliet = await slixmpp("juliet")
    juliet.send_message("romeo@capulet.example", "later")
    await awaited(juliet.plugin["xep_0199"].ping("capulet.example", timeout=PATIENCE))
    romeo = await slixmpp("romeo")
    arrives = heard(romeo, "message")
    romeo.send_presence()
    assert (await arrives)["delay"]["from"] == "capulet.example"


@ensureDeferred
async def test_wrong_password(slixmpp):
    """A wrong password is told as such."""
    await slixmpp("juliet", "pen", until="failed_auth")


@ensureDeferred
async def test_direct_tls(server, certificate):
    """A client that tries TLS at once on the plain port finds STARTTLS afterwards."""
    connections = []
    build = server.buildProtocol
    server.buildProtocol = lambda address: connections.append(address) or build(address)
    client = ClientXMPP("juliet@capulet.example", USERS["juliet"])
    client.ca_certs = certificate
    started = heard(client, "session_start")
    client.connect(host="127.0.0.1", port=server.port)
    await started
    assert len(connections) == 2
    await awaited(client.disconnect())
