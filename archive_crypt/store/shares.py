"""What of all that waits is whose: nobody may fill the line, nor the spool, so that others' find no room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from archive_crypt.store.entries import Entry
from archive_crypt.store.interfaces import Append, Open, Save
from archive_crypt.store.spooling import Spooling

#: Octets that may wait, at most.
MOST_WAITING = 64 * 1024 * 1024

#: The part of what may wait that one owner's may be.
SHARE = 4

#: What comes as often as its owner, or who talks to him, likes. Others are small, or seal what is in clear.
_BOUNDED = (Append, Open, Save)


class Shares:
    """Counts of each owner the octets that wait in memory, of at most `octets`, and in the spool. What an
    earlier process left there is nobody's."""

    def __init__(self, octets: int, spooling: Spooling | None) -> None:
        self._octets = octets
        self._spooling = spooling
        self._waiting = Counter[str]()
        self._spooled = Counter[str]()

    def fits(self, entry: Entry) -> bool:
        """Whether its owner may have this wait, too. The first of his always may."""
        owner = entry.change.owner
        more = self._waiting[owner] + entry.size
        if not isinstance(entry.change, _BOUNDED):
            return True
        if self._waiting[owner] and more > self._octets // SHARE:
            return False
        spooling = self._spooling
        if spooling is None or not spooling.has(owner):
            self._spooled.pop(owner, None)
            return True
        return self._spooled[owner] + more <= spooling.most_octets // SHARE

    def add(self, entry: Entry) -> int:
        """It waits: the octets that it takes."""
        self._waiting[entry.change.owner] += entry.size
        return entry.size

    def remove(self, entry: Entry) -> int:
        """It waits no more: the octets that it took."""
        owner = entry.change.owner
        self._waiting[owner] -= entry.size
        if not self._waiting[owner]:
            del self._waiting[owner]
        return entry.size

    def spooled(self, entries: Sequence[Entry]) -> None:
        """These are in the spool now."""
        if self._spooling is not None and self._spooling.records <= len(entries):  # it was empty before
            self._spooled.clear()
        for entry in entries:
            self._spooled[entry.change.owner] += entry.size
