"""One user's requests, in the order they come: so many at once, so many a second. Others' never wait for
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from archive_crypt.errors import TooManyRequests
from archive_crypt.model import UserLimits

T = TypeVar("T")


class Admission:
    """Lets requests through, those of all of a user's streams. `clock` is an IReactorTime."""

    def __init__(self, limits: UserLimits, clock: Any) -> None:
        self._limits = limits
        self._clock = clock
        #: Requests that may begin at once: a bucket that fills with time.
        self._allowed = float(limits.requests_burst)
        self._since = clock.seconds()
        self._running = 0
        self._waiting: deque[Deferred[None]] = deque()
        self._call: Any = None
        self._admitting = False

    def admit(self, ask: Callable[..., Deferred[T]], *args: Any) -> Deferred[T]:
        """Call `ask` when it is the request's turn; what it comes to.

        :raises TooManyRequests: too many wait already.
        """
        if len(self._waiting) >= self._limits.requests_waiting:
            raise TooManyRequests
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        done: Deferred[T] = turn.addCallback(lambda _: ask(*args))
        done.addBoth(self._over)
        self._go_on()
        return done

    def _over(self, result: T) -> T:
        self._running -= 1
        self._go_on()
        return result

    def _go_on(self) -> None:
        """Let those through whose turn it is."""
        if self._admitting:  # one that is answered at once ends here: the loop below sees it
            return
        self._admitting = True
        try:
            self._refill()
            while self._waiting and self._running < self._limits.requests_at_once and self._allowed >= 1:
                self._allowed -= 1
                self._running += 1
                self._waiting.popleft().callback(None)
        finally:
            self._admitting = False
        if self._waiting and self._allowed < 1 and self._call is None:
            pause = (1 - self._allowed) / self._limits.requests_per_second
            self._call = self._clock.callLater(pause, self._due)

    def _due(self) -> None:
        self._call = None
        self._go_on()

    def _refill(self) -> None:
        now = self._clock.seconds()
        more = (now - self._since) * self._limits.requests_per_second
        self._allowed = min(self._limits.requests_burst, self._allowed + more)
        self._since = now
