"""Reads the RSA keys that a user publishes in PEP: by XEP-0189, old and new, and by XEP-0373.

Whether a key is strong enough is `crypto`'s to judge, and whether it is in date is its caller's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

from archive_crypt.core import jids, times, xmlenc
from archive_crypt.core.openpgp import rsa_keys
from archive_crypt.core.xmlenc import RSAKeyValue
from archive_crypt.errors import BadRequest
from archive_crypt.model import Micros

#: Where XEP-0189 has had the keys: 0.14; 0.7; 0.5 and 0.6; the namespace it meant to have one day.
NODES: tuple[str, ...] = (
    "urn:xmpp:pubkey:2",
    "urn:xmpp:tmp:pubkey",
    "http://www.xmpp.org/extensions/xep-0189.html#ns",
    "urn:xmpp:pubkeys",
)
#: Where XEP-0189 0.14 has what became of them.
REVOCATION_NODE = "urn:xmpp:revoke:2"
#: Where XEP-0373 lists fingerprints; each key has a node of its own, this name, ":" and its fingerprint.
OPENPGP_NODE = "urn:xmpp:openpgp:0:public-keys"

_KEY_INFO = f"{{{xmlenc.XMLDSIG}}}KeyInfo"
_PUBKEY = "{urn:xmpp:pubkey:2}"
_REVOKE = "{urn:xmpp:revoke:2}"
_OPENPGP = "{urn:xmpp:openpgp:0}"
#: The text of XEP-0189 0.14 says revoke, its example and its schema revocation.
_REVOCATIONS = (f"{_REVOKE}revocation", f"{_REVOKE}revoke")

#: 8192 bits, the most that a key may have, take 2467 digits.
_DECIMAL = re.compile("[0-9]{1,2467}")
_HEX_DIGEST = re.compile("[0-9A-Fa-f]{64}")
#: rsaEncryption without parameters, in DER (RFC 3279 2.3.1).
_DER_RSA = bytes.fromhex("300d06092a864886f70d0101010500")


def watched(*, openpgp: bool) -> tuple[str, ...]:
    """The nodes to be told of; a name followed by ':' and more counts as well."""
    return (*NODES, REVOCATION_NODE, *((OPENPGP_NODE,) if openpgp else ()))


@dataclass(frozen=True, slots=True)
class Published:
    """A key and when it may be used, from `begin` to `end`; None: no bound. The key has a name."""

    key: RSAKeyValue
    begin: Micros | None = None
    end: Micros | None = None


def read(
    owner: str, nodes: Mapping[str, Sequence[etree._Element]], *, openpgp: bool
) -> tuple[Published, ...]:
    """Every RSA key that `owner`, a bare JID, publishes: those of NODES in that order, then OpenPGP's.

    `nodes` has the items of each node, or what is in them. Left out without a word is what was
    revoked (the items of REVOCATION_NODE tell), is of another JID, or is no RSA key that can be
    read. Keys of the same name and numbers are one: the first. `openpgp`: whether to read XEP-0373.
    """
    found: dict[RSAKeyValue, Published] = {}
    for one in _all(owner, nodes, openpgp=openpgp):
        found.setdefault(one.key, one)
    revoked = frozenset(
        mark for payload in _payloads(nodes.get(REVOCATION_NODE, ())) for mark in _revoked(payload)
    )
    return tuple(one for one in found.values() if revoked.isdisjoint(_marks(one.key)))


def _all(owner: str, nodes: Mapping[str, Sequence[etree._Element]], *, openpgp: bool) -> Iterator[Published]:
    for node in NODES:
        for payload in _payloads(nodes.get(node, ())):
            one = _read_key_info(payload) if payload.tag == _KEY_INFO else _read_pubkey(owner, payload)
            if one is not None:
                yield one
    if openpgp:
        for node, items in nodes.items():
            if node.startswith(f"{OPENPGP_NODE}:"):
                for payload in _payloads(items):
                    yield from _read_openpgp(node.removeprefix(f"{OPENPGP_NODE}:"), payload)


def _payloads(elements: Sequence[etree._Element]) -> Iterator[etree._Element]:
    """What is in the items; nothing deeper, where it could be of somebody else (``<pubkeys jid=''/>``)."""
    for element in elements:
        if isinstance(element.tag, str) and element.tag.rpartition("}")[2] == "item":
            yield from element
        else:
            yield element


def _read_key_info(info: etree._Element) -> Published | None:
    """XEP-0189 0.5 to 0.7, where a key has no dates and no JID."""
    try:
        value = xmlenc.read_key_value(info)
    except BadRequest:
        return None
    return None if value is None else _published(value.name, value.modulus, value.exponent)


def _read_pubkey(owner: str, pubkey: etree._Element) -> Published | None:
    """XEP-0189 0.14. The print is a name and no more: the XEP's own does not fit its key."""
    rsa = pubkey.find(f"{_PUBKEY}rsakey")
    if pubkey.tag != f"{_PUBKEY}pubkey" or rsa is None:
        return None
    if any(not _is(owner, jid.text) for jid in pubkey.findall(f"{_PUBKEY}jid")):
        return None
    try:
        return _published(
            _text(rsa, f"{_PUBKEY}print"),
            _number(_text(rsa, f"{_PUBKEY}modulus")),
            _number(_text(rsa, f"{_PUBKEY}publicExponent")),
            begin=_time(_text(pubkey, f"{_PUBKEY}begin")),
            end=_time(_text(pubkey, f"{_PUBKEY}end")),
        )
    except BadRequest:
        return None


def _read_openpgp(fingerprint: str, pubkey: etree._Element) -> Iterator[Published]:
    """XEP-0373 4.1. A certificate under another's fingerprint is not what the user announced."""
    if pubkey.tag != f"{_OPENPGP}pubkey":
        return
    try:
        octets = xmlenc.decode_base64(_text(pubkey, f"{_OPENPGP}data") or "")
    except BadRequest:
        return
    for key in rsa_keys(octets):
        if key.primary == fingerprint.upper():
            yield Published(RSAKeyValue(key.fingerprint, key.modulus, key.exponent), end=key.end)


def _published(
    name: str | None,
    modulus: bytes,
    exponent: bytes,
    *,
    begin: Micros | None = None,
    end: Micros | None = None,
) -> Published | None:
    """The key with its numbers in their shortest form; without name it gets its fingerprint for one."""
    modulus, exponent = modulus.lstrip(b"\0"), exponent.lstrip(b"\0")
    if not modulus or not exponent:
        return None
    return Published(RSAKeyValue(name or _fingerprint(modulus, exponent), modulus, exponent), begin, end)


def _revoked(revocation: etree._Element) -> Iterator[bytes]:
    """What marks the key that is revoked (XEP-0189 0.14): its print, and the key itself in DER.

    Its signature is not verified: who can write to the user's PEP can take the key itself away.
    """
    if revocation.tag not in _REVOCATIONS:
        return
    keyprint = _text(revocation, f"{_REVOKE}keyprint")
    if keyprint:
        yield _digest(keyprint)
    key = _text(revocation, f"{_REVOKE}key")
    if key:
        try:
            yield hashlib.sha256(xmlenc.decode_base64(key)).digest()
        except BadRequest:
            return


def _marks(key: RSAKeyValue) -> tuple[bytes, bytes]:
    return _digest(key.name or ""), _der_digest(key.modulus, key.exponent)


def _digest(name: str) -> bytes:
    """The digest that a print writes in hex or base64 (the XEP's examples have both), else its octets."""
    if _HEX_DIGEST.fullmatch(name):
        return bytes.fromhex(name)
    try:
        octets = base64.b64decode(name, validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    return octets if len(octets) == 32 else name.encode("utf-8", "surrogatepass")


def _fingerprint(modulus: bytes, exponent: bytes) -> str:
    """The name of a key without one, the same that `crypto.publickeys` gives it: base64 of SHA-256."""
    return base64.b64encode(_der_digest(modulus, exponent)).decode()


def _der_digest(modulus: bytes, exponent: bytes) -> bytes:
    """SHA-256 of the key as SubjectPublicKeyInfo (RFC 5280 4.1), in DER."""
    numbers = _der(0x30, _der_integer(modulus) + _der_integer(exponent))
    return hashlib.sha256(_der(0x30, _DER_RSA + _der(0x03, b"\0" + numbers))).digest()


def _der_integer(octets: bytes) -> bytes:
    # A first bit of 1 would make it negative.
    return _der(0x02, b"\0" + octets if octets[0] & 0x80 else octets)


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + content


def _is(owner: str, text: str | None) -> bool:
    """Whether a text is the owner's bare JID, in whatever case it is written."""
    jid = jids.read((text or "").strip())
    return jid is not None and jid == jids.read(owner)


def _number(text: str | None) -> bytes:
    """A decimal number that may be broken into lines, big-endian.

    :raises BadRequest: it is none, or longer than that of any key.
    """
    digits = "".join((text or "").split())
    if not _DECIMAL.fullmatch(digits):
        raise BadRequest("A number is not decimal.")
    number = int(digits)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _time(text: str | None) -> Micros | None:
    return None if text is None else times.parse(text)


def _text(parent: etree._Element, path: str) -> str | None:
    """The text of a child without white space around it; None if there is no such child."""
    child = parent.find(path)
    return None if child is None else (child.text or "").strip()
