"""The attributes that requests have in common, read the same way everywhere."""

from __future__ import annotations

from lxml import etree

from archive_crypt.core import jids, times
from archive_crypt.errors import BadRequest
from archive_crypt.model import Micros

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def boolean(element: etree._Element, name: str) -> bool | None:
    """An xs:boolean; None without it.

    :raises BadRequest: it is none.
    """
    text = element.get(name)
    if text is None:
        return None
    if text not in _BOOLEANS:
        raise BadRequest(f"The attribute {name} is 'true', 'false', '1' or '0'.")
    return _BOOLEANS[text]


def time(element: etree._Element, name: str, *, clamp: bool = False) -> Micros | None:
    """A DateTime (XEP-0082); None without it. `clamp`: see `times.parse`.

    :raises BadRequest: it is none, or not UTC.
    """
    text = element.get(name)
    return None if text is None else times.parse(text, clamp=clamp)


def jid(element: etree._Element, name: str) -> str | None:
    """A normalised JID; None without it.

    :raises BadRequest: it is none.
    """
    text = element.get(name)
    if text is None:
        return None
    found = jids.read(text)
    # Twisted takes '@capulet.lit' for the whole domain; RFC 7622 has no empty parts (3.1).
    if found is None or text.startswith("@") or text.partition("/")[1:] == ("/", ""):
        raise BadRequest(f"The attribute {name} is not a JID.")
    return str(found.full())


def natural(element: etree._Element, name: str) -> int | None:
    """An xs:nonNegativeInteger below 2^31; None without it.

    :raises BadRequest: it is none.
    """
    text = element.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) < 2**31):
        raise BadRequest(f"The attribute {name} is a number from 0 up.")
    return int(text)


def identity(element: etree._Element) -> tuple[str, Micros]:
    """(``with``, ``start``): what identifies a collection (XEP-0136 5.2).

    :raises BadRequest: one is missing or malformed.
    """
    with_, start = jid(element, "with"), time(element, "start")
    if with_ is None or start is None:
        name = etree.QName(element).localname
        raise BadRequest(f"<{name}/> needs the attributes with and start.")
    return with_, start
