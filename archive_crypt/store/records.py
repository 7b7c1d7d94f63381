"""Changes <-> records of the spool: text and octets. What may not be spooled has no form here."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

from archive_crypt.model import EncryptedKey, PublishedKey, SaveMode, SealedItem
from archive_crypt.store.interfaces import (
    AddKeys,
    Append,
    Change,
    Open,
    Prolong,
    Rename,
    SetPublished,
    Terms,
)


class Record(NamedTuple):
    """A change as it lies in the spool: `detail` is JSON, `content` the octets of a CipherValue."""

    owner: str
    kind: str
    detail: str
    content: bytes


def write(change: Change) -> Record:
    """The record of a change.

    :raises TypeError: it is of a kind that is never spooled, or an item in clear.
    """
    kind = type(change).__name__
    if kind not in _WRITERS:
        raise TypeError(f"{kind} is not spooled")
    content = b""
    if isinstance(change, Append):
        if not isinstance(change.item, SealedItem):
            raise TypeError("only what is sealed is spooled")
        content = change.item.cipher
    if isinstance(change, Open) and change.key_name is None:
        raise TypeError("only what is sealed is spooled")
    detail = json.dumps(_WRITERS[kind](change), separators=(",", ":"))
    return Record(change.owner, kind, detail, content)


def read(record: Record) -> Change:
    """The change of a record.

    :raises ValueError: it is no record of ours.
    """
    try:
        return _READERS[record.kind](record.owner, record.content, *json.loads(record.detail))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"not a record: {record.kind[:20]!r}") from None


def _write_open(change: Open) -> list[Any]:
    key = change.key_name, change.algorithm, _write_keys(change.keys)
    return [
        change.collection,
        change.with_,
        change.start,
        change.thread,
        *key,
        _write_terms(change.terms),
        change.parent,
    ]


def _read_open(
    owner: str, _: bytes, collection: int, with_: str, start: int, thread: str | None, *rest: Any
) -> Open:
    name, algorithm, keys, terms, parent = rest
    return Open(
        owner, collection, with_, start, thread, name, algorithm, _read_keys(keys), _read_terms(terms), parent
    )


def _write_append(change: Append) -> list[Any]:
    item: Any = change.item
    return [change.collection, item.number, item.key_name, item.algorithm, _write_terms(change.terms)]


def _read_append(
    owner: str, content: bytes, collection: int, number: int, name: str, algorithm: str, terms: Any
) -> Append:
    return Append(owner, collection, SealedItem(number, name, algorithm, content), _read_terms(terms))


def _write_published(change: SetPublished) -> list[Any]:
    return [[key.name, _text(key.der), key.begin, key.end] for key in change.keys]


def _read_published(owner: str, _: bytes, *keys: Any) -> SetPublished:
    return SetPublished(owner, tuple(PublishedKey(name, b64decode(der), *time) for name, der, *time in keys))


def _write_keys(keys: tuple[EncryptedKey, ...]) -> list[Any]:
    return [[key.key_name, key.recipient, key.algorithm, _text(key.cipher)] for key in keys]


def _read_keys(keys: Any) -> tuple[EncryptedKey, ...]:
    return tuple(EncryptedKey(name, for_, how, b64decode(cipher)) for name, for_, how, cipher in keys)


def _write_terms(terms: Terms | None) -> list[Any] | None:
    if terms is None:
        return None
    mode, default = terms.mode.value, terms.default.value
    return [terms.revision, mode, terms.with_, terms.thread, default, terms.at]


def _read_terms(terms: Any) -> Terms | None:
    if terms is None:
        return None
    revision, mode, with_, thread, default, at = terms
    return Terms(revision, SaveMode(mode), with_, thread, SaveMode(default), at)


def _text(octets: bytes) -> str:
    return b64encode(octets).decode()


_WRITERS: dict[str, Callable[[Any], list[Any]]] = {
    "Open": _write_open,
    "Append": _write_append,
    "AddKeys": lambda change: [
        change.collection,
        change.key_name,
        change.algorithm,
        _write_keys(change.keys),
    ],
    "Rename": lambda change: [change.collection, change.with_],
    "Prolong": lambda change: [change.thread, change.until],
    "SetPublished": _write_published,
}

_READERS: dict[str, Callable[..., Change]] = {
    "Open": _read_open,
    "Append": _read_append,
    "AddKeys": lambda owner, _, collection, name, algorithm, keys: AddKeys(
        owner, collection, name, algorithm, _read_keys(keys)
    ),
    "Rename": lambda owner, _, collection, with_: Rename(owner, collection, with_),
    "Prolong": lambda owner, _, thread, until: Prolong(owner, thread, until),
    "SetPublished": _read_published,
}
