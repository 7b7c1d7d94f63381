"""What the host tells the archive of the keys that users publish."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, fail
from twisted.logger import LogLevel, capturedLogs

from archive_crypt.hosts.seam import ArchivePlug
from tests.hosts.kit import DOMAIN, Echo, Recorder

JULIET = f"juliet@{DOMAIN}"
KEYS = "urn:example:keys"
NODES = (KEYS, "urn:example:more")


@pytest.fixture
def keyed(serve, recorder):
    """A server whose archive watches NODES."""
    return serve(archive=ArchivePlug(recorder, lambda jid: Echo(), nodes=NODES))


async def change(client, action, owner=""):
    client.say(
        f"<iq type='set' id='p'><pubsub xmlns='http://jabber.org/protocol/pubsub{owner}'>{action}</pubsub></iq>"
    )
    assert (await client.next("iq")).get("type") == "result"


async def publish(client, item, text, node=KEYS):
    payload = f"<key xmlns='urn:k'>{text}</key>"
    await change(client, f"<publish node='{node}'><item id='{item}'>{payload}</item></publish>")


def told(recorder):
    """What was told of keys; all is forgotten."""
    calls, recorder.calls = recorder.calls, []
    return [nodes for kind, *rest in calls if kind == "keys" for jid, nodes in [rest] if jid == JULIET]


@ensureDeferred
async def test_each_change_is_told(keyed, connect, recorder):
    """After each change of a watched node the archive has all of them, in the order of publication, and
    before the user has the answer."""
    juliet = await connect(keyed)
    await juliet.login("juliet")
    assert told(recorder) == []
    await publish(juliet, "a", "1")
    assert told(recorder) == [{KEYS: ["1"]}]
    await publish(juliet, "b", "2", f"{KEYS}:2")
    assert told(recorder) == [{KEYS: ["1"], f"{KEYS}:2": ["2"]}]
    await publish(juliet, "c", "3")
    await publish(juliet, "a", "4")
    assert told(recorder)[-1] == {KEYS: ["3", "4"], f"{KEYS}:2": ["2"]}
    await change(juliet, f"<retract node='{KEYS}'><item id='a'/><item id='c'/></retract>")
    assert told(recorder) == [{KEYS: [], f"{KEYS}:2": ["2"]}]
    await change(juliet, f"<delete node='{KEYS}'/>", "#owner")
    assert told(recorder) == [{f"{KEYS}:2": ["2"]}]
    await change(juliet, f"<delete node='{KEYS}:2'/>", "#owner")
    assert told(recorder) == [{}]


@pytest.mark.parametrize("node", ["urn:example:other", KEYS + "2", "urn:example"])
@ensureDeferred
async def test_other_nodes_are_not_told(keyed, connect, recorder, node):
    """What users publish elsewhere is none of the archive's business, whatever the name begins with."""
    juliet = await connect(keyed)
    await juliet.login("juliet")
    await publish(juliet, "a", "1", node)
    assert told(recorder) == []
    await publish(juliet, "a", "1", "urn:example:more")
    assert told(recorder) == [{"urn:example:more": ["1"]}]


@ensureDeferred
async def test_told_before_a_stream_opens(keyed, connect, recorder):
    """An archive that learns of a stream knows its user's keys already."""
    juliet = await connect(keyed)
    await juliet.login("juliet", "balcony")
    await publish(juliet, "a", "1")
    recorder.calls.clear()
    await (await connect(keyed)).login("romeo", "orchard")
    await (await connect(keyed)).login("juliet", "chamber")
    assert recorder.calls == [
        ("opened", f"romeo@{DOMAIN}/orchard"),
        ("keys", JULIET, {KEYS: ["1"]}),
        ("opened", f"{JULIET}/chamber"),
    ]


@ensureDeferred
async def test_keys_arrive_as_they_left(serve, connect):
    """A payload is what was published, white space, foreign namespaces and all; an empty item is none."""
    xml = "<a xmlns='urn:a' b='&quot;'> <c xmlns=''>&lt;\n</c><d xmlns='urn:d' xmlns:e='urn:e' e:f='1'/></a>"

    class Keeps(Recorder):
        def keys_published(self, jid, nodes):
            self.payloads = nodes[KEYS]

    keeps = Keeps()
    server = serve(archive=ArchivePlug(keeps, lambda jid: Echo(), nodes=NODES))
    juliet = await connect(server)
    await juliet.login("juliet")
    await change(juliet, f"<publish node='{KEYS}'><item>{xml}</item></publish>")
    await change(juliet, f"<publish node='{KEYS}'><item/></publish>")
    (payload,) = keeps.payloads
    got = ElementTree.canonicalize(payload.toXml(), rewrite_prefixes=True)
    assert got == ElementTree.canonicalize(xml, rewrite_prefixes=True)


def breaks(nodes):
    raise RuntimeError


def vandalises(nodes):
    for payloads in nodes.values():
        for payload in payloads:
            payload.children = []
    nodes.clear()


@pytest.mark.parametrize(
    "does",
    [breaks, vandalises, lambda nodes: fail(RuntimeError()), lambda nodes: Deferred()],
    ids=["raises", "changes", "fails", "hangs"],
)
@ensureDeferred
async def test_publishing_does_not_depend_on_the_archive(serve, connect, does):
    """Whatever the archive does with keys, what was published is there, and streams open."""

    class Bad(Recorder):
        def keys_published(self, jid, nodes):
            return does(nodes)

    bad = Bad()
    server = serve(archive=ArchivePlug(bad, lambda jid: Echo(), nodes=NODES))
    juliet = await connect(server)
    await juliet.login("juliet")
    await publish(juliet, "a", "1")
    juliet = await connect(server)
    await juliet.login("juliet", "chamber")
    assert ("opened", f"{JULIET}/chamber") in bad.calls
    items = f"<items node='{KEYS}'/>"
    juliet.say(
        f"<iq type='get' id='i'><pubsub xmlns='http://jabber.org/protocol/pubsub'>{items}</pubsub></iq>"
    )
    assert (await juliet.next("iq")).findtext(".//{urn:k}key") == "1"


@ensureDeferred
async def test_an_archive_that_watches_nothing_is_told_nothing(serve, connect):
    """Without `nodes` an archive needs no keys_published."""

    class Without:
        stream_opened = stream_closed = message = lambda *_: None

    server = serve(archive=ArchivePlug(Without(), lambda jid: Echo()))
    with capturedLogs() as events:
        for resource in ("balcony", "chamber"):
            juliet = await connect(server)
            await juliet.login("juliet", resource)
            await publish(juliet, "a", "1")
    assert [event for event in events if event["log_level"] is LogLevel.error] == []
