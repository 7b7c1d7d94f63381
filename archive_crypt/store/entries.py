"""A change that waits in the writer: how large it is, who waits for it, and whether it may lie on a disk."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from archive_crypt.errors import ArchiveError, QuotaExceeded, StorageUnavailable
from archive_crypt.model import Item, SealedItem
from archive_crypt.store.interfaces import (
    AddKeys,
    Append,
    Change,
    DeleteKeys,
    Expire,
    Open,
    Outcome,
    Prolong,
    Remove,
    Rename,
    Reseal,
    Save,
    SetAuto,
    SetPreferences,
    SetPublished,
)

#: Octets a waiting change takes besides its content, roughly.
_OVERHEAD = 512

#: Collections that are remembered to have ended. More than their recorders still write to.
_MOST_ENDED = 10_000

#: What somebody waits for who can ask again: told that the database is away, he does.
REQUESTS = (Save, Remove, DeleteKeys, SetPreferences, SetAuto, Expire)

#: What holds no word of anybody's, whatever it is about.
_WORDLESS = (AddKeys, Rename, Prolong, SetPublished)


class Entry:
    """A change that waits, and who waits for it. `settled`: they were told."""

    __slots__ = ("change", "done", "settled", "size", "waiters")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.size = _OVERHEAD + _content_size(change)
        self.settled = False
        self.done: Deferred[Any] = Deferred()
        self.waiters: list[Deferred[None]] = []

    def settle(self, outcome: Outcome | Exception) -> None:
        """Tell the submitter what became of the change, and the others that it is settled."""
        self.settled = True
        if isinstance(outcome, Exception):
            self.done.errback(outcome)
        else:
            self.done.callback(outcome)
        if self.waiters:
            self.release(None)

    def release(self, error: Exception | None) -> None:
        """Let those go who wait for this change to be settled."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.callback(None) if error is None else waiter.errback(error)


class Taken(NamedTuple):
    """What is to go into the spool: copies of what is on its way to the database, and what was queued."""

    copies: list[Entry]
    queued: list[Entry]

    def __bool__(self) -> bool:
        return bool(self.copies or self.queued)

    @property
    def entries(self) -> list[Entry]:
        """Both, in order."""
        return [*self.copies, *self.queued]

    @property
    def owners(self) -> Counter[str]:
        """Of how many changes each is the owner."""
        return Counter(entry.change.owner for entry in self.entries)


class Ended:
    """Collections that were never opened, or that something was refused for: what comes after it is refused,
    too. Or it would be said to be durable in a spool, and have no place to go to."""

    def __init__(self) -> None:
        self._errors: OrderedDict[tuple[str, int], ArchiveError] = OrderedDict()

    def find(self, change: Change) -> ArchiveError | None:
        """What a change is refused with at once."""
        if not self._errors or not isinstance(change, Open | Append):
            return None
        return self._errors.get((change.owner, change.collection))

    def note(self, change: Change, outcome: Outcome | Exception) -> bool:
        """Whether a collection ends with this outcome of a change."""
        if not isinstance(change, Open | Append) or not isinstance(outcome, ArchiveError):
            return False
        if isinstance(outcome, StorageUnavailable):  # the end
            return False
        if isinstance(change, Append) and not isinstance(outcome, QuotaExceeded):
            return False
        self._errors[change.owner, change.collection] = outcome
        if len(self._errors) > _MOST_ENDED:
            self._errors.popitem(last=False)
        return True


def halves(batch: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """A batch in two, each in order: by owners while there are several, as changes of one owner
    can build on each other."""
    owners = list(dict.fromkeys(entry.change.owner for entry in batch))
    if len(owners) == 1:
        middle = len(batch) // 2
        return list(batch[:middle]), list(batch[middle:])
    first = set(owners[: len(owners) // 2])
    return (
        [entry for entry in batch if entry.change.owner in first],
        [entry for entry in batch if entry.change.owner not in first],
    )


def is_late(entry: Entry, outcome: Outcome) -> bool:
    """Whether something in the spool, and so acknowledged, was not made."""
    return entry.settled and is_spoolable(entry.change) and isinstance(outcome, ArchiveError)


def is_spoolable(change: Change) -> bool:
    """Whether a change may lie in the spool: what was said is in it as ciphertext only, and nobody has to
    read what it makes before anything else can happen.

    A Reseal is not: who asked for it is promised that no row is in clear any more.
    """
    if isinstance(change, Append):
        return isinstance(change.item, SealedItem)
    if isinstance(change, Open):
        return change.key_name is not None
    return isinstance(change, _WORDLESS)


def _content_size(change: Change) -> int:
    if isinstance(change, Append):
        return _item_size(change.item)
    if isinstance(change, Open):
        keys = sum(_OVERHEAD + len(key.cipher) for key in change.keys)
        return len(change.with_) + len(change.thread or "") + keys
    if isinstance(change, Reseal):
        return sum(_OVERHEAD + _item_size(item) for item in change.items)
    if isinstance(change, Save):
        parts = (*change.items, *change.keys, *((change.form,) if change.form else ()))
        return sum(_OVERHEAD + len(part.content) for part in parts)
    return 0


def _item_size(item: Item) -> int:
    return len(item.cipher if isinstance(item, SealedItem) else item.content)
