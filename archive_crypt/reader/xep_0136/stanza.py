"""The elements of XEP-0136 as slixmpp's stanza classes, each in all three archive namespaces.

The classes are those of urn:xmpp:archive; `in_dialect` gives those of the others.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

from slixmpp.plugins.xep_0004.stanza import Form
from slixmpp.plugins.xep_0059.stanza import Set
from slixmpp.xmlstream import ElementBase, register_stanza_plugin

from archive_crypt.core.dialect import DIALECTS, Dialect, F, T, V

E = TypeVar("E", bound=ElementBase)

#: What the names of the classes' interfaces on an iq end in.
_SUFFIXES = {F: "", T: "_tmp", V: "_v13"}


class Auto(ElementBase):
    """``<auto/>``: automatic archiving is on or off. XEP-0241 adds `encrypt`."""

    name = "auto"
    namespace = F.namespace
    plugin_attrib = "archive_auto"
    interfaces: ClassVar[set[str]] = {"save", "scope", "encrypt"}


class List(ElementBase):
    """``<list/>``: asks for collections, and holds them in the answer."""

    name = "list"
    namespace = F.namespace
    plugin_attrib = "archive_list"
    interfaces: ClassVar[set[str]] = {"with", "start", "end", "exactmatch"}


class Retrieve(ElementBase):
    """``<retrieve/>``: asks for a page of a collection."""

    name = "retrieve"
    namespace = F.namespace
    plugin_attrib = "archive_retrieve"
    interfaces: ClassVar[set[str]] = {"with", "start"}


class Remove(ElementBase):
    """``<remove/>``: one collection, or all that match."""

    name = "remove"
    namespace = F.namespace
    plugin_attrib = "archive_remove"
    interfaces: ClassVar[set[str]] = {"with", "start", "end", "exactmatch", "open"}


class Modified(ElementBase):
    """``<modified/>``: asks what changed, and tells it."""

    name = "modified"
    namespace = F.namespace
    plugin_attrib = "archive_modified"
    interfaces: ClassVar[set[str]] = {"start"}


class Save(ElementBase):
    """``<save/>``: uploads what its ``<chat/>`` holds."""

    name = "save"
    namespace = F.namespace
    plugin_attrib = "archive_save"
    interfaces: ClassVar[set[str]] = set()


class Chat(ElementBase):
    """``<chat/>``: a collection, or a part of it."""

    name = "chat"
    namespace = F.namespace
    plugin_attrib = "archive_chat"
    plugin_multi_attrib = "archive_chats"
    interfaces: ClassVar[set[str]] = {"with", "start", "thread", "subject", "version", "crypt"}


class Previous(ElementBase):
    """``<previous/>``: the collection before this one; empty: none."""

    name = "previous"
    namespace = F.namespace
    plugin_attrib = "archive_previous"
    interfaces: ClassVar[set[str]] = {"with", "start"}


class Next(ElementBase):
    """``<next/>``: the collection after this one; empty: none."""

    name = "next"
    namespace = F.namespace
    plugin_attrib = "archive_next"
    interfaces: ClassVar[set[str]] = {"with", "start"}


class Preferences(ElementBase):
    """``<pref/>``: asks for preferences, sets or tells them."""

    name = "pref"
    namespace = F.namespace
    plugin_attrib = "archive_pref"
    interfaces: ClassVar[set[str]] = set()


class Default(ElementBase):
    """``<default/>``: the modes for everybody else."""

    name = "default"
    namespace = F.namespace
    plugin_attrib = "archive_default"
    interfaces: ClassVar[set[str]] = {"save", "otr", "expire", "unset"}


class Item(ElementBase):
    """``<item/>``: the modes for a contact."""

    name = "item"
    namespace = F.namespace
    plugin_attrib = "archive_item"
    plugin_multi_attrib = "archive_items"
    interfaces: ClassVar[set[str]] = {"jid", "exactmatch", "save", "otr", "expire"}


class Session(ElementBase):
    """``<session/>``: the modes for a thread."""

    name = "session"
    namespace = F.namespace
    plugin_attrib = "archive_session"
    plugin_multi_attrib = "archive_sessions"
    interfaces: ClassVar[set[str]] = {"thread", "save", "otr", "timeout"}


class Method(ElementBase):
    """``<method/>``: what is thought of a way of archiving."""

    name = "method"
    namespace = F.namespace
    plugin_attrib = "archive_method"
    plugin_multi_attrib = "archive_methods"
    interfaces: ClassVar[set[str]] = {"type", "use"}


class ItemRemove(ElementBase):
    """``<itemremove/>``: the modes for these contacts go."""

    name = "itemremove"
    namespace = F.namespace
    plugin_attrib = "archive_itemremove"
    interfaces: ClassVar[set[str]] = set()


class SessionRemove(ElementBase):
    """``<sessionremove/>``: the modes for these threads go."""

    name = "sessionremove"
    namespace = F.namespace
    plugin_attrib = "archive_sessionremove"
    interfaces: ClassVar[set[str]] = set()


#: What stands by itself in an iq, and what stands in those: (parent, child, whether there may be many).
ROOTS: tuple[type[ElementBase], ...] = (
    Auto,
    List,
    Retrieve,
    Remove,
    Modified,
    Save,
    Preferences,
    ItemRemove,
    SessionRemove,
)
_CHILDREN: tuple[tuple[type[ElementBase], type[ElementBase], bool], ...] = (
    (List, Chat, True),
    (Save, Chat, False),
    (Chat, Previous, False),
    (Chat, Next, False),
    (Preferences, Auto, False),
    (Preferences, Default, False),
    (Preferences, Item, True),
    (Preferences, Session, True),
    (Preferences, Method, True),
    (ItemRemove, Item, True),
    (SessionRemove, Session, True),
)
#: What is of another namespace: the same class in all dialects.
_FOREIGN: tuple[tuple[type[ElementBase], type[ElementBase]], ...] = (
    (List, Set),
    (Retrieve, Set),
    (Modified, Set),
    (Chat, Set),
    (Chat, Form),
)

_KNOWN: dict[tuple[type[ElementBase], Dialect], type[ElementBase]] = {}


def in_dialect(element: type[E], dialect: Dialect) -> type[E]:
    """The class of this element in a dialect."""
    return _KNOWN[element, dialect]  # type: ignore[return-value]  # `add` puts it there so


def add(element: type[E]) -> None:
    """Makes the classes of an element's other dialects."""
    for dialect, suffix in _SUFFIXES.items():
        own = {"namespace": dialect.namespace, "plugin_attrib": element.plugin_attrib + suffix}
        _KNOWN[element, dialect] = element if dialect is F else type(element.__name__, (element,), own)


for _element in (*ROOTS, *(_child for _, _child, _ in _CHILDREN)):
    add(_element)
for _dialect in DIALECTS.values():
    for _parent, _child, _many in _CHILDREN:
        register_stanza_plugin(in_dialect(_parent, _dialect), in_dialect(_child, _dialect), iterable=_many)
    for _parent, _child in _FOREIGN:
        register_stanza_plugin(in_dialect(_parent, _dialect), _child)
