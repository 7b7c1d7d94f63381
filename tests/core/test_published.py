"""Published keys, in the shapes of the examples of XEP-0189 and XEP-0373 with real keys in them."""

import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from archive_crypt.core import times, xmlenc
from archive_crypt.core.published import NODES, OPENPGP_NODE, REVOCATION_NODE, Published, read
from archive_crypt.core.xmlenc import RSAKeyValue
from archive_crypt.crypto import publickeys
from archive_crypt.model import SECOND
from tests.core import certificates
from tests.core.test_openpgp import numbers, octets
from tests.kit import LAPTOP, PHONE

JULIET, V14, V07, V05 = "juliet@capulet.com", NODES[0], NODES[1], NODES[2]
MODULUS, EXPONENT = numbers(LAPTOP)
PRINT = "eWGdcl+AzN0treQoRry+/zYqYJ7ZEAzwIvTossTURLw="
BEGIN, END = "2010-01-14T18:44:18Z", "2011-01-14T18:44:18Z"

EXAMPLE_MODULUS = """
1379023255526646700594339116162946782578210615394951216941818138582610132470
1538683909348374935399508656737300036572749687356120324044452513265157631177
7178489330603814456987700147603113573139002085123800563057708424072367754377
0906580036148700287401094143051242586181831057271078882862257109043483553172
66153
      """


def rsa_key_value(private_key=LAPTOP):
    modulus, exponent = (base64.b64encode(number).decode() for number in numbers(private_key))
    modulus = "\n".join(textwrap.wrap(modulus, 65))
    return f"<RSAKeyValue><Modulus>{modulus}</Modulus><Exponent>{exponent}</Exponent></RSAKeyValue>"


def item(payload):
    return etree.fromstring(f"<item xmlns='http://jabber.org/protocol/pubsub' id='1'>{payload}</item>")


def key_info(inner):
    return item(f"<KeyInfo xmlns='{xmlenc.XMLDSIG}'>{inner}</KeyInfo>")


def named(name, private_key=LAPTOP):
    """An item as XEP-0189 0.7 has it in its Example 2."""
    return key_info(f"<KeyName>{name}</KeyName><KeyValue>{rsa_key_value(private_key)}</KeyValue>")


def pubkey(before=f"<begin>{BEGIN}</begin><end>{END}</end>", *, modulus=None, exponent="65537", name=PRINT):
    """An item as XEP-0189 0.14 has it in its Example 1."""
    modulus = modulus or "\n".join(textwrap.wrap(str(int.from_bytes(MODULUS, "big")), 76))
    return item(
        f"<pubkey xmlns='urn:xmpp:pubkey:2'>{before}<rsakey><modulus>\n{modulus}\n</modulus>"
        f"<publicExponent>{exponent}</publicExponent><print algo='sha-256'>{name}</print></rsakey></pubkey>"
    )


def revocation(inner, tag="revocation"):
    return item(f"<{tag} xmlns='urn:xmpp:revoke:2'>{inner}</{tag}>")


def ox(certificate):
    return item(
        f"<pubkey xmlns='urn:xmpp:openpgp:0'><data>\n{base64.encodebytes(certificate).decode()}</data></pubkey>"
    )


def names(nodes, *, owner=JULIET, openpgp=False):
    return [one.key.name for one in read(owner, nodes, openpgp=openpgp)]


@pytest.mark.clause("D218-19")
def test_key_info():
    """A key of XEP-0189 0.7 is read by its KeyName, word for word; it has no dates."""
    expected = Published(RSAKeyValue("julietRSAkey1hash", MODULUS, EXPONENT), None, None)
    assert read(JULIET, {V07: [named("julietRSAkey1hash")]}, openpgp=False) == (expected,)


@pytest.mark.clause("D218-19")
def test_unusable_kinds():
    """Keys of other kinds are passed over: DSA, X.509, PGP, a name alone, nothing, not base64."""
    inner = [
        "<KeyName>dsa</KeyName><KeyValue><DSAKeyValue><P>AQAB</P></DSAKeyValue></KeyValue>",
        "<KeyName>x509</KeyName><X509Data><X509SKI>31d97bd7</X509SKI></X509Data>",
        "<KeyName>pgp</KeyName><PGPData><PGPKeyId>AQAB</PGPKeyId></PGPData>",
        "<KeyName>name</KeyName>",
        "",
        "<KeyName>dots</KeyName><KeyValue><RSAKeyValue><Modulus>...</Modulus><Exponent>AQAB</Exponent>"
        "</RSAKeyValue></KeyValue>",
        "<KeyName>zero</KeyName><KeyValue><RSAKeyValue><Modulus>AAAA</Modulus><Exponent>AQAB</Exponent>"
        "</RSAKeyValue></KeyValue>",
    ]
    assert names({V07: [*map(key_info, inner), named("rsa")]}) == ["rsa"]


@pytest.mark.clause("D218-20")
@pytest.mark.parametrize("node", NODES)
def test_every_node(node):
    """Each node that XEP-0189 ever had is read."""
    assert names({node: [named("laptop")]}) == ["laptop"]


def test_name_inside():
    """The KeyName may stand inside KeyValue."""
    assert names({V05: [key_info(f"<KeyValue><KeyName>in</KeyName>{rsa_key_value()}</KeyValue>")]}) == ["in"]


@pytest.mark.parametrize(
    "without",
    [key_info(f"<KeyValue>{rsa_key_value()}</KeyValue>"), pubkey(name="")],
    ids=["KeyInfo", "pubkey"],
)
def test_no_name(without):
    """A key without name gets the name that it would get as a supplied key: its fingerprint."""
    assert names({V07: [without]}) == [publickeys.from_numbers(MODULUS, EXPONENT, None).name]


@given(st.binary(min_size=1, max_size=300).filter(any), st.binary(min_size=1, max_size=8).filter(any))
def test_nameless_is_never_nameless(modulus, exponent):
    """Numbers of any size give a fingerprint of 44 characters."""
    value = xmlenc.write_key_value("", modulus, exponent)
    (name,) = names({V07: [item(value)]})
    assert len(base64.b64decode(name, validate=True)) == 32


@pytest.mark.clause("D218-21")
def test_example_of_version_14():
    """Example 1 of XEP-0189 0.14: decimal numbers with line breaks; the print is the name."""
    before = f"<begin>{BEGIN}</begin><end>{END}</end><jid>alice@example.com</jid>"
    (one,) = read("alice@example.com", {V14: [pubkey(before, modulus=EXAMPLE_MODULUS)]}, openpgp=False)
    modulus = octets(int("".join(EXAMPLE_MODULUS.split())))
    assert one.key == RSAKeyValue(PRINT, modulus, b"\x01\x00\x01")
    assert (one.begin, one.end) == (times.parse(BEGIN), times.parse(END))


def test_real_key_of_version_14():
    """The numbers of a real key come out of their decimal form as they went in."""
    (one,) = read(JULIET, {V14: [pubkey()]}, openpgp=False)
    assert (one.key.modulus, one.key.exponent) == (MODULUS, EXPONENT)


def test_no_dates():
    """A key without dates has no bounds."""
    (one,) = read(JULIET, {V14: [pubkey("")]}, openpgp=False)
    assert (one.begin, one.end) == (None, None)


@pytest.mark.parametrize(
    "unreadable",
    [
        pubkey("<end>next year</end>"),
        pubkey("<begin/>"),
        pubkey(modulus="AQAB"),
        pubkey(modulus="-5"),
        pubkey(modulus="1_000"),
        pubkey(modulus="\u0663"),
        pubkey(modulus="0"),
        pubkey(modulus="9" * 100_000),
        pubkey(exponent=""),
        item("<pubkey xmlns='urn:xmpp:pubkey:2'/>"),
        item("<pubkey xmlns='urn:xmpp:pubkey:2'><rsakey/></pubkey>"),
    ],
)
def test_unreadable_pubkey(unreadable):
    """A key with a date or a number that cannot be read is passed over, the next one is not."""
    assert names({V14: [unreadable, pubkey("", name="next")]}) == ["next"]


@pytest.mark.clause("D218-22")
@pytest.mark.parametrize(
    ("jids", "expected"),
    [
        ("", [PRINT]),
        ("<jid>juliet@capulet.com</jid>", [PRINT]),
        ("<jid> Juliet@Capulet.com\n</jid>", [PRINT]),
        ("<jid>mallory@x</jid>", []),
        ("<jid>juliet@capulet.com/balcony</jid>", []),
        ("<jid>capulet.com</jid>", []),
        ("<jid/>", []),
        ("<jid>@</jid>", []),
        ("<jid>juliet@capulet.com</jid><jid>mallory@x</jid>", []),
    ],
)
def test_jid(jids, expected):
    """A key that names a JID other than the owner's bare one is passed over."""
    assert names({V14: [pubkey(jids)]}) == expected


def test_keys_of_somebody_else():
    """What lies deeper in an item is not read: a <pubkeys/> may hold the keys of a third party."""
    info = f"<KeyInfo xmlns='{xmlenc.XMLDSIG}'><KeyValue>{rsa_key_value()}</KeyValue></KeyInfo>"
    assert names({V07: [item(f"<pubkeys xmlns='{V07}' jid='benvolio@montague.net'>{info}</pubkeys>")]}) == []


def test_payloads_without_items():
    """The payloads may come without the items around them."""
    assert names({V14: [pubkey()[0]], V07: [named("laptop")[0]]}) == [PRINT, "laptop"]


def test_order():
    """Keys come in the order of NODES, and in a node in the order of its items."""
    nodes = {V05: [named("c")], V07: [named("b"), named("a")], V14: [pubkey(name="d")]}
    assert names(nodes) == ["d", "b", "a", "c"]


def test_unknown_nodes():
    """Nodes that are not of XEP-0189 are not read."""
    assert names({"urn:xmpp:other": [named("laptop")], OPENPGP_NODE: [named("laptop")]}) == []


def test_duplicates():
    """The same key under the same name is there once, leading zeros or not; the first one counts."""
    padded = item(xmlenc.write_key_value(PRINT, b"\0" + MODULUS, EXPONENT))
    nodes = {V14: [pubkey()], V07: [padded, named(PRINT), named("other"), named(PRINT, PHONE)]}
    found = read(JULIET, nodes, openpgp=False)
    assert [one.key.name for one in found] == [PRINT, "other", PRINT]
    assert [one.end for one in found] == [times.parse(END), None, None]


DER = base64.encodebytes(LAPTOP.public("any").der).decode()


@pytest.mark.clause("D218-21")
@pytest.mark.parametrize("tag", ["revocation", "revoke"])
@pytest.mark.parametrize(
    "inner",
    [
        f"<keyprint>\n{PRINT}\n</keyprint>",
        f"<keyprint>{base64.b64decode(PRINT).hex()}</keyprint>",
        f"<keyprint>{base64.b64decode(PRINT).hex().upper()}</keyprint><key>?</key>",
        f"<key>\n{DER}</key>",
        f"<key>{DER}</key><keyprint>another</keyprint>",
    ],
)
def test_revoked(inner, tag):
    """A key is left out that is revoked by its print, in base64 or hex, or as a whole."""
    nodes = {V14: [pubkey()], V07: [named("phone", PHONE)], REVOCATION_NODE: [revocation(inner, tag)]}
    assert names(nodes) == ["phone"]


def test_revoked_by_opaque_name():
    """A print that is no digest revokes the key of exactly this name."""
    revoked = revocation("<keyprint>julietRSAkey1hash</keyprint>")
    nodes = {V07: [named("julietRSAkey1hash"), named("julietRSAkey2hash")], REVOCATION_NODE: [revoked]}
    assert names(nodes) == ["julietRSAkey2hash"]


@pytest.mark.parametrize("inner", ["", "<keyprint/>", "<key/>", "<key>?</key>", "<key>AQAB</key>"])
def test_revocations_of_nothing(inner):
    """A revocation that names no key of the user revokes none."""
    assert names({V14: [pubkey()], REVOCATION_NODE: [revocation(inner)]}) == [PRINT]


def test_revoked_duplicates():
    """A key that is revoked as a whole is revoked under each of its names."""
    nodes = {V14: [pubkey()], V07: [named("laptop")], REVOCATION_NODE: [revocation(f"<key>{DER}</key>")]}
    assert names(nodes) == []


@pytest.mark.clause("D374-13")
def test_openpgp():
    """An RSA key of XEP-0373 is read under its fingerprint of version 4, if it is asked for."""
    nodes = {f"{OPENPGP_NODE}:{certificates.JULIET_PRIMARY}": [ox(certificates.JULIET)]}
    assert names(nodes, openpgp=True) == [certificates.JULIET_SUBKEY]
    assert names(nodes, openpgp=False) == []


def test_openpgp_end():
    """An OpenPGP key ends when its certificate says."""
    nodes = {f"{OPENPGP_NODE}:{certificates.MERCUTIO_PRIMARY}": [ox(certificates.MERCUTIO)]}
    (one,) = read(JULIET, nodes, openpgp=True)
    assert (one.begin, one.end) == (None, certificates.MERCUTIO_SUBKEY_ENDS * SECOND)


@pytest.mark.clause("D374-13")
def test_openpgp_curve():
    """Of a user who has only a key of curve 25519 there is none."""
    nodes = {f"{OPENPGP_NODE}:{certificates.ROMEO_PRIMARY}": [ox(certificates.ROMEO)]}
    assert read(JULIET, nodes, openpgp=True) == ()


def test_openpgp_fingerprints():
    """A certificate is read only in the node of its own primary key, in whatever case that is written."""
    right, wrong = certificates.JULIET_PRIMARY.lower(), certificates.JULIET_SUBKEY
    assert names({f"{OPENPGP_NODE}:{wrong}": [ox(certificates.JULIET)]}, openpgp=True) == []
    assert names({f"{OPENPGP_NODE}:{right}": [ox(certificates.JULIET)]}, openpgp=True) == [wrong]


@pytest.mark.parametrize(
    "payload",
    [
        "<pubkey xmlns='urn:xmpp:openpgp:0'/>",
        "<pubkey xmlns='urn:xmpp:openpgp:0'><data/></pubkey>",
        "<pubkey xmlns='urn:xmpp:openpgp:0'><data>BASE64_OPENPGP_PUBLIC_KEY</data></pubkey>",
        "<public-keys-list xmlns='urn:xmpp:openpgp:0'/>",
        f"<KeyInfo xmlns='{xmlenc.XMLDSIG}'/>",
    ],
)
def test_openpgp_unreadable(payload):
    """An item of an OpenPGP node without a certificate is passed over."""
    assert (
        read(JULIET, {f"{OPENPGP_NODE}:{certificates.JULIET_PRIMARY}": [item(payload)]}, openpgp=True) == ()
    )


NAMESPACES = [xmlenc.XMLDSIG, "urn:xmpp:pubkey:2", REVOCATION_NODE, "urn:xmpp:openpgp:0"]
TAGS = [
    *("KeyInfo", "KeyName", "KeyValue", "RSAKeyValue", "Modulus", "Exponent"),
    *("pubkey", "jid", "begin", "end", "rsakey", "modulus", "publicExponent", "print"),
    *("revocation", "key", "keyprint", "data", "item"),
]
TEXTS = st.sampled_from(["", "AQAB", "65537", BEGIN, JULIET, "@", PRINT, DER]) | st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cn"), exclude_characters="\ufffe\uffff")
)


def _node(tag, namespace, text, children):
    made = etree.Comment("x") if tag is None else etree.Element(f"{{{namespace}}}{tag}")
    if tag is not None:
        made.text = text
        made.extend(children)
    return made


def _trees(children):
    return st.builds(_node, st.sampled_from([*TAGS, None]), st.sampled_from(NAMESPACES), TEXTS, children)


TREES = st.recursive(_trees(st.just([])), lambda inner: _trees(st.lists(inner, max_size=5)), max_leaves=20)
KEY_NODES = st.sampled_from(
    [*NODES, REVOCATION_NODE, OPENPGP_NODE, f"{OPENPGP_NODE}:{certificates.JULIET_PRIMARY}"]
)


@given(st.text(max_size=20), st.dictionaries(KEY_NODES, st.lists(TREES, max_size=4)), st.booleans())
def test_any_xml(owner, nodes, openpgp):
    """Whatever the items hold, reading is no error, and what it gives are keys with names."""
    for one in read(owner, nodes, openpgp=openpgp):
        assert one.key.name
        assert one.key.modulus
        assert one.key.exponent


@given(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)
def test_any_text(begin, end, jid, modulus, exponent, name):
    """Whatever stands where a key has its parts, reading is no error."""
    key = pubkey("<begin/><end/><jid/>")[0]
    for child, text in zip(key[:3], (begin, end, jid), strict=True):
        child.text = text
    for child, text in zip(key[3], (modulus, exponent, name), strict=True):
        child.text = text
    revoked = revocation("<keyprint/><key/>")
    revoked[0][0].text, revoked[0][1].text = name, modulus
    assert len(read(JULIET, {V14: [key], REVOCATION_NODE: [revoked]}, openpgp=True)) <= 1
