"""Every way in which a supplied public key can be bad: one error that names it, and nothing else changes."""

import base64
from itertools import count
from math import prod

import pytest
from lxml import etree

from archive_crypt.core.dialect import F, T, V
from archive_crypt.core.xmlenc import XMLDSIG
from tests.kit import LAPTOP, House

GOOD = LAPTOP.public("laptop").rsa.public_numbers().n
PRIMES = [n for n in range(3, 2000) if all(n % d for d in range(2, int(n**0.5) + 1))]


def smooth():
    """A modulus of 2048 bits that is made of small primes only."""
    modulus, place = 1, 0
    while modulus.bit_length() < 2047:
        modulus *= PRIMES[place % len(PRIMES)]
        place += 1
    return modulus


def roca():
    """A modulus as the faulty chips made them: primes k * M + 65537^a mod M (CVE-2017-15361)."""
    primorial = 2 * prod(PRIMES[:125])  # the first 126 primes: 971 bits

    def prime_like(a, k):
        candidates = (k * primorial + pow(65537, exponent, primorial) for exponent in count(a))
        return next(n for n in candidates if all(n % prime for prime in PRIMES))

    return prime_like(1234, 2**53 - 111) * prime_like(987654, 2**53 - 99999)


BAD = {
    "1024 bits": (GOOD >> 1024 | 1, 65537, "1024 bits"),
    "even": (GOOD + 1, 65537, "even"),
    "e = 1": (GOOD, 1, "exponent"),
    "e = 3": (GOOD, 3, "exponent"),
    "smooth": (smooth(), 65537, "factor"),
    "faulty chip": (roca(), 65537, "faulty chip"),
    "16385 bits": (1 << 16384 | 1, 65537, "too long"),
    "zero": (0, 65537, ""),
}


def supplied(modulus, exponent, name="laptop"):
    def written(number):
        return base64.b64encode(number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")).decode()

    return (
        f"<KeyInfo xmlns='{XMLDSIG}'><KeyName>{name}</KeyName><KeyValue><RSAKeyValue>"
        f"<Modulus>{written(modulus)}</Modulus><Exponent>{written(exponent)}</Exponent>"
        "</RSAKeyValue></KeyValue></KeyInfo>"
    )


def asked(stream, dialect, inner):
    return stream.ask(
        f"<iq type='set' id='a'><auto xmlns='{dialect.namespace}' save='true' encrypt='true'>{inner}</auto></iq>"
    )


def refusal(answer):
    error = answer.find("{*}error")
    return etree.QName(error[0]).localname, error.get("type"), error.findtext("{*}text")


@pytest.mark.clause("0241-3-07")
@pytest.mark.parametrize("dialect", [V, T, F], ids=["V", "T", "F"])
@pytest.mark.parametrize("bad", BAD)
def test_bad_keys(dialect, bad):
    """A key that is too short, even, smooth, made by a faulty chip... is refused by its defect."""
    modulus, exponent, defect = BAD[bad]
    stream = House().stream("romeo@montague.lit/orchard")
    condition, kind, text = refusal(asked(stream, dialect, supplied(modulus, exponent)))
    expected = ("feature-not-implemented", "cancel") if dialect is V else ("not-acceptable", "modify")
    assert (condition, kind) == expected
    assert defect in text
    assert "laptop" in text
    listed = stream.ask(f"<iq type='get' id='l'><list xmlns='{dialect.namespace}'/></iq>")
    assert listed.get("type") == "result"


def test_nothing_changes():
    """A refused key leaves the setting of before as it was: what was sealed goes on being sealed."""
    house = House()
    stream = house.stream("romeo@montague.lit/orchard")
    assert asked(stream, F, supplied(GOOD, 65537)).get("type") == "result"
    assert asked(stream, F, supplied(GOOD, 3)).get("type") == "error"
    stream.says("<message to='juliet@capulet.lit' type='chat'><body>sealed</body></message>")
    answer = stream.ask(f"<iq type='get' id='l'><list xmlns='{F.namespace}'/></iq>")
    assert answer.find(f".//{{{F.namespace}}}chat").get("crypt") == "true"


def test_one_name_for_two_keys():
    """Two different keys under one name are refused: a reader could not tell them apart."""
    other = GOOD * 2 + 1
    stream = House().stream("romeo@montague.lit/orchard")
    both = supplied(GOOD, 65537) + supplied(other, 65537)
    condition, _, _ = refusal(asked(stream, F, both))
    assert condition == "not-acceptable"


def test_the_same_key_twice():
    """One key supplied twice is one key."""
    stream = House().stream("romeo@montague.lit/orchard")
    assert asked(stream, F, supplied(GOOD, 65537) * 2).get("type") == "result"
