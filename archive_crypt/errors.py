"""Every way to fail: one class is one stanza condition. What makes XML of them lives in `xmpp`.

The docstring's first line is the text the client reads, unless the raiser says more.
No error of this module ever carries a message's text, a key, a password or a stanza.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class ArchiveError(Exception):
    """The archive could not do this."""

    condition = "internal-server-error"
    type = "cancel"
    #: Condition and type in XEP-0136 0.13, where that dialect alone differs.
    in_v13: tuple[str, str] | None = None

    def __init__(self, text: str = "") -> None:
        super().__init__(text or (type(self).__doc__ or "").partition("\n")[0])


class BadRequest(ArchiveError):
    """The request is malformed."""

    condition, type = "bad-request", "modify"


class NotImplementedHere(ArchiveError):
    """The archive does not offer this."""

    condition, type = "feature-not-implemented", "cancel"


class NotYourArchive(ArchiveError):
    """Only the owner may use an archive."""

    condition, type = "forbidden", "auth"


class NoSuchCollection(ArchiveError):
    """No collection has this contact and start time."""

    condition, type = "item-not-found", "cancel"  # XEP-0136 8.2


class NoSuchCursor(ArchiveError):
    """The page to continue from is unknown; begin again without <after/> or <before/>."""

    condition, type = "item-not-found", "cancel"  # XEP-0059 2.4


class NotAcceptable(ArchiveError):
    """The archive cannot take this."""

    condition, type = "not-acceptable", "modify"  # XEP-0136 5.3


class WouldLoseData(ArchiveError):
    """Without these keys nobody could open what they encrypt any more: save others first."""

    condition, type = "conflict", "cancel"


class LoggingRequired(ArchiveError):
    """Messages are recorded here by the operator's decision; it cannot be turned off."""

    condition, type = "not-allowed", "cancel"  # XEP-0136 1.3.1, 7.1
    in_v13 = ("feature-not-implemented", "cancel")  # 0.13, section 7.3


class BelowRequired(ArchiveError):
    """The operator of this server requires that more is saved than this."""

    condition, type = "not-acceptable", "modify"  # XEP-0136 1.3.1, 3.3
    in_v13 = ("feature-not-implemented", "cancel")  # 0.13, section 3.3


class NoUsableKey(ArchiveError):
    """There is no public key to encrypt for; supply one in <auto/>."""

    condition, type = "not-acceptable", "modify"  # XEP-0241 3
    in_v13 = ("feature-not-implemented", "cancel")  # 0.13, section 7.3


class UnusableKey(NoUsableKey):
    """A supplied public key cannot be used."""


class StorageUnavailable(ArchiveError):
    """The archive's database cannot be reached; try again later."""

    condition, type = "internal-server-error", "wait"


class StorageRefused(ArchiveError):
    """The archive's database refused this; the operator's log says why."""

    condition, type = "internal-server-error", "cancel"


class CollectionGone(StorageRefused):
    """The collection was removed while it was being recorded."""


class CollectionUnknown(CollectionGone):
    """The archive has no such collection, and none that was removed."""


class PartlyRefused(StorageRefused):
    """Some changes of a batch were refused, so none of it was made.

    `outcomes`: theirs, by their places in the batch.
    """

    def __init__(self, outcomes: Mapping[int, ArchiveError] = MappingProxyType({})) -> None:
        super().__init__()
        self.outcomes = outcomes


class Withheld(StorageRefused):
    """The user decided meanwhile that this is not to be saved."""


class ArchiveBusy(ArchiveError):
    """The archive is full of work; try again later."""

    condition, type = "resource-constraint", "wait"


class QuotaExceeded(ArchiveError):
    """Your archive is full: remove something first."""

    condition, type = "resource-constraint", "wait"


class TooManyRequests(ArchiveError):
    """Too many of your requests wait: send no more until they are answered."""

    condition, type = "policy-violation", "wait"


class LockedMemoryUnavailable(ArchiveError):
    """No memory could be locked for keys, so nothing is encrypted; the operator's log says why."""

    condition, type = "internal-server-error", "cancel"


class KeyDestroyed(ArchiveError):
    """This data key was destroyed when its collection closed."""


class ConfigurationError(Exception):
    """What an operator must mend: names the file, the setting and the mend, in one line."""
