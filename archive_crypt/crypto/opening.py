"""The reader's half: private keys, unwrapping a data key, opening what was sealed.

The server never imports this module (a test holds it): it has no way to decrypt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InternalError, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP, AsymmetricPadding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA1, SHA224, SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from archive_crypt.crypto import keyfile, publickeys
from archive_crypt.crypto.envelope import (
    AES128_CBC,
    AES128_GCM,
    AES256_CBC,
    AES256_GCM,
    BLOCK_SIZE,
    NONCE_SIZE,
    RSA_OAEP,
    RSA_OAEP_MGF1P,
    WRAP_ALGORITHMS,
)
from archive_crypt.crypto.publickeys import MAXIMUM_BITS, MINIMUM_BITS, PublicKey
from archive_crypt.errors import ArchiveError


class CannotOpen(ArchiveError):
    """This cannot be opened with this key."""


class CannotReadKey(ArchiveError):
    """The private key cannot be read."""


@dataclass(frozen=True, eq=False)
class PrivateKey:
    """The user's private key, an RSA key. Unlike the server's data keys it lies in ordinary memory."""

    rsa: RSAPrivateKey = field(repr=False)

    def public(self, name: str | None = None, *, minimum_bits: int = MINIMUM_BITS) -> PublicKey:
        """The public half, judged as a server would; named by its fingerprint without `name`.

        :raises UnusableKey: a server would refuse it.
        """
        return publickeys.from_der(self.public_der, name, minimum_bits=minimum_bits)

    @property
    def fingerprint(self) -> str:
        """That of the public half, also if no server would take it: it may open old messages."""
        return publickeys.fingerprint(self.public_der)

    @property
    def public_der(self) -> bytes:
        """The SubjectPublicKeyInfo of the public half, not judged."""
        return self.rsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def generate(bits: int = 3072) -> PrivateKey:
    """A new private key of 2048 to 8192 bits, with the exponent 65537."""
    if not MINIMUM_BITS <= bits <= MAXIMUM_BITS:
        raise ValueError(f"A key has {MINIMUM_BITS} to {MAXIMUM_BITS} bits.")
    return PrivateKey(generate_private_key(65537, bits))


def load(pem: bytes, passphrase: bytes | None) -> PrivateKey:
    """The private key of a PEM file. `passphrase` None or empty: the file is not encrypted.

    :raises CannotReadKey: the text says what to do about it, and nothing of the key.
    """
    if b"PRIVATE KEY-----" not in pem:
        raise CannotReadKey("This is no private key: a PEM file that says BEGIN ... PRIVATE KEY is needed.")
    try:
        key = load_pem_private_key(pem, passphrase or None)
    except TypeError:  # it is encrypted and there is no passphrase, or the other way round
        raise CannotReadKey(_passphrase_advice(passphrase)) from None
    except ValueError:
        wrong = "The passphrase is wrong, or the" if passphrase else "The"
        raise CannotReadKey(f"{wrong} private key is damaged.") from None
    except UnsupportedAlgorithm:
        raise CannotReadKey("The private key is of a kind that is not supported here.") from None
    if not isinstance(key, RSAPrivateKey):
        raise CannotReadKey("The private key is not an RSA key.")
    return PrivateKey(key)


def dump(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """The private key as PKCS #8 in PEM. `passphrase` None: in clear, and only then.

    :raises ValueError: the passphrase is empty.
    """
    if passphrase is None:
        return key.rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if not passphrase:
        raise ValueError("A passphrase must not be empty; None writes the key in clear.")
    clear = key.rsa.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return keyfile.encrypt(clear, passphrase)


def unwrap(
    private_key: PrivateKey,
    algorithm: str,
    wrapped: bytes,
    oaep: tuple[str | None, str | None] | None = None,
) -> bytes:
    """The data key in an EncryptedKey's CipherValue. `oaep`: what its EncryptionMethod says of DigestMethod
    and MGF, where one that is None is SHA-1 (XML Encryption 1.1, 5.5.2); without it, `algorithm` is as
    `envelope` writes it.

    With rsa-1_5 a wrong CipherValue yields a wrong key and no error (OpenSSL's implicit
    rejection); `open_sealed` refuses that key.

    :raises CannotOpen: for every reason alike.
    """
    try:
        return private_key.rsa.decrypt(wrapped, _padding(algorithm, oaep))
    except _FAILURES:
        raise CannotOpen from None


def open_sealed(algorithm: str, data_key: bytes, sealed: bytes) -> bytes:
    """The plaintext of an EncryptedData's CipherValue. Only GCM shows that nobody altered it.

    :raises CannotOpen: for every reason alike.
    """
    try:
        size, open_ = _OPEN[algorithm]
        if len(data_key) != size:
            raise CannotOpen
        return open_(data_key, sealed)
    except _FAILURES:
        raise CannotOpen from None


def _padding(algorithm: str, oaep: tuple[str | None, str | None] | None) -> AsymmetricPadding:
    if oaep is None or algorithm not in (RSA_OAEP, RSA_OAEP_MGF1P):
        return WRAP_ALGORITHMS[algorithm]
    digest, mgf = oaep
    if algorithm == RSA_OAEP_MGF1P:
        mgf = None  # its name says SHA-1
    return OAEP(MGF1(_HASHES[mgf]()), _HASHES[digest](), None)


def _open_gcm(key: bytes, sealed: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], None)


def _open_cbc(key: bytes, sealed: bytes) -> bytes:
    return _open_blocks(AES(key), BLOCK_SIZE, sealed)


def _open_3des(key: bytes, sealed: bytes) -> bytes:
    return _open_blocks(TripleDES(key), TripleDES.block_size // 8, sealed)


def _open_blocks(cipher: AES | TripleDES, size: int, sealed: bytes) -> bytes:
    decryptor = Cipher(cipher, CBC(sealed[:size])).decryptor()
    padded = decryptor.update(sealed[size:]) + decryptor.finalize()
    if not padded or not 1 <= padded[-1] <= size:
        raise CannotOpen
    return padded[: -padded[-1]]


#: What `envelope` seals with, and what only others do: octets of a key, and what opens.
_OPEN: dict[str, tuple[int, Callable[[bytes, bytes], bytes]]] = {
    AES256_GCM: (32, _open_gcm),
    AES128_GCM: (16, _open_gcm),
    "http://www.w3.org/2009/xmlenc11#aes192-gcm": (24, _open_gcm),
    AES256_CBC: (32, _open_cbc),
    AES128_CBC: (16, _open_cbc),
    "http://www.w3.org/2001/04/xmlenc#aes192-cbc": (24, _open_cbc),
    "http://www.w3.org/2001/04/xmlenc#tripledes-cbc": (24, _open_3des),
}

#: Those of them that show whether anybody altered the ciphertext.
AUTHENTICATED = frozenset(algorithm for algorithm, (_, open_) in _OPEN.items() if open_ is _open_gcm)

#: The hash functions that XML Signature and XML Encryption name, for OAEP and for its MGF1.
_HASHES: dict[str | None, type[HashAlgorithm]] = {
    None: SHA1,
    "http://www.w3.org/2000/09/xmldsig#sha1": SHA1,
    "http://www.w3.org/2001/04/xmldsig-more#sha224": SHA224,
    "http://www.w3.org/2001/04/xmlenc#sha256": SHA256,
    "http://www.w3.org/2001/04/xmldsig-more#sha384": SHA384,
    "http://www.w3.org/2001/04/xmlenc#sha512": SHA512,
    "http://www.w3.org/2009/xmlenc11#mgf1sha1": SHA1,
    "http://www.w3.org/2009/xmlenc11#mgf1sha224": SHA224,
    "http://www.w3.org/2009/xmlenc11#mgf1sha256": SHA256,
    "http://www.w3.org/2009/xmlenc11#mgf1sha384": SHA384,
    "http://www.w3.org/2009/xmlenc11#mgf1sha512": SHA512,
}

#: All that can go wrong becomes one error with one text: a bad padding told apart from a bad
#: length or tag is an oracle that opens CBC and rsa-1_5 messages, if a program ever answers by it.
_FAILURES = (
    ValueError,
    KeyError,
    OverflowError,
    InvalidTag,
    UnsupportedAlgorithm,
    InternalError,
    ArchiveError,
)


def _passphrase_advice(passphrase: bytes | None) -> str:
    if passphrase:
        return "The private key is not encrypted: no passphrase is needed."
    return "The private key is encrypted: its passphrase is needed."
