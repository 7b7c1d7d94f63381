"""The reader publishes keys in the nodes that other servers give their users (XEP-0189 over XEP-0163)."""

from __future__ import annotations

from pytest_twisted import ensureDeferred

from archive_crypt.reader.publishing import NODE, Publisher
from tests.kit import LAPTOP, PHONE
from tests.servers.client import awaited

PUBSUB = "http://jabber.org/protocol/pubsub"
KEYS = [LAPTOP.public(), PHONE.public()]


def creation(**options):
    """A node that another program set up."""
    fields = "".join(
        f"<field var='pubsub#{name}'><value>{value}</value></field>" for name, value in options.items()
    )
    return (
        f"<pubsub xmlns='{PUBSUB}'><create node='{NODE}'/><configure><x xmlns='jabber:x:data' type='submit'>"
        f"<field var='FORM_TYPE' type='hidden'><value>{PUBSUB}#node_config</value></field>{fields}</x></configure>"
        "</pubsub>"
    )


async def names(publisher):
    return sorted(item.fingerprint for item in await awaited(publisher.fetch()) if item.usable)


@ensureDeferred
async def test_several_keys(server, account, login):
    """Keys are published beside each other, though such nodes have room for one by default; and taken back."""
    publisher = Publisher((await login(account("juliet"))).xmpp)
    assert await names(publisher) == []
    for key in KEYS:
        assert await awaited(publisher.publish(key))
        assert not await awaited(publisher.publish(key))
    assert await names(publisher) == sorted(key.name for key in KEYS)
    assert len(await awaited(publisher.retract(KEYS[0].name))) == 1
    assert await names(publisher) == [KEYS[1].name]


@ensureDeferred
async def test_others_may_read_them(server, account, login):
    """Whoever wants to encrypt for a user finds his keys."""
    juliet, nurse = await login(account("juliet")), await login(account("nurse"))
    await awaited(Publisher(juliet.xmpp).publish(KEYS[0]))
    found = await nurse.ask(f"<pubsub xmlns='{PUBSUB}'><items node='{NODE}'/></pubsub>", to=juliet.bare)
    assert [item.get("id") for item in found.iter(f"{{{PUBSUB}}}item")] == [KEYS[0].name]


@ensureDeferred
async def test_a_node_that_is_set_up_otherwise(server, account, login):
    """A node with room for one key, and for its owner's eyes, is made to have room for all."""
    juliet = await login(account("juliet"))
    await juliet.ask(creation(max_items=1, access_model="whitelist", persist_items="true"), kind="set")
    publisher = Publisher(juliet.xmpp)
    for key in KEYS:
        assert await awaited(publisher.publish(key))
    assert await names(publisher) == sorted(key.name for key in KEYS)
