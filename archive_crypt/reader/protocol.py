"""XEP-0136 and XEP-0241 from the client's side: answers are read into values.

Pure. What an answer's items say, and whether to believe it, is `opening`'s and `checking`'s; requests
are written by the plugins.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from archive_crypt.core import attributes, rsm, times, xmlenc
from archive_crypt.core.dialect import DIALECTS
from archive_crypt.errors import BadRequest
from archive_crypt.model import Link, LinkName, Micros
from archive_crypt.reader.errors import NotUnderstood

_FEATURE = "{http://jabber.org/protocol/disco#info}feature"
_ITEMS = frozenset(f"{{{namespace}}}{tag}" for namespace in DIALECTS for tag in ("to", "from", "note"))
_DATA = f"{{{xmlenc.XMLENC}}}EncryptedData"
_KEY = f"{{{xmlenc.XMLENC}}}EncryptedKey"
_FORM = "{jabber:x:data}x"
_TRUE = ("true", "1")


@dataclass(frozen=True, slots=True)
class Listed:
    """A collection as a list, or a page of it, shows it. `told` is `start` in the server's own
    words, to be sent back so; `version` is None in dialects without."""

    with_: str
    start: Micros
    told: str
    version: int | None = None
    thread: str | None = None
    subject: str | None = None
    crypt: bool = False

    @classmethod
    def named(
        cls, with_: str, start: Micros, thread: str | None = None, subject: str | None = None
    ) -> Listed:
        """One that was not listed: it may be there or not."""
        return cls(with_, start, times.render(start), thread=thread, subject=subject)


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of collections; `info` is None where the answer has no ``<set/>``."""

    collections: tuple[Listed, ...]
    info: rsm.PageInfo | None

    def __len__(self) -> int:
        return len(self.collections)


@dataclass(frozen=True, slots=True, eq=False)
class ChatPage:
    """A page of a collection: `parts` are the items, sealed or in clear, in order, and `keys` the
    EncryptedKeys that came with them. `index` is the place of the first in the collection. `links`
    to other collections, and the attributes `form` (XEP-0136 5.7, 5.8), come with every page."""

    collection: Listed
    parts: tuple[etree._Element, ...]
    keys: tuple[etree._Element, ...]
    index: int
    info: rsm.PageInfo | None
    links: Mapping[LinkName, Link] = field(default_factory=dict)
    form: etree._Element | None = None

    def __len__(self) -> int:
        return len(self.parts)


@dataclass(frozen=True, slots=True)
class Query:
    """Which collections: with whom; `start` inclusive, `end` exclusive; None: any. A bare JID is for
    all its resources too, a domain for everybody there; not so if `exact`, in dialects that know it."""

    with_: str | None = None
    start: Micros | None = None
    end: Micros | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class KeysPage:
    """A page of ``<keys/>``: collections, each with its EncryptedKeys."""

    collections: tuple[tuple[Listed, tuple[etree._Element, ...]], ...]
    info: rsm.PageInfo | None

    def __len__(self) -> int:
        return len(self.collections)


@dataclass(frozen=True, slots=True)
class Change:
    """A collection that was made or changed, or `removed`."""

    collection: Listed
    removed: bool


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """A page of ``<modified/>``; `cursor` is what to ask after next time, None on an empty page."""

    changes: tuple[Change, ...]
    info: rsm.PageInfo | None

    @property
    def cursor(self) -> str | None:
        return self.info.last if self.info else None

    def __len__(self) -> int:
        return len(self.changes)


class _Own(threading.local):
    """A thread's own parser, as it tells the errors of what it parsed last."""

    def __init__(self) -> None:
        # With a table of xml:ids, what a contact sends with a doubled or odd one would not be read. Without,
        # libxml2 loads a document type's file, whatever `load_dtd` says: see `_BEGINNING`.
        self.parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, collect_ids=False
        )


_OWN = _Own()
#: That of an element, in UTF-8, after a declaration perhaps, of no other encoding. No document type can
#: follow it, and one would have libxml2 open any file.
_BEGINNING = re.compile(
    rb"""(<\?xml\s+version\s*=\s*["']1\.0["'](\s+encoding\s*=\s*["'](?i:utf-8)["'])?"""
    rb"""(\s+standalone\s*=\s*["'](yes|no)["'])?\s*\?>)?[ \t\r\n]*<[A-Za-z_\x80-\xff]"""
)
_SYNTAX_ERROR: Any = etree.XMLSyntaxError  # lxml's stubs do not know its arguments


def parse(octets: bytes) -> etree._Element:
    """A tree of what came from outside: bounded in depth, without entities, all prefixes declared.

    :raises etree.XMLSyntaxError: it is not XML, or not in UTF-8, or anything but a declaration stands before
        the element.
    """
    if not _BEGINNING.match(octets):
        raise _SYNTAX_ERROR("no element is at the beginning", 0, 0, 0)
    parser = _OWN.parser
    root = etree.fromstring(octets, parser)
    # A prefix that is not declared passes if a warning follows, of a relative namespace for instance.
    if parser.error_log and parser.error_log.filter_from_errors():
        raise _SYNTAX_ERROR("a prefix is not declared", 0, 0, 0)
    return root


def read_features(query: etree._Element) -> frozenset[str]:
    """The features that a disco#info answer announces (XEP-0030)."""
    return frozenset(feature.get("var") or "" for feature in query.findall(_FEATURE))


def read_list(element: etree._Element) -> ListPage:
    """A page of ``<list/>``.

    :raises NotUnderstood: it is none.
    """
    _check_name(element, "list")
    tag = f"{{{etree.QName(element).namespace}}}chat"
    return ListPage(tuple(_listed(chat) for chat in element.findall(tag)), _info(element))


def read_chat(element: etree._Element, expected_index: int = 0) -> ChatPage:
    """A page of a collection. Where the server tells no index, `expected_index` is believed.

    :raises NotUnderstood: it is none.
    """
    _check_name(element, "chat")
    info = _info(element)
    index = expected_index if info is None or info.index is None else info.index
    children = list(element)
    parts = tuple(child for child in children if child.tag in _ITEMS or child.tag == _DATA)
    keys = tuple(child for child in children if child.tag == _KEY)
    return ChatPage(_listed(element), parts, keys, index, info, _links(element), element.find(_FORM))


def read_keys(element: etree._Element) -> KeysPage:
    """A page of ``<keys/>`` (XEP-0241 6).

    :raises NotUnderstood: it is none.
    """
    _check_name(element, "keys")
    tag = f"{{{etree.QName(element).namespace}}}chat"
    found = ((_listed(chat), tuple(chat.findall(_KEY))) for chat in element.findall(tag))
    return KeysPage(tuple(found), _info(element))


def read_modified(element: etree._Element) -> ChangesPage:
    """A page of ``<modified/>`` (XEP-0136 10).

    :raises NotUnderstood: it is none.
    """
    _check_name(element, "modified")
    namespace = etree.QName(element).namespace
    tags = {f"{{{namespace}}}changed": False, f"{{{namespace}}}removed": True}
    changes = (Change(_listed(child), tags[child.tag]) for child in element if child.tag in tags)
    return ChangesPage(tuple(changes), _info(element))


def read_saved(element: etree._Element) -> Listed:
    """What a ``<save/>`` is answered: the collection as it is now.

    :raises NotUnderstood: it is none.
    """
    _check_name(element, "save")
    chat = element.find(f"{{{etree.QName(element).namespace}}}chat")
    if chat is None:
        raise NotUnderstood("The server's answer tells nothing of the collection.")
    return _listed(chat)


def is_sealed(part: etree._Element) -> bool:
    """Whether a part of a page is EncryptedData."""
    return bool(part.tag == _DATA)


def _listed(chat: etree._Element) -> Listed:
    with_, told, version = chat.get("with"), chat.get("start"), chat.get("version")
    if not with_ or not told:
        raise NotUnderstood("The server's answer has a collection without its contact or start.")
    try:
        start = times.parse(told)
        number = None if version is None else int(version)
    except (BadRequest, ValueError):
        raise NotUnderstood("The server's answer has a collection whose start or version is none.") from None
    return Listed(
        with_=with_,
        start=start,
        told=told,
        version=number,
        thread=chat.get("thread"),
        subject=chat.get("subject"),
        crypt=chat.get("crypt") in _TRUE,
    )


def _links(chat: etree._Element) -> dict[LinkName, Link]:
    """Those that lead somewhere."""
    found: dict[LinkName, Link] = {}
    names: tuple[LinkName, ...] = ("previous", "next")
    for name in names:
        element = chat.find(f"{{{etree.QName(chat).namespace}}}{name}")
        with contextlib.suppress(BadRequest):  # a link that makes no sense takes no message with it
            if element is not None:
                found[name] = Link(*attributes.identity(element))
    return found


def _check_name(element: etree._Element, name: str) -> None:
    qname = etree.QName(element)
    if qname.localname != name or qname.namespace not in DIALECTS:
        raise NotUnderstood(f"The server answered <{qname.localname}/> where <{name}/> was expected.")


def _info(element: etree._Element) -> rsm.PageInfo | None:
    try:
        return rsm.read_answer(element)
    except BadRequest:
        raise NotUnderstood("The server's answer has a page whose numbers are none.") from None
