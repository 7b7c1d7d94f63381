"""Sealing and wrapping: the octets are those of XML Encryption, as other programs read and write them."""

import base64
import contextlib
import os

import pytest
import xmlsec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from archive_crypt.crypto import envelope, opening
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import NotImplementedHere, UnusableKey

from .kit import law

SEALS = list(envelope.SEAL_ALGORITHMS)
GCM = [envelope.AES256_GCM, envelope.AES128_GCM]
WRAPS = list(envelope.WRAP_ALGORITHMS)
TEXT = b"<to xmlns='urn:xmpp:archive'><body>Art thou not Romeo?</body></to>"

#: What EncryptionMethod must say of rsa-oaep, whose defaults are SHA-1.
DETAILS = {
    envelope.RSA_OAEP: """
        <DigestMethod xmlns='http://www.w3.org/2000/09/xmldsig#'
          Algorithm='http://www.w3.org/2001/04/xmlenc#sha256'/>
        <MGF xmlns='http://www.w3.org/2009/xmlenc11#'
          Algorithm='http://www.w3.org/2009/xmlenc11#mgf1sha256'/>""",
}


def new_key(algorithm):
    return memoryview(bytearray(os.urandom(envelope.key_size(algorithm))))


def xmlsec_key(private_key):
    return xmlsec.Key.from_memory(opening.dump(private_key, None), xmlsec.KeyFormat.PEM)


def document(seal, wrap, sealed, wrapped):
    """A page as XEP-0241 has it: EncryptedKey and EncryptedData side by side."""
    return etree.fromstring(f"""
        <chat>
          <EncryptedKey xmlns='http://www.w3.org/2001/04/xmlenc#' Id='k1'>
            <EncryptionMethod Algorithm='{wrap}'>{DETAILS.get(wrap, "")}</EncryptionMethod>
            <CipherData><CipherValue>{base64.b64encode(wrapped).decode()}</CipherValue></CipherData>
          </EncryptedKey>
          <EncryptedData xmlns='http://www.w3.org/2001/04/xmlenc#'
              Type='http://www.w3.org/2001/04/xmlenc#Content'>
            <EncryptionMethod Algorithm='{seal}'/>
            <KeyInfo xmlns='http://www.w3.org/2000/09/xmldsig#'>
              <RetrievalMethod URI='#k1' Type='http://www.w3.org/2001/04/xmlenc#EncryptedKey'/>
            </KeyInfo>
            <CipherData><CipherValue>{base64.b64encode(sealed).decode()}</CipherValue></CipherData>
          </EncryptedData>
        </chat>""")


@law
@given(algorithm=st.sampled_from(SEALS), plaintext=st.binary(max_size=300))
def test_what_is_sealed_opens(algorithm, plaintext):
    """open(seal(x)) == x for every algorithm and any octets, none included."""
    key = new_key(algorithm)
    sealed = envelope.seal(algorithm, key, plaintext)
    assert opening.open_sealed(algorithm, bytes(key), sealed) == plaintext


@law
@given(algorithm=st.sampled_from(GCM), plaintext=st.binary(max_size=50), data=st.data())
def test_no_octet_of_a_gcm_value_can_be_altered(algorithm, plaintext, data):
    """A change of any octet, of nonce, ciphertext or tag, and any cut, makes it unreadable."""
    key = new_key(algorithm)
    sealed = bytearray(envelope.seal(algorithm, key, plaintext))
    place = data.draw(st.integers(0, len(sealed) - 1))
    change = data.draw(st.integers(1, 255))
    sealed[place] ^= change
    with pytest.raises(opening.CannotOpen):
        opening.open_sealed(algorithm, bytes(key), bytes(sealed))
    sealed[place] ^= change
    with pytest.raises(opening.CannotOpen):
        opening.open_sealed(algorithm, bytes(key), bytes(sealed[:place]))


@law
@given(size=st.integers(0, 100))
def test_sizes_are_those_of_the_standard(size):
    """GCM adds 12 + 16 octets; CBC adds 16 and pads to the next full block, a whole one if need be."""
    lengths = {a: len(envelope.seal(a, new_key(a), bytes(size))) for a in SEALS}
    assert {lengths[a] for a in GCM} == {12 + size + 16}
    assert {lengths[a] for a in SEALS if a not in GCM} == {16 + (size // 16 + 1) * 16}


@pytest.mark.parametrize("algorithm", SEALS)
def test_no_nonce_comes_twice(algorithm):
    """The first 12 octets differ each time, though key and text are the same."""
    key = new_key(algorithm)
    assert len({envelope.seal(algorithm, key, TEXT)[:12] for _ in range(1000)}) == 1000


@pytest.mark.parametrize("algorithm", SEALS)
def test_a_key_of_the_wrong_size_is_refused(algorithm):
    """A key of 16 octets never passes for AES-256, nor one of 32 for AES-128."""
    wrong = memoryview(bytes(48 - envelope.key_size(algorithm)))
    with pytest.raises(ValueError, match="does not fit"):
        envelope.seal(algorithm, wrong, TEXT)


def test_unknown_algorithms_are_not_implemented(public_key):
    """An algorithm we do not have is a feature-not-implemented, whoever asks for it."""
    key = memoryview(bytes(32))
    for ask in (
        lambda: envelope.key_size("http://www.w3.org/2001/04/xmlenc#tripledes-cbc"),
        lambda: envelope.seal("urn:rot13", key, TEXT),
        lambda: envelope.wrap("http://www.w3.org/2001/04/xmlenc#kw-aes256", key, public_key),
    ):
        with pytest.raises(NotImplementedHere):
            ask()


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("size", [16, 32])
def test_what_is_wrapped_unwraps(private_key, public_key, wrap, size):
    """The private key gets the data key back; wrapping leaves the data key as it was."""
    key = memoryview(bytearray(os.urandom(size)))
    before = bytes(key)
    wrapped = envelope.wrap(wrap, key, public_key)
    assert len(wrapped) == 256
    assert opening.unwrap(private_key, wrap, wrapped) == before == bytes(key)


def test_a_public_key_that_fails_is_unusable():
    """What the library cannot encrypt to is an UnusableKey that says no more than its name."""
    even = RSAPublicNumbers(65537, 2**2047 + 2).public_key()
    with pytest.raises(UnusableKey, match=r"^Key 'odd one': encrypting with it failed\.$"):
        envelope.wrap(envelope.RSA_OAEP, memoryview(bytes(32)), PublicKey("odd one", b"", even))


class Witness:
    """A public key that remembers what it was given to encrypt."""

    def __init__(self, rsa):
        self.rsa, self.given, self.before = rsa, [], []

    def encrypt(self, octets, padding):
        self.given.append(octets)
        self.before.append(bytes(bytearray(octets)))
        return self.rsa.encrypt(octets, padding)


@pytest.mark.parametrize("modulus", ["good", "even"])
def test_the_copy_that_rsa_needs_is_wiped(public_key, modulus):
    """Whether it succeeds or not, the `bytes` handed to RSA are zeros afterwards, and a dummy follows."""
    even = RSAPublicNumbers(65537, 2**2047 + 2).public_key()
    witness = Witness(public_key.rsa if modulus == "good" else even)
    key = new_key(envelope.AES256_GCM)
    with contextlib.suppress(UnusableKey):
        envelope.wrap(envelope.RSA_OAEP, key, PublicKey("laptop", b"", witness))
    assert witness.before == [bytes(key), bytes(32)]
    assert witness.given == [bytes(32), bytes(32)]


def test_octets_are_wiped_in_place():
    """The temporary copy that RSA needs becomes zeros, all of it and nothing beyond."""
    octets = bytes(memoryview(b"never do this to a literal, please"))
    envelope._wipe_octets(octets)
    assert octets == bytes(34)


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("seal", SEALS)
def test_xmlsec_opens_what_we_seal(private_key, public_key, seal, wrap):
    """libxmlsec opens an EncryptedData with its EncryptedKey, given nothing but the private key."""
    key = new_key(seal)
    page = document(seal, wrap, envelope.seal(seal, key, TEXT), envelope.wrap(wrap, key, public_key))
    xmlsec.tree.add_ids(page, ["Id"])
    manager = xmlsec.KeysManager()
    manager.add_key(xmlsec_key(private_key))
    xmlsec.EncryptionContext(manager).decrypt(page[1])
    assert etree.tostring(page[1]).strip() == TEXT.replace(b"'", b'"')


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("seal", SEALS)
def test_we_open_what_xmlsec_seals(private_key, seal, wrap):
    """The reader opens what libxmlsec made, with libxmlsec's own padding."""
    page = document(seal, wrap, b"", b"")
    template, data = page
    data.find("{*}KeyInfo").clear()
    data.find("{*}KeyInfo").append(template)
    size = 8 * envelope.key_size(seal)
    manager = xmlsec.KeysManager()
    manager.add_key(xmlsec_key(private_key))
    context = xmlsec.EncryptionContext(manager)
    context.key = xmlsec.Key.generate(xmlsec.KeyData.AES, size, xmlsec.KeyDataType.SESSION)
    context.encrypt_binary(data, TEXT)
    wrapped, sealed = (base64.b64decode(value.text) for value in data.iterfind(".//{*}CipherValue"))
    assert opening.open_sealed(seal, opening.unwrap(private_key, wrap, wrapped), sealed) == TEXT
