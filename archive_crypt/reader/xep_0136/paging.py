"""Result sets come to an end (XEP-0059), whatever a server says. Ids are opaque. Pure."""

from __future__ import annotations

from archive_crypt.core.rsm import PageInfo
from archive_crypt.reader.errors import NotUnderstood

#: What a collection may hold, whatever a server counts: our recorder writes 2^16 items at most, and uploads
#: may add to those. And what may be listed: archives of ten million collections are.
ITEMS, COLLECTIONS = 2**20, 2**24
#: And on how many pages: a hundred on each are asked for. A server may give fewer, but not one each for ever.
PAGES = 2**18
#: So many more than were counted at first may come, as a set grows while it is read.
_GROWTH = 10_000


class Paging:
    """Where the next page begins: `after`; None: with the first. More than `most` are not believed."""

    def __init__(self, after: str | None = None, most: int = ITEMS) -> None:
        self.after = after
        self._most = most
        self._seen = set[str | None]([after])
        #: The place that was reached, as far as the server lets us know; None: it does not.
        self._reached: int | None = None if after else 0
        self._received = 0
        self._bound: int | None = None

    def next(self, info: PageInfo | None, length: int, *, complete: bool = True) -> bool:
        """Whether another page follows one of `length` parts that says `info` of itself.

        `complete`: a set that ends before the count that the server tells is an error; else the
        caller sees to that.

        :raises NotUnderstood: the server repeats itself, gives more than there can be, or less than
            there is.
        """
        self._received += length
        if info is not None and info.index is not None:
            self._reached = info.index + length
        elif self._reached is not None:
            self._reached += length
        count = info.count if info else None
        self._check_bound(count)
        if count is not None and self._reached is not None and self._reached >= count:
            return False
        if info is None or not length or not info.last:
            if complete and count is not None and self._reached is not None:
                raise NotUnderstood(f"The server counts {count} and gives no more than {self._reached}.")
            return False
        if info.last in self._seen:
            raise NotUnderstood("The server gives the same page again and again.")
        self._seen.add(info.last)
        self.after = info.last
        return True

    def _check_bound(self, count: int | None) -> None:
        if self._bound is None:
            self._bound = self._most if count is None else min(2 * count + _GROWTH, self._most)
        if self._received > self._bound or len(self._seen) > PAGES:
            raise NotUnderstood(
                f"The server gives more and more, {self._received:,} by now, and comes to no end."
            )
