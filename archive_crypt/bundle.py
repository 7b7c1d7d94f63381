"""An owner's whole archive as a file, in the format of XEP-0136 0.13, section 11: for moves, for the
user's right to his data, and to read it offline (``archive-reader open``). What is sealed stays so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from archive_crypt.core.archivefile import TAIL, KeptChat, head
from archive_crypt.errors import ConfigurationError
from archive_crypt.model import Collection, Item, Position, Window
from archive_crypt.store import reads
from archive_crypt.store.interfaces import ListFilter

#: Rows that are read at once; of items the storage gives fewer where they are large.
_COLLECTIONS, _ITEMS = 500, 500

#: Told how many collections are written, of how many.
Progress = Callable[[int, int], None]


def written(cursor: Any, owner: str, progress: Progress) -> Iterator[str]:
    """The parts of the file, in order; nothing if this bare JID has no collection.

    `cursor`: of a read-only transaction on one snapshot (REPEATABLE READ), so that the file shows one
    moment, whatever is archived meanwhile.
    """
    seen: set[str] = set()
    done = 0
    for collection, count in _collections(cursor, owner):
        if not done:
            yield head(owner, None)
        yield from _chat(cursor, owner, collection, seen)
        done += 1
        progress(done, count)
    if done:
        yield TAIL


def put(parts: Iterable[str], path: Path | None) -> None:
    """Write the parts into a new file, for its owner only, there whole or not at all; None: to stdout.

    :raises ConfigurationError: the file is there already, or cannot be written.
    """
    if path is None:
        for part in parts:
            sys.stdout.buffer.write(part.encode())
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigurationError(f"--out {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part.encode())
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink()
        if isinstance(error, OSError):
            raise ConfigurationError(f"--out {path}: {error.strerror}") from None
        raise


def _collections(cursor: Any, owner: str) -> Iterator[tuple[Collection, int]]:
    """Each collection by its start, and how many there are."""
    after: Position | None = None
    while True:
        page = reads.collections(cursor, owner, ListFilter(), Window(_COLLECTIONS, after=after))
        for collection in page.items:
            yield collection, page.count
            after = (collection.start, collection.id)
        if len(page.items) < _COLLECTIONS:
            return


def _chat(cursor: Any, owner: str, collection: Collection, seen: set[str]) -> Iterator[str]:
    chat = KeptChat(collection, seen)
    last: Item | None = None
    while True:
        window = Window(_ITEMS, after=None if last is None else (last.number,))
        found = reads.page(cursor, owner, collection.with_, collection.start, window, ())
        if last is None:
            yield chat.head(found.links, found.form)
        yield chat.page(found.page.items, found.keys)
        if found.page.index + len(found.page.items) >= found.page.count:
            break
        last = found.page.items[-1]
    yield chat.tail()
