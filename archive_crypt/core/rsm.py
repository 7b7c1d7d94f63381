"""XEP-0059 ``<set/>`` <-> PageRequest, Page. Knows nothing of what is paged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import escape

from lxml import etree

from archive_crypt.core.dialect import RSM
from archive_crypt.errors import BadRequest, NoSuchCursor
from archive_crypt.model import PageRequest, Position, Window

_SET = f"{{{RSM}}}set"


@dataclass(frozen=True, slots=True)
class PageInfo:
    """What a reply's ``<set/>`` says. `first`, `last` and `index` are None on an empty page;
    `count` is None where a server does not tell."""

    first: str | None
    last: str | None
    index: int | None
    count: int | None


def read_request(parent: etree._Element) -> PageRequest:
    """The page asked for by the ``<set/>`` in `parent`, if any.

    :raises BadRequest: max or index is no number, or both after and before have a value.
    """
    element = parent.find(_SET)
    if element is None:
        return PageRequest()
    after, before = _text(element, "after"), _text(element, "before")
    if after and before:
        raise BadRequest("A page cannot lie both before one item and after another.")
    return PageRequest(
        max=_number(element, "max"),
        after=after or None,
        before=before,
        index=_number(element, "index"),
        given=True,
    )


def window(request: PageRequest, read_id: Callable[[str], Position], most: int) -> Window:
    """The part of an ordered set that `request` asks for, at most `most` items of it.

    `read_id` turns an id we gave out into a position, or raises ValueError. Ids are positions,
    so that one whose item is gone continues where it stood (2.4).

    :raises NoSuchCursor: an id is none of ours.
    """
    try:
        after = read_id(request.after) if request.after else None
        before = read_id(request.before) if request.before else None
    except ValueError:
        raise NoSuchCursor from None
    return Window(
        limit=most if request.max is None else min(request.max, most),
        after=after,
        before=before,
        backwards=request.before is not None,
        index=None if request.after or request.before is not None else request.index,
    )


def write_request(request: PageRequest) -> str:
    """The ``<set/>`` that asks for a page."""
    parts = [f"<{tag}>{escape(str(value))}</{tag}>" for tag, value in _fields(request) if value is not None]
    return f"<set xmlns='{RSM}'>{''.join(parts)}</set>"


def read_answer(parent: etree._Element) -> PageInfo | None:
    """What the ``<set/>`` in a reply says; None without one.

    :raises BadRequest: index or count is no number.
    """
    element = parent.find(_SET)
    if element is None:
        return None
    first = element.find(f"{{{RSM}}}first")
    index = None if first is None else first.get("index")
    return PageInfo(
        first=_text(element, "first"),
        last=_text(element, "last"),
        index=None if index is None else _natural(index),
        count=_number(element, "count"),
    )


def write_answer(info: PageInfo) -> str:
    """The ``<set/>`` of a reply. A page without items has neither first nor last (2.2)."""
    count = "" if info.count is None else f"<count>{info.count}</count>"
    if info.first is None or info.last is None:
        return f"<set xmlns='{RSM}'>{count}</set>"
    return (
        f"<set xmlns='{RSM}'><first index='{info.index}'>{escape(info.first)}</first>"
        f"<last>{escape(info.last)}</last>{count}</set>"
    )


def _fields(request: PageRequest) -> tuple[tuple[str, object], ...]:
    return (
        ("max", request.max),
        ("after", request.after),
        ("before", request.before),
        ("index", request.index),
    )


def _text(element: etree._Element, tag: str) -> str | None:
    child = element.find(f"{{{RSM}}}{tag}")
    return None if child is None else (child.text or "").strip()


def _number(element: etree._Element, tag: str) -> int | None:
    text = _text(element, tag)
    return None if text is None else _natural(text)


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest("<max/>, <index/> and <count/> must be numbers from 0 up.")
    return int(text)
