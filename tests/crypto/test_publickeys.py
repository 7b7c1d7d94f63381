"""Public keys: what is fit for use, what is refused and with which words, and what a key is called."""

import base64
import hashlib
import math
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.crypto import publickeys
from archive_crypt.crypto.publickeys import PublicKey, from_der, from_numbers
from archive_crypt.errors import UnusableKey

from .kit import law

PRIMES = [n for n in range(2, 2000) if all(n % divisor for divisor in range(2, math.isqrt(n) + 1))]
SMALL = math.prod(PRIMES)
F4 = 65537


def octets(number):
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def spki(key):
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def refusal(n, e=F4, name="laptop", **options):
    with pytest.raises(UnusableKey) as caught:
        from_numbers(octets(n), octets(e), name, **options)
    return str(caught.value)


def without_small_factor(candidates):
    return next(n for n in candidates if math.gcd(n, SMALL) == 1)


@pytest.fixture(scope="module")
def good(public_key):
    """The modulus of a good key of 2048 bits."""
    return public_key.rsa.public_numbers().n


def test_a_good_key_is_taken(good, public_key):
    """Numbers and SubjectPublicKeyInfo of one key give one and the same PublicKey."""
    key = from_numbers(octets(good), octets(F4), "laptop")
    assert key == from_der(public_key.der, "laptop") == PublicKey("laptop", public_key.der, public_key.rsa)
    assert key.rsa.public_numbers() == public_key.rsa.public_numbers()


def test_leading_zeros_do_not_matter(good, public_key):
    """ASN.1 and some clients write a zero before the number: it is the same key, name included."""
    padded = from_numbers(bytes(5) + octets(good), bytes(5) + octets(F4), None)
    assert padded == from_der(public_key.der, None)


def test_a_nameless_key_is_called_by_its_fingerprint(good, public_key):
    """Without a name a key's name is base64 of the SHA-256 of its SubjectPublicKeyInfo."""
    expected = base64.b64encode(hashlib.sha256(public_key.der).digest()).decode()
    assert publickeys.fingerprint(public_key.der) == expected
    for name in (None, ""):
        assert from_numbers(octets(good), octets(F4), name).name == expected
        assert from_der(public_key.der, name).name == expected


def test_repr_names_the_key_and_not_its_inside(public_key):
    """The library's object does not show."""
    assert repr(public_key).startswith("PublicKey(name='laptop', der=b'")
    assert "rsa=" not in repr(public_key)


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_usual_sizes_are_taken(bits):
    """Keys of the sizes that programs make are taken."""
    key = rsa.generate_private_key(F4, bits).public_key()
    assert from_der(spki(key), None).rsa.key_size == bits


def test_sizes_have_bounds(good):
    """Less than 2048 bits, or the number asked for, and more than 8192 are refused, with the figure."""
    short = rsa.generate_private_key(F4, 1024).public_key().public_numbers().n
    expected = "Key 'laptop': its modulus has 1024 bits, at least 2048 are needed."
    assert refusal(short) == expected
    assert refusal(good, minimum_bits=2049).endswith("has 2048 bits, at least 2049 are needed.")
    assert from_numbers(octets(short), octets(F4), "old", minimum_bits=1024).rsa.key_size == 1024
    assert refusal(2**8192 + 1).endswith("has 8193 bits, at most 8192 are allowed.")
    assert refusal(0).endswith("has 0 bits, at least 2048 are needed.")


@pytest.mark.parametrize("size", [2049, 100_000])
def test_long_numbers_are_not_even_read(good, size):
    """Input beyond any key is refused by its length, before arithmetic."""
    for modulus, exponent in ((bytes(size), octets(F4)), (octets(good), bytes(size))):
        with pytest.raises(UnusableKey, match="too long"):
            from_numbers(modulus, exponent, "laptop")
    with pytest.raises(UnusableKey, match="too long"):
        from_der(bytes(size), "laptop")


@pytest.mark.parametrize("e", [0, 1, 2, 3, 17, 65535, 65536, 65538, 2**64, 2**64 + 1, 2**2000 + 1])
def test_exponents_that_are_no_good(good, e):
    """1 would leave the data key in clear, 3 is for broken padding; even, huge and zero are no exponents."""
    assert refusal(good, e) == "Key 'laptop': its exponent is not an odd number from 65537 to 2^64."


@pytest.mark.parametrize("e", [65537, 65539, 2**32 + 15, 2**64 - 1])
def test_exponents_that_are_good(good, e):
    """Any odd exponent of at most 64 bits, from 65537 on."""
    assert from_numbers(octets(good), octets(e), "laptop").rsa.public_numbers().e == e


def test_an_even_modulus_is_refused(good):
    """The library would load it."""
    assert refusal(good + 1) == "Key 'laptop': its modulus is even."


@pytest.mark.parametrize("prime", [3, 5, 1999])
def test_a_small_factor_is_refused(good, prime):
    """A factor below 2000, as in a modulus of random octets, shows that no two primes made it."""
    assert refusal(good * prime) == "Key 'laptop': its modulus has a small factor."


def test_a_square_is_refused():
    """One prime twice is one square root away."""
    prime = without_small_factor(range(2**1024 - 1, 0, -2))
    assert refusal(prime * prime) == "Key 'laptop': its modulus is a square."


@pytest.mark.parametrize("distance", [2, 2**10, 2**256, 2**510])
def test_close_primes_are_refused(distance):
    """Primes that share their upper half are found by Fermat's method (CVE-2022-26320)."""
    low = without_small_factor(range(2**1024 - 2**600 - 1, 0, -2))
    high = without_small_factor(range(low + distance, 2**1024, 2))
    assert refusal(low * high).endswith("the primes of its modulus are too close to each other.")


def test_a_key_of_the_faulty_chips_is_refused():
    """ROCA: primes k * M + 65537^a mod M with M the product of the first 126 primes (2048 bits)."""
    primorial = math.prod(PRIMES[:126])

    def prime_like(a, k):
        powers = (pow(F4, exponent, primorial) for exponent in count(a))
        return without_small_factor(k * primorial + power for power in powers)

    n = prime_like(1234, 2**53 - 111) * prime_like(987654, 2**53 - 99999)
    assert n.bit_length() == 2048
    assert refusal(n) == "Key 'laptop': it was made by a faulty chip (ROCA, CVE-2017-15361)."


def test_the_mark_of_the_faulty_chips_is_rare(good):
    """All the primes up to 167 of which 65537 is no generator are tested, and a good key lacks the mark."""
    odd = [p for p in PRIMES if 2 < p <= 167]
    telling = [p for p in odd if len({pow(F4, exponent, p) for exponent in range(p)}) < p - 1]
    assert list(publickeys._ROCA_MARKS) == telling
    assert math.prod(len(powers) / (p - 1) for p, powers in publickeys._ROCA_MARKS.items()) < 5e-9
    assert not publickeys._is_roca(good)


def test_a_trial_shows_what_nothing_else_does():
    """A modulus of 520 bits is odd and random enough, but OAEP with SHA-256 does not fit in."""
    n = without_small_factor(range(2**520 - 12345, 0, -2))
    assert refusal(n, minimum_bits=512) == "Key 'laptop': encrypting with it failed."


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
        dsa.generate_private_key(1024),
    ],
    ids=["EC", "Ed25519", "DSA"],
)
def test_only_rsa_is_taken(key):
    """Keys of other algorithms are refused by that reason."""
    with pytest.raises(UnusableKey, match=r"^Key 'phone': it is not an RSA key\.$"):
        from_der(spki(key.public_key()), "phone")


def test_what_is_no_key_is_refused(public_key):
    """Cut short, or no DER at all."""
    for der in (b"", b"0", public_key.der[:-1], public_key.der + b"\0", b"\x30\x80" + public_key.der):
        with pytest.raises(UnusableKey, match="no public key in DER form"):
            from_der(der, "phone")


@pytest.mark.parametrize("name", ["a" * 512, "Annas Händi 👩‍💻", 'O\'Neill "the" <phone>'])
def test_names_may_be_anything_to_read(good, name):
    """Any characters that are to be seen, up to 512 octets of them."""
    assert from_numbers(octets(good), octets(F4), name).name == name


@pytest.mark.parametrize(
    "name", ["a" * 513, "\u00fc" * 257, "a\nb", "\0", "\x7f", "\x9b31m", "\ud800", "\u2028", "\uffff"]
)
def test_names_that_cannot_be_shown_are_refused(good, public_key, name):
    """Too long, or holding what XML or a log cannot take: refused, and not repeated in the refusal."""
    for attempt in (
        lambda: from_numbers(octets(good), octets(F4), name),
        lambda: from_numbers(bytes(9999), b"\3", name),
        lambda: from_der(public_key.der, name),
        lambda: from_der(b"no key", name),
    ):
        with pytest.raises(UnusableKey, match=r"^The name of a key ") as caught:
            attempt()
        assert name not in str(caught.value)


def test_a_nameless_key_is_refused_in_words(good):
    """Where there is no name, the refusal says so."""
    assert refusal(good + 1, name=None) == "A key without name: its modulus is even."


numbers = st.one_of(
    st.binary(max_size=2100),
    st.integers(0, 2**8200).map(octets),
    st.integers(2**2047, 2**2048).map(lambda n: octets(n | 1)),
    st.integers(2**1023, 2**1024).map(lambda n: octets(n * n)),
)
exponents = st.one_of(st.binary(max_size=10), st.sampled_from([b"\1", b"\3", octets(F4)]))


@law
@given(modulus=numbers, exponent=exponents, name=st.none() | st.text(), minimum=st.integers(1, 3000))
def test_any_numbers_are_a_key_or_unusable(modulus, exponent, name, minimum):
    """Whatever the octets, the only error is UnusableKey."""
    try:
        key = from_numbers(modulus, exponent, name, minimum_bits=minimum)
    except UnusableKey:
        return
    assert key.name == (name or publickeys.fingerprint(key.der))
    assert from_der(key.der, name, minimum_bits=minimum) == key


@law
@given(data=st.data())
def test_any_der_is_a_key_or_unusable(public_key, data):
    """Whatever the octets, even those of a key with a few changed, the only error is UnusableKey."""
    der = bytearray(data.draw(st.sampled_from([public_key.der, b""]) | st.binary(max_size=400)))
    for place in data.draw(st.lists(st.integers(0, max(0, len(der) - 1)), max_size=3 if der else 0)):
        der[place] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(from_der(bytes(der), "phone"), PublicKey)
    except UnusableKey:
        pass
