"""Clients that mean harm, on real sockets: each loses its own stream with the right error, and a
witness beside it notices nothing."""

from __future__ import annotations

import socket
import ssl as openssl

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from archive_crypt.hosts.limits import Limits
from tests.hosts.kit import header

LATIN1 = "<?xml version='1.0' encoding='latin1'?>"
INJECTION = '<a xmlns="u\'/>&lt;/message>&lt;iq/>"/>'  # closes the quote that domish puts around it
BODY = "<message to='romeo@capulet.example'><body>{}</body></message>"


@pytest_twisted.async_yield_fixture
async def witness(server, connect):
    """Another user's stream; it must still answer when the test is over."""
    client = await connect(server)
    await client.login("romeo")
    yield client
    await client.ping()
    assert not client.closed
    assert b"stream:error" not in client.raw


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(BODY.format("x" * 300_000), "policy-violation", id="300 KiB stanza"),
        pytest.param(f"<message id='{'x' * 1_048_576}'/>", "policy-violation", id="1 MiB attribute"),
        pytest.param("<message>" + "<a>" * 10_000, "policy-violation", id="10,000 deep"),
        pytest.param("<message>" + "<a/>" * 30_000, "policy-violation", id="30,000 elements"),
        pytest.param("<message><!-- --></message>", "restricted-xml", id="comment"),
        pytest.param("<message>&xxe;</message>", "restricted-xml", id="entity"),
        pytest.param(b"<message>\xc3\x28</message>", "not-well-formed", id="bad UTF-8"),
        pytest.param(b"<message>\x00</message>", "not-well-formed", id="NUL"),
        pytest.param("<message xmlns='jabber:server'/>", "unsupported-stanza-type", id="namespace"),
        pytest.param("<letter/>", "unsupported-stanza-type", id="unknown stanza"),
        pytest.param("<message from='romeo@capulet.example/balcony'/>", "invalid-from", id="forged from"),
        pytest.param("<message from='@'/>", "invalid-from", id="malformed from"),
        pytest.param("<message from='juliet@.example'/>", "invalid-from", id="from an empty label"),
        pytest.param(
            BODY.format('<a xmlns="u\'/>&lt;/message>&lt;iq/>"/>'),
            "policy-violation",
            id="namespace injection",
        ),
    ],
)
@pytest.mark.clause("INT-13")
@ensureDeferred
async def test_hostile_stanza(server, connect, witness, data, expected):
    """A user who sends what is forbidden loses the stream, and nothing of it is delivered."""
    client = await connect(server)
    await client.login("juliet")
    client.say(data)
    assert await client.error() == expected
    assert not [e for e in await witness.ping() if e.tag == "{jabber:client}message"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param("<!DOCTYPE a [<!ENTITY b 'c'>]>" + header()[21:], "restricted-xml", id="DTD"),
        pytest.param(
            header().replace("'1.0'?", "'1.0' encoding='latin1'?"), "unsupported-encoding", id="latin1"
        ),
        pytest.param("GET / HTTP/1.1\r\nHost: capulet.example\r\n\r\n", "not-well-formed", id="HTTP"),
        pytest.param(header() + "x" * 20_000, "bad-format", id="text"),
        pytest.param("<stream:stream to='" + "x" * 20_000, "policy-violation", id="long header"),
    ],
)
@ensureDeferred
async def test_hostile_stranger(server, connect, witness, data, expected):
    """So does a stranger, before any login."""
    client = await connect(server)
    client.say(data)
    assert await client.error() == expected


@ensureDeferred
async def test_tls_on_the_plain_port(server, connect, witness, caplog):
    """A TLS ClientHello on the plain port ends that connection, and nothing is logged of it."""
    outgoing = openssl.MemoryBIO()
    tls = openssl.create_default_context().wrap_bio(
        openssl.MemoryBIO(), outgoing, server_hostname="capulet.example"
    )
    with pytest.raises(openssl.SSLWantReadError):
        tls.do_handshake()
    client = await connect(server)
    client.say(outgoing.read())
    assert await client.error() == "not-well-formed"
    assert caplog.records == []


@ensureDeferred
async def test_slow_reader(serve, connect):
    """A client that does not read what it is sent is closed before it costs more than its bound;
    the sender goes on."""
    server = serve(limits=Limits(unsent=200_000, linger=0.05))
    slow, sender = await connect(server), await connect(server)
    await slow.login("romeo")
    slow.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.transport.pauseProducing()
    await sender.login("juliet")
    for _ in range(80):  # 16 MB: what the kernel holds for both is below 10
        sender.say(BODY.format("x" * 200_000))
    while (await sender.next("presence")).get("type") != "unavailable":
        pass
    await sender.ping()
    assert not sender.closed


@ensureDeferred
async def test_a_greedy_asker_waits(serve, connect):
    """A client that asks much and reads nothing is no longer listened to until it reads: what it
    caused itself never closes it."""
    server = serve(limits=Limits(unsent=500_000))
    greedy = await connect(server)
    await greedy.login("juliet")
    greedy.transport.pauseProducing()
    for number in range(1500):  # 12 MB, and as much in answers, which repeat the id
        greedy.say(f"<iq type='get' id='{number:08000}'><ping xmlns='urn:xmpp:ping'/></iq>")
    await (await connect(server)).login("romeo")
    greedy.transport.resumeProducing()
    assert len([e for e in await greedy.ping() if e.get("type") == "result"]) == 1500
