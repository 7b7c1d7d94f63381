"""Values -> the answers of XEP-0136 and XEP-0241, as text, in the dialect of the request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from archive_crypt.core import items, rsm, times, xmlenc
from archive_crypt.core.dialect import Dialect
from archive_crypt.model import (
    Collection,
    Form,
    Item,
    Link,
    LinkName,
    Micros,
    Page,
    PlainItem,
    Position,
    SealedItem,
    UploadedItem,
    UploadedKey,
    WrappedKey,
)

#: A reply stops growing here (octets, keys counted): a larger stanza can end a stream.
MOST_REPLY = 128 * 1024
#: Of that, octets for the iq with the longest JIDs, the namespace and <set/>.
_ENVELOPE = 8192
#: The beginning of an EncryptedKey, and what comes of it before the end of its Id. An attribute's value
#: can hold '>'.
_TAG = re.compile(r"<[^\s/>]+")
_ID = re.compile(rf"""({_TAG.pattern}(?:\s[^\s=]+=(?:"[^"]*"|'[^']*'))*?\sId=(["']))(.*?)\2""")
#: Octets that secs and utc add to a plain item, at most.
_TIMES = 64


@dataclass(frozen=True, slots=True)
class Changed:
    """One entry of ``<modified/>``; `stamp` is its id."""

    with_: str
    start: Micros
    version: int
    stamp: Micros
    removed: bool


def list_answer(dialect: Dialect, page: Page[Collection], *, backwards: bool = False) -> str:
    """``<list/>`` of one page, ids and all; without ``<set/>`` when nothing matched (XEP-0059 2.2). It
    ends early where it would outgrow MOST_REPLY."""
    chats = [f"<chat{attributes_of(dialect, collection)}/>" for collection in page.items]
    part = _shortened(chats, backwards)
    ids = [write_position((collection.start, collection.id)) for collection in page.items[part]]
    return (
        f"<list xmlns='{dialect.namespace}'>{''.join(chats[part])}"
        f"{_set(ids, page.index + part.start, page.count)}</list>"
    )


def chat_answer(
    dialect: Dialect,
    collection: Collection,
    page: Page[Item],
    keys: Mapping[str, Sequence[WrappedKey]],
    links: Mapping[LinkName, Link] | None = None,
    form: Form | None = None,
    *,
    backwards: bool = False,
) -> str:
    """``<chat/>`` of one page: links and form, items, the EncryptedKeys that open them, ``<set/>``.

    `keys` maps the name of each data key of the page to its EncryptedKeys, filtered as the
    client asked. Where the reply would outgrow MOST_REPLY the page ends early, but never
    without an item; a page asked for by ``<before/>`` loses its first items instead, so that
    paging on from its ``<first/>`` misses none.
    """
    wrapped = {name: written_keys(keys[name]) for name in keys}
    encrypted = {i.number: written_data(i, wrapped) for i in page.items if not isinstance(i, PlainItem)}
    attributes = attributes_of(dialect, collection)
    head = "".join(
        written_link(name, links[name]) for name in ("previous", "next") if links and name in links
    )
    head += form.content if form else ""
    names = dict.fromkeys(form.key_names if form else ())
    room = MOST_REPLY - _ENVELOPE - len(attributes.encode()) - len(head.encode())
    room -= sum(len(text) for name in names for _, text in wrapped.get(name, ()))
    part = _fitting(page.items, encrypted, wrapped, set(names), room, backwards)
    chosen, index = page.items[part], page.index + part.start
    plain = items.shown(
        [item for item in chosen if isinstance(item, PlainItem)], collection.start, first=index == 0
    )
    written = [encrypted[item.number] if item.number in encrypted else next(plain) for item in chosen]
    names.update(dict.fromkeys(name for item in chosen for name in key_names(item)))
    ids = [write_position((item.number,)) for item in chosen]
    return (
        f"<chat xmlns='{dialect.namespace}'{attributes}>{head}{''.join(written)}"
        f"{_keys(key for name in names for key in wrapped.get(name, ()))}"
        f"{_set(ids, index, page.count)}</chat>"
    )


def save_answer(dialect: Dialect, collection: Collection) -> str | None:
    """What a ``<save/>`` is answered: in 0.13 nothing, later the ``<chat/>`` as it is now (A-SAVE-1)."""
    if not dialect.versioned:
        return None
    return f"<save xmlns='{dialect.namespace}'><chat{attributes_of(dialect, collection)}/></save>"


def keys_answer(
    dialect: Dialect, page: Page[tuple[Collection, Sequence[WrappedKey]]], *, backwards: bool = False
) -> str:
    """``<keys/>`` of one page of collections, each with its EncryptedKeys (XEP-0241 6). The page
    ends early where it would outgrow MOST_REPLY, but never without a collection."""
    chats, seen = [], set[str]()
    for collection, keys in page.items:
        written = [apart(key, str(collection.id), seen) for key in written_keys(keys)]
        chats.append(f"<chat{attributes_of(dialect, collection)}>{_keys(written)}</chat>")
    part = _shortened(chats, backwards)
    ids = [write_position((c.start, c.id)) for c, _ in page.items[part]]
    return (
        f"<keys xmlns='{dialect.namespace}'>{''.join(chats[part])}"
        f"{_set(ids, page.index + part.start, page.count)}</keys>"
    )


def modified_answer(dialect: Dialect, page: Page[Changed]) -> str:
    """``<modified/>`` of one page (XEP-0136 10): the ids are the moments of the changes, as 0.13 has
    them, unique and lasting, as 1.3.1 has them (A-MOD-1)."""
    changes = []
    for change in page.items:
        name = "removed" if change.removed else "changed"
        version = f" version='{change.version}'" if dialect.versioned else ""
        start = times.render(change.start)
        changes.append(f"<{name} with={quoteattr(change.with_)} start='{start}'{version}/>")
    ids = [times.render(change.stamp) for change in page.items]
    return (
        f"<modified xmlns='{dialect.namespace}'>{''.join(changes)}"
        f"{_set(ids, page.index, page.count)}</modified>"
    )


def write_position(position: Position) -> str:
    """The id of an item in a result set, opaque to clients: its position."""
    return ":".join(map(str, position))


#: Id and element.
Written = tuple[str, str]


def written_keys(keys: Iterable[WrappedKey]) -> list[Written]:
    """Ours come first, as our EncryptedData tell them by their Ids."""
    return _distinct(map(_written_key, sorted(keys, key=lambda key: isinstance(key, UploadedKey))))


def _written_key(key: WrappedKey) -> Written:
    """(Id, element) of an EncryptedKey; no two different ones of ours share an Id, on whatever page."""
    if isinstance(key, UploadedKey):
        return _identified(key)
    parts = b"\0".join((key.key_name.encode(), key.recipient.encode(), key.cipher))
    key_id = f"k{hashlib.sha256(parts).hexdigest()[:24]}"
    return key_id, xmlenc.write_key(key, key_id)


def _identified(key: UploadedKey) -> Written:
    """An uploaded key with the Id it has, or one from its content."""
    found = _ID.match(key.content)
    return (found[3], key.content) if found else _anew(key.content)


def apart(written: Written, where: str, seen: set[str]) -> Written:
    """The same, or with another Id if another collection of the page has a key with this one."""
    if written[0] in seen:
        written = _anew(written[1], where)
    seen.add(written[0])
    return written


def _anew(text: str, where: str = "") -> Written:
    """An EncryptedKey with an Id from its content (and `where` it is), instead of its own or of none."""
    key_id = f"k{hashlib.sha256((where + text).encode()).hexdigest()[:24]}"
    if _ID.match(text):
        return key_id, _ID.sub(rf"\g<1>{key_id}\g<2>", text, count=1)
    return key_id, _TAG.sub(rf'\g<0> Id="{key_id}"', text, count=1)


def _keys(written: Iterable[Written]) -> str:
    return "".join(text for _, text in _distinct(written))


def _distinct(written: Iterable[Written]) -> list[Written]:
    """EncryptedKeys, each once. What shares its Id with another gets a new one: an Id that stands
    twice in a document makes tools fail."""
    texts: dict[str, str] = {}
    for key_id, text in written:
        if texts.get(key_id, text) != text:
            key_id, text = _anew(text)
        texts[key_id] = text
    return list(texts.items())


def written_data(item: SealedItem | UploadedItem, wrapped: Mapping[str, Sequence[Written]]) -> str:
    if isinstance(item, UploadedItem):
        return item.content
    return xmlenc.write_data(item, [key_id for key_id, _ in wrapped.get(item.key_name, ())])


def key_names(item: Item) -> tuple[str, ...]:
    if isinstance(item, SealedItem):
        return (item.key_name,)
    return item.key_names if isinstance(item, UploadedItem) else ()


def _fitting(
    page: Sequence[Item],
    encrypted: Mapping[int, str],
    wrapped: Mapping[str, Sequence[Written]],
    seen: set[str],
    room: int,
    backwards: bool,
) -> slice:
    """The longest run of items, from the front or the back, that with its keys (without those `seen`
    already) fits `room` octets."""
    count = 0
    for item in reversed(page) if backwards else page:
        if isinstance(item, PlainItem):
            room -= len(item.content.encode()) + _TIMES
        else:
            room -= len(encrypted[item.number].encode())
        for name in set(key_names(item)) - seen:
            seen.add(name)
            room -= sum(len(text) for _, text in wrapped.get(name, ()))
        if count and room < 0:
            break
        count += 1
    return slice(len(page) - count, len(page)) if backwards else slice(0, count)


def _shortened(parts: Sequence[str], backwards: bool) -> slice:
    """The longest run, from the front or the back, that a reply has room for; one at least."""
    count, room = 0, MOST_REPLY - _ENVELOPE
    for part in reversed(parts) if backwards else parts:
        room -= len(part.encode())
        if count and room < 0:
            break
        count += 1
    return slice(len(parts) - count, len(parts)) if backwards else slice(0, count)


def written_link(name: str, link: Link) -> str:
    return f"<{name} with={quoteattr(link.with_)} start='{times.render(link.start)}'/>"


def _set(ids: Sequence[str], index: int, count: int) -> str:
    if not count:
        return ""
    if not ids:
        return rsm.write_answer(rsm.PageInfo(None, None, None, count))
    return rsm.write_answer(rsm.PageInfo(ids[0], ids[-1], index, count))


def attributes_of(dialect: Dialect, collection: Collection) -> str:
    optional = (
        ("thread", collection.thread),
        ("subject", collection.subject),
        ("crypt", "true" if collection.crypt else None),
        ("version", str(collection.version) if dialect.versioned else None),
    )
    extra = "".join(f" {name}={quoteattr(value)}" for name, value in optional if value is not None)
    return f" with={quoteattr(collection.with_)} start='{times.render(collection.start)}'{extra}"
