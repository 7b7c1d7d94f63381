"""A mirror: the copy of an account's archive on this computer, opened, in one file that is encrypted.

What it holds is exact up to its `cursor`, but for the collections that still have to be fetched, which
it remembers, and those that the server forgot, which it keeps. Asks no server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from archive_crypt.core import jids, preferences
from archive_crypt.model import Micros
from archive_crypt.reader import mirrorrows, words
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.mirrorfile import MirrorFile
from archive_crypt.reader.mirrorrows import Head
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Change, Listed, Query


@dataclass(frozen=True, slots=True)
class Pending:
    """A collection to be fetched, because of the change with this `mark`."""

    collection: Listed
    mark: str


class Stored(Enum):
    """What became of a collection that was fetched."""

    ALL = auto()
    #: It changed meanwhile, or others were quicker: nothing was done.
    OVERTAKEN = auto()
    #: What there was is kept, and marked as unlisted: it is a later version.
    SET_BACK = auto()


@dataclass(frozen=True, slots=True)
class Kept:
    """A collection that was fetched. `unlisted`: the server does not have it any more, or less of it, and
    never said that it was removed."""

    id: int
    head: Head
    unlisted: bool

    @property
    def collection(self) -> Listed:
        """Which it is."""
        return self.head.collection


class Mirror:
    """An open mirror, until the ``with`` ends."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Opens the mirror in the file, or makes an empty one.

        :raises Problem: as all here: the file cannot be used; the text says what to do.
        """
        self._file = MirrorFile(path, key)

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def rekey(self, key: bytes, ready: Callable[[], None]) -> None:
        """It is encrypted with another key, as soon as nobody else has it open and `ready` was called; after
        a crash it is so, or as it was. That nobody opens it meanwhile is the caller's to see to."""
        self._file.alone()
        ready()
        self._file.rekey(key)

    # What sync does

    @property
    def cursor(self) -> str | None:
        """The server's id of the last change that is known; None: none is."""
        cursor: str | None = self._file.one("SELECT cursor FROM state")
        return cursor

    @property
    def synced(self) -> Micros | None:
        """When it was last as the server has it; None: never, or everything is being asked for anew."""
        synced: Micros | None = self._file.one("SELECT synced FROM state")
        return synced

    @property
    def uncounted(self) -> int:
        """How many collections fewer than it told of the server counted when it had told everything."""
        uncounted: int = self._file.one("SELECT uncounted FROM state")
        return uncounted

    def note(self, changes: Iterable[Change], cursor: str, since: str | None) -> int | None:
        """What the server told to have changed `since` a cursor, up to another: what was removed goes,
        the rest has to be fetched. How many went; None, and nothing is done, if another program went on
        from there meanwhile."""
        gone = 0
        with self._file.writing() as database:
            if not database.execute(
                "UPDATE state SET cursor = ? WHERE cursor IS ?", (cursor, since)
            ).rowcount:
                return None
            for change in changes:
                name = (change.collection.with_, change.collection.start)
                database.execute("DELETE FROM pending WHERE (with_, start) = (?, ?)", name)
                if change.removed:
                    gone += _delete(database, name)
                else:
                    database.execute("UPDATE collection SET unseen = 0 WHERE (with_, start) = (?, ?)", name)
                    row = (*name, change.collection.told, cursor)
                    database.execute("INSERT INTO pending VALUES (?, ?, ?, ?)", row)
        return gone

    def pending(self) -> list[Pending]:
        """The collections that have to be fetched, oldest first."""
        rows = self._file.all("SELECT with_, start, told, mark FROM pending ORDER BY start, with_")
        return [Pending(Listed(*row[:3]), row[3]) for row in rows]

    def store(self, fetched: Pending, head: Head, entries: Sequence[Entry]) -> Stored:
        """All of a collection that was pending, in place of what there was of it: unless the server has an
        earlier version of it than there is, or had once."""
        name = (fetched.collection.with_, fetched.collection.start)
        with self._file.writing() as database:
            found = database.execute(
                "DELETE FROM pending WHERE (with_, start, mark) = (?, ?, ?)", (*name, fetched.mark)
            ).rowcount
            if not found:
                return Stored.OVERTAKEN
            if database.execute(
                "UPDATE collection SET unlisted = 2"
                " WHERE (with_, start) = (?, ?) AND (version > ? OR unlisted = 2)",
                (*name, head.collection.version),
            ).rowcount:
                return Stored.SET_BACK
            _delete(database, name)
            id_ = database.execute(
                "INSERT INTO collection"
                " (with_, start, told, version, thread, subject, crypt, links, form, missing)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                mirrorrows.of_head(head),
            ).lastrowid
            (last,) = database.execute("SELECT coalesce(max(id), 0) FROM entry").fetchone()
            numbered = list(enumerate(entries, last + 1))
            rows = ((number, id_, *mirrorrows.of_entry(entry)) for number, entry in numbered)
            database.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            said = ((number, words.indexed(entry)) for number, entry in numbered)
            database.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", said)
            used = {mirrorrows.data_key(entry) for entry in entries} - {None}
            database.executemany("INSERT INTO used VALUES (?, ?)", [(key, id_) for key in used])
        return Stored.ALL

    def restart(self, since: str | None) -> None:
        """The server will be asked for everything anew: `since` says nothing to it any more."""
        with self._file.writing() as database:
            if database.execute(
                "UPDATE state SET cursor = NULL, synced = NULL WHERE cursor IS ?", (since,)
            ).rowcount:
                database.execute("UPDATE collection SET unseen = 1 WHERE NOT unlisted")
                database.execute("DELETE FROM pending")

    def keep_unseen(self, since: str | None) -> int:
        """The server told everything up to `since`: what it did not tell of is not there any more, but may
        be nowhere else than here: it is kept as unlisted. How many those are."""
        with self._file.writing() as database:
            # What another sync wanted of those cannot be fetched.
            database.execute(
                "DELETE FROM pending WHERE EXISTS (SELECT 1 FROM state WHERE cursor IS ?)"
                " AND (with_, start) IN (SELECT with_, start FROM collection WHERE unseen)",
                (since,),
            )
            kept: int = database.execute(
                "UPDATE collection SET unseen = 0, unlisted = 1"
                " WHERE unseen AND EXISTS (SELECT 1 FROM state WHERE cursor IS ?)",
                (since,),
            ).rowcount
        return kept

    def expected(self) -> int:
        """How many collections the server has, as far as it told: those that are here as they are there."""
        count: int = self._file.one(
            "SELECT count(*) FROM collection WHERE NOT unlisted"
            " AND (with_, start) NOT IN (SELECT with_, start FROM pending)"
        )
        return count

    def unlisted(self) -> list[Listed]:
        """The collections that are only here, as far as the server tells, by their start."""
        rows = self._file.all("SELECT * FROM kept WHERE unlisted ORDER BY start, with_")
        return [_kept(row).collection for row in rows]

    def forget(self, collections: Iterable[Listed]) -> int:
        """Those of these collections that are unlisted still are removed; what the server has of them has to
        be fetched. How many they were."""
        with self._file.writing() as database:
            names = [(one.with_, one.start) for one in collections]
            database.executemany(
                "INSERT INTO pending SELECT with_, start, told, 'forgotten' FROM collection"
                " WHERE unlisted = 2 AND (with_, start) = (?, ?) ON CONFLICT DO NOTHING",
                names,
            )
            gone: int = database.executemany(
                "DELETE FROM collection WHERE unlisted AND (with_, start) = (?, ?)", names
            ).rowcount
        return gone

    def settle(self, now: Micros, uncounted: int) -> None:
        """It is as the server has it, which counts so many collections fewer than are `expected`."""
        with self._file.writing() as database:
            database.execute("UPDATE state SET synced = ?, uncounted = ?", (now, uncounted))

    def try_keys(self, names: Iterable[str]) -> None:
        """These keys are at hand from now on: what none of those before opened has to be fetched again."""
        with self._file.writing() as database:
            tried = {name for (name,) in database.execute("SELECT key_name FROM tried")}
            new = sorted(set(names) - tried)
            if not new:
                return
            database.executemany("INSERT INTO tried VALUES (?)", [(name,) for name in new])
            database.execute(
                "INSERT INTO pending SELECT DISTINCT with_, start, told, ? FROM collection"
                " JOIN entry ON entry.collection = collection.id"
                " WHERE NOT unlisted AND ' ' || findings || ' ' LIKE ? ON CONFLICT DO NOTHING",
                (f"key {new[0]}", f"% {Finding.NO_KEY.word} %"),
            )

    # What is read of it

    def snapshot(self) -> AbstractContextManager[None]:
        """What is read of it for as long as the ``with`` lasts is of one moment."""
        return self._file.reading()

    def collections(self, query: Query) -> list[Kept]:
        """Those that match, by their start."""
        rows = self._file.all(
            "SELECT * FROM kept WHERE start >= coalesce(?, start) AND start < coalesce(?, start + 1)"
            " ORDER BY start, with_",
            (query.start, query.end),
        )
        found = [_kept(row) for row in rows]
        if query.with_ is None:
            return found
        return [kept for kept in found if _matches(query.with_, query.exact, kept.collection.with_)]

    def entries(self, kept: Kept, first: int = 0, last: int | None = None) -> list[tuple[int, Entry]]:
        """The entries of a collection by their ids, in order; those whose ids are from `first` to `last`."""
        rows = self._file.all(
            "SELECT id, place, sealed, at, missing, findings, item FROM entry"
            " WHERE collection = ? AND id BETWEEN ? AND coalesce(?, id) ORDER BY id",
            (kept.id, first, last),
        )
        keys = self._file.all("SELECT data_key FROM reused WHERE collection = ?", (kept.id,))
        elsewhere = frozenset(name for (name,) in keys)
        return [(id_, mirrorrows.entry(row, elsewhere)) for id_, *row in rows]

    def reusing(self) -> list[Kept]:
        """The collections that have a data key of an earlier one."""
        rows = self._file.all("SELECT * FROM kept WHERE id IN (SELECT collection FROM reused)")
        return [_kept(row) for row in rows]

    def search(
        self, match: str, since: Micros | None = None, until: Micros | None = None
    ) -> dict[int, list[int]]:
        """Where FTS5 finds `match` in what was said `since` (inclusive) and `until` (exclusive): the ids
        of entries, by that of their collection. What tells no time is as old as its collection."""
        rows = self._file.all(
            "SELECT collection, entry.id FROM words JOIN entry ON entry.id = words.rowid"
            " JOIN collection ON collection.id = collection"
            " WHERE words MATCH :match AND coalesce(at, start) >= coalesce(:since, at, start)"
            " AND (:until IS NULL OR coalesce(at, start) < :until) ORDER BY entry.id",
            {"match": match, "since": since, "until": until},
        )
        found: dict[int, list[int]] = {}
        for collection, id_ in rows:
            found.setdefault(collection, []).append(id_)
        return found

    def count(self) -> tuple[int, int]:
        """How many collections there are, and how many entries."""
        return self._file.one("SELECT count(*) FROM collection"), self._file.one("SELECT count(*) FROM entry")


def _kept(row: Sequence[Any]) -> Kept:
    id_, unlisted, *head = row
    return Kept(id_, mirrorrows.head(head), bool(unlisted))


def _delete(database: Any, name: tuple[str, Micros]) -> int:
    """A collection goes, with its entries and their words; how many there were."""
    gone: int = database.execute("DELETE FROM collection WHERE (with_, start) = (?, ?)", name).rowcount
    return gone


def _matches(pattern: str, exact: bool, with_: str) -> bool:
    """As the server would have it (XEP-0136 10.1, JID matching)."""
    wanted, jid = jids.read(pattern), jids.read(with_)
    if wanted is None or jid is None:
        return pattern == with_
    return preferences.matches(wanted.full(), exact, jid.full())
