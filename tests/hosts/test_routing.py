"""Where stanzas go: messages and iqs between users (RFC 6120 10, RFC 6121 8)."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.hosts.limits import Limits
from tests.hosts.kit import CLIENT, body, condition

ROMEO, JULIET = "romeo@capulet.example", "juliet@capulet.example"
DELAY = "{urn:xmpp:delay}delay"


def message(to, kind="chat", text="hi", more=""):
    return f"<message id='m' to='{to}' type='{kind}'><body>{text}</body>{more}</message>"


def bodies(elements):
    return [body(e) for e in elements if e.tag == CLIENT + "message"]


@ensureDeferred
async def test_message_to_a_bare_jid(server, connect):
    """It goes to every available resource that takes messages, stamped with its sender."""
    juliet, phone, desk, away = [await connect(server) for _ in range(4)]
    await juliet.login("juliet")
    await phone.login("romeo", "phone")
    await desk.login("romeo", "desk", "<presence><priority>5</priority></presence>")
    await away.login("romeo", "away", "<presence><priority>-1</priority></presence>")
    juliet.say(message(ROMEO))
    for romeo in (phone, desk):
        got = await romeo.next("message")
        assert (got.get("from"), got.get("to"), body(got)) == (JULIET + "/balcony", ROMEO, "hi")
    await juliet.ping()
    assert bodies(await away.ping()) == []


@ensureDeferred
async def test_message_to_a_full_jid(server, connect):
    """It goes to that resource alone, whatever its priority or presence."""
    juliet, phone, silent = [await connect(server) for _ in range(3)]
    await juliet.login("juliet")
    await phone.login("romeo", "phone")
    await silent.login("romeo", "silent", presence="")
    juliet.say(message(ROMEO + "/silent", "groupchat"))
    assert body(await silent.next("message")) == "hi"
    assert bodies(await phone.ping()) == []


@ensureDeferred
async def test_message_to_oneself(server, connect):
    """A message without 'to' goes to the sender's own bare JID."""
    juliet = await connect(server)
    await juliet.login("juliet")
    juliet.say("<message><body>memo</body></message>")
    got = await juliet.next("message")
    assert (got.get("to"), body(got)) == (JULIET, "memo")


@pytest.mark.parametrize(
    ("to", "kind", "expected"),
    [
        ("mercutio@capulet.example", "chat", "cancel/service-unavailable"),
        ("capulet.example", "chat", "cancel/service-unavailable"),
        ("mercutio@montague.example", "chat", "cancel/remote-server-not-found"),
        ("@capulet.example", "chat", "modify/jid-malformed"),
        ("", "chat", "modify/jid-malformed"),
        ("romeo@.example", "chat", "modify/jid-malformed"),
        pytest.param("x" * 200_000 + "@capulet.example", "chat", "modify/jid-malformed", id="long"),
        (ROMEO, "groupchat", "cancel/service-unavailable"),
        (ROMEO + "/gone", "groupchat", "cancel/service-unavailable"),
        (ROMEO + "/gone", "headline", None),
        (ROMEO + "/gone", "error", None),
        (ROMEO, "error", None),
        ("mercutio@capulet.example", "error", None),
        ("@capulet.example", "error", None),
    ],
)
@ensureDeferred
async def test_undeliverable_message(server, connect, to, kind, expected):
    """The sender is told what could not be delivered, but nothing is ever said to an error."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    juliet.say(message(to, kind))
    answers = [e for e in await juliet.ping() if e.tag == CLIENT + "message"]
    assert [condition(e) for e in answers] == ([expected] if expected else [])
    assert bodies(await romeo.ping()) == []


@pytest.mark.parametrize("kind", ["chat", "normal", "unheard-of"])
@ensureDeferred
async def test_message_to_a_resource_that_is_gone(server, connect, kind):
    """It goes to the user's other resources, as after a reconnection."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo", "new")
    juliet.say(message(ROMEO + "/old", kind))
    assert body(await romeo.next("message")) == "hi"


@ensureDeferred
async def test_offline(serve, connect):
    """Messages to a user who is away wait until he is there, in order, with the time they were
    sent; they come once."""
    server = serve(clock=lambda: 1_469_000_000_123_456)
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    juliet.say(message(ROMEO, text="one") + message(ROMEO + "/gone", "normal", text="two"))
    await juliet.ping()
    await romeo.login("romeo", presence="")
    assert bodies(await romeo.ping()) == []
    romeo.say("<presence><priority>-1</priority></presence>")
    assert bodies(await romeo.ping()) == []
    romeo.say("<presence/>")
    got = [await romeo.next("message"), await romeo.next("message")]
    assert bodies(got) == ["one", "two"]
    assert got[0].find(DELAY).attrib == {"from": "capulet.example", "stamp": "2016-07-20T07:33:20.123456Z"}
    romeo.say("<presence><show>away</show></presence>")
    assert bodies(await romeo.ping()) == []


@pytest.mark.parametrize(
    ("kind", "more", "kept"),
    [
        ("chat", "<body>a</body><active xmlns='http://jabber.org/protocol/chatstates'/>", True),
        ("normal", "<x xmlns='urn:example:x'/>", True),
        ("chat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", False),
        ("chat", "<body>a</body><no-store xmlns='urn:xmpp:hints'/>", False),
        ("headline", "<body>a</body>", False),
    ],
)
@ensureDeferred
async def test_what_waits_offline(server, connect, kind, more, kept):
    """What means nothing later, or may not be stored, does not wait; nobody is told."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    juliet.say(f"<message to='{ROMEO}' type='{kind}'>{more}</message>")
    assert [e for e in await juliet.ping() if e.tag == CLIENT + "message"] == []
    await romeo.login("romeo")
    assert len([e for e in await romeo.ping() if e.tag == CLIENT + "message"]) == kept


@pytest.mark.parametrize("limits", [Limits(offline_messages=2), Limits(offline_bytes=700)])
@ensureDeferred
async def test_offline_is_bounded(serve, connect, limits):
    """The sender of a message too many is told that it was not kept."""
    server = serve(limits=limits)
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    juliet.say(message(ROMEO, text="x" * 60) * 3)
    assert [condition(e) for e in await juliet.ping() if e.tag == CLIENT + "message"] == [
        "cancel/service-unavailable"
    ]
    await romeo.login("romeo")
    assert len(bodies(await romeo.ping())) == 2


@ensureDeferred
async def test_iq_between_clients(server, connect):
    """A request to a full JID arrives there, and so does its answer."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    juliet.say(f"<iq type='get' id='7' to='{ROMEO}/balcony'><query xmlns='jabber:iq:last'/></iq>")
    asked = await romeo.next("iq")
    assert asked.get("from") == JULIET + "/balcony"
    romeo.say(f"<iq type='result' id='7' to='{asked.get('from')}'/>")
    answer = await juliet.next("iq")
    assert (answer.get("type"), answer.get("from")) == ("result", ROMEO + "/balcony")


LAST = "<query xmlns='jabber:iq:last'/>"


@pytest.mark.parametrize(
    ("attributes", "child", "expected"),
    [
        ("type='get' id='1'", LAST, "cancel/service-unavailable"),
        ("type='get' id='1' to='capulet.example'", LAST, "cancel/service-unavailable"),
        ("type='get' id='1' to='capulet.example/x'", LAST, "cancel/service-unavailable"),
        ("type='get' id='1' to='romeo@capulet.example'", LAST, "cancel/service-unavailable"),
        ("type='get' id='1' to='romeo@capulet.example'", "<ping xmlns='urn:xmpp:ping'/>", "cancel/service-unavailable"),
        ("type='get' id='1' to='romeo@capulet.example/gone'", LAST, "cancel/service-unavailable"),
        ("type='get' id='1' to='mercutio@capulet.example'", LAST, "cancel/service-unavailable"),
        ("type='get' id='1' to='montague.example'", LAST, "cancel/remote-server-not-found"),
        ("type='get' id='1' to='@'", LAST, "modify/jid-malformed"),
        ("type='get' id='1'", "", "modify/bad-request"),
        ("type='get' id='1'", LAST + LAST, "modify/bad-request"),
        ("type='got' id='1'", LAST, "modify/bad-request"),
        ("type='get'", LAST, "modify/bad-request"),
        ("id='1'", LAST, "modify/bad-request"),
        ("type='set' id='1'", "<query xmlns='jabber:iq:roster'><item jid='a@b'/></query>", "cancel/not-allowed"),
        ("type='get' id='1'", "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>", "cancel/item-not-found"),
        ("type='get' id='1'", "<handled/>", "cancel/service-unavailable"),
        ("type='result' id='1'", "", None),
        ("type='error' id='1' to='romeo@capulet.example/gone'", "", None),
        ("type='result' id='1' to='montague.example'", "", None),
    ],
)  # fmt: skip
@ensureDeferred
async def test_iq_that_nobody_answers(server, connect, attributes, child, expected):
    """A request that goes nowhere is answered with an error; an answer that does is dropped."""
    juliet = await connect(server)
    await juliet.login("juliet")
    juliet.say(f"<iq {attributes}>{child}</iq>")
    assert [condition(e) for e in await juliet.ping()] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("to", "identity"),
    [
        ("capulet.example", ("server", "im")),
        (JULIET, ("account", "registered")),
        ("", ("account", "registered")),
    ],
)
@ensureDeferred
async def test_disco(server, connect, to, identity):
    """The server and the user's own account say what they are, the archive's features among it."""
    juliet = await connect(server)
    await juliet.login("juliet")
    to = f"to='{to}'" if to else ""
    juliet.say(f"<iq type='get' id='1' {to}><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
    query = (await juliet.next("iq"))[0]
    assert (query[0].get("category"), query[0].get("type")) == identity
    features = [e.get("var") for e in query.findall("{*}feature")]
    assert len(features) == len(set(features))
    assert {
        "http://jabber.org/protocol/disco#info",
        "urn:xmpp:ping",
        "urn:xmpp:time",
        "urn:example:archive",
    } < set(features)
    juliet.say(f"<iq type='get' id='2' {to}><query xmlns='http://jabber.org/protocol/disco#items'/></iq>")
    assert len((await juliet.next("iq"))[0]) == 0


@pytest.mark.parametrize("to", ["capulet.example", JULIET, ""])
@pytest.mark.clause("0136-impl-sync-03")
@ensureDeferred
async def test_time(serve, connect, to):
    """The server and the user's own account tell the time by which the archive dates messages."""
    juliet = await connect(serve(clock=lambda: 1_469_000_000_123_000))
    await juliet.login("juliet")
    to = f"to='{to}'" if to else ""
    juliet.say(f"<iq type='get' id='1' {to}><time xmlns='urn:xmpp:time'/></iq>")
    (time,) = await juliet.next("iq")
    assert [(child.tag, child.text) for child in time] == [
        ("{urn:xmpp:time}tzo", "+00:00"),
        ("{urn:xmpp:time}utc", "2016-07-20T07:33:20.123Z"),
    ]


@ensureDeferred
async def test_roster(server, connect):
    """Everybody else is in the roster, subscribed both ways."""
    juliet = await connect(server)
    await juliet.login("juliet")
    juliet.say("<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>")
    items = (await juliet.next("iq"))[0]
    assert [(i.get("jid"), i.get("subscription")) for i in items] == [
        (ROMEO, "both"),
        ("nurse@capulet.example", "both"),
    ]


@ensureDeferred
async def test_old_session_request(server, connect):
    """RFC 3921's session request is granted, and changes nothing."""
    juliet = await connect(server)
    await juliet.login("juliet")
    juliet.say("<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
    assert (await juliet.next("iq")).get("type") == "result"


@ensureDeferred
async def test_xml_arrives_as_it_left(server, connect):
    """Foreign namespaces, markup in text, languages and emoji arrive unharmed."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    payload = (
        "<body xml:lang='en'>&lt;b&gt; &amp; \"quotes\" 'n' ]]&gt; \u2764\U0001f339</body>"
        "<x:a xmlns:x='urn:x' x:b='1' c=\"'\"><x:d/><e xmlns='urn:e'><f/></e></x:a>"
    )
    juliet.say(f"<message to='{ROMEO}' type='chat'>{payload}</message>")
    got = await romeo.next("message")
    sent = ElementTree.fromstring(f"<message xmlns='jabber:client'>{payload}</message>")
    assert [canonical(e) for e in got] == [canonical(e) for e in sent]


def canonical(element):
    return element.tag, element.attrib, element.text, [canonical(child) for child in element]
