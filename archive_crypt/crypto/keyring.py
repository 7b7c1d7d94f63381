"""The data keys alive now: their birth, use and destruction. The only owner of key memory.

Nothing here hands out the octets of a key, and nothing here knows collections or users.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import NoReturn

from archive_crypt.crypto import envelope, lockedmem
from archive_crypt.crypto.envelope import AES256_GCM, RSA_OAEP, key_size
from archive_crypt.crypto.lockedmem import SLOTS, KeyPage
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import KeyDestroyed


class KeyExhausted(KeyDestroyed):
    """This data key has sealed as many items as one key may; a new one is needed."""


class DataKey:
    """A handle on a data key of one KeyRing; the key itself is not in it.

    `name` is its CarriedKeyName, unguessable and never used again; `algorithm` the URI it seals
    with; `sealed` the items sealed with it so far. It compares by identity and is never copied.
    """

    __slots__ = ("_sealed", "_size", "algorithm", "name")

    def __init__(self, algorithm: str) -> None:
        # 128 random bits. Short, as every sealed item carries the name.
        self.name = f"srv-{secrets.token_urlsafe(16)}"
        self.algorithm = algorithm
        self._size = key_size(algorithm)
        self._sealed = 0

    @property
    def sealed(self) -> int:
        return self._sealed

    def __repr__(self) -> str:
        return f"<DataKey {self.name}>"

    def __reduce__(self) -> NoReturn:  # what copy, deepcopy and pickle all end in
        raise TypeError("A DataKey cannot be copied or stored.")


class KeyRing:
    """Data keys in locked pages. For one process and one thread: the reactor's.

    Pages are made when they are needed, since a daemon forks first and a forked child has none of
    them: there every key counts as destroyed. `limit`: items one key may seal. A random nonce of
    96 bits repeats with probability 2^-57 among 2^20, and one repetition breaks GCM (NIST SP
    800-38D 8.3); a counter instead would repeat when a virtual machine is set back.
    """

    def __init__(self, new_page: Callable[[], KeyPage] = lockedmem.new_page, limit: int = 2**20) -> None:
        self._new_page = new_page
        self._limit = limit
        self._places: dict[DataKey, tuple[_Shelf, int]] = {}
        self._shelves: list[_Shelf] = []
        self._roomy: list[_Shelf] = []  # those with a free slot
        self._closed = False

    def __len__(self) -> int:
        """The keys alive."""
        return len(self._places)

    @property
    def kind(self) -> str | None:
        """The weakest kind of the pages in use, "mlock" or "memfd_secret"; None without pages."""
        kinds = {shelf.page.kind for shelf in self._shelves}
        return lockedmem.LOCKED if lockedmem.LOCKED in kinds else next(iter(kinds), None)

    def create(self, algorithm: str = AES256_GCM) -> DataKey:
        """A new random key, alive until it is destroyed, even if nobody holds the handle any more.

        :raises LockedMemoryUnavailable: there is no place for it.
        :raises KeyDestroyed: the ring is closed, or another process made its pages.
        :raises NotImplementedHere: no such algorithm.
        """
        key = DataKey(algorithm)
        shelf = self._roomy[-1] if self._roomy else self._add_shelf()
        index = shelf.free[-1]
        with shelf.page.slot(index)[: key._size] as octets:
            lockedmem.fill(octets)
        self._places[key] = shelf, shelf.free.pop()
        if not shelf.free:
            self._roomy.pop()
        return key

    def seal(self, key: DataKey, plaintext: bytes) -> bytes:
        """The octets of CipherValue (see `envelope.seal`); counted in `key.sealed`.

        :raises KeyDestroyed: the key is not alive in this ring.
        :raises KeyExhausted: it has sealed `limit` items.
        """
        with self._octets(key) as octets:
            if key._sealed >= self._limit:
                raise KeyExhausted
            sealed = envelope.seal(key.algorithm, octets, plaintext)
        key._sealed += 1
        return sealed

    def wrap(self, key: DataKey, public_key: PublicKey, algorithm: str = RSA_OAEP) -> bytes:
        """The key encrypted for `public_key`: the octets of an EncryptedKey's CipherValue.

        :raises KeyDestroyed: the key is not alive in this ring.
        :raises NotImplementedHere: no such algorithm.
        :raises UnusableKey: the public key does not do it.
        """
        with self._octets(key) as octets:
            return envelope.wrap(algorithm, octets, public_key)

    def destroy(self, key: DataKey) -> None:
        """Wipe the key. One that is not alive here: nothing happens."""
        shelf, index = self._places.get(key, (None, 0))
        if shelf is None:
            return
        with contextlib.suppress(KeyDestroyed):  # a forked child has no page to wipe
            lockedmem.wipe(shelf.page.slot(index))
        del self._places[key]
        shelf.free.append(index)
        if len(shelf.free) == 1:
            self._roomy.append(shelf)
        if len(shelf.free) == SLOTS:
            self._close_spare(shelf)

    def destroy_all(self) -> None:
        """Wipe every key."""
        for key in list(self._places):
            self.destroy(key)

    def close(self) -> None:
        """Wipe every key and give the pages back; no key is made or used any more."""
        self._closed = True
        self._places.clear()
        self._roomy.clear()
        while self._shelves:
            self._shelves.pop().page.close()

    def _octets(self, key: DataKey) -> memoryview:
        """The key itself; to be released at once, so that its page can be closed."""
        place = self._places.get(key)
        if place is None:
            raise KeyDestroyed
        shelf, index = place
        return shelf.page.slot(index)[: key._size]

    def _add_shelf(self) -> _Shelf:
        if self._closed:
            raise KeyDestroyed("The keyring is closed.")
        shelf = _Shelf(self._new_page())
        self._shelves.append(shelf)
        self._roomy.append(shelf)
        return shelf

    def _close_spare(self, shelf: _Shelf) -> None:
        """Close an empty page unless it is the only empty one: one is kept for the next key."""
        if any(other is not shelf and len(other.free) == SLOTS for other in self._roomy):
            self._shelves.remove(shelf)
            self._roomy.remove(shelf)
            shelf.page.close()


class _Shelf:
    """A page, and which of its slots are free."""

    __slots__ = ("free", "page")

    def __init__(self, page: KeyPage) -> None:
        self.page = page
        self.free = list(range(SLOTS))
