"""A private key encrypted with a passphrase: PKCS #8 with PBES2 (RFC 8018), as every tool reads it.

Only the writing: `cryptography` reads these files, but would itself write them with PBKDF2 of few
rounds, which is too easy to guess for the key to a whole archive; here it is scrypt (RFC 7914).
For the reader only, like `opening`.
"""

from __future__ import annotations

import base64
import os
import textwrap

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

#: Of scrypt: 16 MiB and about 0.2 s on one core. openssl reads no file that takes 32 MiB or more, so
#: that the guessing is made slow by PARALLELIZATION besides.
COST, BLOCK, PARALLELIZATION = 2**14, 8, 5

_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30  # DER tags
_PBES2 = bytes.fromhex("06092a864886f70d01050d")  # the object identifiers, tag and length included
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES256_CBC = bytes.fromhex("060960864801650304012a")


def encrypt(private_key_info: bytes, passphrase: bytes) -> bytes:
    """EncryptedPrivateKeyInfo in PEM (RFC 5958, 3) of a PrivateKeyInfo in DER."""
    salt, vector = os.urandom(16), os.urandom(16)
    key = Scrypt(salt, 32, COST, BLOCK, PARALLELIZATION).derive(passphrase)
    count = 16 - len(private_key_info) % 16
    encryptor = Cipher(AES(key), CBC(vector)).encryptor()
    sealed = encryptor.update(private_key_info + bytes([count]) * count) + encryptor.finalize()
    return _pem(_der(_SEQUENCE, _parameters(salt, vector), _der(_OCTETS, sealed)))


def _parameters(salt: bytes, vector: bytes) -> bytes:
    """The AlgorithmIdentifier of PBES2 (RFC 8018, A.4; RFC 7914, 7): what a passphrase needs to open it."""
    numbers = [_der(_INTEGER, _octets(number)) for number in (COST, BLOCK, PARALLELIZATION)]
    derivation = _der(_SEQUENCE, _SCRYPT, _der(_SEQUENCE, _der(_OCTETS, salt), *numbers))
    encryption = _der(_SEQUENCE, _AES256_CBC, _der(_OCTETS, vector))
    return _der(_SEQUENCE, _PBES2, _der(_SEQUENCE, derivation, encryption))


def _octets(number: int) -> bytes:
    """With a first bit of 0, as a first bit of 1 would make it negative."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


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
