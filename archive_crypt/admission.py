"""One user's requests, in the order they come: so many at once, so many a second. Others' never wait for
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from archive_crypt.errors import ArchiveBusy, TooManyRequests
from archive_crypt.model import UserLimits

T = TypeVar("T")

#: Users who are remembered before it is looked who of them may be forgotten.
_MANY = 1000


class Admissions:
    """The admission of each user, whether he is here or not: to come back does not help. `clock` is an
    IReactorTime.
    """

    def __init__(self, limits: UserLimits, clock: Any) -> None:
        self._limits = limits
        self._clock = clock
        self._users: dict[str, Admission] = {}
        self._many = _MANY
        self._unanswered = 0

    def __len__(self) -> int:
        """The users who are remembered: at most twice as many as asked for something just now, or so."""
        return len(self._users)

    def admit(self, user: str, ask: Callable[..., Deferred[T]], *args: Any) -> Deferred[T]:
        """Call `ask` when it is the turn of a request of `user`'s (a bare JID); what it comes to.

        :raises TooManyRequests: too many of his wait already.
        :raises ArchiveBusy: too many of all users do.
        """
        if self._unanswered >= self._limits.server_requests:
            raise ArchiveBusy
        admission = self._users.get(user)
        if admission is None:
            self._forget_idle()
            admission = self._users[user] = Admission(self._limits, self._clock)
        answer = admission.admit(ask, *args)
        self._unanswered += 1
        return answer.addBoth(self._over)

    def _over(self, result: T) -> T:
        self._unanswered -= 1
        return result

    def _forget_idle(self) -> None:
        """Forget those who would begin anew with the same, now and then."""
        if len(self._users) < self._many:
            return
        self._users = {user: one for user, one in self._users.items() if not one.idle}
        self._many = max(_MANY, 2 * len(self._users))


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

    @property
    def idle(self) -> bool:
        """Whether it is as if nothing had ever been asked."""
        self._refill()
        return not self._running and not self._waiting and self._allowed >= self._limits.requests_burst

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
