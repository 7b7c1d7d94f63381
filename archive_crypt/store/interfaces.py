"""The contract of a storage, and the changes it applies. Nothing here knows SQL, XML or keys.

Storages see no data key and, of sealed collections, no plaintext: the import list shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from archive_crypt.errors import ArchiveError
from archive_crypt.model import (
    AutoState,
    Collection,
    ContactModes,
    EncryptedKey,
    Form,
    Item,
    Link,
    LinkName,
    Mark,
    Micros,
    Modes,
    Page,
    PlainItem,
    Preferences,
    PublishedKey,
    SaveMode,
    SealedItem,
    SessionMode,
    Upload,
    UploadedKey,
    Use,
    Window,
    WrappedKey,
)

#: Octets of items that one page reads at most, its last item apart.
MOST_PAGE = 128 * 1024


#: Octets of the EncryptedKeys of one data key that are uploaded, in all collections, as often as each
#: names public keys: each page that needs it carries them all.
MOST_WRAPPED = 96 * 1024

#: Items below this number are the recorder's, uploads begin here: neither asks for the other's.
FIRST_UPLOAD = 2**16


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Which collections: `with_` a full JID, bare JID or domain, matching all below it unless
    `exact`; `start` <= start < `end`. None: any. `identity`: those of exactly `with_` and `start`."""

    with_: str | None = None
    exact: bool = False
    start: Micros | None = None
    end: Micros | None = None
    identity: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which preferences it was decided to record a message: their `revision`, what was
    decided (`mode`), when (`at`) and for whom (`with_`, `thread`); `default` is the mode of those
    who set none.

    If the owner's revision is another one when it is written, it is decided again: what is no
    longer to be saved, or not so much of it, is Withheld.
    """

    revision: int
    mode: SaveMode
    with_: str
    thread: str | None
    default: SaveMode
    at: Micros = 0


@dataclass(frozen=True, slots=True)
class Open:
    """A new collection, version 0. `key_name` None: in clear.

    If the owner already has (`with_`, `start`), the start is bumped by whole milliseconds, to
    less than a second later. `parent`: the thread its own one came from (XEP-0201): the latest
    collection with the same bare JID and that thread, if it does not begin later, becomes its
    ``<previous/>``.
    """

    owner: str
    collection: int
    with_: str
    start: Micros
    thread: str | None = None
    key_name: str | None = None
    algorithm: str | None = None
    keys: tuple[EncryptedKey, ...] = ()
    terms: Terms | None = None
    parent: str | None = None


class Append(NamedTuple):
    """One item more in a collection; version +1 for all that one batch appends to it.

    CollectionGone if the collection was removed or Withheld; CollectionUnknown if no tombstone says so.
    """

    owner: str
    collection: int
    item: Item
    terms: Terms | None = None


@dataclass(frozen=True, slots=True)
class AddKeys:
    """A further data key in a collection (with its algorithm), or a known one wrapped for more."""

    owner: str
    collection: int
    key_name: str
    algorithm: str
    keys: tuple[EncryptedKey, ...]


@dataclass(frozen=True, slots=True)
class Rename:
    """Another ``with`` for a collection: replicas see removed + changed. Not done if it would
    take the identity of another collection."""

    owner: str
    collection: int
    with_: str


@dataclass(frozen=True, slots=True)
class Reseal:
    """What a collection held in clear is replaced by the same items sealed (XEP-0241 3)."""

    owner: str
    collection: int
    key_name: str
    algorithm: str
    keys: tuple[EncryptedKey, ...]
    items: tuple[SealedItem, ...]


@dataclass(frozen=True, slots=True)
class SetAuto:
    """Auto-archiving settings in place of those before: `auto`, the lasting one of all later streams
    (None: as it was), and those of `streams`, by resource (None: no longer any). The rest stays."""

    owner: str
    auto: AutoState | None = None
    streams: Mapping[str, AutoState | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetPublished:
    """The owner's published keys, in place of those kept before."""

    owner: str
    keys: tuple[PublishedKey, ...]


@dataclass(frozen=True, slots=True)
class Save:
    """An upload (XEP-0136 5.3): makes the collection (with the id `collection`) or adds to it.
    Its outcome is the Collection as it is then.

    `thread`: stays what it is once it is known. `subject`: None leaves it, "" removes it. `links`:
    those mentioned; None removes one. `form`: None leaves it, an empty one removes it. Octet-identical
    keys are kept once. Version +1 if anything changes, 0 if it is new.

    NotAcceptable, with nothing changed, if the collection would hold both EncryptedData or
    EncryptedKey and messages or notes in clear, or with these items more than `most_octets` of them;
    or if the owner would have more than MOST_WRAPPED octets of uploaded EncryptedKeys of one of these
    data keys.
    """

    owner: str
    collection: int
    with_: str
    start: Micros
    most_octets: int
    thread: str | None = None
    subject: str | None = None
    links: Mapping[LinkName, Link | None] = field(default_factory=dict)
    form: Form | None = None
    items: tuple[Upload, ...] = ()
    keys: tuple[UploadedKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove collections with all in them (XEP-0136 8.3), the first `limit` by (start, id). Its
    outcome is how many there were. Each leaves a tombstone with its version.

    `which`: matched as a list does it. `ids`: if given, of these only. EncryptedKeys that
    data of other collections needs stay, with one of those (XEP-0241 5).
    """

    owner: str
    which: ListFilter
    limit: int
    ids: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Expire:
    """Remove the first `limit` collections, by their ids, that are `expired`: how many is the outcome.

    `expired` gives for (``with``, when its last item was archived) whether it is. `before`: only
    those whose last item was archived before this are asked about.
    """

    owner: str
    before: Micros
    expired: Callable[[str, Micros], bool]
    limit: int


@dataclass(frozen=True, slots=True)
class DeleteKeys:
    """Delete the EncryptedKeys in one collection that are for any of `recipients` (XEP-0241 6).
    Version +1 if there were any; the outcome is how many.

    NoSuchCollection if there is none of exactly this identity. `guard`: WouldLoseData, with
    nothing changed, if then a data key that EncryptedData or a form of the owner names, or that a
    collection is sealed with, and that had an EncryptedKey, had none left in any collection.
    """

    owner: str
    with_: str
    start: Micros
    recipients: tuple[str, ...]
    guard: bool


@dataclass(frozen=True, slots=True)
class SetPreferences:
    """Change preferences: what is named here is set or removed, the rest stays. The outcome is
    the Preferences as they are then, their revision one higher."""

    owner: str
    default: Modes | None = None
    items: tuple[ContactModes, ...] = ()
    sessions: tuple[SessionMode, ...] = ()
    methods: Mapping[str, Use] = field(default_factory=dict)
    remove_items: tuple[str, ...] = ()
    remove_sessions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prolong:
    """The session rule of a thread, if there is one, lasts until `until` at least. No revision."""

    owner: str
    thread: str
    until: Micros


Change = (
    Open
    | Append
    | AddKeys
    | Rename
    | Reseal
    | SetAuto
    | SetPublished
    | Save
    | Remove
    | Expire
    | DeleteKeys
    | SetPreferences
    | Prolong
)


#: What became of a change: a value if its class says so, else None; or why it alone was not made.
Outcome = Collection | Preferences | int | ArchiveError | None


@dataclass(frozen=True, slots=True)
class CollectionPage:
    """One page of a collection with its links and form; and of each data key that items of the
    page or the form name, all the EncryptedKeys that the owner has in any collection, filtered by
    recipient if asked."""

    collection: Collection
    page: Page[Item]
    keys: Mapping[str, Sequence[WrappedKey]]
    links: Mapping[LinkName, Link] = field(default_factory=dict)
    form: Form | None = None


@dataclass(frozen=True, slots=True)
class Modification:
    """The latest change of a collection (XEP-0136 10); `removed`: that it was removed."""

    with_: str
    start: Micros
    version: int
    stamp: Micros
    removed: bool


@dataclass(frozen=True, slots=True)
class OwnerState:
    """What is kept of an owner for his recorders. `auto` is the lasting setting; `streams` those of
    single streams, by resource."""

    auto: AutoState = AutoState()
    preferences: Preferences = Preferences()
    published: tuple[PublishedKey, ...] = ()
    streams: Mapping[str, AutoState] = field(default_factory=dict)


class Storage(Protocol):
    """Where archives are kept. Every method is one transaction and returns a Deferred.

    All may fail with StorageUnavailable (try again) or StorageRefused (never will do).
    """

    @property
    def uncertain(self) -> bool:
        """Whether what the last `apply` failed with leaves open if its changes were made."""

    def apply(
        self, changes: Sequence[Change], again: bool = False, mark: Mark | None = None
    ) -> Deferred[list[Outcome]]:
        """Make all of `changes` durable, in order, or none of them; what became of each.

        An ArchiveError among the outcomes says that this change alone was not made, for a reason
        that its class gives. `again`: the very changes of the last call, which failed, but may
        have been made (a COMMIT whose answer was lost); then they are not made twice. `mark`: nor are they
        if this line has come so far already, by whatever process; what became of them then, unless
        the last call had them, is None. With a mark of "batches" all or nothing is made where a change is
        recorded: PartlyRefused says what there is no room, or no collection, for.
        """

    def marks(self, spool: str) -> Deferred[tuple[int, int]]:
        """How far the batches and the records of a spool have come, once nothing of them is on its way any
        more."""

    def interrupt(self) -> None:
        """Have whatever runs fail at once, as if the database had gone away: for an end that cannot wait."""

    def state(self, owner: str) -> Deferred[OwnerState]:
        """What outlives the streams of an owner; OwnerState() for one nobody knows."""

    def collections(self, owner: str, which: ListFilter, window: Window) -> Deferred[Page[Collection]]:
        """A part of the owner's collections ordered by (start, id), which are their positions.

        An owner nobody knows has none.
        """

    def page(
        self, owner: str, with_: str, start: Micros, window: Window, recipients: Sequence[str]
    ) -> Deferred[CollectionPage]:
        """A part of one collection's items, ordered by (number,). `recipients` empty: all keys.

        Items end with the one that reaches MOST_PAGE, so that there is one if the window has
        any. No part of a change is seen without its other parts.

        :raises NoSuchCollection: the owner has no collection of exactly this identity.
        """

    def keys(
        self, owner: str, recipients: Sequence[str], window: Window
    ) -> Deferred[Page[tuple[Collection, Sequence[WrappedKey]]]]:
        """The collections with EncryptedKeys for any of `recipients`, and these, ordered by
        (start, id) of the collections."""

    def modified(self, owner: str, after: Micros, window: Window) -> Deferred[Page[Modification]]:
        """What was changed or removed after the stamp `after`, ordered by (stamp,); index and
        count are among these."""

    def plain_items(self, owner: str, collection: int, after: int, limit: int) -> Deferred[list[PlainItem]]:
        """The next items that a collection holds in clear, numbers above `after`, in order."""

    def expiring(self, after: str, limit: int, everyone: bool) -> Deferred[list[tuple[str, Preferences]]]:
        """The next owners, JIDs above `after`, in order, who prefer that anything expires (or
        `everyone`), with their preferences."""

    def forget_tombstones(self, before: Micros, limit: int) -> Deferred[int]:
        """Forget at most `limit` removals stamped before `before`; how many were."""

    def forget_streams(self, domain: str, but: Sequence[tuple[str, str]]) -> Deferred[int]:
        """Forget the settings of all streams of `domain`'s users but these, by owner and resource; how
        many were. What is applied later is written after it."""

    def vacuum(self) -> Deferred[None]:
        """Let the rows that were replaced be overwritten soon."""
