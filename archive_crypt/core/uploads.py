"""``<save/>`` -> values (XEP-0136 5, XEP-0241 2). What is uploaded is kept as it is said, in canonical
form: only the archive's own namespace is taken off, as a reply has that of its request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from archive_crypt.core import attributes, jids, policy, times, xmlenc
from archive_crypt.core.canonical import canonical
from archive_crypt.core.conversation import LONGEST_THREAD
from archive_crypt.core.dialect import Dialect
from archive_crypt.errors import BadRequest, NotAcceptable
from archive_crypt.model import Form, Link, LinkName, Micros, Upload, UploadedKey

#: Octets of a subject: every list shows it. Of a key's name: it is indexed.
MOST_SUBJECT = 2048
MOST_NAME = 512
#: Octets of a form: it is shown on every page of its collection.
MOST_FORM = 16 * 1024

_DATA_FORM = "jabber:x:data"
_CLIENT = "jabber:client"
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


@dataclass(frozen=True, slots=True)
class SaveRequest:
    """``<save/>`` with its ``<chat/>``. `subject`, `links`, `form`: as in `interfaces.Save`.
    `bodies_only`: whether its messages hold nothing but bodies."""

    dialect: Dialect
    with_: str
    start: Micros
    thread: str | None
    subject: str | None
    links: dict[LinkName, Link | None]
    form: Form | None
    items: tuple[Upload, ...]
    keys: tuple[UploadedKey, ...]
    bodies_only: bool


@dataclass(slots=True)
class _Chat:
    """What was found in a ``<chat/>`` so far."""

    dialect: Dialect
    links: dict[LinkName, Link | None] = field(default_factory=dict)
    form: Form | None = None
    items: list[Upload] = field(default_factory=list)
    keys: list[UploadedKey] = field(default_factory=list)
    bodies_only: bool = True


def read(dialect: Dialect, element: etree._Element) -> SaveRequest:
    """The upload that ``<save/>`` asks for.

    :raises BadRequest: it is malformed.
    :raises NotAcceptable: one of its parts is too large.
    """
    chats = element.findall("*")
    if len(chats) != 1 or chats[0].tag != f"{{{dialect.namespace}}}chat":
        raise BadRequest("<save/> holds exactly one <chat/>.")
    (chat,) = chats
    with_, start = attributes.identity(chat)
    found = _Chat(dialect)
    for child in chat.findall("*"):
        qname = etree.QName(child)
        own = qname.namespace == dialect.namespace
        reader = _READERS.get(qname.localname if own else child.tag)
        if reader is None:
            raise BadRequest(f"A collection cannot hold <{qname.localname}/>.")
        reader(found, child)
    thread = (chat.get("thread") or "").strip(" \t\r\n") or None
    _check_size(thread or "", LONGEST_THREAD, "The thread")
    _check_size(chat.get("subject") or "", MOST_SUBJECT, "The subject")
    return SaveRequest(
        dialect=dialect,
        with_=with_,
        start=start,
        thread=thread,
        subject=chat.get("subject"),
        links=found.links,
        form=found.form,
        items=tuple(found.items),
        keys=tuple(found.keys),
        bodies_only=found.bodies_only,
    )


def _message(chat: _Chat, element: etree._Element) -> None:
    """``<to/>`` or ``<from/>``: at least one body or other content (5.2)."""
    parts = [_part(chat, child) for child in element.findall("*")]
    if not parts:
        raise BadRequest("<to/> and <from/> are never empty.")
    _add(chat, element, "".join(parts), attributes.natural(element, "secs") or 0)


def _note(chat: _Chat, element: etree._Element) -> None:
    """``<note/>``: text; it does not move the clock of the messages."""
    if len(element) or not (element.text or "").strip():
        raise BadRequest("A <note/> holds text, and nothing else.")
    attributes.natural(element, "secs")
    _add(chat, element, _escaped(element.text or ""), 0)


def _add(chat: _Chat, element: etree._Element, inner: str, secs: int) -> None:
    if element.get("utc") is not None:
        times.parse(element.get("utc") or "")
    jid = element.get("jid")
    if jid is not None and jids.read(jid) is None:
        raise BadRequest("The attribute jid is not a JID.")
    name = etree.QName(element).localname
    label = "".join(f" {key}={quoteattr(element.get(key, ''))}" for key in _ordered(element))
    content = f"<{name}{label}>{inner}</{name}>"
    _check_size(content, policy.MOST_CONTENT, "A message")
    chat.items.append(Upload(content, secs))


def _ordered(element: etree._Element) -> list[str]:
    """The attributes to keep: the times first, as that tells an uploaded item from a recorded one."""
    known = ("secs", "utc", "name", "jid")
    return [key for key in known if key in element.attrib]


def _part(chat: _Chat, child: etree._Element) -> str:
    qname = etree.QName(child)
    if qname.localname == "body" and qname.namespace in (chat.dialect.namespace, _CLIENT):
        if len(child):
            raise BadRequest("A <body/> holds text, and nothing else.")
        language = child.get(_XML_LANG)
        label = f" xml:lang={quoteattr(language)}" if language else ""
        return f"<body{label}>{_escaped(child.text or '')}</body>"
    if qname.namespace in (None, chat.dialect.namespace):
        raise BadRequest(f"A message cannot hold <{qname.localname}/> of this namespace.")
    chat.bodies_only = False
    return canonical(child)


def _link(chat: _Chat, element: etree._Element) -> None:
    """``<previous/>`` or ``<next/>``: another collection, or with no attribute none any more (5.7)."""
    name: LinkName = "previous" if etree.QName(element).localname == "previous" else "next"
    if name in chat.links:
        raise BadRequest(f"A collection has at most one <{name}/>.")
    given = element.get("with") is not None or element.get("start") is not None
    chat.links[name] = Link(*attributes.identity(element)) if given else None


def _form(chat: _Chat, element: etree._Element) -> None:
    """The attributes form; an empty one removes it (5.8)."""
    if chat.form is not None:
        raise BadRequest("A collection has at most one form.")
    if element.get("type") not in ("submit", "form"):
        raise BadRequest("The form of a collection is of type 'submit' or 'form'.")
    if not len(element):
        chat.form = Form("")
        return
    content = canonical(element)
    _check_size(content, MOST_FORM, "A form")
    names = xmlenc.names_in(content)
    _check_names(names)
    chat.form = Form(content, names)


def _data(chat: _Chat, element: etree._Element) -> None:
    """EncryptedData: opaque, ciphertext and all (XEP-0241 2)."""
    content = canonical(element)
    _check_size(content, policy.MOST_CONTENT, "An EncryptedData")
    names = xmlenc.names_in(content)
    _check_names(names)
    chat.items.append(Upload(content, encrypted=True, key_names=names))


def _key(chat: _Chat, element: etree._Element) -> None:
    """EncryptedKey: opaque, but for the names in it."""
    content = canonical(element)
    _check_size(content, MOST_FORM, "An EncryptedKey")
    key = xmlenc.uploaded_key(content)
    _check_names((key.key_name, *key.recipients))
    chat.keys.append(key)


#: Local name in the archive's namespace, or whole name of others -> what reads it.
_READERS: dict[str, Callable[[_Chat, etree._Element], None]] = {
    "to": _message,
    "from": _message,
    "note": _note,
    "previous": _link,
    "next": _link,
    f"{{{_DATA_FORM}}}x": _form,
    f"{{{xmlenc.XMLENC}}}EncryptedData": _data,
    f"{{{xmlenc.XMLENC}}}EncryptedKey": _key,
}


def _escaped(text: str) -> str:
    return escape(text, {"\r": "&#13;"})


def _check_size(content: str, most: int, what: str) -> None:
    if len(content.encode()) > most:
        raise NotAcceptable(f"{what} has more than {most} octets.")


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        _check_size(name, MOST_NAME, "The name of a key")
