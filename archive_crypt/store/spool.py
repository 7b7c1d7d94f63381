"""The spool: sealed changes in a file of SQLite, for while the database is away. Everything here blocks;
`spooling` has it done in a thread.

One process has a spool at a time: it holds the lock on ``FILE.lock``, which ends with the process.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from archive_crypt.errors import ConfigurationError
from archive_crypt.store import records, spoolfile
from archive_crypt.store.interfaces import Change
from archive_crypt.store.records import Record
from archive_crypt.store.spoolfile import SpoolDamaged, SpoolFull, SpoolRemoved, SpoolUnsure, why

_INSERT = "INSERT INTO record (owner, kind, detail, content, batch) VALUES (?, ?, ?, ?, ?)"

#: Octets of a record besides its content, roughly.
_OVERHEAD = 64
_SIZE = f"sum(length(owner) + length(detail) + length(content) + {_OVERHEAD})"
_BOTH = "(SELECT * FROM parked UNION ALL SELECT number, owner, kind, detail, content FROM record)"
#: What the database refused waits again, at its place: what builds on it has not overtaken it.
_UNPARK = "INSERT INTO record (number, owner, kind, detail, content) SELECT * FROM parked; DELETE FROM parked"
#: From so many octets on an emptied file is made small again.
_LARGE = 8 * 1024 * 1024

#: Errors that say that the file is not what was written. All others are the disk's.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
#: Errors of a COMMIT whose last page did not even reach the file.
_NOT_WRITTEN = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_BUSY)


class Waiting(NamedTuple):
    """A record that waits, by its number; `change` None: it cannot be read."""

    number: int
    owner: str
    change: Change | None


class Spool:
    """The spool in the file `path`, of at most `most_octets`; `open` it before anything else.

    `id`: its name in the database. `octets`: what waits in it. `moved`: where a damaged file went.
    """

    def __init__(self, path: Path, most_octets: int) -> None:
        self.path = path
        self.id = ""
        self.octets = 0
        self.moved: Path | None = None
        self.most_octets = most_octets
        self._lock: int | None = None
        self._db: sqlite3.Connection | None = None
        self._identity: list[tuple[int, int]] = []  # of the file and its log
        self._top = 0  # the highest number of a record that was acknowledged
        self._found = 0  # the highest there was when it was opened

    def open(self) -> Counter[str]:
        """Take the spool, made if there is none: how many records wait in it, by owner. What the database
        refused before is among them again. A damaged file is moved aside.

        :raises ConfigurationError: another process has it, the file is somebody else's, or none can be
            there; the text says what to do.
        """
        self._take_lock()
        try:
            try:
                self._connect()
                self._found = self._top
                return self._waiting()
            except SpoolDamaged:
                self.move_aside()
                return Counter()
        except (OSError, SpoolFull) as error:
            self.close()
            raise ConfigurationError(f"database.spool: {self.path} cannot be written: {why(error)}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def put(self, copies: Sequence[Change], changes: Sequence[Change], batch: int) -> None:
        """Have changes on the disk, in order; `copies`, which come first, are also in a `batch` that may
        be made.

        :raises SpoolFull: there is no room for all of them; none was taken.
        :raises SpoolUnsure: the same, once `mend` was done. SpoolRemoved: somebody removed the file.
        """
        if self._removed():
            raise SpoolRemoved("the file was removed")
        rows: list[tuple[str, str, str, bytes, int | None]]
        rows = [(*records.write(change), batch) for change in copies]
        rows += [(*records.write(change), None) for change in changes]
        octets = sum(len(row[0]) + len(row[2]) + len(row[3]) + _OVERHEAD for row in rows)
        if self.octets + octets > self.most_octets:
            raise SpoolFull("spool_octets")
        with self._transaction() as db:
            db.executemany(_INSERT, rows)
        self.octets += octets
        self._top += len(rows)

    def mend(self) -> None:
        """After SpoolUnsure: what a failed write left behind is gone; a file that was removed is there again.

        :raises SpoolFull: the disk still fails; try again.
        """
        if self._removed():
            self._put_back()
        if self._db is not None:
            self._db.close()
            self._db = None
        top = self._top
        try:
            self._connect()
        except (ConfigurationError, OSError):
            raise SpoolFull("cannot be opened") from None
        seen, self._top = self._top, top  # until they are gone, which can fail
        self._remove("number > ?", (top,))
        self._top = seen

    def first(self, after: int, changes: int, octets: int) -> list[Waiting]:
        """What waits longest of the records above `after`: at most so many, or until they have so many
        octets."""
        found: list[Waiting] = []
        with self._guard() as db:
            rows = db.execute(
                "SELECT number, owner, kind, detail, content FROM record"
                " WHERE number > ? AND batch IS NULL ORDER BY number LIMIT ?",
                (after, changes),
            )
            for number, *row in rows:
                found.append(Waiting(number, row[0], _change(Record(*row))))
                octets -= len(row[3]) + _OVERHEAD
                if octets <= 0:
                    break
        return found

    def count(self, after: int) -> Counter[str]:
        """How many records above `after` are to be written, by owner; looked for, as a disk that fails may
        have made what it said it did not."""
        with self._guard() as db:
            self.octets = db.execute(f"SELECT {_SIZE} FROM {_BOTH}").fetchone()[0] or 0
            where = "number > ? AND batch IS NULL GROUP BY owner"
            return Counter(dict(db.execute(f"SELECT owner, count(*) FROM record WHERE {where}", (after,))))

    def forget(self, number: int) -> None:
        """The records up to this one are in the database.

        :raises SpoolFull: the disk is so full that nothing can even be removed.
        """
        self._remove("number <= ? AND batch IS NULL", (number,))

    def park(self, number: int) -> None:
        """The database refused this record: keep it for later."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO parked SELECT number, owner, kind, detail, content FROM record WHERE number = ?",
                (number,),
            )
            db.execute("DELETE FROM record WHERE number = ?", (number,))

    def decide(self, batch: int, made: bool) -> Counter[str]:
        """Whether a batch was made is known: its copies go, or are records like others. How many went, by
        owner."""
        if made:
            return self._remove("batch <= ?", (batch,))
        with self._transaction() as db:
            db.execute("UPDATE record SET batch = NULL WHERE batch = ?", (batch,))
        return Counter()

    def resolve(self, batch: int, number: int) -> Counter[str]:
        """What the database says of an earlier process: up to which batch, and which record, all was made.
        How many records went, by owner.

        The spool has another `id` from now on, of which the database knows nothing yet: what it knows of this
        one is true of no copy of the file. What it refused before waits again.

        :raises SpoolDamaged: the file is older than what the database knows: somebody put a copy back.
        """
        if number > self._found:
            raise SpoolDamaged
        new = str(uuid.uuid4())
        gone = self._remove(
            "batch <= ? OR (batch IS NULL AND number <= ?)",
            (batch, number),
            f"UPDATE record SET batch = NULL WHERE batch IS NOT NULL; {_UNPARK};"
            f" UPDATE about SET id = '{new}'",
        )
        self.id = new
        return gone

    def parked(self) -> int:
        """How many records the database refused."""
        with self._guard() as db:
            return int(db.execute("SELECT count(*) FROM parked").fetchone()[0])

    def move_aside(self) -> None:
        """Begin anew: the file goes to `moved`, as it is.

        :raises SpoolFull: the disk does not let it.
        """
        if self._db is not None:
            self._db.close()
            self._db = None
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.moved = spoolfile.free(self.path.with_name(f"{self.path.name}.damaged-{stamp}"))
        try:
            for end in ("-wal", "-shm", ""):
                part = Path(f"{self.path}{end}")
                if part.exists():
                    part.rename(f"{self.moved}{end}")
            self._connect()
        except OSError as error:
            raise SpoolFull(why(error)) from None

    # How it is done.

    def _removed(self) -> bool:
        return self._db is not None and spoolfile.identity(self.path) != self._identity

    def _put_back(self) -> None:
        with self._guard() as db:
            try:
                spoolfile.put_back(self.path, db)
            except OSError as error:
                raise SpoolFull(why(error)) from None

    def _take_lock(self) -> None:
        path = f"{self.path}.lock"
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"database.spool: no file can be kept in {self.path.parent}: {error.strerror}"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._lock, 20).decode(errors="replace").strip()
            self.close()
            raise ConfigurationError(
                f"database.spool: {self.path} is in use by process {holder or 'unknown'}:"
                " stop that one, or name another file"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _connect(self) -> None:
        """Open the file, and make the tables in a new one.

        :raises SpoolDamaged: it is ours, and not as it was written.
        :raises ConfigurationError: it is not ours.
        """
        if not self.path.exists() or self.path.stat().st_size == 0:
            if Path(f"{self.path}-wal").exists():
                raise SpoolDamaged  # a half of it is gone
            spoolfile.make(self.path)
        spoolfile.check_ours(self.path)
        try:
            # One thread after the other uses it, never two at once.
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise SpoolFull(why(error)) from None
        with self._guard() as db:
            db.execute("PRAGMA synchronous = FULL")
            if db.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise SpoolFull("no write-ahead log is possible there")
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise SpoolDamaged
            (self.id,) = db.execute("SELECT id FROM about").fetchone()
            self.octets = db.execute(f"SELECT {_SIZE} FROM {_BOTH}").fetchone()[0] or 0
            row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'record'").fetchone()
            self._top = row[0] if row else 0
        self._identity = spoolfile.identity(self.path)

    def _waiting(self) -> Counter[str]:
        with self._guard() as db:
            return Counter(dict(db.execute(f"SELECT owner, count(*) FROM {_BOTH} GROUP BY owner")))

    def _remove(self, where: str, values: tuple[int, ...], besides: str = "") -> Counter[str]:
        """How many records went, by owner. `besides`: what is done in the same transaction, after it."""
        with self._transaction() as db:
            found = dict(
                db.execute(f"SELECT owner, count(*) FROM record WHERE {where} GROUP BY owner", values)
            )
            octets = db.execute(f"SELECT {_SIZE} FROM record WHERE {where}", values).fetchone()[0] or 0
            db.execute(f"DELETE FROM record WHERE {where}", values)
            for statement in filter(None, besides.split(";")):
                db.execute(statement)
        self.octets -= octets
        if octets and not self.octets:
            with suppress(SpoolFull):  # what was removed is removed, however large the file stays
                self._shrink()
        return Counter(found)

    def _shrink(self) -> None:
        with self._guard() as db:
            (pages,) = db.execute("PRAGMA page_count").fetchone()
            (size,) = db.execute("PRAGMA page_size").fetchone()
            if pages * size >= _LARGE:
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guard() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                _commit(db)
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _guard(self) -> Iterator[sqlite3.Connection]:
        """The connection; its errors become ours, without the text, which may quote a row."""
        if self._db is None:  # between a damaged file and a new one, which the disk does not let us have yet
            raise SpoolFull("cannot be opened")
        try:
            yield self._db
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _DAMAGE:
                raise SpoolDamaged from None
            raise SpoolFull(why(error)) from None


def _commit(db: sqlite3.Connection) -> None:
    try:
        db.execute("COMMIT")
    except sqlite3.Error as error:
        if error.sqlite_errorcode in _NOT_WRITTEN:
            raise
        raise SpoolUnsure(why(error)) from None


def _change(record: Record) -> Change | None:
    try:
        return records.read(record)
    except ValueError:
        return None
