"""What a user prefers (XEP-0136 3), as the server tells it. Pure; tolerant of what it does not know."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from lxml import etree

from archive_crypt.core import attributes
from archive_crypt.core.dialect import DIALECTS
from archive_crypt.core.preferences import item_for, most
from archive_crypt.core.prefstanzas import AutoShown
from archive_crypt.errors import BadRequest
from archive_crypt.model import ContactModes, Modes, Otr, SaveMode, Use
from archive_crypt.reader.errors import NotUnderstood

E = TypeVar("E", bound=enum.Enum)


@dataclass(frozen=True, slots=True)
class SessionModes:
    """``<session/>``: how the messages of one thread are saved, until it was silent for `timeout` seconds."""

    thread: str
    save: SaveMode
    otr: Otr | None = None
    timeout: int | None = None


@dataclass(frozen=True, slots=True)
class Preferences:
    """Preferences, or those of them that changed. `auto`: of this stream; None: not told. `default`
    None: not told; `unset`: it is the server's, as the user set none. `removed_items` and
    `removed_sessions`: JIDs and threads that have no modes of their own any more."""

    auto: AutoShown | None = None
    default: Modes | None = None
    unset: bool = False
    items: tuple[ContactModes, ...] = ()
    sessions: tuple[SessionModes, ...] = ()
    methods: Mapping[str, Use] = field(default_factory=lambda: MappingProxyType({}))
    removed_items: tuple[str, ...] = ()
    removed_sessions: tuple[str, ...] = ()


def read(element: etree._Element) -> Preferences:
    """What ``<pref/>``, ``<itemremove/>`` or ``<sessionremove/>`` tells.

    :raises NotUnderstood: it is none of these, or something in it makes no sense.
    """
    qname = etree.QName(element)
    if qname.namespace not in DIALECTS or qname.localname not in ("pref", "itemremove", "sessionremove"):
        raise NotUnderstood(f"The server tells <{qname.localname}/> where preferences were expected.")
    try:
        if qname.localname == "pref":
            return _read_all(element)
        if qname.localname == "itemremove":
            return Preferences(removed_items=tuple(_jid(child) for child in _named(element, "item")))
        return Preferences(removed_sessions=tuple(_thread(child) for child in _named(element, "session")))
    except BadRequest as error:
        raise NotUnderstood(f"The server's answer has preferences that are none. {error}") from None


def save_mode(wishes: Preferences, with_: str, thread: str | None) -> SaveMode:
    """How much of what is exchanged with `with_` in `thread` its user wants saved by himself: as the
    session says, else the item, else the default (1.3.1, section 2.5). The server's own default is
    no wish of his: then bodies at least."""
    for session in wishes.sessions:
        if session.thread == thread:
            return session.save
    item = item_for(wishes.items, with_)
    if item is not None:
        return item.modes.save
    if wishes.default is None:
        return SaveMode.MESSAGE
    return most(wishes.default.save, SaveMode.BODY) if wishes.unset else wishes.default.save


def modes(wishes: Preferences, with_: str, thread: str | None) -> Modes:
    """The modes in effect for `with_` in `thread`: how much is saved as `save_mode` has it, all else as the
    item says, else the default, off the record as the session does before these; where nothing is told,
    that is conceded."""
    item = item_for(wishes.items, with_)
    found = item.modes if item is not None else wishes.default or Modes(SaveMode.MESSAGE, Otr.CONCEDE)
    of_thread = [one.otr for one in wishes.sessions if one.thread == thread and one.otr is not None]
    return replace(found, save=save_mode(wishes, with_, thread), otr=(*of_thread, found.otr)[0])


def _read_all(element: etree._Element) -> Preferences:
    default = next(_named(element, "default"), None)
    auto = next(_named(element, "auto"), None)
    return Preferences(
        auto=None if auto is None else _auto(auto),
        default=None if default is None else _modes(default),
        unset=default is not None and bool(attributes.boolean(default, "unset")),
        items=tuple(_item(child) for child in _named(element, "item")),
        sessions=tuple(_session(child) for child in _named(element, "session")),
        methods={child.get("type", ""): _enum(child, "use", Use) for child in _named(element, "method")},
    )


def _named(element: etree._Element, name: str) -> Iterator[etree._Element]:
    return element.iterchildren(f"{{{etree.QName(element).namespace}}}{name}")


def _auto(element: etree._Element) -> AutoShown:
    return AutoShown(
        save=bool(attributes.boolean(element, "save")),
        encrypt=bool(attributes.boolean(element, "encrypt")),
        lasting=element.get("scope") == "global",
    )


def _item(element: etree._Element) -> ContactModes:
    exact = bool(attributes.boolean(element, "exactmatch"))
    return ContactModes(_jid(element), _modes(element), exact)


def _session(element: etree._Element) -> SessionModes:
    otr = None if element.get("otr") is None else _enum(element, "otr", Otr)
    timeout = attributes.natural(element, "timeout")
    return SessionModes(_thread(element), _enum(element, "save", SaveMode), otr, timeout)


def _modes(element: etree._Element) -> Modes:
    return Modes(
        _enum(element, "save", SaveMode), _enum(element, "otr", Otr), attributes.natural(element, "expire")
    )


def _jid(element: etree._Element) -> str:
    jid = attributes.jid(element, "jid")
    if jid is None:
        raise BadRequest("An <item/> is for nobody.")
    return jid


def _thread(element: etree._Element) -> str:
    thread = element.get("thread")
    if not thread:
        raise BadRequest("A <session/> is for no thread.")
    return thread


def _enum(element: etree._Element, name: str, kind: type[E]) -> E:
    try:
        return kind(element.get(name))
    except ValueError:
        values = ", ".join(str(one.value) for one in kind)
        raise BadRequest(f"The attribute {name} is one of {values}.") from None
