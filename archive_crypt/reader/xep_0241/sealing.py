"""Sealing what is uploaded (XEP-0241 2), under a data key of its own that is wrapped for each public key."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from types import TracebackType

from lxml import etree

from archive_crypt.core import xmlenc
from archive_crypt.core.canonical import canonical
from archive_crypt.core.dialect import V
from archive_crypt.crypto import envelope
from archive_crypt.crypto.envelope import AES256_GCM, RSA_OAEP
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.model import EncryptedKey, SealedItem
from archive_crypt.reader import protocol
from archive_crypt.reader.errors import CannotAsk
from archive_crypt.reader.xep_0136 import uploads
from archive_crypt.reader.xep_0136.uploads import Timed

#: The namespace that takes most room.
_LONGEST = V.namespace


class Sealer:
    """A data key and what is sealed with it; the key is wiped when the ``with`` ends.

    `name` is its CarriedKeyName: unguessable, and never used again. `algorithm` and `wrapping` are
    URIs of `envelope`.
    """

    def __init__(
        self, keys: Sequence[PublicKey], algorithm: str = AES256_GCM, wrapping: str = RSA_OAEP
    ) -> None:
        """:raises CannotAsk: there is no public key: nobody could open it.
        :raises NotImplementedHere: there is no such algorithm.
        :raises UnusableKey: a public key does not do it.
        """
        if not keys:
            raise CannotAsk("Without a public key nobody could read what is encrypted: give one.")
        self.name = f"usr-{secrets.token_urlsafe(16)}"
        self._algorithm = algorithm
        self._key = bytearray(os.urandom(envelope.key_size(algorithm)))
        self.wrapped = [self._wrap(key, wrapping) for key in {key.der: key for key in keys}.values()]

    def __enter__(self) -> Sealer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._key[:] = bytes(len(self._key))

    def seal(self, plaintext: str) -> str:
        """EncryptedData of one or more items, or of what a form holds, as XML."""
        cipher = envelope.seal(self._algorithm, memoryview(self._key), plaintext.encode())
        return xmlenc.write_data(SealedItem(0, self.name, self._algorithm, cipher))

    # As `uploads.Style` has it.

    def first(self, form: str, items: bool) -> list[str]:
        """The form, with what it holds sealed, and the EncryptedKeys of whatever is sealed."""
        element = protocol.parse(form.encode()) if form else None
        needed = items or (element is not None and len(element) > 0)
        keys = map(write_key, self.wrapped) if needed else []
        return [*([] if element is None else [self._form(element)]), *keys]

    def write(self, namespace: str, items: Sequence[Timed]) -> list[str]:
        """One EncryptedData of them all; each item has its namespace in it, as the server could never say
        it otherwise to who asks in another."""
        return [self.seal("".join(item.write(namespace) for item in items))] if items else []

    def size(self, item: Timed) -> int:
        """The octets that this adds to an EncryptedData."""
        plaintext = item.write(_LONGEST)
        uploads.parsed(plaintext)
        return -(-4 * len(plaintext.encode()) // 3)  # base64, rounded up

    def _form(self, element: etree._Element) -> str:
        content = "".join(canonical(child) for child in element.iterchildren("*"))
        if content:
            for child in element:
                element.remove(child)
            element.append(protocol.parse(self.seal(content).encode()))
        return canonical(element)

    def _wrap(self, key: PublicKey, wrapping: str) -> EncryptedKey:
        cipher = envelope.wrap(wrapping, memoryview(self._key), key)
        return EncryptedKey(self.name, key.name, wrapping, cipher)


def write_key(key: EncryptedKey) -> str:
    """An EncryptedKey as XML, with an Id that is its own wherever it is put."""
    return xmlenc.write_key(key, f"k{secrets.token_hex(12)}")
