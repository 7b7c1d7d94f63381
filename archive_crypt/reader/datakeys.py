"""EncryptedKeys -> data keys: each unwrapped once, on threads where it is known in time that it is ours.

What an EncryptedData says of its key decides which it is; that it opens is the proof. Where it tells an Id,
and nothing that it says leads to one that opens it, the proof alone decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from lxml import etree

from archive_crypt.core.dialect import F
from archive_crypt.core.xmlenc import ReadData, ReadKey
from archive_crypt.crypto import opening
from archive_crypt.crypto.envelope import RSA_1_5
from archive_crypt.crypto.opening import AUTHENTICATED, CannotOpen, PrivateKey
from archive_crypt.errors import UnusableKey
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.protocol import parse


def fitting(data: ReadData, data_key: bytes) -> bytes | None:
    """The plaintext of an EncryptedData that does not name this data key; None: it is sealed with another."""
    plaintext = _opened(data, data_key)
    if plaintext is None or data.algorithm in AUTHENTICATED:
        return plaintext
    # What a wrong key makes of CBC looks right by its padding in one case of sixteen.
    return plaintext if _is_xml(plaintext) else None


class Unwrapping:
    """Private keys at work. An RSA operation takes a millisecond or more; it runs beside Python's own
    work, on as many threads as there are processors."""

    def __init__(self, private_keys: Sequence[PrivateKey]) -> None:
        #: The fingerprint of each public half, None if that is found unfit today; it may open old messages.
        self.keys = [(_name(key), key) for key in private_keys]
        self._results: dict[tuple[bytes, PrivateKey], Future[bytes | None]] = {}

    def start(self, wrapped: Iterable[ReadKey]) -> None:
        """Those that name one of our keys will be asked for soon."""
        for key in wrapped:
            for name, private_key in self.keys:
                if name in key.recipients and (key.cipher, private_key) not in self._results:
                    result = _threads().submit(_unwrapped, private_key, key)
                    self._results[key.cipher, private_key] = result

    def get(self, wrapped: ReadKey, private_key: PrivateKey) -> bytes | None:
        """The data key; None: this private key does not unwrap it."""
        which = (wrapped.cipher, private_key)
        if which not in self._results:
            self._results[which] = Future()
            self._results[which].set_result(_unwrapped(private_key, wrapped))
        return self._results[which].result()

    def forget(self, wrapped: Iterable[ReadKey]) -> None:
        """These will not be asked for again."""
        for key in wrapped:
            for _, private_key in self.keys:
                self._results.pop((key.cipher, private_key), None)


class DataKeys:
    """The data keys of one collection: those that are open, and the EncryptedKeys that came."""

    def __init__(self, unwrapping: Unwrapping) -> None:
        self._unwrapping = unwrapping
        self._wrapped: dict[bytes, ReadKey] = {}
        self._open: dict[str, bytes] = {}

    def learn(self, keys: Sequence[ReadKey]) -> None:
        """EncryptedKeys of the collection."""
        self._unwrapping.start(keys)
        self._wrapped |= {key.cipher: key for key in keys}

    def open(self, data: ReadData) -> bytes | Finding:
        """The plaintext of an EncryptedData, or why there is none: no EncryptedKey for it is one of
        ours; or one is, but it or the EncryptedData is not as it was made."""
        for name in data.key_names:
            plaintext = fitting(data, self._open[name]) if name in self._open else None
            if plaintext is not None:
                return plaintext
        return self._unwrap_and_open(data)

    def close(self) -> None:
        """The collection was read."""
        self._unwrapping.forget(self._wrapped.values())

    def _unwrap_and_open(self, data: ReadData) -> bytes | Finding:
        ours, doubtful = False, None
        for wrapped in self._wrapped.values():
            named = wrapped.key_name in data.key_names
            if not named and wrapped.id not in data.key_ids:
                continue
            for name, private_key in self._unwrapping.keys:
                ours = ours or name in wrapped.recipients
                data_key = self._unwrapping.get(wrapped, private_key)
                if data_key is None:
                    continue
                # With rsa-1_5 anybody's EncryptedKey gives some key, if a useless one.
                ours = ours or wrapped.algorithm != RSA_1_5
                plaintext = fitting(data, data_key)
                if plaintext is not None:
                    self._open |= dict.fromkeys(data.key_names, data_key)
                    return plaintext
                # Damaged, or of another data key of that name: it is shown if none makes XML of it.
                if named and doubtful is None and data.algorithm not in AUTHENTICATED:
                    doubtful = _opened(data, data_key)
        plaintext = self._open_by_any(data)
        plaintext = doubtful if plaintext is None else plaintext
        if plaintext is not None:
            return plaintext
        return Finding.CANNOT_OPEN if ours else Finding.NO_KEY

    def _open_by_any(self, data: ReadData) -> bytes | None:
        """The plaintext of an EncryptedData that tells its EncryptedKey by an Id: what takes the place of
        that, as by `rekey`, has another Id, and this one may be that of one for other data then; as a name
        beside it may be."""
        if not data.key_ids:
            return None
        for wrapped in self._wrapped.values():
            for _, private_key in self._unwrapping.keys:
                data_key = self._unwrapping.get(wrapped, private_key)
                plaintext = None if data_key is None else fitting(data, data_key)
                if plaintext is not None:
                    return plaintext
        return None


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "unwrapping")


def _opened(data: ReadData, data_key: bytes) -> bytes | None:
    try:
        return opening.open_sealed(data.algorithm, data_key, data.cipher)
    except CannotOpen:
        return None


def _is_xml(plaintext: bytes) -> bool:
    try:
        return len(parse(b"<x xmlns='%s'>%s</x>" % (F.namespace.encode(), plaintext))) > 0
    except etree.XMLSyntaxError:
        return False


def _unwrapped(private_key: PrivateKey, wrapped: ReadKey) -> bytes | None:
    try:
        oaep = wrapped.digest, wrapped.mgf
        return opening.unwrap(private_key, wrapped.algorithm, wrapped.cipher, oaep)
    except CannotOpen:
        return None


def _name(key: PrivateKey) -> str | None:
    try:
        return key.public(minimum_bits=1024).name
    except UnusableKey:
        return None
