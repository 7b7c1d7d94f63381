"""Public keys that users publish to their own nodes are encrypted for (XEP-0241 3, XEP-0189, XEP-0373)."""

import base64

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import F
from tests.core import certificates
from tests.e2e.conftest import DOMAIN
from tests.kit import LAPTOP, PHONE, key_info, opened

PUBSUB = "http://jabber.org/protocol/pubsub"
AUTO = f"<auto xmlns='{F.namespace}' save='true' encrypt='true'/>"
JULIET = f"juliet@{DOMAIN}"
NEW = "urn:xmpp:pubkey:2"


async def publish(client, node, payload, item="key"):
    """Put a payload on a node of one's own."""
    xml = f"<pubsub xmlns='{PUBSUB}'><publish node='{node}'><item id='{item}'>{payload}</item></publish></pubsub>"
    assert (await client.ask(xml, "set")).get("type") == "result"


def pubkey(key, name, jid=f"romeo@{DOMAIN}", end="2099-01-01T00:00:00Z"):
    """A key as XEP-0189 0.14 has it."""
    numbers = key.public(name).rsa.public_numbers()
    rsa = f"<modulus>{numbers.n}</modulus><publicExponent>{numbers.e}</publicExponent><print>{name}</print>"
    return (
        f"<pubkey xmlns='{NEW}'><begin>2020-01-01T00:00:00Z</begin><end>{end}</end>"
        f"<jid>{jid}</jid><rsakey>{rsa}</rsakey></pubkey>"
    )


async def recipients(client):
    """The public keys that each collection's page has EncryptedKeys for, oldest first."""
    found = []
    for shown in await client.collections():
        page = await client.page(shown)
        found.append([key.find(".//{*}KeyName").text for key in page.findall("{*}EncryptedKey")])
    return found


def refused(answer):
    return answer.get("type") == "error" and answer.find("{*}error")[0].tag.partition("}")[2]


@pytest.mark.clause("0218-3-01", "D218-21", "D218-18", "0241-3-07")
@ensureDeferred
async def test_a_published_key_is_enough(service, login):
    """Without any key encryption is refused; once one is published it is had, for that key alone."""
    romeo = await login(service, "romeo")
    assert refused(await romeo.ask(AUTO, "set")) == "not-acceptable"
    await publish(romeo, NEW, pubkey(LAPTOP, "printed"))
    assert (await romeo.ask(AUTO, "set")).get("type") == "result"
    await romeo.says(JULIET, "sealed")
    (shown,) = await romeo.collections()
    (item,) = opened(await romeo.page(shown), LAPTOP)
    assert item.bodies == ((None, "sealed"),)
    assert await recipients(romeo) == [["printed"]]


@pytest.mark.clause("D218-21", "D218-22")
@pytest.mark.parametrize(
    "payload",
    [
        pubkey(LAPTOP, "old", end="2021-01-01T00:00:00Z"),
        pubkey(LAPTOP, "another's", jid="mallory@x"),
        "<KeyInfo xmlns='http://www.w3.org/2000/09/xmldsig#'><KeyValue><DSAKeyValue/></KeyValue></KeyInfo>",
    ],
)
@ensureDeferred
async def test_keys_that_do_not_count(service, login, payload):
    """A key that is over, that names somebody else, or is no RSA key, is as good as none."""
    romeo = await login(service, "romeo")
    await publish(romeo, NEW, payload)
    assert refused(await romeo.ask(AUTO, "set")) == "not-acceptable"


@pytest.mark.clause("D218-19", "D218-20")
@pytest.mark.parametrize(
    "node", ["urn:xmpp:tmp:pubkey", "http://www.xmpp.org/extensions/xep-0189.html#ns", "urn:xmpp:pubkeys"]
)
@ensureDeferred
async def test_keys_as_they_were_published_once(service, login, node):
    """KeyInfo on the nodes of 2006 to 2008 is read, its KeyName taken as it is; a DSA key beside is skipped."""
    romeo = await login(service, "romeo")
    dsa = "<KeyInfo xmlns='http://www.w3.org/2000/09/xmldsig#'><KeyName>dsa</KeyName><KeyValue><DSAKeyValue/></KeyValue></KeyInfo>"
    await publish(romeo, node, dsa, "dsa")
    await publish(romeo, node, key_info(LAPTOP, "hash1"), "rsa")
    assert not refused(await romeo.ask(AUTO, "set"))
    await romeo.says(JULIET, "sealed")
    assert await recipients(romeo) == [["hash1"]]


@pytest.mark.clause("D218-23")
@ensureDeferred
async def test_a_second_key_while_recording(service, login):
    """A key published while a collection is recorded is added to it; supplied keys stand beside."""
    romeo = await login(service, "romeo")
    await publish(romeo, NEW, pubkey(LAPTOP, "one"))
    await romeo.record((PHONE, "supplied"))
    await romeo.says(JULIET, "first")
    await publish(romeo, NEW, pubkey(PHONE, "two"), "second")
    await romeo.says(JULIET, "second")
    ((*names,),) = await recipients(romeo)
    assert sorted(names) == ["one", "supplied", "two"]


@ensureDeferred
async def test_published_keys_outlive_the_server(serve, login):
    """The last usable keys are kept: another process, which no host has told of any, encrypts for them."""
    romeo = await login(serve(), "romeo")
    await publish(romeo, NEW, pubkey(LAPTOP, "kept"))
    assert not refused(await romeo.ask(AUTO, "set"))
    there = await login(serve(), "romeo", "elsewhere")
    assert (await there.ask(AUTO, "set")).get("type") == "result"


@pytest.mark.clause("D374-13")
@pytest.mark.parametrize("on", [True, False])
@ensureDeferred
async def test_openpgp_keys(serve, login, on):
    """The RSA keys of a published OpenPGP certificate are encrypted for if the operator allows it."""
    romeo = await login(serve(openpgp_keys=on), "romeo")
    data = base64.b64encode(certificates.JULIET).decode()
    payload = f"<pubkey xmlns='urn:xmpp:openpgp:0'><data>{data}</data></pubkey>"
    await publish(romeo, f"urn:xmpp:openpgp:0:public-keys:{certificates.JULIET_PRIMARY}", payload)
    answer = await romeo.ask(AUTO, "set")
    if not on:
        assert refused(answer) == "not-acceptable"
        return
    assert not refused(answer)
    await romeo.says(JULIET, "sealed")
    assert await recipients(romeo) == [[certificates.JULIET_SUBKEY]]
