"""A private key encrypted with a passphrase: PKCS #8 with PBES2 (RFC 8018), as every tool reads it.

Only the writing: `cryptography` reads these files, but would itself write them with 2048 rounds,
too few for the key to a whole archive. For the reader only, like `opening`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import textwrap

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

ROUNDS = 600_000  # of PBKDF2 with HMAC-SHA-256: about 0.2 s on one core

_INTEGER, _OCTETS, _NULL, _SEQUENCE = 0x02, 0x04, 0x05, 0x30  # DER tags
_PBES2 = bytes.fromhex("06092a864886f70d01050d")  # the object identifiers, tag and length included
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256 = bytes.fromhex("06082a864886f70d0209")
_AES256_CBC = bytes.fromhex("060960864801650304012a")


def encrypt(private_key_info: bytes, passphrase: bytes) -> bytes:
    """EncryptedPrivateKeyInfo in PEM (RFC 5958, 3) of a PrivateKeyInfo in DER."""
    salt, vector = os.urandom(16), os.urandom(16)
    key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, ROUNDS, dklen=32)
    count = 16 - len(private_key_info) % 16
    encryptor = Cipher(AES(key), CBC(vector)).encryptor()
    sealed = encryptor.update(private_key_info + bytes([count]) * count) + encryptor.finalize()
    return _pem(_der(_SEQUENCE, _parameters(salt, vector), _der(_OCTETS, sealed)))


def _parameters(salt: bytes, vector: bytes) -> bytes:
    """The AlgorithmIdentifier of PBES2 (RFC 8018, A.4), saying all that a passphrase needs to open it."""
    rounds = _der(_INTEGER, ROUNDS.to_bytes(ROUNDS.bit_length() // 8 + 1, "big"))
    pseudorandom = _der(_SEQUENCE, _HMAC_SHA256, _der(_NULL))
    derivation = _der(_SEQUENCE, _PBKDF2, _der(_SEQUENCE, _der(_OCTETS, salt), rounds, pseudorandom))
    encryption = _der(_SEQUENCE, _AES256_CBC, _der(_OCTETS, vector))
    return _der(_SEQUENCE, _PBES2, _der(_SEQUENCE, derivation, encryption))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 + len(octets)]) + octets + content


def _pem(der: bytes) -> bytes:
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    name = "ENCRYPTED PRIVATE KEY-----"
    return "\n".join([f"-----BEGIN {name}", *lines, f"-----END {name}", ""]).encode()
