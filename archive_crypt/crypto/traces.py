"""What a data key looks like in the memory of a process that uses it: the octets to look for.

For who audits the server, and holds the user's private key: the server never imports this.
"""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from archive_crypt.crypto.opening import PrivateKey

_PIECE = 16  # octets: half of a key, and a round key; long enough never to be met by chance


def of_octets(key: bytes) -> list[bytes]:
    """The key itself in pieces, each of which tells; also backwards, as a number of RSA's lies."""
    return [*_pieces(key), *_pieces(key[::-1])]


def of_text(key: bytes) -> list[bytes]:
    """The key as text: hexadecimal, and base64 wherever it begins in what is encoded."""
    hex_ = key.hex()
    return [
        *_pieces(hex_.encode()),
        *_pieces(hex_.upper().encode()),
        *(form for start in range(3) for form in _pieces(base64_of(key, start))),
    ]


def of_expanded(key: bytes) -> list[bytes]:
    """What AES makes of the key: round keys, of encryption and of the equivalent decryption (FIPS 197,
    5.2 and 5.3.5), the former with their words in either order of octets; and GHASH's key."""
    expanded = round_keys(key)
    forms = [block for block in expanded if block not in key]
    forms += [_words_backwards(block) for block in expanded]
    forms += [_unmixed(block) for block in expanded[1:-1]]
    hash_key = Cipher(AES(key), ECB()).encryptor().update(bytes(16))  # noqa: S305 - so it is defined
    return [*forms, hash_key, hash_key[::-1]]


def of_wrapping(private_key: PrivateKey, wrapped: bytes) -> list[bytes]:
    """The encoded message that was encrypted with RSA: with OAEP whoever finds it needs no private key.

    In pieces, as the first of them may be overwritten where a block is free; every other one.
    """
    numbers = private_key.rsa.private_numbers()
    modulus = numbers.public_numbers.n
    message = pow(int.from_bytes(wrapped, "big"), numbers.d, modulus).to_bytes(len(wrapped), "big")
    return [*_pieces(message)[1::2], *_pieces(message[::-1])[1::2]]


def base64_of(octets: bytes, start: int) -> bytes:
    """That part of base64 which `octets` alone decide, where `start` others stand before them."""
    text = base64.b64encode(bytes(start) + octets)
    return text[-(-start * 8 // 6) : (start + len(octets)) * 8 // 6]


def round_keys(key: bytes) -> list[bytes]:
    """All round keys of AES, FIPS 197, 5.2: blocks of 16 octets, the first ones being the key itself."""
    length = len(key) // 4
    words = [key[i : i + 4] for i in range(0, len(key), 4)]
    constant = 1
    for i in range(length, 4 * (length + 7)):
        word = words[-1]
        if i % length == 0:
            word = _substitute(word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _double(constant)
        elif length > 6 and i % length == 4:
            word = _substitute(word)
        words.append(bytes(a ^ b for a, b in zip(words[i - length], word, strict=True)))
    return [b"".join(words[i : i + 4]) for i in range(0, len(words), 4)]


def _pieces(octets: bytes) -> list[bytes]:
    return [octets[i : i + _PIECE] for i in range(0, len(octets) - _PIECE + 1, _PIECE)]


def _words_backwards(block: bytes) -> bytes:
    return b"".join(block[i : i + 4][::-1] for i in range(0, 16, 4))


def _unmixed(block: bytes) -> bytes:
    """InvMixColumns, FIPS 197, 5.3.3."""
    made = bytearray()
    for start in range(0, 16, 4):
        column = block[start : start + 4]
        for row in range(4):
            octet = 0
            for factor, value in zip((14, 11, 13, 9), column[row:] + column[:row], strict=True):
                octet ^= _times(factor, value)
            made.append(octet)
    return bytes(made)


def _times(factor: int, value: int) -> int:
    product = 0
    while factor:
        product ^= value if factor & 1 else 0
        value = _double(value)
        factor >>= 1
    return product


def _double(value: int) -> int:
    return (value << 1) ^ (0x11B if value & 0x80 else 0)


def _box() -> bytes:
    """The S-box, FIPS 197, 5.1.1, by walking through the powers of 3 and of its inverse."""
    box = bytearray(256)
    box[0] = 0x63
    power = inverse = 1
    while True:
        power ^= _double(power)
        for shift in (1, 2, 4):
            inverse ^= inverse << shift & 0xFF
        if inverse & 0x80:
            inverse ^= 0x09
        rotated = inverse
        for shift in (1, 2, 3, 4):
            rotated ^= (inverse << shift | inverse >> (8 - shift)) & 0xFF
        box[power] = rotated ^ 0x63
        if power == 1:
            return bytes(box)


_BOX = _box()


def _substitute(word: bytes) -> bytes:
    return bytes(_BOX[octet] for octet in word)
