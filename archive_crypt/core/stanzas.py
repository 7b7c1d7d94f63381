"""Requests and answers of XEP-0136 and XEP-0241 <-> values.

Requests come in as lxml elements, answers go out as text. What an element means is decided
here; what is done about it is the archiver's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from lxml import etree

from archive_crypt.core import items, jids, rsm, times, xmlenc
from archive_crypt.core.dialect import DIALECTS, Dialect
from archive_crypt.errors import BadRequest, NotImplementedHere, UnusableKey
from archive_crypt.model import (
    Collection,
    EncryptedKey,
    Item,
    Micros,
    Page,
    PageRequest,
    PlainItem,
    Position,
    SealedItem,
)

#: A reply stops growing here (octets, keys counted): a larger stanza can end a stream.
MOST_REPLY = 128 * 1024
#: Of that, octets for the iq with the longest JIDs, the namespace and <set/>.
_ENVELOPE = 8192
#: Octets that secs and utc add to a plain item, at most.
_TIMES = 64

#: Public keys in one <auto/>. Each costs an EncryptedKey in every collection.
MOST_KEYS = 16

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class AutoRequest:
    """``<auto/>``: `lasting` is scope='global'; `keys` are the public keys supplied."""

    dialect: Dialect
    save: bool
    encrypt: bool
    lasting: bool
    keys: tuple[xmlenc.RSAKeyValue, ...]


@dataclass(frozen=True, slots=True)
class ListRequest:
    """``<list/>``: `start` is inclusive, `end` exclusive; None where nothing was asked."""

    dialect: Dialect
    with_: str | None
    exact: bool
    start: Micros | None
    end: Micros | None
    page: PageRequest


@dataclass(frozen=True, slots=True)
class RetrieveRequest:
    """``<retrieve/>``: `key_names` are the public keys whose EncryptedKeys are wanted; none: all."""

    dialect: Dialect
    with_: str
    start: Micros
    key_names: tuple[str, ...]
    page: PageRequest


Request = AutoRequest | ListRequest | RetrieveRequest


def parse(kind: str, element: etree._Element) -> Request:
    """The request that `element` makes as the child of an iq of type `kind` ('get' or 'set').

    :raises BadRequest: malformed, or of the wrong type.
    :raises NotImplementedHere: no request of the archive is called so.
    :raises UnusableKey: a supplied key cannot be read.
    """
    qname = etree.QName(element)
    dialect = DIALECTS[qname.namespace or ""]
    kinds, reader = _READERS.get(qname.localname, ((), None))
    if reader is None:
        raise NotImplementedHere(f"The archive knows no request <{qname.localname}/>.")
    if kind not in kinds:
        raise BadRequest(f"<{qname.localname}/> goes into an iq of type {kinds[0]!r}.")
    return reader(dialect, element)


def list_answer(dialect: Dialect, page: Page[Collection]) -> str:
    """``<list/>`` of one page, ids and all; without ``<set/>`` when nothing matched (XEP-0059 2.2)."""
    chats = [f"<chat{_attributes(dialect, collection)}/>" for collection in page.items]
    ids = [write_position((collection.start, collection.id)) for collection in page.items]
    return f"<list xmlns='{dialect.namespace}'>{''.join(chats)}{_set(ids, page.index, page.count)}</list>"


def chat_answer(
    dialect: Dialect,
    collection: Collection,
    page: Page[Item],
    keys: Mapping[str, Sequence[EncryptedKey]],
    *,
    backwards: bool = False,
) -> str:
    """``<chat/>`` of one page: items, then the EncryptedKeys that open them, then ``<set/>``.

    `keys` maps the name of each data key of the page to its EncryptedKeys, filtered as the
    client asked. Where the reply would outgrow MOST_REPLY the page ends early, but never
    without an item; a page asked for by ``<before/>`` loses its first items instead, so that
    paging on from its ``<first/>`` misses none.
    """
    wrapped = {name: [_written_key(key) for key in keys[name]] for name in keys}
    sealed = {
        item.number: xmlenc.write_data(item, [key_id for key_id, _ in wrapped.get(item.key_name, ())])
        for item in page.items
        if isinstance(item, SealedItem)
    }
    attributes = _attributes(dialect, collection)
    room = MOST_REPLY - _ENVELOPE - len(attributes.encode())
    part = _fitting(page.items, sealed, wrapped, room, backwards)
    chosen = page.items[part]
    plain = items.shown([item for item in chosen if isinstance(item, PlainItem)], collection.start)
    written = [sealed[item.number] if isinstance(item, SealedItem) else next(plain) for item in chosen]
    names = dict.fromkeys(item.key_name for item in chosen if isinstance(item, SealedItem))
    written += [text for name in names for _, text in wrapped.get(name, ())]
    ids = [write_position((item.number,)) for item in chosen]
    return (
        f"<chat xmlns='{dialect.namespace}'{attributes}>"
        f"{''.join(written)}{_set(ids, page.index + part.start, page.count)}</chat>"
    )


def read_position(length: int) -> Callable[[str], Position]:
    """A reader of the ids that `write_position` gives, of `length` numbers; ValueError for others."""

    def read(text: str) -> Position:
        parts = text.split(":")
        if len(parts) != length or len(text) > 40 * length or not text.isascii():
            raise ValueError("not an id of ours")
        position = tuple(int(part) for part in parts)
        if write_position(position) != text or max(map(abs, position)) >= 2**63:
            raise ValueError("not an id of ours")
        return position

    return read


def write_position(position: Position) -> str:
    """The id of an item in a result set, opaque to clients: its position."""
    return ":".join(map(str, position))


def _read_auto(dialect: Dialect, element: etree._Element) -> AutoRequest:
    save = _boolean(element, "save")
    encrypt = _boolean(element, "encrypt") or False
    scope = element.get("scope", "stream") if dialect.scoped else "stream"
    if save is None:
        raise BadRequest("<auto/> needs the attribute save.")
    if scope not in ("global", "stream"):
        raise BadRequest("The scope of <auto/> is 'global' or 'stream'.")
    encrypt = encrypt and save
    keys = tuple(_read_keys(element)) if encrypt else ()
    return AutoRequest(dialect, save, encrypt, scope == "global", keys)


def _read_keys(element: etree._Element) -> Iterator[xmlenc.RSAKeyValue]:
    infos = element.findall(f"{{{xmlenc.XMLDSIG}}}KeyInfo")
    if len(infos) > MOST_KEYS:
        raise UnusableKey(f"At most {MOST_KEYS} public keys can be supplied.")
    for info in infos:
        try:
            value = xmlenc.read_key_value(info)
        except BadRequest as error:
            raise UnusableKey(f"A supplied public key cannot be read. {error}") from None
        if value is None:
            raise UnusableKey("A supplied public key is not an RSAKeyValue.")
        yield value


def _read_list(dialect: Dialect, element: etree._Element) -> ListRequest:
    with_ = element.get("with")
    return ListRequest(
        dialect=dialect,
        with_=None if with_ is None else _jid(with_),
        exact=dialect.exactmatch and bool(_boolean(element, "exactmatch")),
        start=_time(element, "start", clamp=True),
        end=_time(element, "end", clamp=True),
        page=rsm.read_request(element),
    )


def _read_retrieve(dialect: Dialect, element: etree._Element) -> RetrieveRequest:
    with_, start = element.get("with"), _time(element, "start")
    if with_ is None or start is None:
        raise BadRequest("<retrieve/> needs the attributes with and start.")
    return RetrieveRequest(
        dialect=dialect,
        with_=_jid(with_),
        start=start,
        key_names=xmlenc.read_key_names(element),
        page=rsm.read_request(element),
    )


#: name -> (iq types, reader). <auto/> is taken as get too: a client in the field sends it so.
_READERS: dict[str, tuple[tuple[str, ...], Callable[[Dialect, etree._Element], Request]]] = {
    "auto": (("set", "get"), _read_auto),
    "list": (("get",), _read_list),
    "retrieve": (("get",), _read_retrieve),
}


def _boolean(element: etree._Element, name: str) -> bool | None:
    text = element.get(name)
    if text is None:
        return None
    if text not in _BOOLEANS:
        raise BadRequest(f"The attribute {name} is 'true', 'false', '1' or '0'.")
    return _BOOLEANS[text]


def _time(element: etree._Element, name: str, *, clamp: bool = False) -> Micros | None:
    text = element.get(name)
    return None if text is None else times.parse(text, clamp=clamp)


def _jid(text: str) -> str:
    jid = jids.read(text)
    if jid is None:
        raise BadRequest("The attribute with is not a JID.")
    return str(jid.full())


def _written_key(key: EncryptedKey) -> tuple[str, str]:
    """(Id, element) of an EncryptedKey; no two different ones share an Id, on whatever page."""
    parts = b"\0".join((key.key_name.encode(), key.recipient.encode(), key.cipher))
    key_id = f"k{hashlib.sha256(parts).hexdigest()[:24]}"
    return key_id, xmlenc.write_key(key, key_id)


def _fitting(
    page: Sequence[Item],
    sealed: Mapping[int, str],
    wrapped: Mapping[str, Sequence[tuple[str, str]]],
    room: int,
    backwards: bool,
) -> slice:
    """The longest run of items, from the front or the back, that with its keys fits `room` octets."""
    seen, count = set[str](), 0
    for item in reversed(page) if backwards else page:
        if isinstance(item, SealedItem):
            room -= len(sealed[item.number])
            if item.key_name not in seen:
                seen.add(item.key_name)
                room -= sum(len(text) for _, text in wrapped.get(item.key_name, ()))
        else:
            room -= len(item.content.encode()) + _TIMES
        if count and room < 0:
            break
        count += 1
    return slice(len(page) - count, len(page)) if backwards else slice(0, count)


def _set(ids: Sequence[str], index: int, count: int) -> str:
    if not count:
        return ""
    if not ids:
        return rsm.write_answer(rsm.PageInfo(None, None, None, count))
    return rsm.write_answer(rsm.PageInfo(ids[0], ids[-1], index, count))


def _attributes(dialect: Dialect, collection: Collection) -> str:
    optional = (
        ("thread", collection.thread),
        ("subject", collection.subject),
        ("crypt", "true" if collection.crypt else None),
        ("version", str(collection.version) if dialect.versioned else None),
    )
    extra = "".join(f" {name}={quoteattr(value)}" for name, value in optional if value is not None)
    return f" with={quoteattr(collection.with_)} start='{times.render(collection.start)}'{extra}"
