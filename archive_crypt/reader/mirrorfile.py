"""The file of a mirror: SQLCipher, its tables, its transactions, and what is told when it fails. What is
in the tables is not known here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from archive_crypt.reader.failures import Problem

#: Of what the file holds; raised too when a message would be judged otherwise than those that are in it.
VERSION = 3
#: Seconds that another program which is writing is waited for.
_PATIENCE = 10

_SCHEMA = """
-- One row. What was changed after `cursor`, an id of the server's, is not known yet (XEP-0136 10);
-- at `synced` everything was as on the server, which counted so many collections fewer than it told of
-- (`uncounted`) when it was asked for everything last.
CREATE TABLE state (cursor TEXT, synced INTEGER, uncounted INTEGER NOT NULL DEFAULT 0);
INSERT INTO state DEFAULT VALUES;

-- The names of the private keys that all in here was tried with.
CREATE TABLE tried (key_name TEXT PRIMARY KEY) WITHOUT ROWID;

-- Collections to be fetched. `mark` is another with each change: what was fetched before the change
-- is not taken for what came after it.
CREATE TABLE pending (
    with_ TEXT, start INTEGER, told TEXT NOT NULL, mark TEXT NOT NULL, PRIMARY KEY (with_, start)
) WITHOUT ROWID;

-- As it was fetched. `links` in JSON, `form` in XML (XEP-0136 5.7, 5.8). `missing`: so many at its end
-- were counted and not given. `unseen`: the server was asked for everything anew, and has not told of
-- this one yet. `unlisted`: 1, it told everything else, and neither of this one nor that it was removed;
-- 2, it had an earlier version than this when it was asked for it.
CREATE TABLE collection (
    id INTEGER PRIMARY KEY, with_ TEXT NOT NULL, start INTEGER NOT NULL, told TEXT NOT NULL, version INTEGER,
    thread TEXT, subject TEXT, crypt INTEGER NOT NULL, links TEXT NOT NULL, form TEXT,
    missing INTEGER NOT NULL, unseen INTEGER NOT NULL DEFAULT 0, unlisted INTEGER NOT NULL DEFAULT 0,
    UNIQUE (with_, start)
);
CREATE VIEW kept AS
SELECT id, unlisted, with_, start, told, version, thread, subject, crypt, links, form, missing
FROM collection;

-- In the order of ids.
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, collection INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
    place INTEGER NOT NULL, sealed INTEGER NOT NULL, at INTEGER, missing INTEGER NOT NULL,
    findings TEXT NOT NULL, item TEXT
);
CREATE INDEX entry_collection ON entry (collection);

-- Which data keys the entries of a collection were sealed with.
CREATE TABLE used (
    data_key TEXT, collection INTEGER REFERENCES collection ON DELETE CASCADE,
    PRIMARY KEY (data_key, collection)
) WITHOUT ROWID;
CREATE INDEX used_collection ON used (collection);

-- Those that an earlier collection has, too. It is asked when they are read, and not when they are
-- fetched, as the earlier one may come, or go, later.
CREATE VIEW reused AS
SELECT own.collection, own.data_key FROM used AS own JOIN used AS other USING (data_key)
JOIN collection AS late ON late.id = own.collection JOIN collection AS early ON early.id = other.collection
WHERE (early.start, early.with_) < (late.start, late.with_);

-- The words of entry's bodies, by its id.
CREATE VIRTUAL TABLE words USING fts5(
    text, content='', contentless_delete=1, tokenize="unicode61 remove_diacritics 2 categories 'L* N* Co So'"
);
CREATE TRIGGER entry_gone AFTER DELETE ON entry BEGIN DELETE FROM words WHERE rowid = old.id; END;
"""


class NotOfThisKey(Problem):
    """The file is of another key, or damaged."""


class MirrorFile:
    """An open file, until `close`. Several programs may have it open."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Opens the file, or makes it, with a `key` of 32 octets.

        :raises Problem: as all here: the file cannot be used; the text says what to do.
        """
        self._path = path
        with self._telling():
            _make(path)
            self._connection = sqlcipher.connect(path, timeout=_PATIENCE, isolation_level=None)
            try:
                self._set_up(key)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        self._connection.close()

    def alone(self) -> None:
        """From here on nobody else has it open; that nobody opens it is the caller's to see to.

        :raises Problem: somebody has.
        """
        with self._telling():
            # In WAL a file would be half in the old key and half in the new one until it is checkpointed.
            ((mode,),) = self._connection.execute("PRAGMA journal_mode = DELETE")
            if mode != "delete":
                raise Problem(f"{self._path} {_TROUBLES[sqlcipher.SQLITE_BUSY]}")
            # No power cut may bring a journal back when the key that it is encrypted with is gone.
            self._connection.execute("PRAGMA synchronous = EXTRA")

    def rekey(self, key: bytes) -> None:
        """All of it is encrypted with another key; after a crash it is so, or as it was. To be `alone`."""
        try:
            self._connection.execute(f"PRAGMA rekey = \"x'{key.hex()}'\"")
        except sqlcipher.Error:  # which does not say why
            raise Problem(
                f"{self._path} cannot be encrypted with another key: see whether the disk is full."
            ) from None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """A transaction, as what takes its statements: all that is done in it, or nothing."""
        with self._telling(), self._transaction("BEGIN IMMEDIATE"):
            yield self._connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """A transaction in which `all` and `one` see one moment."""
        with self._telling(), self._transaction("BEGIN"):
            yield

    def all(self, statement: str, values: Any = ()) -> list[Any]:
        """The rows that a query gives."""
        with self._telling():
            return list(self._connection.execute(statement, values))

    def one(self, statement: str) -> Any:
        """The value that a query gives."""
        ((value,),) = self.all(statement)
        return value

    def _set_up(self, key: bytes) -> None:
        execute = self._connection.execute
        if not execute("PRAGMA cipher_version").fetchone():
            # SQLite itself takes all that follows, and would write what was said in clear.
            raise Problem("The module sqlcipher3 here is built without SQLCipher: install it from its wheel.")
        execute("PRAGMA cipher_log_level = NONE")  # else it writes to stderr
        execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        execute("PRAGMA temp_store = MEMORY")  # SQLCipher does not encrypt temporary files
        execute("PRAGMA foreign_keys = ON")
        execute("PRAGMA journal_mode = WAL")
        # After a power cut the last moments may be missing, and the cursor is as old as the rest.
        execute("PRAGMA synchronous = NORMAL")
        with self.writing() as database:
            # SQLCipher takes a page that was altered for one of zeros, and FTS5 such a page for the end of
            # what it looks for: nothing would be found, and nothing said. It takes 0.1 s in 100,000 messages.
            if database.execute("PRAGMA cipher_integrity_check").fetchone():
                raise Problem(f"{self._path} {_DAMAGED}")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _statements(_SCHEMA):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise Problem(
                    f"{self._path} is of another version of archive-reader: move it away and sync again."
                )

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite itself may have ended it
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlcipher.Error as error:
            trouble = _TROUBLES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)  # the rest is detail
            if trouble is None:
                raise
            kind = NotOfThisKey if trouble is _NOT_OF_THIS_KEY else Problem
            raise kind(f"{self._path} {trouble}") from None
        except OverflowError:
            raise Problem(f"{self._path} cannot hold a number from the server: it is too large.") from None


_DAMAGED = "is damaged: move it away and sync again."
_NOT_OF_THIS_KEY = "is damaged, or not of the key beside it: move it away and sync again."
_TROUBLES = {
    sqlcipher.SQLITE_BUSY: "is in use by another archive-reader: try again when that is done.",
    sqlcipher.SQLITE_CANTOPEN: "cannot be opened or made: see whether you may write to its folder.",
    sqlcipher.SQLITE_CORRUPT: _DAMAGED,
    sqlcipher.SQLITE_FULL: "cannot be written: the disk is full.",
    sqlcipher.SQLITE_IOERR: "cannot be read or written: see whether the disk is full, or damaged.",
    sqlcipher.SQLITE_NOTADB: _NOT_OF_THIS_KEY,
    sqlcipher.SQLITE_READONLY: "cannot be written: see whose file it is.",
}


def _make(path: Path) -> None:
    """An empty file for its owner only, if there is none: SQLite would make one for all to read."""
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise Problem(f"{path} cannot be made: {error.strerror}") from None


def _statements(script: str) -> Iterator[str]:
    """Each by itself: sqlite3's own executescript would commit the transaction around it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlcipher.complete_statement(statement):
            yield statement
            statement = ""
