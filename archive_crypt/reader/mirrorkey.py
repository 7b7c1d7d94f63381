"""The key of a mirror: random, in a file that only the user's own private keys open.

The file is XML: one EncryptedKey (XML Encryption) for each of those keys, so that xmlsec and openssl
can open it too. What the key is for is not known here.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from lxml import etree

from archive_crypt.core import xmlenc
from archive_crypt.crypto import envelope, opening
from archive_crypt.crypto.opening import CannotOpen, PrivateKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import BadRequest, UnusableKey
from archive_crypt.model import EncryptedKey
from archive_crypt.reader import files
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.protocol import parse

SIZE = 32  # octets

_EMPTY = b"<mirror xmlns='urn:x-archive-crypt:mirror:0'/>"
_NAME = "mirror"


def load(path: Path, private_keys: Sequence[PrivateKey]) -> bytes:
    """The key in a file, opened with any of these private keys.

    :raises FileNotFoundError: there is no such file.
    :raises Problem: it cannot be read, or none of them opens it.
    """
    return _opened(path, _read(path), private_keys)


def make(path: Path, private_keys: Sequence[PrivateKey]) -> bytes:
    """The same; where there is no file, one is made, with a new key. From now on all of these private keys
    open it, and those that did before.

    :raises Problem: it cannot be read or written, none of them opens it, or none is fit to.
    """
    public = _public_halves(private_keys)
    with files.locked(path):
        try:
            root = _read(path)
            key = _opened(path, root, private_keys)
        except FileNotFoundError:
            root, key = parse(_EMPTY), secrets.token_bytes(SIZE)
        known = {name for child in root for name in xmlenc.read_key(child).recipients}
        new = [half for half in public if half.name not in known]
        if new:
            root.extend([_sealed(key, half, f"k{len(root) + n}") for n, half in enumerate(new)])
            files.replace(path, etree.tostring(root))
    return key


def _public_halves(private_keys: Sequence[PrivateKey]) -> list[PublicKey]:
    """Each once, by its fingerprint, but for those that are found unfit today."""
    found: dict[str, PublicKey] = {}
    for private_key in private_keys:
        with contextlib.suppress(UnusableKey):
            half = private_key.public()
            found.setdefault(half.name, half)
    if not found:
        raise Problem(
            "A mirror is encrypted for your own key, and there is none fit for it: "
            "archive-reader keygen makes one, --key FILE names it."
        )
    return list(found.values())


def _sealed(key: bytes, public: PublicKey, id_: str) -> etree._Element:
    wrapped = envelope.wrap(envelope.RSA_OAEP, memoryview(key), public)
    return parse(xmlenc.write_key(EncryptedKey(_NAME, public.name, envelope.RSA_OAEP, wrapped), id_).encode())


def _opened(path: Path, root: etree._Element, private_keys: Sequence[PrivateKey]) -> bytes:
    for wrapped in map(xmlenc.read_key, root):
        for private_key in private_keys:
            with contextlib.suppress(CannotOpen):
                key = opening.unwrap(private_key, wrapped.algorithm, wrapped.cipher)
                if len(key) == SIZE:
                    return key
    raise Problem(f"{path} opens with none of your private keys: --key FILE names another.")


def _read(path: Path) -> etree._Element:
    """The file, in which each child can be read as an EncryptedKey."""
    try:
        root = parse(path.read_bytes())
        for child in root:
            xmlenc.read_key(child)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}") from None
    except (etree.XMLSyntaxError, BadRequest):
        raise Problem(
            f"{path} is damaged, and without it its mirror cannot be opened: remove both."
        ) from None
    return root
