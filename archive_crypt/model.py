"""The frozen values that the rooms of the house hand to each other. No behaviour lives here."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

#: A moment: microseconds since 1970-01-01T00:00:00Z, negative before it.
Micros = int

SECOND: Micros = 1_000_000
MILLISECOND: Micros = 1_000


class Direction(enum.Enum):
    """Whether the owner sent a message (``<to/>``) or received it (``<from/>``), XEP-0136 5.2."""

    TO = "to"
    FROM = "from"


class SaveMode(enum.Enum):
    """How much of a message is saved (XEP-0136 3.2). ``stream`` is not offered."""

    FALSE = "false"
    BODY = "body"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection as a list shows it. (`with_`, `start`) is its identity for the owner.

    `id` is unique for the owner and never shown; `crypt` tells whether EncryptedData or
    EncryptedKey are in it (XEP-0241 4).
    """

    id: int
    with_: str
    start: Micros
    version: int = 0
    thread: str | None = None
    subject: str | None = None
    crypt: bool = False


@dataclass(frozen=True, slots=True)
class PlainItem:
    """One message in clear.

    `content` is a whole ``<to>``, ``<from>`` or ``<note>`` element without namespace and times:
    its ``<body>`` children have no namespace either and take that of the reply; foreign
    children carry theirs.
    """

    number: int
    at: Micros
    content: str


@dataclass(frozen=True, slots=True)
class SealedItem:
    """One message sealed by the server: the octets of its CipherValue as XML Encryption has them."""

    number: int
    key_name: str
    algorithm: str
    cipher: bytes


Item = PlainItem | SealedItem


@dataclass(frozen=True, slots=True)
class EncryptedKey:
    """A data key wrapped for one public key: `key_name` is its CarriedKeyName, `recipient` the
    KeyName of the public key, `algorithm` the URI of the key transport."""

    key_name: str
    recipient: str
    algorithm: str
    cipher: bytes


@dataclass(frozen=True, slots=True)
class SuppliedKey:
    """A public key the user gave in ``<auto/>``, as it is kept: DER SubjectPublicKeyInfo."""

    name: str
    der: bytes


@dataclass(frozen=True, slots=True)
class AutoState:
    """An ``<auto/>`` setting: of one stream, or (scope='global') of all later ones."""

    save: bool = False
    encrypt: bool = False
    namespace: str = ""
    keys: tuple[SuppliedKey, ...] = ()


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What a client asks of a result set (XEP-0059).

    `max` None: as many as the server allows. `before` "" asks for the last page.
    `given`: whether the request held a ``<set/>`` at all.
    """

    max: int | None = None
    after: str | None = None
    before: str | None = None
    index: int | None = None
    given: bool = False


#: Where an item stands in an ordered set: compared element by element.
Position = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of an ordered set: at most `limit` items strictly between `after` and `before`.

    `backwards`: the last items of that part instead of the first. `index`: begin at this place
    of the whole set instead.
    """

    limit: int
    after: Position | None = None
    before: Position | None = None
    backwards: bool = False
    index: int | None = None


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a result set, in order: `index` is the place of its first item among all `count`."""

    items: Sequence[T]
    index: int
    count: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides about archives. Times in seconds, sizes in octets.

    `save`: how much of a message is saved. `encryption`: whether users may have it sealed.
    `minimum_bits`: of the RSA keys that users supply. `seal_algorithm`, `wrap_algorithm`: URIs.
    """

    save: SaveMode = SaveMode.BODY
    encryption: bool = True
    minimum_bits: int = 2048
    seal_algorithm: str = "http://www.w3.org/2009/xmlenc11#aes256-gcm"
    wrap_algorithm: str = "http://www.w3.org/2009/xmlenc11#rsa-oaep"
    silence: float = 600.0
    most_collections: int = 100
    most_items: int = 200
