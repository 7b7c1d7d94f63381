"""How tests of asyncio wait."""

import asyncio

from twisted.internet.defer import Deferred

#: Seconds until a test that waits for something in vain fails.
PATIENCE = 20


def awaited(coroutine):
    """What an asyncio coroutine gives, as a Deferred."""
    return Deferred.fromFuture(asyncio.ensure_future(coroutine))
