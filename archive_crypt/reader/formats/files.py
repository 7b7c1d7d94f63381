"""Where exports go: new files, which are there whole or not at all, and open to their owner only."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from lxml import etree

from archive_crypt.core.archivefile import TAIL
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.formats import jsonl, markdown, mbox, page, xep
from archive_crypt.reader.formats.transcript import NO_EXTRAS, Extras, Writer
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed

#: What makes a writer of a text file and the owner's JID, by the format's name.
WRITERS: dict[str, Callable[[TextIO, str], Writer]] = {
    "jsonl": jsonl.Writer,
    "mbox": mbox.Writer,
    "markdown": markdown.Writer,
    "html": page.Writer,
}

#: Characters of a contact's name in that of his file; a file system takes 255.
_LONGEST = 150


def new(path: Path, name: str, owner: str) -> AbstractContextManager[Writer]:
    """A writer of the format called `name`: into a new file, or with 'xep' into a new folder.

    :raises Problem: there is something already, or it cannot be made.
    """
    return folder(path, owner, encrypted=False) if name == "xep" else one_file(path, name, owner)


@contextmanager
def one_file(path: Path, name: str, owner: str) -> Iterator[Writer]:
    """A writer of the format called `name`, into a new file that is at `path` when all went well.

    :raises Problem: there is one already, or none can be made.
    """
    with _beside(path) as place:
        temporary = place / path.name
        with _text(temporary) as file:
            writer = WRITERS[name](file, owner)
            yield writer
            writer.finish()
        _move(temporary, path)


@contextmanager
def folder(path: Path, owner: str, *, encrypted: bool) -> Iterator[PerContact]:
    """A writer of XEP-0136's format into a new folder, a file for each contact, that is at `path` when
    all went well.

    :raises Problem: there is something already, or it cannot be made.
    """
    with _beside(path) as temporary:
        writer = PerContact(temporary, owner, encrypted=encrypted)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()
        _move(temporary, path)


class PerContact:
    """Writes a file for each contact, in whatever order their collections come; one is open at a time."""

    def __init__(self, folder: Path, owner: str, *, encrypted: bool) -> None:
        self._folder = folder
        self._owner = owner
        self._encrypted = encrypted
        self._paths: dict[str, Path] = {}
        self._file: TextIO | None = None
        self._writer: xep.Writer | None = None
        self._collection: Listed | None = None

    def begin(self, collection: Listed, extras: Extras = NO_EXTRAS) -> None:
        self.close()
        contact = collection.with_.partition("/")[0]
        goes_on = contact in self._paths
        path = self._paths.setdefault(contact, self._folder / file_name(contact))
        self._file = _opened(path, new=not goes_on)
        self._collection = collection
        self._writer = xep.Writer(
            self._file, self._owner or None, contact, encrypted=self._encrypted, goes_on=goes_on
        )
        self._writer.begin(collection, extras)

    def entry(self, entry: Entry) -> None:
        if self._writer is not None:
            self._writer.entry(entry)

    def sealed(self, part: etree._Element) -> None:
        """An EncryptedData as the server gave it."""
        if self._writer is not None:
            self._writer.sealed(part)

    def keys(self, keys: Iterable[etree._Element]) -> None:
        """The EncryptedKeys that came with a page of the collection."""
        if self._writer is not None:
            self._writer.keys(keys)

    def missing(self, count: int) -> None:
        if self._writer is not None:
            self._writer.missing(count)

    def withheld(self, collection: Listed) -> None:
        if collection is not self._collection:
            self.begin(collection)
        if self._writer is not None:
            self._writer.withheld(collection)

    def finish(self) -> None:
        self.close()
        for path in self._paths.values():
            with _text(path) as file:
                file.write(TAIL)

    def close(self) -> None:
        """Nothing is open any more; what was begun stays without its end."""
        if self._file is not None and self._writer is not None:
            self._writer.end()
            self._file.close()
        self._file = self._writer = None


def file_name(contact: str) -> str:
    """The name of a contact's file, which no JID can make lead elsewhere."""
    quoted = quote(contact, safe="@")
    if len(quoted) > _LONGEST:
        quoted = f"{quoted[:_LONGEST]}~{hashlib.sha256(contact.encode()).hexdigest()[:16]}"
    return f"{quoted}.xml"


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, open to its owner only; it goes with all that is left in it.

    :raises Problem: `path` is taken, or cannot be made or written.
    """
    check_free(path)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".archive-reader-", dir=path.parent))
    except OSError as error:
        raise Problem(f"{path} cannot be made: {error.strerror}") from None
    try:
        yield temporary
    except BrokenPipeError:  # is of whoever reads our output
        raise
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(path: Path) -> None:
    """:raises Problem: there is something at `path` already."""
    if os.path.lexists(path):
        raise Problem(f"{path} exists already, and nothing is overwritten. Choose another with --out.")


def _move(temporary: Path, path: Path) -> None:
    check_free(path)
    temporary.rename(path)


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    """A text file, written to the disk at its end."""
    with _opened(path, new=not path.exists()) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _opened(path: Path, *, new: bool) -> TextIO:
    """A file to append to, or a new one, for its owner only."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_EXCL if new else 0), 0o600)
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")
