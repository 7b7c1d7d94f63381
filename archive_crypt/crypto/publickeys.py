"""Parse, judge and name the users' public keys. Only RSA is known, and nothing is encrypted but a trial.

What passes here is used without asking again; every refusal is an UnusableKey that names the defect.
"""

from __future__ import annotations

import base64
import hashlib
import math
import unicodedata
from dataclasses import dataclass, field

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from archive_crypt.errors import UnusableKey

MINIMUM_BITS, MAXIMUM_BITS = 2048, 8192
LONGEST_NAME = 512  # octets: it is indexed

_LONGEST_INPUT = 2048  # octets; 8192 bits take 1025, the rest allows for leading zeros
_FERMAT_STEPS = 100
#: Control characters, lone surrogates and line ends: not for XML, or not for a log.
_REFUSED_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
_REFUSED_CHARACTERS = "\ufffe\uffff"  # XML 1.0, 2.2


@dataclass(frozen=True)
class PublicKey:
    """A user's public key that was found fit for use. `der` is its SubjectPublicKeyInfo."""

    name: str
    der: bytes
    rsa: RSAPublicKey = field(repr=False, compare=False)


def from_numbers(
    modulus: bytes, exponent: bytes, name: str | None, *, minimum_bits: int = MINIMUM_BITS
) -> PublicKey:
    """The public key of an RSAKeyValue: two big-endian numbers; leading zeros do not matter.

    `name` None or empty: the key is named by its fingerprint.

    :raises UnusableKey: it is not fit for use; the text names the key and the defect.
    """
    if max(len(modulus), len(exponent)) > _LONGEST_INPUT:
        raise _refusal(name, "its numbers are too long")
    return _judged(int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big"), name, minimum_bits)


def from_der(der: bytes, name: str | None, *, minimum_bits: int = MINIMUM_BITS) -> PublicKey:
    """The public key of a SubjectPublicKeyInfo; its own `der` is always the canonical one.

    `name` None or empty: the key is named by its fingerprint.

    :raises UnusableKey: it is not fit for use; the text names the key and the defect.
    """
    if len(der) > _LONGEST_INPUT:
        raise _refusal(name, "it is too long")
    try:
        key = load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        raise _refusal(name, "it is no public key in DER form") from None
    if not isinstance(key, RSAPublicKey):
        raise _refusal(name, "it is not an RSA key")
    numbers = key.public_numbers()
    return _judged(numbers.n, numbers.e, name, minimum_bits)


def fingerprint(der: bytes) -> str:
    """Base64 of the SHA-256 of a SubjectPublicKeyInfo: 44 characters."""
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def _judged(n: int, e: int, name: str | None, minimum_bits: int) -> PublicKey:
    _judge_name(name)
    defect = _defect(n, e, minimum_bits)
    if defect:
        raise _refusal(name, defect)
    try:
        rsa = RSAPublicNumbers(e, n).public_key()
        # What the library loads it does not always encrypt to; better to learn that now.
        rsa.encrypt(bytes(32), OAEP(MGF1(SHA256()), SHA256(), None))
    except (ValueError, UnsupportedAlgorithm, InternalError):
        raise _refusal(name, "encrypting with it failed") from None
    der = rsa.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(name or fingerprint(der), der, rsa)


def _judge_name(name: str | None) -> None:
    if name and len(name.encode(errors="replace")) > LONGEST_NAME:
        raise UnusableKey(f"The name of a key is longer than {LONGEST_NAME} octets.")
    if any(c in _REFUSED_CHARACTERS or unicodedata.category(c) in _REFUSED_CATEGORIES for c in name or ""):
        raise UnusableKey("The name of a key holds a control character.")


def _refusal(name: str | None, defect: str) -> UnusableKey:
    _judge_name(name)  # a name that is shown is a fit one
    return UnusableKey(f"Key {name!r}: {defect}." if name else f"A key without name: {defect}.")


def _defect(n: int, e: int, minimum_bits: int) -> str | None:
    """What is wrong with an RSA modulus and exponent; None: nothing that can be seen."""
    bits = n.bit_length()
    if bits < minimum_bits:
        return f"its modulus has {bits} bits, at least {minimum_bits} are needed"
    if bits > MAXIMUM_BITS:
        return f"its modulus has {bits} bits, at most {MAXIMUM_BITS} are allowed"
    if n % 2 == 0:
        return "its modulus is even"
    if e % 2 == 0 or not 65537 <= e < 2**64:
        return "its exponent is not an odd number from 65537 to 2^64"
    if math.gcd(n, _SMALL_PRIMES) != 1:
        return "its modulus has a small factor"
    if math.isqrt(n) ** 2 == n:
        return "its modulus is a square"
    if _has_close_primes(n):
        return "the primes of its modulus are too close to each other"
    if _is_roca(n):
        return "it was made by a faulty chip (ROCA, CVE-2017-15361)"
    return None


def _has_close_primes(n: int) -> bool:
    """Whether Fermat's method factors n at once: n = a^2 - b^2 with a next to the root of n."""
    a = math.isqrt(n) + 1
    b_squared = a * a - n
    for _ in range(_FERMAT_STEPS):
        # The cheap test first: modulo 16, a square is 0, 1, 4 or 9.
        if b_squared % 16 in (0, 1, 4, 9) and math.isqrt(b_squared) ** 2 == b_squared:
            return True
        b_squared += 2 * a + 1
        a += 1
    return False


def _is_roca(n: int) -> bool:
    """Whether n has the mark of Infineon's RSALib (Nemec et al. 2017, section 3.1).

    Its primes are k * M + 65537^a mod M, M a primorial: so modulo each small prime n is a power of
    65537. Where not all residues are such powers, this tells; by chance for one n in 2 * 10^8.
    """
    return all(n % p in powers for p, powers in _ROCA_MARKS.items())


def _primes_below(limit: int) -> list[int]:
    return [n for n in range(2, limit) if all(n % divisor for divisor in range(2, math.isqrt(n) + 1))]


def _powers_of_65537(p: int) -> frozenset[int]:
    return frozenset(pow(65537, exponent, p) for exponent in range(p - 1))


_SMALL_PRIMES = math.prod(_primes_below(2000))
#: The primes up to 167 of which 65537 is no generator, with its powers modulo each.
_ROCA_MARKS = {
    p: _powers_of_65537(p) for p in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
}
