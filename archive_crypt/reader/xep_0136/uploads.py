"""Messages -> the elements that are uploaded of them, in portions that servers take (XEP-0136 5). Pure.

Elements are XML texts; those of the archive have no namespace yet: they take that of the collection
around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from slixmpp.xmlstream.tostring import tostring

from archive_crypt.core import times
from archive_crypt.core.items import ReadItem
from archive_crypt.model import Link, LinkName, Micros, SaveMode
from archive_crypt.reader import exchange
from archive_crypt.reader.errors import CannotAsk
from archive_crypt.reader.protocol import Listed

#: Octets of an upload besides what is counted: the iq, its JIDs, and the elements around the items.
ENVELOPE = 4096

_OPENPGP, _EME = "{urn:xmpp:openpgp:0}", "{urn:xmpp:eme:0}"
_NO_STORE = {
    f"{{urn:xmpp:hints}}{name}" for name in ("no-store", "no-permanent-store", "no-permanent-storage")
}
_SHIM = "{http://jabber.org/protocol/shim}"


@dataclass(frozen=True, slots=True)
class Saved:
    """What came of an upload: the collection as it is now, None where nothing is told of it (0.13);
    how many items were uploaded; and which were `left_out`, as they hold nothing, or as whoever sent
    them wanted them not stored (XEP-0131 Store, XEP-0334)."""

    collection: Listed | None
    items: int
    left_out: tuple[ReadItem, ...] = ()


Links = Mapping[LinkName, Link | None]


class How(TypedDict, total=False):
    """How a collection is added to. `since`: when the message before the first one was said, if the
    collection has messages already. `subject`: the collection's; an empty one removes it. `links`
    to others; those that are None are removed. `form`: its attributes form, as XML; an empty ``<x/>``
    removes it. `room`: the messages are of a room (5.6). `force`: what the user's preferences
    would not have saved is saved too. `progress` is told after each upload how many items are there."""

    since: Micros | None
    subject: str | None
    links: Links | None
    form: str
    room: bool
    force: bool
    progress: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Timed:
    """An item as it is uploaded: `secs` since the message before it; for a note None."""

    item: ReadItem
    secs: int | None

    def write(self, namespace: str | None = None) -> str:
        """Its element; in `namespace`, if it is to stand by itself."""
        item, inner = self.item, "".join(text for _, text in self.item.bodies)
        own = "" if namespace is None else f" xmlns={quoteattr(namespace)}"
        utc = f" utc='{times.render(item.at or 0)}'"
        if item.kind == "note":
            return f"<note{own}{utc}>{_escaped(inner)}</note>"
        who = "".join(
            f" {name}={quoteattr(value)}" for name, value in (("name", item.name), ("jid", item.jid)) if value
        )
        bodies = "".join(f"<body{_language(lang)}>{_escaped(text)}</body>" for lang, text in item.bodies)
        return f"<{item.kind}{own} secs='{self.secs}'{utc}{who}>{bodies}{''.join(item.rest)}</{item.kind}>"


class Style(Protocol):
    """How what is uploaded is written: in clear, or sealed."""

    def first(self, form: str, items: bool) -> Sequence[str]:
        """What comes once, with the first items if there are any; `form` "": there is none."""

    def write(self, namespace: str, items: Sequence[Timed]) -> Sequence[str]:
        """The items of one upload, which is in this namespace."""

    def size(self, item: Timed) -> int:
        """The octets that an item takes.

        :raises CannotAsk: it holds what cannot be sent.
        """


class _Plain:
    """In clear."""

    def first(self, form: str, items: bool) -> Sequence[str]:
        return [form] if form else []

    def write(self, namespace: str, items: Sequence[Timed]) -> Sequence[str]:
        return [item.write() for item in items]

    def size(self, item: Timed) -> int:
        return sent_size(item.write())


PLAIN = _Plain()


def sift(items: Iterable[ReadItem], mode: SaveMode) -> tuple[list[ReadItem], list[ReadItem]]:
    """(what is to be saved, what is left out), each in order. With SaveMode.BODY messages keep nothing
    but their bodies, and what an OpenPGP message cannot be read without."""
    kept, left_out = [], []
    for item in items:
        rest = [(text, parsed(text)) for text in item.rest]
        if mode is SaveMode.BODY:
            said = tuple(text for text, child in rest if child.tag.startswith((_OPENPGP, _EME)))
        else:
            said = item.rest
        empty = not any(text for _, text in item.bodies) and not said
        if empty or any(_denies(child) for _, child in rest):
            left_out.append(item)
        else:
            kept.append(ReadItem(item.kind, item.at, None, item.name, item.bodies, None, item.jid, said))
    return kept, left_out


def check_room(with_: str, items: Iterable[ReadItem]) -> None:
    """Nothing, if these can be of a room (5.6).

    :raises CannotAsk: they cannot; the text says why.
    """
    if "/" in with_:
        raise CannotAsk("The messages of a room are archived with the room's bare JID.")
    if any(item.kind == "from" and not item.name for item in items):
        raise CannotAsk("A message that came from a room needs its sender's nickname.")


def timed(items: Iterable[ReadItem], start: Micros, since: Micros | None = None) -> Iterator[Timed]:
    """The same with ``secs``, rounded so that their running sum is never a second off: the first counts
    from `start`, or from the message before it that was said `since`.

    :raises CannotAsk: an item has no time.
    """
    reached = times.whole_seconds(start if since is None else since, start)
    for item in items:
        if item.at is None:
            raise CannotAsk("An item that is to be archived needs its time.")
        if item.kind == "note":
            yield Timed(item, None)
            continue
        offset = max(reached, times.whole_seconds(item.at, start))
        yield Timed(item, offset - reached)
        reached = offset


def portions(
    items: Iterable[Timed], size: Callable[[Timed], int], room: int, most: int
) -> Iterator[Sequence[Timed]]:
    """The items in runs of at most `most` that take at most `room` octets.

    :raises CannotAsk: one alone takes more.
    """
    portion: list[Timed] = []
    taken = 0
    for item in items:
        octets = size(item)
        if octets > room:
            raise CannotAsk(
                f"A message takes {octets} octets, and a stanza may hold {room}: raise largest_stanza "
                "if the server takes more."
            )
        if portion and (taken + octets > room or len(portion) == most):
            yield portion
            portion, taken = [], 0
        portion.append(item)
        taken += octets
    if portion:
        yield portion


def sent_size(text: str) -> int:
    """The octets of an element as slixmpp sends it, which escapes more than it must.

    :raises CannotAsk: it holds what cannot be sent.
    """
    return len(tostring(_sendable(text)).encode())


def elements(namespace: str, texts: Iterable[str]) -> list[ElementTree.Element]:
    """The elements of these texts, where what has no namespace takes this one.

    :raises CannotAsk: one of them holds what cannot be sent.
    """
    return list(_sendable(f"<chat xmlns={quoteattr(namespace)}>{''.join(texts)}</chat>"))


def _sendable(text: str) -> ElementTree.Element:
    element = parsed(text)
    exchange.check_sendable(element)
    return element


def parsed(text: str) -> ElementTree.Element:
    """The element that a text is.

    :raises CannotAsk: it is none.
    """
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - we wrote it, or read it as a part of a stanza
    except (ElementTree.ParseError, UnicodeEncodeError):
        raise CannotAsk("A message holds a character that XML cannot have, or is no XML.") from None


def _denies(child: ElementTree.Element) -> bool:
    """Whether it says that the message is not to be stored. What of a Store header is not understood
    denies, too (XEP-0131 5.4)."""
    if child.tag in _NO_STORE:
        return True
    return child.tag == f"{_SHIM}headers" and any(
        header.get("name", "").strip().lower() == "store" and (header.text or "").strip().lower() != "true"
        for header in child.iter(f"{_SHIM}header")
    )


def _language(language: str | None) -> str:
    return f" xml:lang={quoteattr(language)}" if language else ""


def _escaped(text: str) -> str:
    return escape(text, {"\r": "&#13;"})
