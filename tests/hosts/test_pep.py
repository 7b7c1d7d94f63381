"""Users' own nodes (XEP-0163, XEP-0060). The vectors are examples of XEP-0187 and XEP-0373, as printed."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.hosts.limits import Limits
from tests.hosts.kit import CLIENT, DOMAIN, condition

VECTORS = Path(__file__).parent / "vectors"
JULIET, ROMEO = f"juliet@{DOMAIN}", f"romeo@{DOMAIN}"
NODE = "urn:example:keys"
SECRET = "urn:xmpp:openpgp:0:secret-key"
PUBSUB = "{http://jabber.org/protocol/pubsub}"


async def ask(client, kind, action, to=None, owner=""):
    """The answer to a pubsub request."""
    where = f" to='{to}'" if to else ""
    client.say(
        f"<iq type='{kind}' id='p'{where}>"
        f"<pubsub xmlns='http://jabber.org/protocol/pubsub{owner}'>{action}</pubsub></iq>"
    )
    return await client.next("iq")


async def publish(client, item="", payload="<key xmlns='urn:k'/>", node=NODE, access=None, to=None):
    identified = f" id='{item}'" if item else ""
    published = f"<publish node='{node}'><item{identified}>{payload}</item></publish>"
    return await ask(client, "set", published + form("publish-options", access), to)


def form(element, access):
    """Options that ask for an access model; '' if None."""
    if access is None:
        return ""
    return (
        f"<{element}><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>"
        "<value>http://jabber.org/protocol/pubsub#publish-options</value></field>"
        f"<field var='pubsub#access_model'><value>{access}</value></field></x></{element}>"
    )


async def items(client, node=NODE, wanted="", most="", to=None):
    most = f" max_items='{most}'" if most else ""
    return await ask(client, "get", f"<items node='{node}'{most}>{wanted}</items>", to)


async def ids(client, **which):
    answer = await items(client, **which)
    assert answer.get("type") == "result"
    return [item.get("id") for item in answer.iter(PUBSUB + "item")]


def refused(stanza):
    """type/condition, and pubsub's own condition or None."""
    error = stanza.find(CLIENT + "error")
    own = [child.tag for child in error if child.tag.startswith("{http://jabber.org/protocol/pubsub#errors}")]
    return condition(stanza), own[0].partition("}")[2] if own else None


def canonical(element):
    return ElementTree.canonicalize(ElementTree.tostring(element))


def vector(name):
    """An example, as Juliet would send it here."""
    xml = (VECTORS / f"{name}.xml").read_text()
    return re.sub(r"\sfrom='[^']*'", "", xml).replace("example.org", DOMAIN)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("0187-03", id="ESession options"),
        pytest.param("0373-03", id="OX public key"),
        pytest.param("0373-04", id="OX list of keys"),
    ],
)
@pytest.mark.clause("D218-08", "D374-16")
@ensureDeferred
async def test_published_as_printed(server, connect, recorder, name):
    """What users publish arrives unchanged at whoever reads it, and is nothing to the archive."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    juliet.say(vector(name))
    assert (await juliet.next("iq")).get("type") == "result"
    sent = ElementTree.fromstring(vector(name)).find(f".//{PUBSUB}publish")
    for client in (juliet, romeo):
        (got,) = (await items(client, sent.get("node"), to=JULIET)).iter(PUBSUB + "item")
        assert [canonical(payload).strip() for payload in got] == [
            canonical(payload).strip() for payload in sent[0]
        ]
        assert sent[0].get("id") in (None, got.get("id"))
    assert recorder.copies() == []


@pytest.mark.clause("D374-16")
@ensureDeferred
async def test_secret_key_as_printed(server, connect, recorder):
    """The OX secret key is made, published, and read by its owner; nobody else reads it."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    juliet.say(vector("0373-11"))
    assert refused(await juliet.next("iq")) == ("cancel/item-not-found", None)
    juliet.say(vector("0373-15"))
    assert (await juliet.next("iq")).get("type") == "result"
    secret = "<secretkey xmlns='urn:xmpp:openpgp:0'>BASE64_OPENPGP_ENCRYPTED_SECRET_KEY</secretkey>"
    await publish(juliet, "s", secret, SECRET, "whitelist")
    juliet.say(vector("0373-11"))
    (got,) = (await juliet.next("iq")).iter("{urn:xmpp:openpgp:0}secretkey")
    assert canonical(got) == canonical(ElementTree.fromstring(secret))
    romeo.say(vector("0373-11"))
    assert refused(await romeo.next("iq")) == ("cancel/not-allowed", "closed-node")
    assert recorder.copies() == []


@ensureDeferred
async def test_publish_and_retrieve(server, connect):
    """Items come in the order of their publication: all, the most recent, or by id."""
    juliet = await connect(server)
    await juliet.login("juliet")
    for item in ("a", "b", "c", "a"):
        answer = await publish(juliet, item)
        assert answer.find(f".//{PUBSUB}publish").get("node") == NODE
        assert answer.find(f".//{PUBSUB}item").get("id") == item
    assert await ids(juliet) == ["b", "c", "a"]
    assert await ids(juliet, most="2", to=JULIET) == ["c", "a"]
    assert await ids(juliet, wanted="<item id='b'/><item id='a'/><item id='x'/>") == ["b", "a"]
    assert await ids(juliet, wanted="<item id='x'/>") == []


@ensureDeferred
async def test_ids_are_made(server, connect):
    """An item without id gets one, another each time; an item may be empty."""
    juliet = await connect(server)
    await juliet.login("juliet")
    made = [(await publish(juliet, payload="")).find(f".//{PUBSUB}item").get("id") for _ in range(2)]
    assert await ids(juliet) == made
    assert len(set(made)) == 2


@ensureDeferred
async def test_nodes_outlive_streams(server, connect):
    """What was published stays when its publisher leaves, and belongs to nobody else."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await publish(juliet, "a")
    juliet.say("</stream:stream>")
    await juliet.end()
    await romeo.login("romeo")
    assert await ids(romeo, to=JULIET) == ["a"]
    assert refused(await items(romeo)) == ("cancel/item-not-found", None)


@ensureDeferred
async def test_retract_and_delete(server, connect):
    """An item goes, and the node stays; then the node goes."""
    juliet = await connect(server)
    await juliet.login("juliet")
    await publish(juliet, "a")
    await publish(juliet, "b")
    retract = f"<retract node='{NODE}'><item id='a'/></retract>"
    assert (await ask(juliet, "set", retract)).get("type") == "result"
    assert await ids(juliet) == ["b"]
    assert refused(await ask(juliet, "set", retract)) == ("cancel/item-not-found", None)
    delete = f"<delete node='{NODE}'/>"
    assert (await ask(juliet, "set", delete, owner="#owner")).get("type") == "result"
    assert refused(await items(juliet)) == ("cancel/item-not-found", None)
    assert refused(await ask(juliet, "set", delete, owner="#owner")) == ("cancel/item-not-found", None)


@pytest.mark.parametrize(
    ("access", "readable"),
    [(None, True), ("open", True), ("presence", True), ("whitelist", False)],
)
@pytest.mark.parametrize("create", [True, False])
@ensureDeferred
async def test_who_reads(server, connect, access, readable, create):
    """Everybody, unless the node was made for a whitelist, which here has nobody on it."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    if create:
        made = await ask(juliet, "set", f"<create node='{NODE}'/>" + form("configure", access))
        assert made.get("type") == "result"
        assert await ids(juliet) == []
    await publish(juliet, "a", access=access)
    assert await ids(juliet) == ["a"]
    if readable:
        assert await ids(romeo, to=JULIET) == ["a"]
    else:
        assert refused(await items(romeo, to=JULIET)) == ("cancel/not-allowed", "closed-node")


@pytest.mark.parametrize("access", [None, "open"])
@ensureDeferred
async def test_secret_key_is_private_whatever_is_asked(server, connect, access):
    """Nobody can publish a secret key to others."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    assert (await publish(juliet, "s", node=SECRET, access=access)).get("type") == "result"
    assert refused(await items(romeo, SECRET, to=JULIET)) == ("cancel/not-allowed", "closed-node")


@ensureDeferred
async def test_what_was_meant_to_be_private_is_not_published_openly(server, connect):
    """Publishing for a whitelist to a node that everybody reads fails, and changes nothing."""
    juliet = await connect(server)
    await juliet.login("juliet")
    await publish(juliet, "a", access="open")
    answer = await publish(juliet, "b", access="whitelist")
    assert refused(answer) == ("cancel/conflict", "precondition-not-met")
    assert await ids(juliet) == ["a"]


ITEM = "<item><k xmlns='urn:k'/></item>"


@pytest.mark.parametrize(
    ("kind", "action", "expected"),
    [
        ("set", "<publish><item/></publish>", ("modify/bad-request", "nodeid-required")),
        ("set", f"<publish node='{NODE}'/>", ("modify/bad-request", "item-required")),
        ("set", f"<publish node='{NODE}'>{ITEM * 2}</publish>", ("modify/bad-request", "invalid-payload")),
        (
            "set",
            f"<publish node='{NODE}'><item><a xmlns='urn:a'/><b xmlns='urn:b'/></item></publish>",
            ("modify/bad-request", "invalid-payload"),
        ),
        (
            "set",
            f"<publish node='{NODE}'><item><a xmlns=''/></item></publish>",
            ("modify/bad-request", "invalid-payload"),
        ),
        pytest.param(
            "set",
            f"<publish node='{'x' * 1024}'>{ITEM}</publish>",
            ("modify/not-acceptable", None),
            id="long name",
        ),
        pytest.param(
            "set",
            f"<publish node='{NODE}'><item id='{'x' * 1024}'/></publish>",
            ("modify/not-acceptable", None),
            id="long id",
        ),
        (
            "set",
            f"<publish node='{NODE}'>{ITEM}</publish>{form('publish-options', 'authorize')}",
            ("modify/not-acceptable", "unsupported-access-model"),
        ),
        (
            "set",
            f"<create node='{NODE}'/>{form('configure', 'roster')}",
            ("modify/not-acceptable", "unsupported-access-model"),
        ),
        ("set", "<create/>", ("modify/not-acceptable", "nodeid-required")),
        ("set", "<create node='there'/>", ("cancel/conflict", None)),
        ("set", "<retract node='there'/>", ("modify/bad-request", "item-required")),
        ("set", "<retract node='there'><item/></retract>", ("modify/bad-request", "item-required")),
        ("set", f"<retract node='{NODE}'><item id='a'/></retract>", ("cancel/item-not-found", None)),
        ("get", "<items/>", ("modify/bad-request", "nodeid-required")),
        ("get", "<items node='there' max_items='0'/>", ("modify/bad-request", None)),
        ("get", "<items node='there' max_items='many'/>", ("modify/bad-request", None)),
        ("get", f"<publish node='{NODE}'>{ITEM}</publish>", ("cancel/feature-not-implemented", None)),
        (
            "set",
            f"<subscribe node='there' jid='{JULIET}'/>",
            ("cancel/feature-not-implemented", None),
        ),
        ("set", f"<delete node='{NODE}'/>", ("cancel/feature-not-implemented", None)),
        ("get", "", ("cancel/feature-not-implemented", None)),
    ],
)
@ensureDeferred
async def test_bad_requests(server, connect, kind, action, expected):
    """What cannot be done is refused as XEP-0060 has it, and leaves no node behind."""
    juliet = await connect(server)
    await juliet.login("juliet")
    await publish(juliet, "a", node="there")
    assert refused(await ask(juliet, kind, action)) == expected
    assert refused(await items(juliet)) == ("cancel/item-not-found", None)
    assert await ids(juliet, node="there") == ["a"]


@pytest.mark.parametrize(
    ("owner", "action"),
    [
        ("", f"<publish node='{NODE}'>{ITEM}</publish>"),
        ("", f"<retract node='{NODE}'><item id='a'/></retract>"),
        ("", "<create node='new'/>"),
        ("#owner", f"<delete node='{NODE}'/>"),
    ],
)
@ensureDeferred
async def test_others_change_nothing(server, connect, owner, action):
    """Only the owner changes nodes."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    await publish(juliet, "a")
    assert refused(await ask(romeo, "set", action, JULIET, owner)) == ("auth/forbidden", None)
    assert await ids(juliet) == ["a"]


@pytest.mark.parametrize("to", [DOMAIN, f"mercutio@{DOMAIN}"])
@ensureDeferred
async def test_nobody_there(server, connect, to):
    """The server has no nodes, nor have users that do not exist."""
    juliet = await connect(server)
    await juliet.login("juliet")
    assert refused(await items(juliet, to=to)) == ("cancel/service-unavailable", None)


@ensureDeferred
async def test_bounds(serve, connect):
    """A node or an item too many, or too long, is refused; to replace an item is always possible."""
    server = serve(limits=Limits(pep_nodes=2, pep_items=2, pep_item=100))
    juliet = await connect(server)
    await juliet.login("juliet")
    for item in ("a", "b", "a"):
        assert (await publish(juliet, item)).get("type") == "result"
    assert refused(await publish(juliet, "c")) == ("wait/resource-constraint", "node-full")
    assert await ids(juliet) == ["b", "a"]
    big = f"<key xmlns='urn:k'>{'x' * 80}</key>"
    assert refused(await publish(juliet, "a", big)) == ("modify/not-acceptable", "payload-too-big")
    assert (await publish(juliet, node="urn:example:two")).get("type") == "result"
    for full in (await publish(juliet, node="three"), await ask(juliet, "set", "<create node='three'/>")):
        assert refused(full) == ("wait/resource-constraint", "max-nodes-exceeded")


@ensureDeferred
async def test_nodes_are_listed(server, connect):
    """The account tells its user which nodes it has, and nobody else."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    await publish(juliet, node="urn:example:one")
    query = (
        f"<iq type='get' id='1' to='{JULIET}'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>"
    )
    juliet.say(query)
    listed = [(item.get("jid"), item.get("node")) for item in (await juliet.next("iq"))[0]]
    assert listed == [(JULIET, "urn:example:one")]
    romeo.say(query)
    assert (await romeo.next("iq")).get("type") == "error"


@ensureDeferred
async def test_discovery(server, connect):
    """The account, and not the server, says that it has nodes."""
    juliet = await connect(server)
    await juliet.login("juliet")
    seen = {}
    for to in (JULIET, DOMAIN):
        juliet.say(
            f"<iq type='get' id='1' to='{to}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        )
        query = (await juliet.next("iq"))[0]
        identities = {(e.get("category"), e.get("type")) for e in query.findall("{*}identity")}
        features = {e.get("var") for e in query.findall("{*}feature")}
        seen[to] = (
            ("pubsub", "pep") in identities,
            "http://jabber.org/protocol/pubsub#publish" in features,
        )
    assert seen == {JULIET: (True, True), DOMAIN: (False, False)}
