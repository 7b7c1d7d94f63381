"""When the messages of a collection were said that only tell how long after others (XEP-0136 5.2). Pure.

Servers agree on little here: what counts from what differs from page to page, and from server to server.
"""

from __future__ import annotations

from archive_crypt.core import times
from archive_crypt.core.items import ReadItem
from archive_crypt.model import SECOND, Micros


class Clock:
    """The clock of a collection that is read in order.

    ``secs`` count from the message before, so that the start and their running sum make the time
    (5.2); but the first item of a later page counts from the start, as Openfire has it, since who
    gets that page alone could not tell else. An item's own ``utc`` is its time, and moves nothing: an
    offline message may be older than its collection (5.5). `from_start`: all count from the start, as
    the examples of 0.13 look, and Tigase has it.
    """

    def __init__(self, start: Micros, *, from_start: bool = False) -> None:
        self._start = start
        self._from_start = from_start
        self._base = start
        self._turned = False

    def turn(self, index: int) -> None:
        """A page begins with the item at `index` of its collection."""
        self._turned = index > 0

    def at(self, item: ReadItem) -> Micros | None:
        """When this, the next item, was said; None: it does not tell, or no calendar has that day."""
        if item.kind == "note" or item.secs is None:  # a note does not move the clock either
            return _known(item.at)
        if item.bound is not None and item.at is not None and times.EARLIEST <= item.at <= times.LATEST:
            self._base, self._turned = item.at, False  # as is most that servers of ours seal
            return item.at
        base = self._start if self._turned or self._from_start else self._base
        counted = _known(base + item.secs * SECOND)
        told = _known(item.at)
        if told is not None and self._turned:
            self._base = told  # its secs count from the start, and are whole: this is better
        elif counted is not None:
            self._base = counted
        self._turned = False
        return counted if item.at is None else told


def _known(at: Micros | None) -> Micros | None:
    return at if at is not None and times.EARLIEST <= at <= times.LATEST else None
