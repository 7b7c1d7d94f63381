"""Published keys: a slixmpp client over TLS, a real server with users' own nodes, a real archive."""

import base64
import re
import textwrap

import pytest
from pytest_twisted import ensureDeferred
from slixmpp.xmlstream import ET
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.core import xmlenc
from archive_crypt.core.published import NODES, OPENPGP_NODE, REVOCATION_NODE
from archive_crypt.hosts.pep import Pep
from archive_crypt.hosts.wire import result
from archive_crypt.reader.errors import CannotAsk, NotOffered, NotUnderstood
from archive_crypt.reader.publishing import NODE, Publisher
from tests.core import certificates
from tests.core.certificates import JULIET_PRIMARY, JULIET_SUBKEY, MERCUTIO_PRIMARY, ROMEO_PRIMARY
from tests.kit import LAPTOP, PHONE, key_info
from tests.reader.conftest import DOMAIN, awaited

ROMEO = f"romeo@{DOMAIN}"
ONE, TWO = LAPTOP.public().name, PHONE.public().name
PUBSUB = "http://jabber.org/protocol/pubsub"


async def put(client, node, payload, item="1", options=""):
    """Publish what another program would."""
    iq = client.make_iq_set()
    iq.xml.append(
        ET.fromstring(
            f"<pubsub xmlns='{PUBSUB}'><publish node='{node}'><item id='{item}'>{payload}</item></publish>"
            f"{options}</pubsub>"
        )
    )
    await awaited(iq.send())


def pubkey(key, name="print", begin="2010-01-14T18:44:18Z", end="2110-01-14T18:44:18Z", jid=ROMEO):
    """As XEP-0189 0.14 has it."""
    numbers = key.public().rsa.public_numbers()
    modulus = "\n".join(textwrap.wrap(str(numbers.n), 76))
    return (
        f"<pubkey xmlns='urn:xmpp:pubkey:2'><begin>{begin}</begin><end>{end}</end><jid>{jid}</jid><rsakey>"
        f"<modulus>\n{modulus}\n</modulus><publicExponent>65537</publicExponent><print>{name}</print></rsakey></pubkey>"
    )


def revocation(key):
    der = base64.b64encode(key.public().der).decode()
    return f"<revocation xmlns='urn:xmpp:revoke:2'><key>{der}</key></revocation>"


def openpgp(octets):
    """As XEP-0373 4.1 has it."""
    return f"<pubkey xmlns='urn:xmpp:openpgp:0'><data>{base64.b64encode(octets).decode()}</data></pubkey>"


def announced(*fingerprints):
    """As XEP-0373 4.2 has it."""
    told = [f"<pubkey-metadata v4-fingerprint='{one}' date='2026-11-21T10:00:00Z'/>" for one in fingerprints]
    return f"<public-keys-list xmlns='urn:xmpp:openpgp:0'>{''.join(told)}</public-keys-list>"


async def all_of(iterator):
    return [one async for one in iterator]


async def fingerprints(publisher):
    return [item.fingerprint for item in await awaited(publisher.fetch())]


@pytest.mark.clause("0218-3-01", "0241-2-16")
@ensureDeferred
async def test_the_server_encrypts_for_it(served, login, talk):
    """What is published is what the archive is encrypted for, under the key's fingerprint, with no other
    key supplied."""
    client = await login(served)
    assert await awaited(Publisher(client).publish(LAPTOP.public()))
    await awaited(client.plugin["xep_0241"].enable(lasting=True))
    await talk("O Romeo")
    listed = await awaited(all_of(client.plugin["xep_0241"].keys([ONE])))
    (wrapped,) = [xmlenc.read_key(key) for _, keys in listed for key in keys]
    assert wrapped.recipients == (ONE,)


@ensureDeferred
async def test_published_once(served, login):
    """A key that is published is not published again, by whatever name and in whatever form it is there."""
    publisher = Publisher(client := await login(served))
    assert await awaited(publisher.publish(LAPTOP.public()))
    assert not await awaited(publisher.publish(LAPTOP.public(name="other")))
    await put(client, NODES[1], key_info(PHONE, "mine"))
    assert not await awaited(publisher.publish(PHONE.public()))
    (first, second) = await awaited(publisher.fetch())
    assert (first.node, first.key.name, first.fingerprint) == (NODE, ONE, ONE)
    assert (second.node, second.key.name, second.fingerprint) == (NODES[1], "mine", TWO)
    assert first.usable
    assert second.usable


@ensureDeferred
async def test_several(served, login):
    """Keys stand beside each other; one is taken back, in all its places, and the others stay."""
    publisher = Publisher(client := await login(served))
    for key in (LAPTOP, PHONE):
        await awaited(publisher.publish(key.public()))
    await put(client, NODES[2], key_info(LAPTOP, "again"))
    gone = await awaited(publisher.retract(ONE))
    assert [(item.node, item.key.name) for item in gone] == [(NODE, ONE), (NODES[2], "again")]
    assert await fingerprints(publisher) == [TWO]
    assert await awaited(publisher.retract(ONE)) == []


@ensureDeferred
async def test_every_form_is_read(served, login):
    """Each node and form that XEP-0189 had is read; what is no key, or somebody else's, is not."""
    publisher = Publisher(client := await login(served))
    for node in NODES:
        await put(client, node, key_info(LAPTOP, f"in {node}"))
    await put(client, NODE, pubkey(PHONE, "of today"), "2")
    await put(client, NODE, pubkey(PHONE, "not ours", jid="mallory@elsewhere.example"), "3")
    await put(client, NODE, "<x xmlns='urn:x'/>", "4")
    found = await awaited(publisher.fetch())
    assert [item.key.name for item in found] == [
        f"in {NODE}",
        "of today",
        *(f"in {node}" for node in NODES[1:]),
    ]
    assert {item.fingerprint for item in found} == {ONE, TWO}


@pytest.mark.parametrize("is_listed", [True, False])
@ensureDeferred
async def test_openpgp_keys(served, login, monkeypatch, is_listed):
    """RSA keys of OpenPGP are read, which a server may encrypt for; whether their owner lists them, as where
    nobody else may see what nodes there are, or not; and taken back."""
    publisher = Publisher(client := await login(served))
    await put(client, f"{OPENPGP_NODE}:{JULIET_PRIMARY}", openpgp(certificates.JULIET))
    await put(client, f"{OPENPGP_NODE}:{ROMEO_PRIMARY}", openpgp(certificates.ROMEO))  # of a curve
    if is_listed:
        await put(client, OPENPGP_NODE, announced(JULIET_PRIMARY, ROMEO_PRIMARY, MERCUTIO_PRIMARY))
        monkeypatch.setattr(Pep, "names", lambda self, user: ())
    await awaited(publisher.publish(LAPTOP.public()))
    first, second = await awaited(publisher.fetch())
    assert (first.fingerprint, first.openpgp) == (ONE, False)
    assert (second.node, second.key.name) == (f"{OPENPGP_NODE}:{JULIET_PRIMARY}", JULIET_SUBKEY)
    assert (second.openpgp, second.usable) == (True, True)
    assert len(await awaited(publisher.retract(second.fingerprint))) == 1
    assert await fingerprints(publisher) == [ONE]


@ensureDeferred
async def test_published_for_openpgp_only(served, login):
    """A key that only an OpenPGP certificate holds is not published yet for all servers."""
    publisher = Publisher(client := await login(served))
    await put(client, f"{OPENPGP_NODE}:{JULIET_PRIMARY}", openpgp(certificates.JULIET))
    (item,) = await awaited(publisher.fetch())
    assert await awaited(publisher.publish(item.key))
    assert not await awaited(publisher.publish(item.key))
    assert [one.node for one in await awaited(publisher.fetch())] == [NODE, item.node]


@ensureDeferred
async def test_too_many_openpgp_keys(served, login):
    """Where more are listed than can be looked at, nothing is told of keys: one of them may be a stranger's."""
    publisher = Publisher(client := await login(served))
    await put(client, OPENPGP_NODE, announced(*(f"{number:040X}" for number in range(100))))
    assert await fingerprints(publisher) == []
    await put(client, OPENPGP_NODE, announced(*(f"{number:040X}" for number in range(101))))
    with pytest.raises(NotUnderstood, match="101 OpenPGP keys"):
        await awaited(publisher.fetch())


@ensureDeferred
async def test_several_keys_in_one_item(served, login):
    """Where a server lets an item hold several keys, all of them are read, and the item is taken back once."""
    publisher = Publisher(client := await login(served))
    await put(client, NODES[1], key_info(LAPTOP, "one"))
    node = served.server._pep._nodes(JID(ROMEO))[NODES[1]]
    node.items["1"] += key_info(LAPTOP, "other") + key_info(PHONE, "two")
    assert await fingerprints(publisher) == [ONE, ONE, TWO]
    await awaited(publisher.retract(ONE))
    assert await fingerprints(publisher) == []


@pytest.mark.parametrize(
    ("begin", "end", "usable"),
    [
        ("2010-01-14T18:44:18Z", "2011-01-14T18:44:18Z", False),
        ("2110-01-14T18:44:18Z", "2111-01-14T18:44:18Z", False),
        ("2010-01-14T18:44:18Z", "2111-01-14T18:44:18Z", True),
    ],
)
@ensureDeferred
async def test_dates(served, login, begin, end, usable):
    """A key out of its time counts for nothing; it is published beside, without an end."""
    publisher = Publisher(client := await login(served))
    await put(client, NODE, pubkey(LAPTOP, begin=begin, end=end))
    (item,) = await awaited(publisher.fetch())
    assert item.usable == usable
    assert await awaited(publisher.publish(LAPTOP.public())) != usable
    assert (await awaited(publisher.fetch()))[-1].usable


@ensureDeferred
async def test_revoked(served, login):
    """A key that was revoked is shown as that, and not published again."""
    publisher = Publisher(client := await login(served))
    await awaited(publisher.publish(LAPTOP.public()))
    await awaited(publisher.publish(PHONE.public()))
    await put(client, REVOCATION_NODE, revocation(LAPTOP))
    assert [(item.fingerprint, item.usable) for item in await awaited(publisher.fetch())] == [
        (ONE, False),
        (TWO, True),
    ]
    with pytest.raises(CannotAsk, match="revoked: make another"):
        await awaited(publisher.publish(LAPTOP.public()))


@ensureDeferred
async def test_a_node_that_is_set_up_otherwise(served, login):
    """Where a node is there for its owner only, the key is published in it all the same."""
    publisher = Publisher(client := await login(served))
    form = (
        "<publish-options><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>"
        f"{PUBSUB}#publish-options</value></field><field var='pubsub#access_model'>"
        "<value>whitelist</value></field></x></publish-options>"
    )
    await put(client, NODE, pubkey(PHONE), options=form)
    assert await awaited(publisher.publish(LAPTOP.public()))
    assert await fingerprints(publisher) == [TWO, ONE]


@ensureDeferred
async def test_no_room(serve, login, monkeypatch):
    """Where the server drops one key for another, or takes one and has it not, that is said."""
    publish = Pep._publish

    def only_one(self, request):
        self._nodes(request.account).pop(NODE, None)
        return publish(self, request)

    monkeypatch.setattr(Pep, "_publish", only_one)
    publisher = Publisher(await login(serve()))
    await awaited(publisher.publish(LAPTOP.public()))
    with pytest.raises(NotUnderstood, match=f"no room for so many keys: {re.escape(ONE)} is gone"):
        await awaited(publisher.publish(PHONE.public()))
    monkeypatch.setattr(Pep, "_publish", lambda self, request: result(request.iq))
    with pytest.raises(NotUnderstood, match="does not publish it"):
        await awaited(Publisher(await login(serve())).publish(LAPTOP.public()))


@ensureDeferred
async def test_no_nodes(serve, login, monkeypatch):
    """Where users have no nodes that is said."""

    def answer(self, asker, iq, account):
        raise StanzaError("service-unavailable")

    monkeypatch.setattr(Pep, "answer", answer)
    with pytest.raises(NotOffered, match=f"{DOMAIN} has no place where users publish keys"):
        await awaited(Publisher(await login(serve())).publish(LAPTOP.public()))
