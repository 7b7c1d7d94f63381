"""What the component drops: counted, and told to the operator without telling him too often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.logger import Logger

#: Seconds between two lines for the same reason; and what strangers may fill a line with.
_PAUSE = 60.0
_LONGEST = 200


class Complaints:
    """`counts`: how often, by reason. `seconds`: the time, for pauses."""

    log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self._seconds = seconds
        self._told: dict[str, tuple[float, int]] = {}

    def about(self, reason: str, sender: str | None) -> None:
        """Count it, and log who sent it: the first, and then at most one a minute for each reason."""
        self.counts[reason] += 1
        last, count = self._told.get(reason, (None, 0))
        now = self._seconds()
        if last is not None and now - last < _PAUSE:
            return
        self._told[reason] = (now, self.counts[reason])
        self.log.warn(
            "dropped: {reason}, from {sender}; {since} since this was last said",
            reason=reason,
            sender=(sender or "nobody")[:_LONGEST],
            since=self.counts[reason] - count,
        )
