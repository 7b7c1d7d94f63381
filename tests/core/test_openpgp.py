"""OpenPGP certificates: those of GnuPG, and some made by hand for what GnuPG would not do."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archive_crypt.core.openpgp import rsa_keys
from archive_crypt.model import SECOND
from tests.core import certificates
from tests.kit import LAPTOP, PHONE

MADE = 1_772_366_400  # when the keys by hand were made, in seconds
DAY = 86_400

PRIMARY, SUBKEY, USER, SECRET_SUBKEY = 6, 14, 13, 7
CERTIFIES, DIRECT, BINDS, REVOKES_PRIMARY, REVOKES_SUBKEY, REVOKES_USER = 0x13, 0x1F, 0x18, 0x20, 0x28, 0x30
SIGN, COMMUNICATIONS, STORAGE = 0x02, 0x04, 0x08


def octets(number):
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def numbers(private_key):
    """Modulus and exponent of a private key's public half."""
    public = private_key.public("any").rsa.public_numbers()
    return octets(public.n), octets(public.e)


def packet(tag, body):
    """A packet with a length of the new form, of five octets."""
    return bytes((0xC0 | tag, 255)) + len(body).to_bytes(4, "big") + body


def key(tag, private_key, algorithm=1, version=4):
    mpis = b"".join(
        (int.from_bytes(n, "big").bit_length()).to_bytes(2, "big") + n for n in numbers(private_key)
    )
    return packet(tag, bytes((version,)) + MADE.to_bytes(4, "big") + bytes((algorithm,)) + mpis)


def subpacket(kind, data):
    return bytes((1 + len(data), kind)) + data


def signature(kind, *, flags=None, expires=None, made=MADE, issuer=None):
    """A signature that signs nothing: its numbers are missing, as nobody looks at them here."""
    hashed = subpacket(2, made.to_bytes(4, "big"))
    hashed += b"" if flags is None else subpacket(0x80 | 27, flags)
    hashed += b"" if expires is None else subpacket(9, expires.to_bytes(4, "big"))
    unhashed = b"" if issuer is None else subpacket(16, issuer)
    areas = b"".join(len(area).to_bytes(2, "big") + area for area in (hashed, unhashed))
    return packet(2, bytes((4, kind, 1, 8)) + areas)


def found(*packets):
    """Which of the two keys were found: by their moduli, as private keys."""
    moduli = {numbers(private_key)[0]: private_key for private_key in (LAPTOP, PHONE)}
    return [moduli[one.modulus] for one in rsa_keys(b"".join(packets))]


FOR_SIGNING = signature(CERTIFIES, flags=b"\x03")


def certificate(*after_subkey, of_itself=(FOR_SIGNING,)):
    """A primary key (the laptop's) that is for signing, and a subkey (the phone's)."""
    return (
        key(PRIMARY, LAPTOP),
        packet(USER, b"xmpp:juliet@capulet.com"),
        *of_itself,
        key(SUBKEY, PHONE),
        *after_subkey,
    )


def test_gpg_default():
    """Of a certificate of gpg the subkey is read, under the fingerprints that gpg shows."""
    (one,) = rsa_keys(certificates.JULIET)
    assert (one.primary, one.fingerprint) == (certificates.JULIET_PRIMARY, certificates.JULIET_SUBKEY)
    assert (len(one.modulus), one.exponent, one.end) == (256, b"\x01\x00\x01", None)


@pytest.mark.clause("D374-13")
def test_gpg_curve():
    """A certificate of curve 25519 has no RSA keys."""
    assert rsa_keys(certificates.ROMEO) == ()


def test_gpg_revoked_and_expiring():
    """What gpg revoked or made for signing is left out; a subkey ends when gpg says."""
    (one,) = rsa_keys(certificates.MERCUTIO)
    assert one.fingerprint == certificates.MERCUTIO_SUBKEY
    assert one.end == certificates.MERCUTIO_SUBKEY_ENDS * SECOND


def test_numbers():
    """A key has the numbers that were put into its packet."""
    (one,) = rsa_keys(b"".join(certificate(signature(BINDS, flags=b"\x0c"))))
    assert (one.modulus, one.exponent) == numbers(PHONE)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (None, [PHONE]),
        (bytes((COMMUNICATIONS,)), [PHONE]),
        (bytes((STORAGE, 0)), [PHONE]),
        (bytes((SIGN,)), []),
        (b"", []),
    ],
)
def test_flags(flags, expected):
    """A key is for encryption if its flags say so, or if it has none."""
    assert found(*certificate(signature(BINDS, flags=flags))) == expected


@pytest.mark.parametrize(("flags", "expected"), [(None, [LAPTOP]), (b"\x0f", [LAPTOP]), (b"\x03", [])])
@pytest.mark.parametrize("kind", [CERTIFIES, DIRECT])
def test_primary_key(kind, flags, expected):
    """The primary key is read too if what it says of itself allows it."""
    assert found(key(PRIMARY, LAPTOP), signature(kind, flags=flags)) == expected


def test_a_key_without_signature():
    """A key of which no signature says anything is left out: what limits it may have been cut off."""
    assert found(*certificate()) == []
    assert found(key(PRIMARY, LAPTOP)) == []


@pytest.mark.parametrize(("algorithm", "expected"), [(1, [PHONE]), (2, [PHONE]), (3, []), (16, []), (18, [])])
def test_algorithms(algorithm, expected):
    """RSA for both uses and for encryption is read; RSA for signing and everything else is not."""
    parts = (key(PRIMARY, LAPTOP, algorithm=3), key(SUBKEY, PHONE, algorithm), signature(BINDS))
    assert found(*parts) == expected


def test_revoked_subkey():
    """A revoked subkey is left out, though it was bound again later."""
    binds, revokes = signature(BINDS, made=MADE + DAY), signature(REVOKES_SUBKEY)
    assert found(*certificate(binds, revokes)) == []
    assert found(*certificate(revokes, binds)) == []


def test_revoked_primary_key():
    """With the primary key all keys are revoked."""
    parts = certificate(signature(BINDS), of_itself=(signature(REVOKES_PRIMARY), signature(CERTIFIES)))
    assert found(*parts) == []


def test_revoked_user_id():
    """A user ID that is revoked leaves the keys as they are."""
    parts = certificate(signature(BINDS), of_itself=(signature(CERTIFIES), signature(REVOKES_USER)))
    assert found(*parts) == [LAPTOP, PHONE]


def test_the_newest_signature_counts():
    """Of several signatures of its own the newest says what a key is for and when it ends."""
    old = signature(BINDS, flags=b"\x02", expires=DAY)
    new = signature(BINDS, flags=b"\x0c", expires=3 * DAY, made=MADE + DAY)
    for bindings in ((old, new), (new, old)):
        (one,) = rsa_keys(b"".join(certificate(*bindings)))
        assert one.end == (MADE + 3 * DAY) * SECOND


def test_signatures_of_others():
    """What another says of a key is not heeded, however new."""
    own = FOR_SIGNING
    other = signature(CERTIFIES, flags=b"\x0c", made=MADE + DAY, issuer=b"somebody")
    assert found(key(PRIMARY, LAPTOP), own, other) == []


@pytest.mark.parametrize(
    ("primary", "subkey", "expected"),
    [(None, None, None), (0, 0, None), (2, None, 2), (None, 3, 3), (2, 3, 2), (3, 2, 2)],
)
def test_ends(primary, subkey, expected):
    """A subkey ends with its primary key or before; a length of 0 is none. In days."""
    lengths = [None if days is None else days * DAY for days in (primary, subkey)]
    of_itself = (signature(CERTIFIES, flags=b"\x03", expires=lengths[0]),)
    (one,) = rsa_keys(b"".join(certificate(signature(BINDS, expires=lengths[1]), of_itself=of_itself)))
    assert one.end == (None if expected is None else (MADE + expected * DAY) * SECOND)


def test_other_packets():
    """Packets of no use here, known or not, are passed over."""
    trust, picture, future = packet(12, b"\x00"), packet(17, b"picture"), packet(60, b"?")
    foreign = packet(2, b"\x05\x18")  # a signature of version 5
    assert found(*certificate(trust, signature(BINDS), picture, foreign, future)) == [PHONE]


def test_second_certificate():
    """Of two certificates the first is read."""
    second = (key(PRIMARY, LAPTOP), signature(CERTIFIES))
    assert found(*certificate(signature(BINDS)), *second) == [PHONE]


@pytest.mark.parametrize(
    "spoilt",
    [
        (key(SUBKEY, PHONE), signature(BINDS)),
        (signature(CERTIFIES),),
        (key(PRIMARY, LAPTOP, version=3), signature(CERTIFIES)),
        (*certificate(signature(BINDS)), key(SECRET_SUBKEY, PHONE)),
        (*certificate(signature(BINDS)), packet(SUBKEY, b"\x04")),
        (*certificate(signature(BINDS)), packet(SUBKEY, bytes((4, 0, 0, 0, 0, 1, 0, 0, 0, 0)))),
        (*certificate(signature(BINDS)), packet(2, bytes((4, BINDS, 1, 8, 0, 1, 0, 0, 0)))),
        (*certificate(signature(BINDS)), b"\xcd\xe1\x00"),
        (*certificate(signature(BINDS)), b"\xb7"),
        (*certificate(signature(BINDS)), b"-----"),
    ],
    ids=["subkey", "signature", "v3", "secret", "short", "zeros", "subpackets", "parts", "endless", "text"],
)
def test_spoilt(spoilt):
    """One packet that is malformed, or has no place in a certificate, and nothing is read."""
    assert found(*spoilt) == []


@given(
    st.binary() | st.binary().map(lambda body: b"\xc6\xff" + len(body).to_bytes(4, "big") + b"\x04" + body)
)
@example(b"")
def test_garbage(garbage):
    """Garbage has no keys and is no error."""
    assert rsa_keys(garbage) == ()


@given(st.integers(0, len(certificates.JULIET) - 1))
def test_cut_off(length):
    """A certificate that is cut off before its last signature ends gives no key."""
    assert rsa_keys(certificates.JULIET[:length]) == ()


@given(st.sampled_from([certificates.JULIET, certificates.MERCUTIO]), st.data())
def test_changed(whole, data):
    """Whatever octets are changed, reading is no error."""
    changed = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        changed[at] = data.draw(st.integers(0, 255))
    for one in rsa_keys(bytes(changed)):
        assert one.modulus
        assert one.exponent
