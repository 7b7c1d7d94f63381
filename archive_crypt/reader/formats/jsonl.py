"""JSON Lines: one JSON object a line, in ASCII; all that is known of a transcript, and back again.

Its first line is ``{"type": "archive", ...}``; then each collection is a line, and each of its
messages is one after it. What is null, empty or false is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lxml import etree

from archive_crypt.core import times
from archive_crypt.core.archivefile import legal
from archive_crypt.core.canonical import canonical
from archive_crypt.core.items import Bound, ReadItem
from archive_crypt.errors import BadRequest
from archive_crypt.model import Link, LinkName
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.formats.transcript import FINDINGS, NO_EXTRAS, Extras, Gathered, Transcript
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed, parse

VERSION = 1

_Object = dict[str, Any]


class Writer:
    """Writes to `file`, a text file; `owner` is whose archive it is, or ''."""

    def __init__(self, file: TextIO, owner: str) -> None:
        self._file = file
        self._collection: Listed | None = None
        self._say("archive", version=VERSION, owner=owner)

    def begin(self, collection: Listed, extras: Extras = NO_EXTRAS) -> None:
        self._collection = collection
        self._say(
            "collection",
            **_link(Link(collection.with_, collection.start)),
            told=collection.told,
            version=collection.version,
            thread=collection.thread,
            subject=collection.subject,
            crypt=collection.crypt,
            links={name: _link(link) for name, link in extras.links.items()},
            form=extras.form,
        )

    def entry(self, entry: Entry) -> None:
        self._say(
            "message",
            place=entry.place,
            sealed=entry.sealed,
            at=None if entry.at is None else times.render(entry.at),
            item=None if entry.item is None else _item(entry.item),
            findings=[finding.word for finding in entry.findings],
            suspicious=entry.suspicious,
            missing=entry.missing,
            openpgp_keys=entry.openpgp_keys,
        )

    def missing(self, count: int) -> None:
        self._say("missing", count=count)

    def withheld(self, collection: Listed) -> None:
        if collection is not self._collection:
            self.begin(collection)
        self._say("withheld")

    def finish(self) -> None:
        pass

    def _say(self, type_: str, **facts: Any) -> None:
        self._file.write(json.dumps({"type": type_} | _some(facts)) + "\n")


def read(path: Path) -> Iterator[Transcript]:
    """The transcripts in a file of ours, each read when it is asked for.

    :raises Problem: it is none, or a line of it makes no sense; the text names the line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _transcripts(path, file)
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Problem(f"{path} is not in UTF-8.") from None


class _Unread(Exception):
    """A line that makes no sense, for this reason."""


def _transcripts(path: Path, file: TextIO) -> Iterator[Transcript]:
    gathered, number = Gathered(), 0
    collection: Listed | None = None
    for number, line in enumerate(file, 1):
        try:
            kind, said = _parsed(line)
            if (kind == "archive") is not (number == 1):
                raise _Unread("a file of ours begins with a line of type archive, and has no other.")
            if kind == "collection":
                yield from gathered.take()
                collection = _read_collection(said)
                gathered.begin(collection, _read_extras(said))
            elif kind != "archive":
                _add(gathered, collection, kind, said)
        except (BadRequest, _Unread) as error:
            raise Problem(f"{path}, line {number}: {error}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # Their texts can quote the line.
            raise Problem(f"{path}, line {number}: this is not what a file of ours holds.") from None
    if not number:
        raise Problem(f"{path} is empty.")
    yield from gathered.take()


def _parsed(line: str) -> tuple[str, _Object]:
    said = json.loads(line)
    if not isinstance(said, dict):
        raise _Unread("it is no object.")
    kind = said.get("type")
    if kind == "archive" and said.get("version") != VERSION:
        raise _Unread(f"it is of another version than {VERSION}: a newer archive-reader may read it.")
    return str(kind), said


def _add(gathered: Gathered, collection: Listed | None, kind: str, said: _Object) -> None:
    if collection is None:
        raise _Unread("it is of no collection.")
    if kind == "message":
        gathered.entry(_read_entry(said))
    elif kind == "missing":
        gathered.missing(_natural(said["count"]))
    elif kind == "withheld":
        gathered.withheld(collection)
    else:
        raise _Unread("its type is not known.")


def _read_collection(said: _Object) -> Listed:
    version, start, told = said.get("version"), times.parse(said["start"]), _text(said["told"])
    if times.parse(told) != start:
        raise _Unread("its start is told in two ways, which differ.")
    return Listed(
        with_=_text(said["with"]),
        start=start,
        told=told,
        version=None if version is None else _natural(version),
        thread=_optional(said, "thread"),
        subject=_optional(said, "subject"),
        crypt=said.get("crypt") is True,
    )


def _read_extras(said: _Object) -> Extras:
    links: dict[LinkName, Link] = {}
    names: tuple[LinkName, ...] = ("previous", "next")
    for name in names:
        link = said.get("links", {}).get(name)
        if link is not None:
            links[name] = Link(_text(link["with"]), times.parse(link["start"]))
    form = _optional(said, "form")
    return Extras(links, None if form is None else _xml(form))


def _read_entry(said: _Object) -> Entry:
    item, at = said.get("item"), _optional(said, "at")
    return Entry(
        place=_natural(said["place"]),
        sealed=said.get("sealed") is True,
        item=None if item is None else _read_item(item),
        at=None if at is None else times.parse(at),
        findings=tuple(FINDINGS[word] for word in said.get("findings", ())),
        missing=_natural(said.get("missing", 0)),
        openpgp_keys=tuple(map(_text, said.get("openpgp_keys", ()))),
    )


def _read_item(said: _Object) -> ReadItem:
    utc, secs, bound = _optional(said, "utc"), said.get("secs"), said.get("bound")
    if said["kind"] not in ("to", "from", "note"):
        raise _Unread("its kind is not known.")
    return ReadItem(
        kind=said["kind"],
        at=None if utc is None else times.parse(utc),
        secs=None if secs is None else _natural(secs),
        name=_optional(said, "name"),
        bodies=tuple((_optional(body, "lang"), _text(body["text"])) for body in said.get("bodies", ())),
        bound=None if bound is None else _read_bound(bound),
        jid=_optional(said, "jid"),
        rest=tuple(_xml(child) for child in said.get("rest", ())),
    )


def _read_bound(said: _Object) -> Bound:
    return Bound(
        _text(said["key"]), _natural(said["number"]), _text(said["with"]), times.parse(said["start"])
    )


def _item(item: ReadItem) -> _Object:
    bound = item.bound
    return _some(
        {
            "kind": item.kind,
            "utc": None if item.at is None else times.render(item.at),
            "secs": item.secs,
            "name": item.name,
            "jid": item.jid,
            "bodies": [{"text": text} | _some({"lang": lang}) for lang, text in item.bodies],
            "rest": item.rest,
            "bound": None
            if bound is None
            else {"key": bound.key_name, "number": bound.number} | _link(Link(bound.with_, bound.start)),
        }
    )


def _link(link: Link) -> _Object:
    return {"with": link.with_, "start": times.render(link.start)}


def _some(facts: _Object) -> _Object:
    """Those that say something; texts and numbers do whatever they are."""
    return {
        name: value
        for name, value in facts.items()
        if not (value is None or value is False or value in ((), [], {}))
    }


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if legal(value) != value:  # JSON has ways to write half a character, say
        raise _Unread("a text in it has a character that XML cannot carry.")
    return value


def _optional(said: _Object, name: str) -> str | None:
    value = said.get(name)
    return None if value is None else _text(value)


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError
    return value


def _xml(value: object) -> str:
    """An element by itself: what stands in a file of ours may come from anywhere by now."""
    try:
        return canonical(parse(_text(value).encode()))
    except etree.XMLSyntaxError:
        raise _Unread("an element in it is not XML, or not by itself.") from None
