"""The key of a mirror: random, in a file that only the user's own private keys open.

The file is XML: one EncryptedKey (XML Encryption) for each of those keys, so that xmlsec and openssl
can open it too. What the key is for is not known here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from lxml import etree

from archive_crypt.core import xmlenc
from archive_crypt.core.xmlenc import ReadKey
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


def fit(private_keys: Iterable[PrivateKey], confirmed: Container[str]) -> list[PublicKey]:
    """Those that a key is wrapped for: the public halves of these, each once, but for those that are found
    unfit today; where some are `confirmed`, by their fingerprints, those only.

    :raises Problem: there is none.
    """
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
    return [half for half in found.values() if half.name in confirmed] or list(found.values())


def load(path: Path, private_keys: Sequence[PrivateKey]) -> list[bytes]:
    """The key in a file, opened with any of these private keys. After a crash while it was changed there may
    be several, of which one is that of the mirror.

    :raises FileNotFoundError: there is no such file.
    :raises Problem: it cannot be read, or none of them opens it.
    """
    keys = [_opened(wrapped, private_keys) for wrapped in map(xmlenc.read_key, _read(path))]
    found = list(dict.fromkeys(key for key in keys if key is not None))
    if not found:
        raise Problem(f"{path} opens with none of your private keys: --key FILE names another.")
    return found


def names(path: Path) -> set[str]:
    """The private keys that open the file, by the fingerprints of their public halves.

    :raises Problem: it cannot be read.
    """
    return {name for wrapped in map(xmlenc.read_key, _read(path)) for name in wrapped.recipients}


def add(path: Path, key: bytes, halves: Iterable[PublicKey]) -> None:
    """Whoever has the private key of one of these opens this key with the file, too. To be locked.

    :raises Problem: it cannot be read or written.
    """
    _write(path, _read(path), key, halves)


def replace(path: Path, key: bytes, halves: Iterable[PublicKey]) -> None:
    """Nothing is in the file but this key, and nobody else opens it. To be locked.

    :raises Problem: it cannot be written.
    """
    _write(path, parse(_EMPTY), key, halves)


def _write(path: Path, root: etree._Element, key: bytes, halves: Iterable[PublicKey]) -> None:
    root.extend([_sealed(key, half, f"k{len(root) + n}") for n, half in enumerate(halves)])
    files.replace(path, etree.tostring(root))


def _sealed(key: bytes, public: PublicKey, id_: str) -> etree._Element:
    wrapped = envelope.wrap(envelope.RSA_OAEP, memoryview(key), public)
    return parse(xmlenc.write_key(EncryptedKey(_NAME, public.name, envelope.RSA_OAEP, wrapped), id_).encode())


def _opened(wrapped: ReadKey, private_keys: Iterable[PrivateKey]) -> bytes | None:
    for private_key in private_keys:
        with contextlib.suppress(CannotOpen):
            key = opening.unwrap(private_key, wrapped.algorithm, wrapped.cipher)
            if len(key) == SIZE:
                return key
    return None


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
            f"{path} is damaged, and without it its mirror cannot be opened: move both away and sync again."
        ) from None
    return root
