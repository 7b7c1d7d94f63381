"""What Twisted's Deferred lacks: several who wait for one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


def follow(d: Deferred[Any]) -> Deferred[None]:
    """A Deferred that fires when `d`, which does not fail, does. `d` keeps its result for others."""
    follower: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        follower.callback(None)
        return result

    d.addCallback(pass_on)
    return follower


class Shared:
    """What several wait for, each told the same: a result, or a failure."""

    def __init__(self, d: Deferred[Any]) -> None:
        self.over = False
        self._failure: Failure | None = None
        self._waiting: list[Deferred[None]] = []
        d.addBoth(self._end)

    def wait(self) -> Deferred[None]:
        """A Deferred that fires, or fails, when it is over."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        if self.over:
            self._tell()
        return waiter

    def _end(self, result: Any) -> None:
        self.over = True
        self._failure = result if isinstance(result, Failure) else None
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None) if self._failure is None else waiter.errback(self._failure)


def kind(failure: Failure) -> str:
    """The name of what failed: all of a failure that may be logged, as its text can quote anything."""
    return failure.type.__name__ if failure.type is not None else "unknown"
