"""What Twisted's Deferred lacks: several who wait for one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


def follow(d: Deferred[Any]) -> Deferred[None]:
    """A Deferred that fires, or fails, when `d` does. `d` keeps its result for others who follow."""
    follower: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        if isinstance(result, Failure):
            follower.errback(result)
            return None  # it is the followers' to handle now
        follower.callback(None)
        return result

    d.addBoth(pass_on)
    return follower


def kind(failure: Failure) -> str:
    """The name of what failed: all of a failure that may be logged, as its text can quote anything."""
    return failure.type.__name__ if failure.type is not None else "unknown"
