"""The file of a spool: how one is made, known from others, and looked at while a service has it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from archive_crypt.errors import ConfigurationError

#: What makes a file of SQLite one of ours: "ACsp", and how its tables are.
_APPLICATION = int.from_bytes(b"ACsp", "big")
_VERSION = 1

#: `record`: what waits, in the order of its numbers, which are never used again. `batch`: the batch of the
#: database in which it was, too, while nobody knows whether that was made. `parked`: what the database
#: refused; it is tried again at the next start.
_COLUMNS = "owner TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL, content BLOB NOT NULL"
_TABLES = f"""
    CREATE TABLE about (id TEXT NOT NULL);
    CREATE TABLE record (number INTEGER PRIMARY KEY AUTOINCREMENT, {_COLUMNS}, batch INTEGER);
    CREATE INDEX record_in_doubt ON record (batch) WHERE batch IS NOT NULL;
    CREATE TABLE parked (number INTEGER PRIMARY KEY, {_COLUMNS});
"""


class SpoolFull(Exception):
    """The spool, or its disk, cannot take it now. Nothing was taken."""


class SpoolUnsure(SpoolFull):
    """The disk failed while it wrote: `mend` the spool to be sure that nothing was taken."""


class SpoolRemoved(SpoolUnsure):
    """The file is no longer where it was: `mend` puts it back."""


class SpoolDamaged(Exception):
    """What is in the file is not what was written there."""


def make(path: Path) -> None:
    """A spool with nothing in it; there is all of it, or nothing."""
    new = _new(path)
    try:
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            identity = f"INSERT INTO about VALUES ('{uuid.uuid4()}');"
            marks = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};"
            db.executescript(f"BEGIN; {_TABLES} {identity} {marks} COMMIT; PRAGMA journal_mode = WAL;")
    except sqlite3.Error as error:
        raise SpoolFull(why(error)) from None
    new.rename(path)
    _sync(path.parent)


def put_back(path: Path, db: sqlite3.Connection) -> None:
    """Write what `db` has open, and nobody finds any more, to `path` again; what is there goes aside."""
    new = _new(path)
    db.execute("VACUUM INTO ?", (str(new),))
    _sync(new)
    aside = free(path.with_name(f"{path.name}.found"))
    for end in ("-wal", "-shm", ""):  # a log of another file must not be beside it
        with suppress(FileNotFoundError):
            Path(f"{path}{end}").rename(f"{aside}{end}")
    new.rename(path)
    _sync(path.parent)


def identity(path: Path) -> list[tuple[int, int]]:
    """Which file and which log of it are there: others have another identity."""
    parts = [Path(f"{path}{end}") for end in ("", "-wal")]
    with suppress(FileNotFoundError):
        return [(part.stat().st_dev, part.stat().st_ino) for part in parts]
    return []


def _new(path: Path) -> Path:
    """An empty file beside it, nobody else's to read."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return new


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def check_ours(path: Path) -> None:
    """Look at the file without SQLite.

    :raises ConfigurationError: it is none of ours, or a later version made it.
    """
    with path.open("rb") as file:
        head = file.read(100)
    ours = head.startswith(b"SQLite format 3\0") and head[68:72] == _APPLICATION.to_bytes(4, "big")
    if not ours:
        raise ConfigurationError(
            f"database.spool: {path} is no spool of archive_crypt: name another file, or move it away"
        )
    if int.from_bytes(head[60:64], "big") > _VERSION:
        raise ConfigurationError(
            f"database.spool: {path} was made by a later version: install that one, or name another file"
        )


class Seen(NamedTuple):
    """What is in a spool: records that wait, and such as the database refused. `holder`: the process that
    has it, as it says; None: nobody."""

    waiting: int
    refused: int
    holder: str | None


def look(path: Path) -> Seen:
    """Look at a spool that another process may have, and change nothing.

    :raises ConfigurationError: it is none of ours; `SpoolDamaged`, OSError: it cannot be read.
    """
    check_ours(path)
    # Without a log beside it nobody writes, and a plain "ro" would leave one behind, ours.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True)) as db:
            (waiting,) = db.execute("SELECT count(*) FROM record").fetchone()
            (refused,) = db.execute("SELECT count(*) FROM parked").fetchone()
    except sqlite3.Error:
        raise SpoolDamaged from None
    return Seen(waiting, refused, _holder(Path(f"{path}.lock")))


def _holder(lock: Path) -> str | None:
    try:
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read(20).strip() or "unknown"
    except FileNotFoundError:
        pass
    return None


def free(path: Path) -> Path:
    """The same path if there is nothing, else one like it."""
    return next(
        one for n in range(1000) if not (one := path.with_name(f"{path.name}{f'.{n}' if n else ''}")).exists()
    )


def why(error: Exception) -> str:
    """What went wrong, without the text of SQLite's, which may quote a row."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, sqlite3.Error):
        return str(getattr(error, "sqlite_errorname", type(error).__name__))
    return str(error)
