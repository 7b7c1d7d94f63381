"""Seal an item, wrap a data key: the server's half of XML Encryption, octets only.

No XML is written and no key is kept here, and nothing is opened; algorithms go by their URI.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from archive_crypt.crypto.nonces import nonce
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import NotImplementedHere, UnusableKey

AES128_CBC = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"
AES256_CBC = "http://www.w3.org/2001/04/xmlenc#aes256-cbc"
AES128_GCM = "http://www.w3.org/2009/xmlenc11#aes128-gcm"
AES256_GCM = "http://www.w3.org/2009/xmlenc11#aes256-gcm"

RSA_OAEP = "http://www.w3.org/2009/xmlenc11#rsa-oaep"
RSA_OAEP_MGF1P = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
RSA_1_5 = "http://www.w3.org/2001/04/xmlenc#rsa-1_5"

NONCE_SIZE = 12  # octets, XML Encryption 1.1, 5.2.4
BLOCK_SIZE = 16  # octets of AES; also of the IV of CBC and of the tag of GCM

if sys.implementation.name != "cpython":  # _wipe_octets writes where CPython keeps the octets of `bytes`
    raise ImportError("archive_crypt.crypto needs CPython: elsewhere it could not wipe keys.")


@dataclass(frozen=True, slots=True)
class SealAlgorithm:
    """How items are sealed: the octets of a key, and (key, plaintext) -> octets of CipherValue."""

    key_size: int
    encrypt: Callable[[memoryview, bytes], bytes]


def seal(algorithm: str, key: memoryview, plaintext: bytes) -> bytes:
    """The octets of CipherValue, as XML Encryption 1.1 defines them for the algorithm.

    GCM (5.2.4): nonce of 12 octets, ciphertext, tag of 16. CBC (5.2.2): IV of 16 octets,
    ciphertext of the padded text.

    :raises NotImplementedHere: no such algorithm.
    :raises ValueError: the key has another size than the algorithm's.
    """
    known = _seal_algorithm(algorithm)
    if len(key) != known.key_size:
        raise ValueError(f"A key of {len(key)} octets does not fit {algorithm}.")
    return known.encrypt(key, plaintext)


def wrap(algorithm: str, key: memoryview, public_key: PublicKey) -> bytes:
    """The data key encrypted for `public_key`: the octets of an EncryptedKey's CipherValue (5.5).

    :raises NotImplementedHere: no such algorithm.
    :raises UnusableKey: the public key does not do it (it is too short, for example).
    """
    padding = _padding(algorithm)
    octets = bytes(key)  # the library takes nothing else; wiped below
    try:
        return public_key.rsa.encrypt(octets, padding)
    except ValueError:
        raise UnusableKey(f"Key {public_key.name!r}: encrypting with it failed.") from None
    finally:
        _wipe_octets(octets)
        # OpenSSL frees its encoded message unwiped, and OAEP can be undone without any key: a second
        # message of the same size takes the same place on the heap (shown in tests/crypto/test_memory.py).
        with contextlib.suppress(ValueError):
            public_key.rsa.encrypt(bytes(len(key)), padding)


def key_size(algorithm: str) -> int:
    """The octets of a data key.

    :raises NotImplementedHere: no such algorithm.
    """
    return _seal_algorithm(algorithm).key_size


def _seal_algorithm(algorithm: str) -> SealAlgorithm:
    try:
        return SEAL_ALGORITHMS[algorithm]
    except KeyError:
        raise NotImplementedHere(f"There is no algorithm {algorithm!r} to seal with.") from None


def _padding(algorithm: str) -> AsymmetricPadding:
    try:
        return WRAP_ALGORITHMS[algorithm]
    except KeyError:
        raise NotImplementedHere(f"There is no algorithm {algorithm!r} to wrap keys with.") from None


def _seal_gcm(key: memoryview, plaintext: bytes) -> bytes:
    iv = nonce(NONCE_SIZE)
    # Made for this call and dropped: a living object keeps two expanded keys on the ordinary heap.
    return iv + AESGCM(key).encrypt(iv, plaintext, None)


def _seal_cbc(key: memoryview, plaintext: bytes) -> bytes:
    vector = nonce(BLOCK_SIZE)
    encryptor = Cipher(AES(key), CBC(vector)).encryptor()
    return vector + encryptor.update(plaintext + _pad(len(plaintext))) + encryptor.finalize()


def _pad(length: int) -> bytes:
    """XML Encryption 5.2.2: only the last octet, the count, is defined; all alike suits PKCS #7 too."""
    count = BLOCK_SIZE - length % BLOCK_SIZE
    return bytes([count]) * count


def _wipe_octets(octets: bytes) -> None:
    """Zero a `bytes` in place. Safe only for an object nobody else holds, of two octets or more."""
    ctypes.memset(id(octets) + bytes.__basicsize__ - 1, 0, len(octets))


SEAL_ALGORITHMS: Mapping[str, SealAlgorithm] = MappingProxyType(
    {
        AES256_GCM: SealAlgorithm(32, _seal_gcm),
        AES128_GCM: SealAlgorithm(16, _seal_gcm),
        AES256_CBC: SealAlgorithm(32, _seal_cbc),
        AES128_CBC: SealAlgorithm(16, _seal_cbc),
    }
)

#: rsa-oaep is SHA-256 with MGF1 of SHA-256 here, and its EncryptionMethod has to say so: its
#: defaults are SHA-1. That rsa-oaep-mgf1p has SHA-1 is harmless: OAEP needs no collision resistance.
WRAP_ALGORITHMS: Mapping[str, AsymmetricPadding] = MappingProxyType(
    {
        RSA_OAEP: OAEP(MGF1(SHA256()), SHA256(), None),
        RSA_OAEP_MGF1P: OAEP(MGF1(SHA1()), SHA1(), None),  # noqa: S303
        RSA_1_5: PKCS1v15(),
    }
)
