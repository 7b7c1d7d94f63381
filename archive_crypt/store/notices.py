"""What other processes tell through the database (LISTEN): whose preferences changed. A connection of
its own, watched by the reactor, as a pool's connections cannot listen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import psycopg2
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from archive_crypt.deferreds import kind
from archive_crypt.store.settled import CHANNEL

#: Seconds before a lost connection is tried again.
_PAUSE = 2.0
_CONNECT_TIMEOUT = 5


@implementer(IReadDescriptor)
class Notices:
    """Calls `changed` with an owner's JID and revision for each notice, and `missed` whenever some may
    have been missed: at each new connection. `name`: of that connection, as the database shows it.
    Needs a running `reactor`; `close()` it."""

    log = Logger()

    def __init__(
        self,
        dsn: str,
        reactor: Any,
        changed: Callable[[str, int], object],
        missed: Callable[[], object],
        name: str = "archive_crypt",
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._reactor = reactor
        self._changed = changed
        self._missed = missed
        self._connection: Any = None
        self._fd = -1  # a duplicate: the driver closes its own when the connection breaks, still watched
        self._call: Any = None
        self._closed = False

    def start(self) -> Deferred[None]:
        """Connect; fires when it listens, or will try again."""
        self._call = None
        d: Deferred[Any] = deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), _listening, self._dsn, self._name
        )
        return d.addCallbacks(self._connected, self._failed)

    def close(self) -> None:
        """Listen no more."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._drop()

    # What the reactor asks of whom it watches.

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "archive_crypt"

    def doRead(self) -> None:
        """There is something to read: notices, or the connection's end."""
        try:
            self._connection.poll()
        except psycopg2.Error:
            self._again()
            return
        notices = self._connection.notifies
        while notices:
            owner, revision = json.loads(notices.pop(0).payload)
            self._changed(owner, revision)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops, or cannot watch it any more."""
        self._again()

    def _connected(self, connection: Any) -> None:
        if self._closed:
            connection.close()
            return
        self._connection = connection
        self._fd = os.dup(connection.fileno())
        self._reactor.addReader(self)
        self._missed()

    def _failed(self, failure: Failure) -> None:
        self.log.warn("changes by other processes are not heard: {kind}", kind=kind(failure))
        self._again()

    def _again(self) -> None:
        self._drop()
        if not self._closed and self._call is None:
            self._call = self._reactor.callLater(_PAUSE, self.start)

    def _drop(self) -> None:
        if self._connection is not None:
            self._reactor.removeReader(self)  # before the descriptor is closed, and perhaps used again
            os.close(self._fd)
            self._connection.close()
            self._connection, self._fd = None, -1


def _listening(dsn: str, name: str) -> Any:
    connection = psycopg2.connect(dsn, connect_timeout=_CONNECT_TIMEOUT, application_name=name)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"LISTEN {CHANNEL}")
    return connection
