"""mod_archive_feed: what the component is told of the keys that users publish (docs/feed.rst)."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.servers.feed import NS, take_copy, take_published, told

PUBSUB = "http://jabber.org/protocol/pubsub"
OPENPGP = "urn:xmpp:openpgp:0:public-keys"
NODES = [
    "urn:xmpp:pubkey:2",
    "urn:xmpp:tmp:pubkey",
    "http://www.xmpp.org/extensions/xep-0189.html#ns",
    "urn:xmpp:pubkeys",
    "urn:xmpp:revoke:2",
    OPENPGP,
    f"{OPENPGP}:0123456789ABCDEF0123456789ABCDEF01234567",
]


async def publish(client, node):
    item = f"<publish node='{node}'><item id='1'><key xmlns='urn:x'/></item></publish>"
    answer = await client.ask(f"<pubsub xmlns='{PUBSUB}'>{item}</pubsub>", kind="set")
    assert answer.get("type") == "result"


def retracted(node):
    return f"<pubsub xmlns='{PUBSUB}'><retract node='{node}' notify='true'><item id='1'/></retract></pubsub>"


def purged(node):
    return f"<pubsub xmlns='{PUBSUB}#owner'><purge node='{node}'/></pubsub>"


def deleted(node):
    return f"<pubsub xmlns='{PUBSUB}#owner'><delete node='{node}'/></pubsub>"


async def settled(archive, client):
    """When the component has got all that was told of the client before."""
    client.say(client.jid, "last")
    await take_copy(archive, client.jid, "in", "last")


def nodes(archive):
    return [found.get("node") for found in told(archive) if found.tag == f"{{{NS}}}published"]


@pytest.mark.parametrize("node", NODES)
@ensureDeferred
async def test_published(server, component, account, login, node):
    """What a user publishes for keys is told once, with his bare JID."""
    archive, juliet = await component(), await login(account("juliet"))
    await publish(juliet, node)
    assert await take_published(archive, juliet.bare) == node
    await settled(archive, juliet)
    assert nodes(archive) == []


@ensureDeferred
async def test_other_nodes(server, component, account, login):
    """Nodes that hold no keys are not told of."""
    archive, juliet = await component(), await login(account("juliet"))
    for node in ("urn:xmpp:avatar:data", f"{OPENPGP}x", "urn:xmpp:openpgp:0"):
        await publish(juliet, node)
        await juliet.ask(retracted(node), kind="set")
        await juliet.ask(deleted(node), kind="set")
    await settled(archive, juliet)
    assert nodes(archive) == []


@pytest.mark.parametrize("change", [retracted, purged, deleted])
@ensureDeferred
async def test_taken_back(server, component, account, login, change):
    """What a user takes back is told once, when it is gone."""
    archive, juliet = await component(), await login(account("juliet"))
    await publish(juliet, "urn:xmpp:pubkey:2")
    await take_published(archive, juliet.bare)
    answer = await juliet.ask(change("urn:xmpp:pubkey:2"), kind="set")
    assert answer.get("type") == "result"
    assert await take_published(archive, juliet.bare) == "urn:xmpp:pubkey:2"
    await settled(archive, juliet)
    assert nodes(archive) == []


@ensureDeferred
async def test_refused(server, component, account, login):
    """What the server does not do is not told: another user's node, an item that is not there."""
    archive, juliet, nurse = await component(), await login(account("juliet")), await login(account("nurse"))
    await publish(juliet, "urn:xmpp:pubkey:2")
    await take_published(archive, juliet.bare)
    for change in (retracted, purged, deleted):
        answer = await nurse.ask(change("urn:xmpp:pubkey:2"), kind="set", to=juliet.bare)
        assert answer.get("type") == "error"
        answer = await nurse.ask(change("urn:xmpp:tmp:pubkey"), kind="set")
        assert answer.get("type") == "error"
    await settled(archive, juliet)
    assert nodes(archive) == []
