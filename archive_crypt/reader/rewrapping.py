"""What it takes to replace the EncryptedKeys of a collection that are for one public key by such for another
(XEP-0241 6), and whether it was done. Pure: pages come from anywhere, private keys are handed in.

Each EncryptedKey has to show on the archive's own data that it is what it seems: anybody who has a
public key can put one there that opens nothing, under any name.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lxml import etree

from archive_crypt.core import xmlenc
from archive_crypt.core.xmlenc import ReadData, ReadKey
from archive_crypt.crypto import envelope, opening
from archive_crypt.crypto.envelope import RSA_1_5, RSA_OAEP
from archive_crypt.crypto.opening import CannotOpen, PrivateKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import BadRequest
from archive_crypt.model import EncryptedKey
from archive_crypt.reader.datakeys import fitting
from archive_crypt.reader.protocol import ChatPage, is_sealed


class Why(enum.Enum):
    """Why the EncryptedKeys of a collection stay: a word for programs, whether it may pass by itself,
    and a text."""

    UNREADABLE = ("unreadable", False, "one is malformed or cut off")
    NAMELESS = ("nameless", False, "one names no data key, so that none can take its place")
    NOT_OPENED = ("not-opened", False, "one does not open with the old key: it is damaged, or another's")
    OPENS_NOTHING = ("opens-nothing", False, "one opens nothing here: a decoy, or what it is for is damaged")
    NOT_VERIFIED = ("not-verified", False, "what took the place of one did not come back as it was sent")
    CHANGED = ("changed", True, "the collection changed meanwhile")
    REFUSED = ("refused", False, "the server refused")
    NOT_UNDERSTOOD = ("not-understood", False, "what the server answers makes no sense")

    def __init__(self, word: str, passing: bool, text: str) -> None:
        self.word = word
        self.passing = passing
        self.text = text


@dataclass(frozen=True, slots=True)
class Holder:
    """A private key, and the names that EncryptedKeys may call its public half."""

    private: PrivateKey
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key, with its name."""

    name: str
    octets: bytes = field(repr=False)


#: What tells EncryptedKeys apart: the octets that they hold, and the name of the data key in them, as one
#: data key may have two.
Which = tuple[bytes, str | None]


class Evidence:
    """What the pages of a collection show of the EncryptedKeys that are for one private key."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._unwrapped: dict[bytes, bytes | None] = {}
        self._named: set[str] = set()
        self._claimed: set[Which] = set()
        #: Those that opened something.
        self.proved: dict[Which, DataKey] = {}

    def see(self, page: ChatPage) -> None:
        """The next page of the collection; in any order."""
        keys = [key for key in _read_keys(page.keys) if self.is_ours(key)]
        for data in _sealed(page):
            self._named.update(data.key_names)
            named = [key for key in keys if key.key_name in data.key_names or key.id in data.key_ids]
            self._claimed.update(map(_which, named))
            # What tells an Id, which may lead nowhere (any more), is opened by any that fits: see DataKeys.
            for key in keys if data.key_ids else named:
                self._try(key, data)

    def is_ours(self, key: ReadKey) -> bool:
        """Whether it says that it is for our public key."""
        return not set(key.recipients).isdisjoint(self._holder.names)

    def is_needed(self, key: ReadKey) -> bool:
        """Whether something on the pages that were seen names it."""
        return _which(key) in self._claimed or key.key_name in self._named

    def unwrap(self, key: ReadKey) -> bytes | None:
        """The data key in it; None: it does not open. With rsa-1_5 there always is some."""
        if key.cipher not in self._unwrapped:
            try:
                oaep = key.digest, key.mgf
                octets = opening.unwrap(self._holder.private, key.algorithm, key.cipher, oaep)
            except CannotOpen:
                octets = None
            self._unwrapped[key.cipher] = octets
        return self._unwrapped[key.cipher]

    def proves(self, wanted: Iterable[DataKey]) -> bool:
        """Whether EncryptedKeys that hold all of these opened something."""
        return set(wanted) <= set(self.proved.values())

    def _try(self, key: ReadKey, data: ReadData) -> None:
        octets = None if _which(key) in self.proved else self.unwrap(key)
        if octets is not None and key.key_name and fitting(data, octets) is not None:
            self.proved[_which(key)] = DataKey(key.key_name, octets)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of the EncryptedKeys of one collection for the old key: the data keys that
    `proved` theirs, and those that are `idle`, as nothing in the collection is for them; and what
    is wrong with others."""

    proved: frozenset[DataKey]
    idle: frozenset[DataKey]
    wrong: tuple[Why, ...]


def plan(elements: Sequence[etree._Element], seen: Evidence) -> Plan:
    """What to do about these EncryptedKeys, of a collection all of which was `seen` that proves them."""
    proved, idle, wrong = set[DataKey](), set[DataKey](), list[Why]()
    if not elements:  # what was not shown is not deleted
        wrong.append(Why.UNREADABLE)
    for element in elements:
        try:
            key = xmlenc.read_key(element)
        except BadRequest:
            wrong.append(Why.UNREADABLE)
            continue
        octets = seen.unwrap(key)
        if not seen.is_ours(key) or octets is None:
            wrong.append(Why.NOT_OPENED)
        elif not key.key_name:
            wrong.append(Why.NAMELESS)
        elif _which(key) in seen.proved:
            proved.add(seen.proved[_which(key)])
        elif seen.is_needed(key) or key.algorithm == RSA_1_5:
            wrong.append(Why.OPENS_NOTHING)
        else:
            # It may be for data elsewhere (XEP-0241 5). That it opened shows that it is for this key.
            idle.add(DataKey(key.key_name, octets))
    return Plan(frozenset(proved), frozenset(idle), tuple(dict.fromkeys(wrong)))


def which(elements: Iterable[etree._Element]) -> set[Which]:
    """What tells EncryptedKeys apart, wherever they are shown; of those that can be read."""
    return {_which(key) for key in _read_keys(elements)}


def recipients(page: ChatPage) -> frozenset[str] | None:
    """The names of the public keys that all which is sealed on a page is for; None: nothing is sealed."""
    keys = list(_read_keys(page.keys))
    each = [
        {
            name
            for key in keys
            if key.key_name in data.key_names or key.id in data.key_ids
            for name in key.recipients
        }
        for data in _sealed(page)
    ]
    return frozenset.intersection(*map(frozenset, each)) if each else None


def held(elements: Iterable[etree._Element], by: Evidence) -> set[DataKey]:
    """The data keys in these EncryptedKeys, as far as they open."""
    found = ((key.key_name, by.unwrap(key)) for key in _read_keys(elements) if by.is_ours(key))
    return {DataKey(name, octets) for name, octets in found if name and octets}


def may_open(elements: Sequence[etree._Element], by: Evidence) -> bool:
    """Whether one of these EncryptedKeys opens, whatever name it is under; or may, as it cannot be read, or
    was not even shown. With rsa-1_5 each does."""
    keys = list(_read_keys(elements))
    return not keys or len(keys) < len(elements) or any(by.unwrap(key) is not None for key in keys)


def wrap(data_keys: Iterable[DataKey], key: PublicKey) -> list[EncryptedKey]:
    """An EncryptedKey of each for this public key, in today's algorithm."""
    return [
        EncryptedKey(one.name, key.name, RSA_OAEP, envelope.wrap(RSA_OAEP, memoryview(one.octets), key))
        for one in data_keys
    ]


def _which(key: ReadKey) -> Which:
    return key.cipher, key.key_name


def _sealed(page: ChatPage) -> Iterator[ReadData]:
    """What is sealed on a page: items, and what its form holds."""
    for element in (*page.parts, *(() if page.form is None else page.form)):
        if is_sealed(element):
            try:
                yield xmlenc.read_data(element)
            except BadRequest:
                continue


def _read_keys(elements: Iterable[etree._Element]) -> Iterator[ReadKey]:
    for element in elements:
        try:
            yield xmlenc.read_key(element)
        except BadRequest:
            continue
