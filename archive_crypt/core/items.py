"""One message <-> the ``<to/>``, ``<from/>`` or ``<note/>`` that is archived of it (XEP-0136 5.2).

What is bound inside a sealed item is written and read here; the sealing is `crypto`'s.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from lxml import etree
from twisted.words.xish import domish

from archive_crypt.core import times, tree
from archive_crypt.core.canonical import canonical
from archive_crypt.core.dialect import DIALECTS
from archive_crypt.core.message import Message, is_body, read_body
from archive_crypt.errors import BadRequest
from archive_crypt.model import Direction, Micros, PlainItem, SaveMode

#: Namespace of our own attribute on a sealed item. Readers of XEP-0136 ignore it.
BOUND = "urn:x-archive-crypt:0"

_BOUND_OF = f"{{{BOUND}}}of"
_OPENPGP = "urn:xmpp:openpgp:0"
_DELAY = "urn:xmpp:delay"
_EME = "urn:xmpp:eme:0"
#: The tags of items in all dialects.
_KINDS = {f"{{{namespace}}}{kind}": kind for namespace in DIALECTS for kind in ("to", "from", "note")}
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
#: An item's tag and, if it was uploaded, the times it has.
_HEAD = re.compile(r"""<(to|from|note)((?: secs="[^"]*")?(?: utc="([^"]*)")?)""")


class Bound(NamedTuple):
    """What a sealed item says of its own place, so that no part of an archive can be moved,
    repeated or swapped unseen: XML Encryption's GCM authenticates nothing else."""

    key_name: str
    number: int
    with_: str
    start: Micros


@dataclass(frozen=True, slots=True)
class ReadItem:
    """An archived element as read. `bodies` are (language or None, text); `bound` is None for
    an item that was not sealed by a server of ours; `at` is the item's own time, or None. A note's
    text is its one body. `jid`: who said it in a room, where that is told (XEP-0136 5.6). `rest`: the
    other children, each by itself in canonical XML, but for those that have no such form."""

    kind: str
    at: Micros | None
    secs: int | None
    name: str | None
    bodies: tuple[tuple[str | None, str], ...]
    bound: Bound | None
    jid: str | None = None
    rest: tuple[str, ...] = ()


def content(message: Message, direction: Direction, mode: SaveMode, name: str | None = None) -> str:
    """The whole element that is archived of a message, without namespace and times.

    With SaveMode.BODY only the bodies, in all languages, and an OpenPGP payload, without which
    the body of such a message says nothing (XEP-0374). With SaveMode.MESSAGE every child.
    `name`: the sender's nickname in a room.
    """
    if mode is SaveMode.MESSAGE or _OPENPGP in message.namespaces:
        parts = [_child(child) for child in _kept(message, mode)]
    else:  # as most are
        parts = [_body(language, text) for language, text in message.bodies]
    tag = direction.value
    label = f" name={quoteattr(name)}" if name else ""
    return f"<{tag}{label}>{''.join(parts)}</{tag}>"


def said_at(message: Message, when: Micros, trusted: Collection[str]) -> Micros:
    """When a message was said that came by at `when`: earlier, if one of the `trusted` JIDs (the
    server that kept it, the room that replays it) delayed it (XEP-0203)."""
    if _DELAY not in message.namespaces:
        return when
    for child in message.rest:
        if child.uri == _DELAY and child.name == "delay" and child.getAttribute("from") in trusted:
            try:
                return min(when, times.parse(child.getAttribute("stamp") or ""))
            except BadRequest:
                return when
    return when


def sealed(content: str, namespace: str, at: Micros, start: Micros, bound: Bound) -> bytes:
    """The plaintext to seal: the item with its namespace, both its times and its place.

    ``secs`` counts from the collection's start, as the server can never repair times later. An
    uploaded item keeps its own ``utc``.
    """
    tag, utc, rest, _ = _taken_apart(content)
    secs, place = times.whole_seconds(at, start), _identity(bound.with_, bound.start)
    # What is bound are four words in one attribute, as each item pays for them: none of them has a space.
    return (
        f"<{tag} xmlns='{namespace}' secs='{secs}' utc='{utc or times.render(at)}'"
        f" xmlns:b='{BOUND}' b:of='{bound.key_name} {bound.number} {place}'{rest}"
    ).encode()


def shown(items: Iterable[PlainItem], start: Micros, *, first: bool = True) -> Iterator[str]:
    """Plain items as a page shows them. Recorded: ``secs`` counts from `start` for the page's first,
    for the others from the item before, and all have ``utc``. Uploaded: as they were uploaded.

    Offsets are rounded down from the start, never from item to item, so that the running sum
    stays within a second of the real time; an item older than its predecessor gets 0. A page that
    is not the `first` can be placed in time by its first message, uploaded or not (A-SECS-3).
    """
    reached, placed = 0, first
    for item in items:
        tag, utc, rest, uploaded = _taken_apart(item.content)
        if uploaded and (placed or tag == "note"):
            yield item.content
        elif tag == "note":
            yield f"<note utc='{times.render(item.at)}'{rest}"
        else:
            offset = max(reached, times.whole_seconds(item.at, start))
            yield f"<{tag} secs='{offset - reached}' utc='{utc or times.render(item.at)}'{rest}"
        if tag != "note":
            reached, placed = max(reached, times.whole_seconds(item.at, start)), True


def read(element: etree._Element) -> ReadItem:
    """What an archived element says, in whichever archive namespace it is.

    :raises BadRequest: it is no ``<to/>``, ``<from/>`` or ``<note/>``, or its times make no sense.
    """
    kind = _KINDS.get(element.tag)
    if kind is None:
        raise BadRequest("An item is neither <to/>, <from/> nor <note/>.")
    secs, utc = element.get("secs"), element.get("utc")
    if secs is not None and not secs.isdecimal():
        raise BadRequest("An item's secs is no number.")
    bodies, rest = _children(element)
    if kind == "note":
        bodies = [(None, element.text or "")]
    return ReadItem(
        kind=kind,
        at=None if utc is None else times.parse(utc),
        secs=None if secs is None else int(secs),
        name=element.get("name"),
        bodies=tuple(bodies),
        bound=_bound(element),
        jid=element.get("jid"),
        rest=tuple(rest),
    )


def _kept(message: Message, mode: SaveMode) -> list[domish.Element]:
    children = tree.children(message.element)
    if mode is SaveMode.MESSAGE:
        return children
    return [child for child in children if is_body(child) or child.uri in (_OPENPGP, _EME)]


def _child(child: domish.Element) -> str:
    return _body(*read_body(child)) if is_body(child) else tree.canonical(child)


def _body(language: str | None, text: str) -> str:
    label = f" xml:lang={quoteattr(language)}" if language else ""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = text.replace("\r", "&#13;")  # raw, it would come back as a newline
    return f"<body{label}>{text}</body>"


def _taken_apart(content: str) -> tuple[str, str | None, str, bool]:
    """("to", its own utc or None, " name='nick'><body>...", whether it has times of its own, which
    only uploaded items have) of "<to name='nick'><body>..."."""
    if content.startswith("<to>"):  # most are: recorded, and in no room
        return "to", None, content[3:], False
    if content.startswith("<from>"):
        return "from", None, content[5:], False
    found = _HEAD.match(content)
    if found is None:
        raise ValueError("an item is neither <to>, <from> nor <note>")
    tag, times_, utc = found.groups()
    return tag, utc, content[found.end() :], bool(times_)


def _children(element: etree._Element) -> tuple[list[tuple[str | None, str]], list[str]]:
    """The bodies, and what else there is."""
    body = f"{element.tag.rpartition('}')[0]}}}body"
    bodies, rest = [], []
    for child in element:
        tag = child.tag
        if tag in (body, "{jabber:client}body"):
            bodies.append((child.get(_LANGUAGE), child.text or ""))
        elif isinstance(tag, str):
            with contextlib.suppress(BadRequest):  # it is not worth the bodies beside it
                rest.append(canonical(child))
    return bodies, rest


@lru_cache(maxsize=1024)  # every message of a conversation asks for the same
def _identity(with_: str, start: Micros) -> str:
    escaped = escape(with_, {"'": "&apos;"})
    return f"{times.render(start)} {escaped}"


@lru_cache(maxsize=1024)  # every item of a collection tells the same
def _start(told: str) -> Micros:
    return times.parse(told)


def _bound(element: etree._Element) -> Bound | None:
    words = (element.get(_BOUND_OF) or "").split(" ")
    if len(words) != 4 or not words[1].isdecimal():
        return None
    return Bound(words[0], int(words[1]), words[3], _start(words[2]))
