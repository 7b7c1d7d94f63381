"""What waits behind something of its owner's that has to be written first: a line for each owner."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Sequence

from archive_crypt.store.entries import Entry, is_spoolable


class Lines:
    """The lines of those owners who have one."""

    def __init__(self) -> None:
        self._of: dict[str, deque[Entry]] = {}

    def __bool__(self) -> bool:
        return bool(self._of)

    def __contains__(self, owner: str) -> bool:
        return owner in self._of

    def add(self, entry: Entry) -> None:
        """It waits last of its owner's."""
        self._of.setdefault(entry.change.owner, deque()).append(entry)

    def put_back(self, entries: Sequence[Entry]) -> None:
        """These, in order, come before what waits of their owners."""
        for entry in reversed(entries):
            self._of.setdefault(entry.change.owner, deque()).appendleft(entry)

    def all(self) -> list[Entry]:
        """What waits."""
        return [entry for line in self._of.values() for entry in line]

    def drop(self, entries: Iterable[Entry]) -> None:
        """These wait no longer: they are settled."""
        gone = {id(entry) for entry in entries}
        for owner, line in list(self._of.items()):
            left = deque(entry for entry in line if id(entry) not in gone)
            self._of[owner] = left
            if not left:
                del self._of[owner]

    def released(self, behind: Container[str]) -> list[Entry]:
        """What need not wait any more, as its owners are not `behind`: taken out, in order."""
        owners = [owner for owner in self._of if owner not in behind]
        return [entry for owner in owners for entry in self._of.pop(owner)]

    def spoolable(self, but: Container[str], most_changes: int, most_octets: int) -> list[Entry]:
        """What comes first of each owner, those in `but` apart, as far as it may go into the spool: about so
        much is taken out."""
        taken: list[Entry] = []
        octets = 0
        for owner, line in list(self._of.items()):
            if octets >= most_octets or len(taken) >= most_changes:
                break
            if owner in but:
                continue
            while line and is_spoolable(line[0].change):
                octets += line[0].size
                taken.append(line.popleft())
            if not line:
                del self._of[owner]
        return taken
