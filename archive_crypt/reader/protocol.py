"""XEP-0136 and XEP-0241 from the client's side: requests are written, answers read into values.

Pure. What an answer's items say, and whether to believe it, is `opening`'s and `checking`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from archive_crypt.core import rsm, times, xmlenc
from archive_crypt.core.dialect import DIALECTS, Dialect, F, T, V
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import BadRequest
from archive_crypt.model import Micros, PageRequest
from archive_crypt.reader.failures import NotUnderstood

DISCO_INFO = "<query xmlns='http://jabber.org/protocol/disco#info'/>"

#: The newest first: it alone has settings that outlive a stream.
_PREFERRED = (F, T, V)

_FEATURE = "{http://jabber.org/protocol/disco#info}feature"
_ITEMS = frozenset(f"{{{namespace}}}{tag}" for namespace in DIALECTS for tag in ("to", "from", "note"))
_DATA = f"{{{xmlenc.XMLENC}}}EncryptedData"
_KEY = f"{{{xmlenc.XMLENC}}}EncryptedKey"
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


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of collections; `info` is None where the answer has no ``<set/>``."""

    collections: tuple[Listed, ...]
    info: rsm.PageInfo | None


@dataclass(frozen=True, slots=True, eq=False)
class ChatPage:
    """A page of a collection: `parts` are the items, sealed or in clear, in order, and `keys` the
    EncryptedKeys that came with them. `index` is the place of the first in the collection."""

    collection: Listed
    parts: tuple[etree._Element, ...]
    keys: tuple[etree._Element, ...]
    index: int
    info: rsm.PageInfo | None


@dataclass(frozen=True, slots=True)
class Query:
    """Which collections: with whom; `start` inclusive, `end` exclusive; None: any."""

    with_: str | None = None
    start: Micros | None = None
    end: Micros | None = None


def parse(octets: bytes) -> etree._Element:
    """A tree of what came from outside: bounded in depth, without entities.

    :raises etree.XMLSyntaxError: it is not XML.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    return etree.fromstring(octets, parser)


def choose(features: Collection[str], *parts: str) -> Dialect | None:
    """The best dialect in which all these parts of the protocol ('auto', 'encrypt', 'manage') are
    among the features announced; None if there is none."""
    return next((d for d in _PREFERRED if all(d.feature(part) in features for part in parts)), None)


def write_auto(dialect: Dialect, keys: Iterable[PublicKey], *, encrypt: bool, lasting: bool) -> str:
    """``<auto/>`` that turns archiving on (XEP-0241 3); `lasting` is heeded where there is scope."""
    scope = f" scope='{'global' if lasting else 'stream'}'" if dialect.scoped else ""
    flag = " encrypt='true'" if encrypt else ""
    infos = "".join(_key_info(key) for key in keys)
    return f"<auto xmlns='{dialect.namespace}' save='true'{flag}{scope}>{infos}</auto>"


def write_list(dialect: Dialect, query: Query, page: PageRequest) -> str:
    """``<list/>`` (XEP-0136 8.1)."""
    attributes = (
        ("with", query.with_),
        ("start", None if query.start is None else times.render(query.start)),
        ("end", None if query.end is None else times.render(query.end)),
    )
    given = "".join(f" {name}={quoteattr(value)}" for name, value in attributes if value is not None)
    return f"<list xmlns='{dialect.namespace}'{given}>{rsm.write_request(page)}</list>"


def write_retrieve(dialect: Dialect, collection: Listed, key_names: Iterable[str], page: PageRequest) -> str:
    """``<retrieve/>`` of one page, with the EncryptedKeys for these public keys; for all, if none
    is named (XEP-0241 5)."""
    names = "".join(f"<KeyName xmlns='{xmlenc.XMLDSIG}'>{escape(name)}</KeyName>" for name in key_names)
    return (
        f"<retrieve xmlns='{dialect.namespace}' with={quoteattr(collection.with_)}"
        f" start={quoteattr(collection.told)}>{names}{rsm.write_request(page)}</retrieve>"
    )


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
    return ChatPage(_listed(element), parts, keys, index, info)


def is_sealed(part: etree._Element) -> bool:
    """Whether a part of a page is EncryptedData."""
    return bool(part.tag == _DATA)


def _key_info(key: PublicKey) -> str:
    numbers = key.rsa.public_numbers()
    return xmlenc.write_key_value(key.name, _octets(numbers.n), _octets(numbers.e))


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


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


def _check_name(element: etree._Element, name: str) -> None:
    qname = etree.QName(element)
    if qname.localname != name or qname.namespace not in DIALECTS:
        raise NotUnderstood(f"The server answered <{qname.localname}/> where <{name}/> was expected.")


def _info(element: etree._Element) -> rsm.PageInfo | None:
    try:
        return rsm.read_answer(element)
    except BadRequest:
        raise NotUnderstood("The server's answer has a page whose numbers are none.") from None
