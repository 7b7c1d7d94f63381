"""PostgreSQL behind `Storage`: a method is one transaction, which a function of `rows` (changes) or
`reads` makes in a thread. Here are the pools, and what a database's failure is called.

Reads run in a pool of their own, read-only and on one snapshot each.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import psycopg2
from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from twisted.python.failure import Failure

from archive_crypt.deferreds import follow
from archive_crypt.errors import ArchiveError, StorageRefused, StorageUnavailable
from archive_crypt.model import Collection, Mark, Micros, Page, PlainItem, Preferences, Window, WrappedKey
from archive_crypt.store import marks, reads, removals, settled
from archive_crypt.store.gathered import States
from archive_crypt.store.interfaces import (
    Change,
    CollectionPage,
    ListFilter,
    Modification,
    Outcome,
    OwnerState,
    Reseal,
)
from archive_crypt.store.quota import Quota
from archive_crypt.store.rows import Rows

T = TypeVar("T")

#: Seconds: a client gives up after 30.
_CONNECT_TIMEOUT = 5
_STATEMENT_TIMEOUT = 20

#: A database that vanished without a word is found to be away in half a minute.
_ALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

#: Failures that a second try may heal: the connection, serialization, deadlock, resources; a standby,
#: that takes no changes (25006). A statement that took too long (57014) takes as long again, unless the
#: database had been stopped.
_PASSING_CLASSES = ("08", "40", "53", "57", "58")
_TOO_LONG, _READ_ONLY = "57014", "25006"


class _Connection(adbapi.Connection):
    """For one transaction. What is broken is given up in silence; the next transaction gets another.

    `once`: whether it is given up in any case. libpq keeps what it last sent or read for as long as it is
    connected.
    """

    once = False

    def commit(self) -> None:
        connection: Any = self._connection
        connection.commit()
        if self.once:
            self._pool.disconnect(connection)

    def rollback(self) -> None:
        connection: Any = self._connection
        try:
            connection.rollback()
        except psycopg2.Error:
            self._pool.disconnect(connection)


class _Pool(adbapi.ConnectionPool):
    connectionFactory = _Connection


class PgStorage:
    """A `Storage` on the PostgreSQL database that `dsn` names, its schema migrated.

    Needs a running `reactor`; `close()` it. One connection writes, `readers` read. `quota`: what each
    owner may keep.
    """

    log = Logger()

    def __init__(self, dsn: str, reactor: Any, readers: int = 4, quota: Quota = Quota()) -> None:  # noqa: B008
        self._rows = Rows(quota)
        self._most_tries = readers + 1
        self._writer = self._pool(dsn, reactor, 1, readonly=False)
        self._readers = self._pool(dsn, reactor, readers, readonly=True)
        #: Of its own: a VACUUM can take long, and nobody should wait for it.
        self._sweeper = self._pool(dsn, reactor, 1, readonly=False, patient=True)
        self._states = States(partial(self._read, settled.states))
        self._sweeping: Deferred[None] | None = None
        self._sweep_again = False

    @property
    def uncertain(self) -> bool:
        return self._rows.uncertain

    def close(self) -> None:
        """Close all connections; what runs is waited for, but for a VACUUM, which is cut short."""
        for connection in list(self._sweeper.connections.values()):
            connection.cancel()
        self._writer.close()
        self._readers.close()
        self._sweeper.close()

    def apply(
        self, changes: Sequence[Change], again: bool = False, mark: Mark | None = None
    ) -> Deferred[list[Outcome]]:
        if not again:
            self._rows.begin()
        # What was acknowledged is tried for as long as it takes, anything else twice.
        patient = not again or (mark is not None and mark.replays)
        apply = self._rows.apply
        if any(isinstance(change, Reseal) for change in changes):
            apply = _once(apply)  # it may have sent, in clear, what is sealed now
        d: Deferred[list[Outcome]] = self._run(self._writer, apply, changes, again, mark, patient=patient)
        return d.addErrback(self._failed)

    def marks(self, spool: str) -> Deferred[tuple[int, int]]:
        return self._run(self._writer, marks.read, spool)

    def interrupt(self) -> None:
        for pool in (self._writer, self._readers, self._sweeper):
            for connection in list(pool.connections.values()):
                _break(connection)

    def state(self, owner: str) -> Deferred[OwnerState]:
        return self._states.get(owner)

    def collections(self, owner: str, which: ListFilter, window: Window) -> Deferred[Page[Collection]]:
        return self._read(reads.collections, owner, which, window)

    def page(
        self, owner: str, with_: str, start: Micros, window: Window, recipients: Sequence[str]
    ) -> Deferred[CollectionPage]:
        return self._read(reads.page, owner, with_, start, window, recipients)

    def keys(
        self, owner: str, recipients: Sequence[str], window: Window
    ) -> Deferred[Page[tuple[Collection, Sequence[WrappedKey]]]]:
        return self._read(reads.keys, owner, recipients, window)

    def modified(self, owner: str, after: Micros, window: Window) -> Deferred[Page[Modification]]:
        return self._read(reads.modified, owner, after, window)

    def plain_items(self, owner: str, collection: int, after: int, limit: int) -> Deferred[list[PlainItem]]:
        return self._read(_once(reads.plain_items), owner, collection, after, limit)

    def expiring(self, after: str, limit: int, everyone: bool) -> Deferred[list[tuple[str, Preferences]]]:
        return self._read(reads.expiring, after, limit, everyone)

    def forget_tombstones(self, before: Micros, limit: int) -> Deferred[int]:
        return self._run(self._writer, removals.forget, before, limit)

    def forget_streams(self, domain: str, but: Sequence[tuple[str, str]]) -> Deferred[int]:
        return self._run(self._writer, settled.forget_streams, domain, but)

    def vacuum(self) -> Deferred[None]:
        """One after the other; those asked for while one runs are done as one."""
        if self._sweeping is not None:
            self._sweep_again = True
            return follow(self._sweeping)
        self._sweeping = Deferred()
        d: Deferred[None] = self._sweeper.runWithConnection(_vacuum)
        return d.addErrback(self._translate).addBoth(self._swept)

    def _swept(self, result: Any) -> Any:
        over, self._sweeping = self._sweeping, None
        again, self._sweep_again = self._sweep_again, False
        assert over is not None  # noqa: S101 - it was made when this began
        if again:
            self.vacuum().addBoth(lambda _: None).chainDeferred(over)
        else:
            over.callback(None)
        return result

    @inlineCallbacks
    def _read(self, twin: Callable[..., T], *args: Any) -> Generator[Deferred[T], T, T]:
        """Read, again if need be: after a restart of the database each connection fails once."""
        for tries in itertools.count(1):
            try:
                found = yield self._run(self._readers, twin, *args)
            except StorageUnavailable:
                if tries >= self._most_tries:
                    raise
            else:
                return found
        raise AssertionError("unreachable")

    def _failed(self, failure: Failure) -> Failure:
        self._rows.failed()
        return failure

    def _run(self, pool: Any, twin: Callable[..., T], *args: Any, patient: bool = False) -> Deferred[T]:
        d: Deferred[T] = pool.runInteraction(twin, *args)
        return d.addErrback(self._translate, patient)

    def _translate(self, failure: Failure, patient: bool = False) -> Failure:
        """One of our errors instead of the driver's, whose text can quote the row it refused. `patient`:
        what took too long may be tried again."""
        error: Any = failure.value
        if isinstance(error, ArchiveError):
            return failure
        if _may_pass(error) or (patient and getattr(error, "pgcode", None) == _TOO_LONG):
            self.log.warn("the database is unavailable: {kind}", kind=_kind(error))
            raise StorageUnavailable from None
        self.log.error("the database refused a change: {kind}", kind=_kind(error))
        raise StorageRefused from None

    def _pool(self, dsn: str, reactor: Any, size: int, *, readonly: bool, patient: bool = False) -> Any:
        def opened(connection: Any) -> None:
            level = "REPEATABLE READ" if readonly else "READ COMMITTED"
            connection.set_session(isolation_level=level, readonly=readonly)
            with connection.cursor() as cursor:
                cursor.execute(f"SET statement_timeout = '{0 if patient else _STATEMENT_TIMEOUT}s'")
            connection.commit()

        return _Pool(  # type: ignore[no-untyped-call]
            "psycopg2",
            dsn,
            cp_reactor=reactor,
            cp_min=1,
            cp_max=size,
            cp_openfun=opened,
            connect_timeout=_CONNECT_TIMEOUT,
            application_name="archive_crypt",
            **_ALIVE,
        )


def _once(twin: Callable[..., T]) -> Callable[..., T]:
    """The same, whose connection is for nothing else."""

    def once(cursor: Any, *args: Any) -> T:
        cursor._connection.once = True  # the cursor is adbapi's, and this its connection
        return twin(cursor, *args)

    return once


def _vacuum(connection: Any) -> None:
    connection.rollback()
    connection.set_session(autocommit=True)  # VACUUM runs in no transaction
    connection.notices.clear()
    try:
        connection.cursor().execute("VACUUM item")
        if connection.notices:  # of a role that may not, it is skipped: no error to PostgreSQL
            raise StorageRefused
    finally:
        connection.set_session(autocommit=False)


def _may_pass(error: Any) -> bool:
    if not isinstance(error, psycopg2.Error):
        return False
    if error.pgcode is None:  # no answer from the server at all
        return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    if error.pgcode in (_TOO_LONG, _READ_ONLY):
        return bool(error.pgcode == _READ_ONLY)
    return error.pgcode[:2] in _PASSING_CLASSES


def _break(connection: Any) -> None:
    """Shut the socket beneath a connection that another thread waits for."""
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(connection.fileno())) as beneath:
        beneath.shutdown(socket.SHUT_RDWR)


def _kind(error: Any) -> str:
    code = getattr(error, "pgcode", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
