"""The frozen values that the rooms of the house hand to each other. No behaviour lives here.

What is made for each message is a NamedTuple: a frozen dataclass takes more than twice as long.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

#: A moment: microseconds since 1970-01-01T00:00:00Z, negative before it.
Micros = int

SECOND: Micros = 1_000_000
MILLISECOND: Micros = 1_000


class Direction(enum.Enum):
    """Whether the owner sent a message (``<to/>``) or received it (``<from/>``), XEP-0136 5.2."""

    TO = "to"
    FROM = "from"


class SaveMode(enum.Enum):
    """How much of a message is saved (XEP-0136 3.2), from nothing to all. ``stream`` can be preferred
    while nothing is recorded; where something already is, it is met by whole messages."""

    FALSE = "false"
    BODY = "body"
    MESSAGE = "message"
    STREAM = "stream"


class Otr(enum.Enum):
    """What a user wants of off-the-record conversations (XEP-0136 3.2): for clients to obey."""

    REQUIRE = "require"
    PREFER = "prefer"
    APPROVE = "approve"
    CONCEDE = "concede"
    OPPOSE = "oppose"
    FORBID = "forbid"


class Use(enum.Enum):
    """What a user thinks of a method of archiving (XEP-0136 3.2): for clients to obey."""

    PREFER = "prefer"
    CONCEDE = "concede"
    FORBID = "forbid"


class Automatic(enum.Enum):
    """What an operator thinks of automatic archiving (XEP-0136 7): not offered, the users'
    choice, or compulsory logging of at least the bodies, or of whole messages."""

    OFF = "off"
    ALLOWED = "allowed"
    REQUIRED_BODY = "required-body"
    REQUIRED_MESSAGE = "required-message"


class WhenFull(enum.Enum):
    """What happens when a user keeps as much as he may: nothing more is taken, or what he began to
    keep longest ago goes, in whole collections."""

    REFUSE = "refuse"
    EXPIRE = "expire"


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


class PlainItem(NamedTuple):
    """One message in clear.

    `content` is a whole ``<to>``, ``<from>`` or ``<note>`` element without namespace and times:
    its ``<body>`` children have no namespace either and take that of the reply; foreign
    children carry theirs.
    """

    number: int
    at: Micros
    content: str


class SealedItem(NamedTuple):
    """One message sealed by the server: the octets of its CipherValue as XML Encryption has them."""

    number: int
    key_name: str
    algorithm: str
    cipher: bytes


@dataclass(frozen=True, slots=True)
class UploadedItem:
    """One EncryptedData as its owner uploaded it: `content` is the element, `key_names` the
    KeyNames in its KeyInfo."""

    number: int
    content: str
    key_names: tuple[str, ...] = ()


Item = PlainItem | SealedItem | UploadedItem


@dataclass(frozen=True, slots=True)
class EncryptedKey:
    """A data key wrapped for one public key: `key_name` is its CarriedKeyName, `recipient` the
    KeyName of the public key, `algorithm` the URI of the key transport."""

    key_name: str
    recipient: str
    algorithm: str
    cipher: bytes


@dataclass(frozen=True, slots=True)
class UploadedKey:
    """An EncryptedKey as its owner uploaded it: `content` is the element, `key_name` its
    CarriedKeyName ("" without one), `recipients` the KeyNames of the public keys."""

    key_name: str
    recipients: tuple[str, ...]
    content: str


WrappedKey = EncryptedKey | UploadedKey


LinkName = Literal["previous", "next"]


@dataclass(frozen=True, slots=True)
class Link:
    """A ``<previous/>`` or ``<next/>`` (XEP-0136 5.7): the identity of another collection, which
    need not exist."""

    with_: str
    start: Micros


@dataclass(frozen=True, slots=True)
class Upload:
    """One item of an upload. `content` is the whole element as PlainItem has it, with its own
    ``secs`` and ``utc``; `secs` counts from the previous message (0 for a note). `encrypted`: it is
    an EncryptedData, under the keys called `key_names`."""

    content: str
    secs: int = 0
    encrypted: bool = False
    key_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """The attributes form of a collection (XEP-0136 5.8), as uploaded; `key_names` those in the
    EncryptedData in it (XEP-0241 2)."""

    content: str
    key_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SuppliedKey:
    """A public key the user gave in ``<auto/>``, as it is kept: DER SubjectPublicKeyInfo."""

    name: str
    der: bytes


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A public key the user published (XEP-0189), as it is kept: DER SubjectPublicKeyInfo, good
    from `begin` to `end`; None: no bound."""

    name: str
    der: bytes
    begin: Micros | None = None
    end: Micros | None = None


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


class Mark(NamedTuple):
    """What lets a batch of changes be made once, whoever tries it again and when: a number kept with what
    it made. Each spool counts two lines: its "records", up to the last of the batch, and the "batches" that
    its process writes past it."""

    spool: str
    line: Literal["batches", "records"]
    number: int

    @property
    def replays(self) -> bool:
        """Whether the batch comes out of a spool: its submitters were told that it is durable."""
        return self.line == "records"


@dataclass(frozen=True, slots=True)
class Modes:
    """What is wanted of conversations (XEP-0136 3.2). `expire`: seconds, or None."""

    save: SaveMode
    otr: Otr
    expire: int | None = None


@dataclass(frozen=True, slots=True)
class ContactModes:
    """``<item/>``: the modes for those who match `jid` (XEP-0136 1.3.1, JID Matching)."""

    jid: str
    modes: Modes
    exact: bool = False


@dataclass(frozen=True, slots=True)
class SessionMode:
    """``<session/>``: how the messages of one thread are saved. It lapses `timeout` seconds after
    the thread's last message; `until` is that moment as far as is known."""

    thread: str
    save: SaveMode
    timeout: int
    until: Micros
    otr: Otr | None = None


@dataclass(frozen=True, slots=True)
class Preferences:
    """All archiving preferences of a user. `default` None: never set. `methods`: those that were
    set, by type. `revision` grows with each change."""

    default: Modes | None = None
    items: tuple[ContactModes, ...] = ()
    sessions: tuple[SessionMode, ...] = ()
    methods: Mapping[str, Use] = field(default_factory=dict)
    revision: int = 0


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a result set, in order: `index` is the place of its first item among all `count`."""

    items: Sequence[T]
    index: int
    count: int


@dataclass(frozen=True, slots=True)
class UserLimits:
    """What one user may take of the archive, all his streams together; `server_`: all users together.

    `octets` of items, forms and EncryptedKeys, in so many `collections`, and what happens `when_full`;
    `open_collections`: recorded at once, each with a data key. `items_an_upload`. `keys_supplied`: public
    keys in one ``<auto/>``; `keys`: of all his streams, and published. `subscriptions`: streams that are
    told of preferences, in each dialect. `requests_per_second`: that begin, once `requests_burst` did;
    `requests_at_once` that are worked on while `requests_waiting` wait. `server_requests`: that are worked
    on or wait; `server_open_collections`: recorded at once.
    """

    octets: int = 1024 * 1024 * 1024
    collections: int = 100_000
    when_full: WhenFull = WhenFull.REFUSE
    open_collections: int = 500
    items_an_upload: int = 5000
    keys_supplied: int = 16
    keys: int = 32
    subscriptions: int = 100
    requests_per_second: float = 100.0
    requests_burst: int = 500
    requests_at_once: int = 2
    requests_waiting: int = 100
    server_requests: int = 5000
    server_open_collections: int = 100_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides about archives. Times in seconds, sizes in octets; None: no bound.

    `save`: how much of a message is saved unless its user prefers otherwise. `automatic`,
    `manual`: which ways of archiving are offered; `full_content`: whether more than bodies can be
    recorded, `body_only_uploads`: whether only bodies can be uploaded. `encryption`: whether
    users may have what is recorded sealed. `forward_secret`: whether OTR and OMEMO messages are
    recorded. `minimum_bits`: of the RSA keys that users supply; `openpgp_keys`: whether the RSA
    keys they publish by XEP-0373 are used. `seal_algorithm`, `wrap_algorithm`: URIs. `guard_keys`:
    whether the last EncryptedKey of a data key in use may not be deleted. `expire`: of
    collections whose user prefers nothing; `session_timeout`: of ``<session/>`` rules after the thread's
    last message; `minimum_expire`, `maximum_expire`: bound what users
    prefer. `tombstones`: how long removals are remembered. `expiry_every`: between two rounds. `limits`:
    what one user may take.
    """

    save: SaveMode = SaveMode.BODY
    automatic: Automatic = Automatic.ALLOWED
    manual: bool = True
    full_content: bool = True
    body_only_uploads: bool = False
    encryption: bool = True
    forward_secret: bool = False
    minimum_bits: int = 2048
    openpgp_keys: bool = False
    seal_algorithm: str = "http://www.w3.org/2009/xmlenc11#aes256-gcm"
    wrap_algorithm: str = "http://www.w3.org/2009/xmlenc11#rsa-oaep"
    guard_keys: bool = True
    silence: float = 600.0
    session_timeout: int = 3600
    expire: int | None = None
    minimum_expire: int | None = None
    maximum_expire: int | None = None
    tombstones: int | None = None
    expiry_every: float = 3600.0
    largest_collection: int = 64 * 1024 * 1024
    most_collections: int = 100
    most_items: int = 200
    limits: UserLimits = UserLimits()
