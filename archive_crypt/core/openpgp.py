"""The RSA keys of an OpenPGP certificate (RFC 4880) that its owner would have others encrypt to.

No signature is verified here, and none needs to be: the certificate comes from the account's own
PEP node, where only the account itself can write. Who could put a false one there could as well
put a whole key of his own there, with signatures in perfect order. What the signatures say is heeded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from archive_crypt.model import SECOND, Micros

# Packets (4.3).
_SIGNATURE, _SECRET_KEY, _PUBLIC_KEY, _SECRET_SUBKEY, _PUBLIC_SUBKEY = 2, 5, 6, 7, 14
# Signatures (5.2.1): what a primary key says of itself, what it says of a subkey, what ends a key.
_OF_ITSELF = (0x10, 0x11, 0x12, 0x13, 0x1F)
_BINDING, _REVOKES_PRIMARY, _REVOKES_SUBKEY = 0x18, 0x20, 0x28
# Subpackets of a signature (5.2.3.1; 33 came with RFC 9580).
_CREATED, _KEY_EXPIRES, _ISSUER, _KEY_FLAGS, _ISSUER_FINGERPRINT = 2, 9, 16, 27, 33

_ENCRYPTS = 0x04 | 0x08  # key flags (5.2.3.21): communications, storage
_RSA = (1, 2)  # 9.1: both uses, encryption only; 3 is for signing only


@dataclass(frozen=True, slots=True)
class OpenPGPKey:
    """An RSA key or subkey to encrypt to; `primary` is the fingerprint of its certificate.

    Fingerprints are of version 4, in upper-case hex; `end` is when it expires, None for never.
    """

    primary: str
    fingerprint: str
    modulus: bytes
    exponent: bytes
    end: Micros | None


def rsa_keys(octets: bytes) -> tuple[OpenPGPKey, ...]:
    """The RSA keys for encryption of a certificate, in its order; of several certificates the first.

    Left out are keys revoked, keys whose flags say that they are for other uses, keys of which no
    signature says anything, and all if the primary key is revoked. None at all if a packet is
    malformed or cut off, holds a secret key, or is a key of a version other than 4.
    """
    try:
        keys = _keys(octets)
    except ValueError:
        return ()
    primary = keys[0]
    if primary.revoked:
        return ()
    return tuple(
        OpenPGPKey(primary.fingerprint, key.fingerprint, *key.rsa, _earlier(primary.end, key.end))
        for key in keys
        if key.rsa and key.signature and key.signature.encrypts and not key.revoked
    )


@dataclass(frozen=True, slots=True)
class _Signature:
    """A signature of version 4. Without key flags a key may serve all that its algorithm can."""

    kind: int
    created: int
    issuers: frozenset[bytes]
    encrypts: bool
    expires: int


@dataclass(slots=True)
class _Key:
    """A key packet and what was heard of it since: `signature` is the newest of its own."""

    fingerprint: str
    created: int
    rsa: tuple[bytes, bytes] | None
    signature: _Signature | None = None
    revoked: bool = False

    @property
    def end(self) -> Micros | None:
        if self.signature is None or not self.signature.expires:
            return None
        return (self.created + self.signature.expires) * SECOND


class _Octets:
    """Octets that are read one part after the other; reading past their end is a ValueError."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._octets)

    def take(self, count: int) -> bytes:
        taken = self._octets[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError("cut off")
        self._at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def length(self, two_octets_below: int) -> int:
        """A length of one, two or five octets (4.2.2, 5.2.3.1); of parts, which no key has, none."""
        first = self.number(1)
        if first < 192:
            return first
        if first < two_octets_below:
            return ((first - 192) << 8) + self.number(1) + 192
        if first == 255:
            return self.number(4)
        raise ValueError("a length in parts")

    def mpi(self) -> bytes:
        """A big number without leading zeros (3.2)."""
        return self.take((self.number(2) + 7) // 8).lstrip(b"\0")


def _keys(octets: bytes) -> list[_Key]:
    """The primary key, always first, and its subkeys."""
    keys: list[_Key] = []
    for tag, body in _packets(_Octets(octets)):
        if tag in (_SECRET_KEY, _SECRET_SUBKEY):
            raise ValueError("a secret key")
        if tag == _PUBLIC_KEY and keys:
            break
        if not keys and tag != _PUBLIC_KEY:
            raise ValueError("no primary key")
        if tag in (_PUBLIC_KEY, _PUBLIC_SUBKEY):
            keys.append(_key(body))
        elif tag == _SIGNATURE:
            _heed(body, keys)
    if not keys:
        raise ValueError("no key")
    return keys


def _packets(octets: _Octets) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet, with lengths of the new or of the old form (4.2)."""
    while octets:
        first = octets.number(1)
        if not first & 0x80:
            raise ValueError("no packet")
        if first & 0x40:
            tag, length = first & 0x3F, octets.length(224)
        elif first & 3 == 3:
            raise ValueError("a packet without length")
        else:
            tag, length = first >> 2 & 0x0F, octets.number(1 << (first & 3))
        yield tag, octets.take(length)


def _key(body: bytes) -> _Key:
    """A key packet of version 4 (5.5.2) and its fingerprint (12.2)."""
    octets = _Octets(body)
    if octets.number(1) != 4 or len(body) > 0xFFFF:
        raise ValueError("not of version 4")
    created, algorithm = octets.number(4), octets.number(1)
    rsa = (octets.mpi(), octets.mpi()) if algorithm in _RSA else None
    if rsa and (octets or not all(rsa)):
        raise ValueError("not the two numbers of RSA")
    hashed = b"\x99" + len(body).to_bytes(2, "big") + body
    # SHA-1 is what a fingerprint of version 4 is; it only gives the key its name.
    return _Key(hashlib.sha1(hashed, usedforsecurity=False).hexdigest().upper(), created, rsa)


def _heed(body: bytes, keys: list[_Key]) -> None:
    """What a signature says of the key before it.

    Revocations count whoever made them: there are designated revokers, and one key less does no harm.
    """
    signature = _signature(body)
    if signature is None:
        return
    primary, key = keys[0], keys[-1]
    if signature.kind == _REVOKES_PRIMARY:
        primary.revoked = True
    elif signature.kind == _REVOKES_SUBKEY and key is not primary:
        key.revoked = True
    elif signature.kind in (_OF_ITSELF if key is primary else (_BINDING,)):
        foreign = signature.issuers and bytes.fromhex(primary.fingerprint)[-8:] not in signature.issuers
        newer = key.signature is None or signature.created >= key.signature.created
        if newer and not foreign:
            key.signature = signature


def _signature(body: bytes) -> _Signature | None:
    """A signature (5.2.3); None if of another version, which says nothing that is needed here."""
    octets = _Octets(body)
    if octets.number(1) != 4:
        return None
    kind = octets.number(1)
    octets.take(2)  # the algorithms that would verify it
    hashed = _subpackets(octets.take(octets.number(2)))
    unhashed = _subpackets(octets.take(octets.number(2)))
    issuers = frozenset(
        area[subpacket][-8:]  # a fingerprint of version 4 ends with the key's id
        for area in (hashed, unhashed)
        for subpacket in (_ISSUER, _ISSUER_FINGERPRINT)
        if subpacket in area
    )
    flags = hashed.get(_KEY_FLAGS)
    return _Signature(
        kind=kind,
        created=int.from_bytes(hashed.get(_CREATED, b""), "big"),
        issuers=issuers,
        encrypts=flags is None or bool(flags[:1] and flags[0] & _ENCRYPTS),
        expires=int.from_bytes(hashed.get(_KEY_EXPIRES, b""), "big"),
    )


def _subpackets(area: bytes) -> dict[int, bytes]:
    """The data of each subpacket by its type; of several of a type the last (5.2.4.1)."""
    found = {}
    octets = _Octets(area)
    while octets:
        subpacket = octets.take(octets.length(255))
        if not subpacket:
            raise ValueError("a subpacket without type")
        found[subpacket[0] & 0x7F] = subpacket[1:]  # the other bit marks what is critical
    return found


def _earlier(one: Micros | None, other: Micros | None) -> Micros | None:
    ends = [end for end in (one, other) if end is not None]
    return min(ends, default=None)
