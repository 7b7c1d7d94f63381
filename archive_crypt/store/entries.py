"""A change that waits in the writer: how large it is, who waits for it, and whether it may lie on a disk."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

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
