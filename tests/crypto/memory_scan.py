"""What a key looks like in memory, and how often it is seen in that of another process. No tests here."""

import base64
import os
import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from archive_crypt.crypto.traces import round_keys

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)")
#: Pages of the kernel's own, which the clock reads: they are not in the process's memory.
_KERNELS = ("[vvar]", "[vvar_vclock]", "[vsyscall]")


@dataclass
class Sight:
    """How often each form was found; only forms that were. `hidden`: mappings that cannot be read."""

    found: dict[str, int] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    octets: int = 0


def look(pid, forms):
    """Search all readable mappings of a stopped process for `forms`, a dict of name -> octets."""
    sight = Sight()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, rights, name in (_MAPPING.match(line).groups() for line in maps):
            if rights[0] == "r" and name not in _KERNELS:
                _look_at(sight, memory.fileno(), int(start, 16), int(end, 16), name, forms)
    return sight


def _look_at(sight, memory, start, end, name, forms):
    try:
        content = os.pread(memory, end - start, start)
    except OSError:
        sight.hidden.append(name)
        return
    assert len(content) == end - start
    sight.octets += len(content)
    for form, octets in forms.items():
        if count := content.count(octets):
            sight.found[form] = sight.found.get(form, 0) + count


def key_forms(key):
    """An AES key: raw, by halves, backwards, as text, expanded, and as GHASH's key."""
    forms = {
        "key": key,
        "first half": key[: len(key) // 2],
        "second half": key[len(key) // 2 :],
        "key backwards": key[::-1],  # as a number of RSA's lies in memory
        "hex": key.hex().encode(),
        "HEX": key.hex().upper().encode(),
        "base64": base64.b64encode(key).rstrip(b"=")[:-1],
    }
    for number, block in enumerate(round_keys(key)):
        if block not in (forms["first half"], forms["second half"], key):
            forms[f"round key {number}"] = block
        forms[f"round key {number}, words backwards"] = _words_backwards(block)
    encryptor = Cipher(AES(key), ECB()).encryptor()
    hash_key = encryptor.update(bytes(16))
    return forms | {"hash key": hash_key, "hash key backwards": hash_key[::-1]}


def message_forms(private_key, wrapped):
    """The encoded message in a wrapped key: with OAEP, whoever finds it needs no private key.

    A part of it that a freed block's own links do not overwrite.
    """
    numbers = private_key.rsa.private_numbers()
    modulus = numbers.public_numbers.n
    message = pow(int.from_bytes(wrapped, "big"), numbers.d, modulus).to_bytes(len(wrapped), "big")
    return {"encoded message": message[64:96], "encoded message backwards": message[64:96][::-1]}


def _words_backwards(block):
    return b"".join(block[i : i + 4][::-1] for i in range(0, 16, 4))
