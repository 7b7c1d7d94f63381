"""From the connection to a bound resource, as a client on a socket sees it."""

from __future__ import annotations

from base64 import b64encode

import pytest
from pytest_twisted import ensureDeferred
from scramp import ScramClient

from archive_crypt.hosts.limits import Limits
from tests.hosts.kit import DOMAIN, USERS, bind, condition, header, plain

SASL = "{urn:ietf:params:xml:ns:xmpp-sasl}"
TLS = "{urn:ietf:params:xml:ns:xmpp-tls}"
STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"


def sasl(name, data="", **attributes):
    given = "".join(f" {k}='{v}'" for k, v in attributes.items())
    return f"<{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'{given}>{data}</{name}>"


@ensureDeferred
async def test_header_is_answered_with_features(server, connect):
    """The server answers with its own header and, on loopback, offers STARTTLS, SCRAM and PLAIN."""
    client = await connect(server)
    features = await client.open()
    assert client.header.get("from") == DOMAIN
    assert client.header.get("version") == "1.0"
    assert client.header.get("id")
    assert [child.tag for child in features] == [TLS + "starttls", SASL + "mechanisms"]
    assert [m.text for m in features[1]] == ["SCRAM-SHA-256", "PLAIN"]
    assert len(features[0]) == 0  # not required


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        ("to='capulet.example'", "to='montague.example'", "host-unknown"),
        ("to='capulet.example'", "to='@'", "host-unknown"),
        ("to='capulet.example'", "", "improper-addressing"),
        (" version='1.0' xmlns=", " xmlns=", "unsupported-version"),
        (" version='1.0' xmlns=", " version='0.9' xmlns=", "unsupported-version"),
        ("'jabber:client'", "'jabber:server'", "invalid-namespace"),
        ("etherx.jabber.org", "example.org", "invalid-namespace"),
        ("stream:stream", "stream:river", "bad-format"),
    ],
)
@ensureDeferred
async def test_wrong_header(server, connect, wrong, right, expected):
    """A header that is not for us gets a header of ours and the error that RFC 6120 names."""
    client = await connect(server)
    client.say(header().replace(wrong, right))
    assert await client.error() == expected
    assert client.header.get("from") == DOMAIN


@ensureDeferred
async def test_header_names_the_client_again(server, connect):
    """Who a client says it is comes back in 'to', and proves nothing."""
    client = await connect(server)
    client.say(header().replace("to=", "from='juliet@capulet.example' to="))
    await client.next()
    assert client.header.get("to") == "juliet@capulet.example"


@ensureDeferred
async def test_starttls(server, connect, trust):
    """After STARTTLS the stream begins anew, encrypted, and is not offered TLS again."""
    client = await connect(server)
    await client.open()
    client.say(STARTTLS)
    assert (await client.next()).tag == TLS + "proceed"
    client.transport.startTLS(trust)
    features = await client.open()
    assert [child.tag for child in features] == [SASL + "mechanisms"]
    assert (await client.authenticate("juliet"))[0].tag.endswith("bind")
    assert client.transport.getPeerCertificate() is not None


@ensureDeferred
async def test_nothing_slips_in_before_tls(server, connect, trust):
    """What was sent in clear behind <starttls/> is not taken for something sent inside TLS."""
    client = await connect(server)
    await client.open()
    client.say(STARTTLS + plain("romeo", USERS["romeo"]) + header())
    assert (await client.next()).tag == TLS + "proceed"
    client.transport.startTLS(trust)
    assert (await client.open())[0].tag == SASL + "mechanisms"


@ensureDeferred
async def test_starttls_where_there_is_none(serve, connect):
    """Without a certificate, STARTTLS is neither offered nor done."""
    client = await connect(serve(tls=None))
    assert [child.tag for child in await client.open()] == [SASL + "mechanisms"]
    client.say(STARTTLS)
    assert (await client.next()).tag == TLS + "failure"
    await client.end()


@ensureDeferred
async def test_scram(server, connect):
    """SCRAM goes through challenge, response and success, with the server's proof in it."""
    client = await connect(server)
    await client.open()
    scram = ScramClient(["SCRAM-SHA-256"], "juliet", USERS["juliet"])
    first = b64encode(scram.get_client_first().encode()).decode()
    client.say(sasl("auth", first, mechanism="SCRAM-SHA-256"))
    scram.set_server_first(decoded(await client.next(SASL + "challenge")))
    client.say(sasl("response", b64encode(scram.get_client_final().encode()).decode()))
    scram.set_server_final(decoded(await client.next(SASL + "success")))
    assert [child.tag.partition("}")[2] for child in await client.open()] == ["bind", "session"]


def decoded(element):
    from base64 import b64decode

    return b64decode(element.text).decode()


@ensureDeferred
async def test_no_initial_response(server, connect):
    """A client that sends no initial response is asked for it."""
    client = await connect(server)
    await client.open()
    client.say(sasl("auth", mechanism="PLAIN"))
    assert (await client.next(SASL + "challenge")).text == "="
    client.say(sasl("response", b64encode(b"\0juliet\0pencil").decode()))
    assert (await client.next()).tag == SASL + "success"


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        (plain("juliet", "pen"), "not-authorized"),
        (plain("mercutio", "pencil"), "not-authorized"),
        (plain("juliet", "pencil", "romeo@capulet.example"), "invalid-authzid"),
        (sasl("auth", "AA==", mechanism="X-OAUTH"), "invalid-mechanism"),
        (sasl("auth", "!", mechanism="PLAIN"), "incorrect-encoding"),
        (sasl("auth", "=", mechanism="PLAIN"), "malformed-request"),
        (sasl("response", "AA=="), "malformed-request"),
        (sasl("abort"), "aborted"),
    ],
)
@ensureDeferred
async def test_failed_login(server, connect, say, expected):
    """A failed login says why as far as a stranger may know, and may be tried again."""
    client = await connect(server)
    await client.open()
    client.say(say)
    assert (await client.next(SASL + "failure"))[0].tag == SASL + expected
    assert (await client.authenticate("juliet"))[0].tag.endswith("bind")


@ensureDeferred
async def test_three_tries(server, connect):
    """The third failed login ends the stream."""
    client = await connect(server)
    await client.open()
    client.say(plain("juliet", "a") + plain("juliet", "b") + sasl("abort") + plain("juliet", "pencil"))
    assert [(await client.next(SASL + "failure"))[0].tag for _ in range(3)]
    assert await client.error() == "policy-violation"


@pytest.mark.parametrize("stanza", ["<message/>", "<presence/>", "<iq id='1'/>", bind("x")])
@ensureDeferred
async def test_stanza_before_login(server, connect, stanza):
    """A stanza before the login ends the stream."""
    client = await connect(server)
    await client.open()
    client.say(stanza)
    assert await client.error() == "not-authorized"


@ensureDeferred
async def test_stanza_before_bind(server, connect):
    """So does one before a resource is bound."""
    client = await connect(server)
    await client.open()
    await client.authenticate("juliet")
    client.say("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
    assert await client.error() == "not-authorized"


@ensureDeferred
async def test_small_stanzas_before_login(serve, connect):
    """A stranger may not send stanzas as large as a user."""
    client = await connect(serve(limits=Limits(stanza_before_login=1000)))
    await client.open()
    client.say(sasl("auth", "A" * 1000, mechanism="PLAIN"))
    assert await client.error() == "policy-violation"


@ensureDeferred
async def test_bind(server, connect):
    """The client gets the resource it asks for, or one of the server's."""
    client = await connect(server)
    await client.open()
    await client.authenticate("juliet")
    assert await client.bind("balcony") == "juliet@capulet.example/balcony"
    other = await connect(server)
    await other.open()
    await other.authenticate("juliet")
    assert len(await other.bind("")) > len("juliet@capulet.example/12345678")


@pytest.mark.parametrize("resource", ["\u206a", "x" * 1024])
@ensureDeferred
async def test_impossible_resource(server, connect, resource):
    """A resource that no JID can have is refused, and the client may try again."""
    client = await connect(server)
    await client.open()
    await client.authenticate("juliet")
    client.say(bind(resource))
    assert condition(await client.next("iq")) == "modify/bad-request"
    assert await client.bind("balcony") == "juliet@capulet.example/balcony"


@ensureDeferred
async def test_one_resource_a_stream(server, connect):
    """A bound stream cannot bind another resource."""
    client = await connect(server)
    await client.login("juliet")
    client.say(bind("garden"))
    assert condition(await client.next("iq")) == "cancel/not-allowed"


@ensureDeferred
async def test_conflict(server, connect):
    """The older of two streams with the same resource is closed; the newer goes on."""
    old, new = await connect(server), await connect(server)
    await old.login("juliet")
    await new.login("juliet")
    assert await old.error() == "conflict"
    assert await new.ping() == []


@ensureDeferred
async def test_resources_of_one_user(serve, connect):
    """A user has a bounded number of streams; others have theirs."""
    server = serve(limits=Limits(resources=1))
    await (await connect(server)).login("juliet")
    second, other = await connect(server), await connect(server)
    await second.open()
    await second.authenticate("juliet")
    second.say(bind("garden"))
    assert condition(await second.next("iq")) == "wait/resource-constraint"
    await other.login("romeo")


@ensureDeferred
async def test_connections(serve, connect):
    """A connection too many is closed at once; the ones there are go on."""
    server = serve(limits=Limits(connections=1))
    first = await connect(server)
    await first.login("juliet")
    await (await connect(server)).end()
    assert await first.ping() == []


@ensureDeferred
async def test_close_by_the_client(server, connect):
    """</stream:stream> is answered by its like, and the connection closes."""
    client = await connect(server)
    await client.login("juliet")
    client.say("</stream:stream>")
    await client.end()
    assert client.raw.endswith(b"</stream:stream>")


@ensureDeferred
async def test_close_by_the_server(server, connect, trust):
    """Closing the server ends all streams with system-shutdown, those in TLS too, and is done
    when they are."""
    plain_one, in_tls = await connect(server), await connect(server)
    await plain_one.login("juliet")
    await in_tls.open()
    in_tls.say(STARTTLS)
    await in_tls.next()
    in_tls.transport.startTLS(trust)
    await in_tls.login("romeo")
    closed = server.close()
    assert [await plain_one.error(), await in_tls.error()] == ["system-shutdown"] * 2
    await closed
