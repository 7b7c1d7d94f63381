"""Collections and entries <-> rows of a mirror. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from archive_crypt.core.items import Bound, ReadItem
from archive_crypt.model import Link, LinkName
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed

_FINDINGS = {finding.word: finding for finding in Finding}
_ITEM_FIELDS = [one.name for one in fields(ReadItem)]


@dataclass(frozen=True, slots=True)
class Head:
    """A collection without its entries; so many `missing` at its end were counted by the server and not
    given. `form` is in XML."""

    collection: Listed
    links: Mapping[LinkName, Link] = field(default_factory=dict)
    form: str | None = None
    missing: int = 0


def of_head(head: Head) -> tuple[Any, ...]:
    """(with_, start, told, version, thread, subject, crypt, links, form, missing)."""
    listed = head.collection
    links = json.dumps({name: (link.with_, link.start) for name, link in head.links.items()})
    attributes = (listed.told, listed.version, listed.thread, listed.subject, listed.crypt)
    return (listed.with_, listed.start, *attributes, links, head.form, head.missing)


def head(row: Sequence[Any]) -> Head:
    """What is in such a row."""
    with_, start, told, version, thread, subject, crypt, links, form, missing = row
    listed = Listed(with_, start, told, version, thread, subject, bool(crypt))
    return Head(listed, {name: Link(*link) for name, link in json.loads(links).items()}, form, missing)


def of_entry(entry: Entry) -> tuple[Any, ...]:
    """(place, sealed, at, missing, findings, item).

    What other collections tell of it is no part of the row, as they may change: see `entry`.
    """
    words = " ".join(finding.word for finding in entry.findings)
    item = None if entry.item is None else json.dumps(_said(entry.item), ensure_ascii=False)
    return (entry.place, entry.sealed, entry.at, entry.missing, words, item)


def entry(row: Sequence[Any], elsewhere: Collection[str] = ()) -> Entry:
    """The entry of such a row; `elsewhere` are the data keys that earlier collections have, too."""
    place, sealed, at, missing, words, item = row
    read = None if item is None else _item(json.loads(item))
    kept = Entry(place, bool(sealed), read, at, tuple(_FINDINGS[word] for word in words.split()), missing)
    if data_key(kept) in elsewhere and Finding.KEY_ELSEWHERE not in kept.findings:
        kept = replace(kept, findings=(*kept.findings, Finding.KEY_ELSEWHERE))
    return kept


def data_key(entry: Entry) -> str | None:
    """The name of the data key that an entry was sealed with; None where it tells none, or comes from
    another collection: then it tells nothing of this one's keys."""
    if entry.item is None or entry.item.bound is None or Finding.OTHER_COLLECTION in entry.findings:
        return None
    return entry.item.bound.key_name


def _said(item: ReadItem) -> dict[str, Any]:
    return {name: value for name in _ITEM_FIELDS if (value := getattr(item, name)) not in (None, ())}


def _item(said: dict[str, Any]) -> ReadItem:
    bound = said.pop("bound", None)
    bodies = tuple((language, text) for language, text in said.pop("bodies", ()))
    rest = tuple(said.pop("rest", ()))
    facts: dict[str, Any] = dict.fromkeys(("at", "secs", "name")) | said
    return ReadItem(**facts, bodies=bodies, rest=rest, bound=None if bound is None else Bound(*bound))
