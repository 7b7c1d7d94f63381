"""The reader's half: private keys in files, and one answer to everything that cannot be opened."""

import contextlib
import os
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.crypto import envelope, opening
from archive_crypt.crypto.publickeys import fingerprint
from archive_crypt.errors import UnusableKey

from .kit import law

SEALS = list(envelope.SEAL_ALGORITHMS)
UNIFORM = "This cannot be opened with this key."


def pem(key, encryption=None, form=PrivateFormat.PKCS8):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


@pytest.mark.parametrize("passphrase", [None, b"x", "Mißtrauen".encode(), b"long " * 300])
def test_a_key_survives_its_file(private_key, passphrase):
    """load(dump(key)) is the key, with any passphrase and with none."""
    again = opening.load(opening.dump(private_key, passphrase), passphrase)
    assert again.rsa.private_numbers() == private_key.rsa.private_numbers()


def test_an_encrypted_file_is_hard_to_guess(private_key):
    """With a passphrase the file is PBES2 of AES-256 with scrypt of 16 MiB, five times over: so says openssl."""
    text = opening.dump(private_key, b"secret")
    assert text.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    parsed = subprocess.run(["openssl", "asn1parse"], input=text, capture_output=True, check=True).stdout
    assert b":PBES2" in parsed
    assert b":aes-256-cbc" in parsed
    tail = parsed.partition(b":scrypt")[2].splitlines()
    numbers = [line.rpartition(b":")[2] for line in tail if b"INTEGER" in line]
    assert [int(number, 16) for number in numbers] == [2**14, 8, 5]
    assert text != opening.dump(private_key, b"secret")


def test_openssl_reads_the_file(private_key):
    """The encrypted file is a PKCS #8 like any other: openssl gives the same key in clear."""
    command = ["openssl", "pkcs8", "-passin", "pass:secret"]
    text = opening.dump(private_key, b"secret")
    clear = subprocess.run(command, input=text, capture_output=True, check=True).stdout
    assert clear == opening.dump(private_key, None)


def test_an_empty_passphrase_never_writes_in_clear(private_key):
    """Only None writes the key in clear."""
    with pytest.raises(ValueError, match="must not be empty"):
        opening.dump(private_key, b"")


def test_files_of_others_are_read(private_key):
    """The traditional RSA form, and files encrypted by OpenSSL's own means, are read too."""
    key = private_key.rsa
    for text, passphrase in (
        (pem(key, form=PrivateFormat.TraditionalOpenSSL), None),
        (pem(key, form=PrivateFormat.TraditionalOpenSSL), b""),
        (pem(key, BestAvailableEncryption(b"secret")), b"secret"),
        (pem(key, BestAvailableEncryption(b"secret"), PrivateFormat.TraditionalOpenSSL), b"secret"),
    ):
        assert opening.load(text, passphrase).public() == private_key.public()


def test_each_wrong_file_has_its_advice(private_key):
    """What is wrong with a key file is said so that it can be mended."""
    encrypted, clear = opening.dump(private_key, b"secret"), opening.dump(private_key, None)
    public = private_key.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    curve = pem(ec.generate_private_key(ec.SECP256R1()))
    damaged = clear.replace(clear[100:140], b"A" * 40)
    for text, passphrase, advice in (
        (encrypted, None, "The private key is encrypted: its passphrase is needed."),
        (encrypted, b"", "The private key is encrypted: its passphrase is needed."),
        (encrypted, b"sekret", "The passphrase is wrong, or the private key is damaged."),
        (clear, b"secret", "The private key is not encrypted: no passphrase is needed."),
        (damaged, None, "The private key is damaged."),
        (curve, None, "The private key is not an RSA key."),
        (public, None, "This is no private key: a PEM file that says BEGIN ... PRIVATE KEY is needed."),
        (b"", None, "This is no private key: a PEM file that says BEGIN ... PRIVATE KEY is needed."),
    ):
        with pytest.raises(opening.CannotReadKey) as caught:
            opening.load(text, passphrase)
        assert str(caught.value) == advice
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@law
@given(st.binary(max_size=200))
def test_any_file_is_a_key_or_cannot_be_read(content):
    """Whatever a file holds, the only error is CannotReadKey."""
    frame = b"-----BEGIN PRIVATE KEY-----\n%b\n-----END PRIVATE KEY-----\n"
    for text in (content, frame % content):
        with pytest.raises(opening.CannotReadKey):
            opening.load(text, None)


def test_generated_keys_are_fit_for_use():
    """A key of 3072 bits by default, and its public half passes the server's judgement."""
    key = opening.generate()
    assert (key.rsa.key_size, key.rsa.public_key().public_numbers().e) == (3072, 65537)
    assert key.public("phone").name == "phone"
    assert key.public().name == fingerprint(key.public("phone").der)


@pytest.mark.parametrize("bits", [1024, 2047, 8193, 16384])
def test_keys_of_other_sizes_are_not_made(bits):
    """generate makes what a server takes, 2048 to 8192 bits."""
    with pytest.raises(ValueError, match="2048 to 8192"):
        opening.generate(bits)


def test_an_old_key_reads_but_is_not_offered():
    """A key of 1024 bits still opens what was sealed for it; as a public key it has to be asked for."""
    old = opening.PrivateKey(rsa.generate_private_key(65537, 1024))
    with pytest.raises(UnusableKey):
        old.public()
    public = old.public(minimum_bits=1024)
    wrapped = envelope.wrap(envelope.RSA_OAEP, memoryview(bytes(range(32))), public)
    assert opening.unwrap(old, envelope.RSA_OAEP, wrapped) == bytes(range(32))


def test_a_private_key_does_not_show_itself(private_key):
    """Its repr holds nothing of the key."""
    assert repr(private_key) == "PrivateKey()"


def test_every_failure_looks_alike(private_key, public_key):
    """Wrong key, tag, padding, length, algorithm: one class, one text, no cause to be seen."""
    key = memoryview(bytearray(os.urandom(32)))
    gcm, cbc = (envelope.seal(a, key, b"Juliet") for a in (envelope.AES256_GCM, envelope.AES256_CBC))
    wrapped = envelope.wrap(envelope.RSA_OAEP, key, public_key)
    other = os.urandom(32)
    stranger = opening.generate(2048)
    bad_padding = bytearray(cbc)
    bad_padding[15] ^= 0x80  # the padding's count becomes more than a block
    attempts = [
        lambda: opening.open_sealed(envelope.AES256_GCM, other, gcm),
        lambda: opening.open_sealed(envelope.AES256_GCM, bytes(key), gcm[:-1]),
        lambda: opening.open_sealed(envelope.AES256_GCM, bytes(key), b""),
        lambda: opening.open_sealed(envelope.AES256_GCM, bytes(key), bytes(27)),
        lambda: opening.open_sealed(envelope.AES256_CBC, bytes(key), bytes(bad_padding)),
        lambda: opening.open_sealed(envelope.AES256_CBC, bytes(key), cbc[:-1]),
        lambda: opening.open_sealed(envelope.AES256_CBC, bytes(key), cbc[:16]),
        lambda: opening.open_sealed(envelope.AES256_CBC, bytes(key), b""),
        lambda: opening.open_sealed(envelope.AES128_GCM, bytes(key), gcm),
        lambda: opening.open_sealed("urn:rot13", bytes(key), gcm),
        lambda: opening.unwrap(stranger, envelope.RSA_OAEP, wrapped),
        lambda: opening.unwrap(private_key, envelope.RSA_OAEP_MGF1P, wrapped),
        lambda: opening.unwrap(private_key, envelope.RSA_OAEP, wrapped[:-1]),
        lambda: opening.unwrap(private_key, envelope.RSA_OAEP, b""),
        lambda: opening.unwrap(private_key, envelope.RSA_1_5, b"\xff" * 256),
        lambda: opening.unwrap(private_key, "urn:rot13", wrapped),
    ]
    for attempt in attempts:
        with pytest.raises(opening.CannotOpen) as caught:
            attempt()
        assert (type(caught.value), str(caught.value)) == (opening.CannotOpen, UNIFORM)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_rsa_1_5_rejects_without_telling(private_key, public_key):
    """A spoilt rsa-1_5 value gives a wrong key instead of an error, and that key opens nothing."""
    key = memoryview(bytearray(os.urandom(32)))
    sealed = envelope.seal(envelope.AES256_GCM, key, b"Juliet")
    wrapped = bytearray(envelope.wrap(envelope.RSA_1_5, key, public_key))
    for place in range(1, 256, 16):
        wrapped[place] ^= 1
        wrong = opening.unwrap(private_key, envelope.RSA_1_5, bytes(wrapped))
        with pytest.raises(opening.CannotOpen):
            opening.open_sealed(envelope.AES256_GCM, wrong, sealed)


@law
@given(algorithm=st.sampled_from(SEALS), key=st.binary(max_size=33), sealed=st.binary(max_size=80))
def test_any_octets_open_or_cannot(algorithm, key, sealed):
    """Whatever the octets of key and value, the only error is CannotOpen."""
    with contextlib.suppress(opening.CannotOpen):
        assert isinstance(opening.open_sealed(algorithm, key, sealed), bytes)


@law
@given(algorithm=st.sampled_from(list(envelope.WRAP_ALGORITHMS)), wrapped=st.binary(max_size=300))
def test_any_octets_unwrap_or_cannot(private_key, algorithm, wrapped):
    """Whatever the octets of a wrapped key, the only error is CannotOpen."""
    with contextlib.suppress(opening.CannotOpen):
        assert isinstance(opening.unwrap(private_key, algorithm, wrapped), bytes)
