"""PostgreSQL behind `Storage`: a public method is one transaction, its underscore twin the SQL.

Reads run in a pool of their own, read-only and on one snapshot each. How changes become rows
is in `rows`; here are the pools, the reads, and what a database's failure is called.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import psycopg2
from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from twisted.python.failure import Failure

from archive_crypt.errors import ArchiveError, NoSuchCollection, StorageRefused, StorageUnavailable
from archive_crypt.model import (
    AutoState,
    Collection,
    EncryptedKey,
    Item,
    Micros,
    Page,
    PlainItem,
    SealedItem,
    SuppliedKey,
    Window,
)
from archive_crypt.store.interfaces import MOST_PAGE, Change, CollectionPage, ListFilter
from archive_crypt.store.rows import Rows

T = TypeVar("T")

#: Seconds: a client gives up after 30.
_CONNECT_TIMEOUT = 5
_STATEMENT_TIMEOUT = 20

#: Failures that a second try may heal: the connection, serialization, deadlock, resources.
_PASSING_CLASSES = ("08", "40", "53", "57", "58")

_COLLECTION = (
    "SELECT c.id, c.with_, c.start, h.version, c.thread, c.subject, c.crypt{more}"
    " FROM collection c JOIN change h ON h.owner = c.owner AND h.collection = c.id WHERE {where}"
)


class _Connection(adbapi.Connection):
    """One that is broken is given up in silence; the next transaction gets another."""

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

    Needs a running `reactor`; `close()` it. One connection writes, `readers` read.
    """

    log = Logger()

    def __init__(self, dsn: str, reactor: Any, readers: int = 4) -> None:
        self._rows = Rows()
        self._most_tries = readers + 1
        self._writer = self._pool(dsn, reactor, 1, readonly=False)
        self._readers = self._pool(dsn, reactor, readers, readonly=True)

    def close(self) -> None:
        """Close all connections; what runs is waited for."""
        self._writer.close()
        self._readers.close()

    def apply(self, changes: Sequence[Change], again: bool = False) -> Deferred[None]:
        return self._run(self._writer, self._rows.apply, changes, again)

    def auto(self, owner: str) -> Deferred[AutoState]:
        return self._read(self._auto, owner)

    def collections(self, owner: str, which: ListFilter, window: Window) -> Deferred[Page[Collection]]:
        return self._read(self._collections, owner, which, window)

    def page(
        self, owner: str, with_: str, start: Micros, window: Window, recipients: Sequence[str]
    ) -> Deferred[CollectionPage]:
        return self._read(self._page, owner, with_, start, window, recipients)

    def plain_items(self, owner: str, collection: int, after: int, limit: int) -> Deferred[list[PlainItem]]:
        return self._read(self._plain_items, owner, collection, after, limit)

    def vacuum(self) -> Deferred[None]:
        d: Deferred[None] = self._writer.runWithConnection(self._vacuum)
        return d.addErrback(self._translate)

    # The twins: SQL only, each runs in a thread of its pool.

    def _auto(self, cursor: Any, owner: str) -> AutoState:
        cursor.execute(
            "SELECT a.owner, a.save, a.encrypt, a.namespace FROM auto a JOIN owner o ON o.id = a.owner"
            " WHERE o.jid = %s",
            (owner,),
        )
        row = cursor.fetchone()
        if row is None:
            return AutoState()
        cursor.execute("SELECT name, der FROM supplied_key WHERE owner = %s ORDER BY name", row[:1])
        keys = tuple(SuppliedKey(name, bytes(der)) for name, der in cursor.fetchall())
        _, save, encrypt, namespace = row
        return AutoState(save, encrypt, namespace, keys)

    def _collections(self, cursor: Any, owner: str, which: ListFilter, window: Window) -> Page[Collection]:
        where, values = _filter(which)
        where = f"c.owner = (SELECT id FROM owner WHERE jid = %s){where}"
        values = (owner, *values)
        cursor.execute(f"SELECT count(*) FROM collection c WHERE {where}", values)
        (count,) = cursor.fetchone()
        cut, cut_values = _cut("(c.start, c.id)", window)
        query = _COLLECTION.format(more="", where=where + cut)
        cursor.execute(f"{query}{_order('c.start {0}, c.id {0}', window)}", (*values, *cut_values))
        rows = _in_order(cursor.fetchall(), window)
        items = [Collection(*row) for row in rows]
        if not items:
            return Page((), 0, count)
        cursor.execute(
            f"SELECT count(*) FROM collection c WHERE {where} AND (c.start, c.id) < (%s, %s)",
            (*values, items[0].start, items[0].id),
        )
        return Page(items, cursor.fetchone()[0], count)

    def _page(
        self, cursor: Any, owner: str, with_: str, start: Micros, window: Window, recipients: Sequence[str]
    ) -> CollectionPage:
        query = _COLLECTION.format(
            more=", c.owner, h.items",
            where="c.owner = (SELECT id FROM owner WHERE jid = %s) AND c.with_ = %s AND c.start = %s",
        )
        cursor.execute(query, (owner, with_, start))
        row = cursor.fetchone()
        if row is None:
            raise NoSuchCollection
        collection, (owner_id, count) = Collection(*row[:7]), row[7:]
        items = self._items(cursor, owner_id, collection.id, window)
        index = self._index(cursor, owner_id, collection.id, items)
        names = list(dict.fromkeys(item.key_name for item in items if isinstance(item, SealedItem)))
        keys = self._keys(cursor, owner_id, names, recipients)
        return CollectionPage(collection, Page(items, index, count), keys)

    def _items(self, cursor: Any, owner: int, collection: int, window: Window) -> list[Item]:
        cut, values = _cut("(number)", window)
        order = _order("number {0}", window)
        direction = "DESC" if window.backwards else "ASC"
        cursor.execute(
            "SELECT i.number, i.at, i.content, k.name, k.algorithm FROM ("
            "  SELECT *, sum(octet_length(content)) OVER (ORDER BY number"
            f"   {direction} ROWS UNBOUNDED PRECEDING) - octet_length(content) AS above FROM ("
            f"    SELECT * FROM item WHERE owner = %s AND collection = %s{cut}{order}) AS part) AS i"
            " LEFT JOIN data_key k ON k.owner = i.owner AND k.collection = i.collection AND k.key = i.key"
            " WHERE i.above < %s ORDER BY i.number",
            (owner, collection, *values, MOST_PAGE),
        )
        return [_item(*row) for row in cursor.fetchall()]

    def _index(self, cursor: Any, owner: int, collection: int, items: Sequence[Item]) -> int:
        """The place of the first item. Numbers are places, but where the database refused a row."""
        if not items or not items[0].number:
            return 0
        cursor.execute(
            "SELECT count(*) FROM item WHERE owner = %s AND collection = %s AND number < %s",
            (owner, collection, items[0].number),
        )
        return int(cursor.fetchone()[0])

    def _keys(
        self, cursor: Any, owner: int, names: Sequence[str], recipients: Sequence[str]
    ) -> dict[str, list[EncryptedKey]]:
        cursor.execute(
            "SELECT DISTINCT name, recipient, algorithm, cipher FROM encrypted_key"
            " WHERE owner = %s AND name = ANY(%s) AND (%s OR recipient = ANY(%s)) ORDER BY name, recipient",
            (owner, list(names), not recipients, list(recipients)),
        )
        keys: dict[str, list[EncryptedKey]] = {name: [] for name in names}
        for name, recipient, algorithm, cipher in cursor.fetchall():
            keys[name].append(EncryptedKey(name, recipient, algorithm, bytes(cipher)))
        return keys

    def _plain_items(
        self, cursor: Any, owner: str, collection: int, after: int, limit: int
    ) -> list[PlainItem]:
        cursor.execute(
            "SELECT number, at, content FROM item WHERE owner = (SELECT id FROM owner WHERE jid = %s)"
            " AND collection = %s AND number > %s AND key IS NULL ORDER BY number LIMIT %s",
            (owner, collection, after, limit),
        )
        return [PlainItem(number, at, bytes(content).decode()) for number, at, content in cursor.fetchall()]

    def _vacuum(self, connection: Any) -> None:
        connection.rollback()
        connection.set_session(autocommit=True)  # VACUUM runs in no transaction
        try:
            connection.cursor().execute("VACUUM item")
        finally:
            connection.set_session(autocommit=False)

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

    def _run(self, pool: Any, twin: Callable[..., T], *args: Any) -> Deferred[T]:
        d: Deferred[T] = pool.runInteraction(twin, *args)
        return d.addErrback(self._translate)

    def _translate(self, failure: Failure) -> Failure:
        """One of our errors instead of the driver's, whose text can quote the row it refused."""
        error: Any = failure.value
        if isinstance(error, ArchiveError):
            return failure
        if _may_pass(error):
            self.log.warn("the database is unavailable: {kind}", kind=_kind(error))
            raise StorageUnavailable from None
        self.log.error("the database refused a change: {kind}", kind=_kind(error))
        raise StorageRefused from None

    def _pool(self, dsn: str, reactor: Any, size: int, *, readonly: bool) -> Any:
        def opened(connection: Any) -> None:
            level = "REPEATABLE READ" if readonly else "READ COMMITTED"
            connection.set_session(isolation_level=level, readonly=readonly)
            with connection.cursor() as cursor:
                cursor.execute(f"SET statement_timeout = '{_STATEMENT_TIMEOUT}s'")
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
        )


def _may_pass(error: Any) -> bool:
    if not isinstance(error, psycopg2.Error):
        return False
    if error.pgcode is None:  # no answer from the server at all
        return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    return error.pgcode[:2] in _PASSING_CLASSES


def _kind(error: Any) -> str:
    code = getattr(error, "pgcode", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


def _filter(which: ListFilter) -> tuple[str, tuple[Any, ...]]:
    """SQL and values of a list's filter; each way has its index."""
    clauses: list[str] = []
    values: list[Any] = []
    if which.with_ is not None:
        column = "with_"
        if not which.exact and "/" not in which.with_:
            column = "bare" if "@" in which.with_ else "domain"
        clauses.append(f" AND c.{column} = %s")
        values.append(which.with_)
    if which.start is not None:
        clauses.append(" AND c.start >= %s")
        values.append(which.start)
    if which.end is not None:
        clauses.append(" AND c.start < %s")
        values.append(which.end)
    return "".join(clauses), tuple(values)


def _cut(position: str, window: Window) -> tuple[str, tuple[int, ...]]:
    clauses, values = "", tuple[int, ...]()
    for bound, operator in ((window.after, ">"), (window.before, "<")):
        if bound is not None:
            clauses += f" AND {position} {operator} ({', '.join(['%s'] * len(bound))})"
            values += bound
    return clauses, values


def _order(columns: str, window: Window) -> str:
    order = columns.format("DESC" if window.backwards else "ASC")
    return f" ORDER BY {order} LIMIT {int(window.limit)} OFFSET {int(window.index or 0)}"


def _in_order(rows: list[Any], window: Window) -> list[Any]:
    return rows[::-1] if window.backwards else rows


def _item(number: int, at: Micros | None, content: Any, name: str | None, algorithm: str | None) -> Item:
    if name is None or algorithm is None:
        return PlainItem(number, at or 0, bytes(content).decode())
    return SealedItem(number, name, algorithm, bytes(content))
