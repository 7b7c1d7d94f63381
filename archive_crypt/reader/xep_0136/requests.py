"""What is asked of an archive, from values to stanzas, in a dialect. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from xml.etree import ElementTree

from slixmpp.plugins.xep_0059.stanza import Set
from slixmpp.xmlstream import ElementBase

from archive_crypt.core import times
from archive_crypt.core.dialect import Dialect, V
from archive_crypt.core.prefstanzas import SessionRule
from archive_crypt.model import ContactModes, Link, LinkName, Micros, Modes, PageRequest, Use
from archive_crypt.reader.errors import CannotAsk
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.xep_0136 import stanza
from archive_crypt.reader.xep_0136.stanza import in_dialect

_NO_LINKS: Mapping[LinkName, Link | None] = MappingProxyType({})


def auto(dialect: Dialect, *, save: bool, lasting: bool = False) -> stanza.Auto:
    """``<auto/>`` (XEP-0136 7.1); `lasting` is heeded where there is scope."""
    element = in_dialect(stanza.Auto, dialect)()
    element["save"] = _boolean(save)
    if dialect.scoped:
        element["scope"] = "global" if lasting else "stream"
    return element


def listing(dialect: Dialect, query: Query, page: PageRequest) -> stanza.List:
    """``<list/>`` (8.1)."""
    element = in_dialect(stanza.List, dialect)()
    _set_query(element, dialect, query)
    set_page(element, page)
    return element


def retrieve(
    dialect: Dialect, collection: Listed, page: PageRequest, children: Iterable[ElementTree.Element] = ()
) -> stanza.Retrieve:
    """``<retrieve/>`` of one page (8.2), with `children` of other standards before its ``<set/>``."""
    element = in_dialect(stanza.Retrieve, dialect)()
    set_identity(element, collection)
    element.xml.extend(children)
    set_page(element, page)
    return element


def remove(dialect: Dialect, collection: Listed) -> stanza.Remove:
    """``<remove/>`` of one collection (8.3)."""
    element = in_dialect(stanza.Remove, dialect)()
    set_identity(element, collection)
    return element


def remove_matching(dialect: Dialect, query: Query, *, recording: bool) -> stanza.Remove:
    """``<remove/>`` of all that match; `recording`: of those, only what the server is recording now.

    :raises CannotAsk: with a start and without an end it would mean one collection, or nothing.
    """
    if query.start is not None and query.end is None:
        raise CannotAsk("To remove what began since a moment, say also until when.")
    element = in_dialect(stanza.Remove, dialect)()
    _set_query(element, dialect, query)
    if recording:
        element["open"] = "true"
    return element


def modified(dialect: Dialect, start: Micros, page: PageRequest) -> stanza.Modified:
    """``<modified/>`` (10): what changed since `start`, which 0.13 says by the page's ``<after/>``."""
    element = in_dialect(stanza.Modified, dialect)()
    if dialect is not V:
        element["start"] = times.render(start)
    elif page.after is None:
        page = PageRequest(max=page.max, after=times.render(start))
    set_page(element, page)
    return element


def save(
    dialect: Dialect,
    collection: Listed,
    parts: Iterable[ElementTree.Element],
    subject: str | None = None,
    links: Mapping[LinkName, Link | None] = _NO_LINKS,
) -> stanza.Save:
    """``<save/>`` (5): `parts` are items, a form, EncryptedKeys, in order; links that are None go."""
    element = in_dialect(stanza.Save, dialect)()
    chat = in_dialect(stanza.Chat, dialect)()
    set_identity(chat, collection)
    if collection.thread:
        chat["thread"] = collection.thread
    if subject is not None:
        chat.xml.set("subject", subject)  # an empty one removes it, and slixmpp would not write it
    for name, link in links.items():
        pointer = in_dialect(stanza.Previous if name == "previous" else stanza.Next, dialect)()
        if link is not None:
            pointer["with"], pointer["start"] = link.with_, times.render(link.start)
        chat.append(pointer)
    chat.xml.extend(parts)
    element.append(chat)
    return element


def preferences(
    dialect: Dialect,
    default: Modes | None = None,
    items: Iterable[ContactModes] = (),
    sessions: Iterable[SessionRule] = (),
    methods: Mapping[str, Use] | None = None,
) -> stanza.Preferences:
    """``<pref/>`` that sets these (3); that asks for all, with none."""
    element = in_dialect(stanza.Preferences, dialect)()
    if default is not None:
        element.append(_with_modes(in_dialect(stanza.Default, dialect)(), default))
    for item in items:
        child = _with_modes(in_dialect(stanza.Item, dialect)(), item.modes)
        child["jid"] = item.jid
        if item.exact and dialect.exactmatch:
            child["exactmatch"] = "true"
        element.append(child)
    for rule in sessions:
        session = in_dialect(stanza.Session, dialect)()
        session["thread"], session["save"] = rule.thread, rule.save.value
        session["otr"] = rule.otr.value if rule.otr else None
        element.append(session)
    for kind, use in (methods or {}).items():
        method = in_dialect(stanza.Method, dialect)()
        method["type"], method["use"] = kind, use.value
        element.append(method)
    return element


def remove_items(dialect: Dialect, jids: Iterable[str]) -> stanza.ItemRemove:
    """``<itemremove/>`` (1.3.1, section 2.7)."""
    element = in_dialect(stanza.ItemRemove, dialect)()
    for jid in jids:
        item = in_dialect(stanza.Item, dialect)()
        item["jid"] = jid
        element.append(item)
    return element


def remove_sessions(dialect: Dialect, threads: Iterable[str]) -> stanza.SessionRemove:
    """``<sessionremove/>`` (1.3.1, section 2.8)."""
    element = in_dialect(stanza.SessionRemove, dialect)()
    for thread in threads:
        session = in_dialect(stanza.Session, dialect)()
        session["thread"] = thread
        element.append(session)
    return element


def _with_modes(element: ElementBase, modes: Modes) -> ElementBase:
    element["save"], element["otr"] = modes.save.value, modes.otr.value
    element["expire"] = None if modes.expire is None else str(modes.expire)
    return element


def set_identity(element: ElementBase, collection: Listed) -> None:
    """The attributes that name a collection, as the server writes them."""
    element["with"], element["start"] = collection.with_, collection.told


def _set_query(element: ElementBase, dialect: Dialect, query: Query) -> None:
    element["with"] = query.with_
    element["start"] = None if query.start is None else times.render(query.start)
    element["end"] = None if query.end is None else times.render(query.end)
    if query.exact and dialect.exactmatch:
        element["exactmatch"] = "true"


def set_page(element: ElementBase, page: PageRequest) -> None:
    """The ``<set/>`` that asks for a page (XEP-0059)."""
    wanted = Set()
    for name, value in (("max", page.max), ("index", page.index), ("after", page.after)):
        if value is not None:
            wanted[name] = str(value)
    if page.before is not None:
        wanted["before"] = page.before or True  # slixmpp's way to say an empty one
    element.append(wanted)


def _boolean(value: bool) -> str:
    return "true" if value else "false"
