"""What is read of archives: SQL only, each function within one read-only transaction on one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archive_crypt.core import xmlenc
from archive_crypt.errors import NoSuchCollection
from archive_crypt.model import (
    Collection,
    EncryptedKey,
    Form,
    Item,
    Link,
    LinkName,
    Micros,
    Page,
    PlainItem,
    Preferences,
    SealedItem,
    UploadedItem,
    UploadedKey,
    Window,
    WrappedKey,
)
from archive_crypt.store import settled
from archive_crypt.store.interfaces import MOST_PAGE, CollectionPage, ListFilter, Modification
from archive_crypt.store.removals import matching
from archive_crypt.store.sql import COLLECTION, asked
from archive_crypt.store.uploads import FORM

_OWNER = "(SELECT id FROM owner WHERE jid = %s)"


def collections(cursor: Any, owner: str, which: ListFilter, window: Window) -> Page[Collection]:
    """A part of the owner's collections."""
    where, values = matching(which)
    return _collections(cursor, f"c.owner = {_OWNER}{where}", (owner, *values), window)


def page(
    cursor: Any, owner: str, with_: str, start: Micros, window: Window, recipients: Sequence[str]
) -> CollectionPage:
    """A part of a collection's items, with the keys that they and the form name."""
    more = ", c.owner, h.items, c.form_keys, c.previous_with, c.previous_start, c.next_with, c.next_start"
    where = f" WHERE c.owner = {_OWNER} AND c.with_ = %s AND c.start = %s"
    cursor.execute(COLLECTION.format(more=more, source="collection", rest=where), (owner, with_, start))
    row = cursor.fetchone()
    if row is None:
        raise NoSuchCollection
    collection, (owner_id, count, form_keys, *ends) = Collection(*row[:7]), row[7:]
    items = _items(cursor, owner_id, collection.id, window)
    names = dict.fromkeys(form_keys)
    for item in items:
        names.update(dict.fromkeys(_key_names(item)))
    return CollectionPage(
        collection,
        Page(items, _index(cursor, owner_id, collection.id, items), count),
        _keys(cursor, owner_id, list(names), recipients),
        _links(*ends),
        _form(cursor, owner_id, collection.id, form_keys),
    )


def keys(
    cursor: Any, owner: str, recipients: Sequence[str], window: Window
) -> Page[tuple[Collection, Sequence[WrappedKey]]]:
    """The collections with EncryptedKeys for some public keys, and these."""
    having = (
        " AND EXISTS (SELECT 1 FROM encrypted_key k WHERE k.owner = c.owner AND k.collection = c.id"
        " AND k.recipient = ANY(%s))"
    )
    found = _collections(cursor, f"c.owner = {_OWNER}{having}", (owner, asked(recipients)), window)
    cursor.execute(
        "SELECT DISTINCT collection, name, recipient, algorithm, cipher FROM encrypted_key"
        f" WHERE owner = {_OWNER} AND collection = ANY(%s) AND recipient = ANY(%s) ORDER BY name, recipient",
        (owner, [collection.id for collection in found.items], asked(recipients)),
    )
    wrapped: dict[int, list[WrappedKey]] = {}
    for collection, *key in cursor.fetchall():
        _add(wrapped.setdefault(collection, []), _key(*key))
    items = [(collection, wrapped[collection.id]) for collection in found.items]
    return Page(items, found.index, found.count)


def modified(cursor: Any, owner: str, after: Micros, window: Window) -> Page[Modification]:
    """What changed after a stamp."""
    where, values = f"owner = {_OWNER} AND stamp > %s", (owner, after)
    cursor.execute(f"SELECT count(*) FROM change WHERE {where}", values)
    (count,) = cursor.fetchone()
    cut, cut_values = _cut("(stamp)", window)
    cursor.execute(
        f"SELECT with_, start, version, stamp, removed FROM change WHERE {where}{cut}"
        f"{_order('stamp {0}', window)}",
        (*values, *cut_values),
    )
    items = [Modification(*row) for row in _in_order(cursor.fetchall(), window)]
    if not items:
        return Page((), 0, count)
    cursor.execute(f"SELECT count(*) FROM change WHERE {where} AND stamp < %s", (*values, items[0].stamp))
    return Page(items, cursor.fetchone()[0], count)


def plain_items(cursor: Any, owner: str, collection: int, after: int, limit: int) -> list[PlainItem]:
    """The next items in clear."""
    cursor.execute(
        f"SELECT number, at, content FROM item WHERE owner = {_OWNER}"
        " AND collection = %s AND number > %s AND at IS NOT NULL ORDER BY number LIMIT %s",
        (owner, collection, after, limit),
    )
    return [PlainItem(number, at, bytes(content).decode()) for number, at, content in cursor.fetchall()]


def expiring(cursor: Any, after: str, limit: int, everyone: bool) -> list[tuple[str, Preferences]]:
    """The next owners with anything that expires."""
    some = (
        " AND (EXISTS (SELECT 1 FROM preference_default p WHERE p.owner = o.id AND p.expire IS NOT NULL)"
        " OR EXISTS (SELECT 1 FROM preference_item p WHERE p.owner = o.id AND p.expire IS NOT NULL))"
    )
    cursor.execute(
        f"SELECT o.jid, o.id FROM owner o WHERE o.jid > %s{'' if everyone else some} ORDER BY o.jid LIMIT %s",
        (after, limit),
    )
    return [(jid, settled.preferences(cursor, owner)) for jid, owner in cursor.fetchall()]


def _collections(cursor: Any, where: str, values: tuple[Any, ...], window: Window) -> Page[Collection]:
    cursor.execute(f"SELECT count(*) FROM collection c WHERE {where}", values)
    (count,) = cursor.fetchone()
    cut, cut_values = _cut("(c.start, c.id)", window)
    # The part is cut out before it is joined, or PostgreSQL would join all and sort that.
    part = f"(SELECT * FROM collection c WHERE {where}{cut}{_order('c.start {0}, c.id {0}', window)})"
    query = COLLECTION.format(more="", source=part, rest=" ORDER BY c.start, c.id")
    cursor.execute(query, (*values, *cut_values))
    items = [Collection(*row) for row in cursor.fetchall()]
    if not items:
        return Page((), 0, count)
    cursor.execute(
        f"SELECT count(*) FROM collection c WHERE {where} AND (c.start, c.id) < (%s, %s)",
        (*values, items[0].start, items[0].id),
    )
    return Page(items, cursor.fetchone()[0], count)


def _items(cursor: Any, owner: int, collection: int, window: Window) -> list[Item]:
    cut, values = _cut("(number)", window)
    order = _order("number {0}", window)
    direction = "DESC" if window.backwards else "ASC"
    cursor.execute(
        "SELECT i.number, i.at, i.content, k.name, k.algorithm FROM ("
        "  SELECT *, sum(octet_length(content)) OVER (ORDER BY number"
        f"   {direction} ROWS UNBOUNDED PRECEDING) - octet_length(content) AS above FROM ("
        "    SELECT * FROM item WHERE owner = %s AND collection = %s AND number >= 0"
        f"    {cut}{order}) AS part) AS i"
        " LEFT JOIN data_key k ON k.owner = i.owner AND k.collection = i.collection AND k.key = i.key"
        " WHERE i.above < %s ORDER BY i.number",
        (owner, collection, *values, MOST_PAGE),
    )
    return [_item(*row) for row in cursor.fetchall()]


def _index(cursor: Any, owner: int, collection: int, items: Sequence[Item]) -> int:
    """The place of the first item. Numbers are places only where nothing was uploaded or refused."""
    if not items or not items[0].number:
        return 0
    cursor.execute(
        "SELECT count(*) FROM item WHERE owner = %s AND collection = %s AND number >= 0 AND number < %s",
        (owner, collection, items[0].number),
    )
    return int(cursor.fetchone()[0])


def _keys(
    cursor: Any, owner: int, names: Sequence[str], recipients: Sequence[str]
) -> dict[str, list[WrappedKey]]:
    wrapped: dict[str, list[WrappedKey]] = {name: [] for name in names}
    if not names:
        return wrapped
    cursor.execute(
        "SELECT DISTINCT name, recipient, algorithm, cipher FROM encrypted_key"
        " WHERE owner = %s AND name = ANY(%s) AND (%s OR recipient = ANY(%s)) ORDER BY name, recipient",
        (owner, list(names), not recipients, asked(recipients)),
    )
    for name, *key in cursor.fetchall():
        _add(wrapped[name], _key(name, *key))
    return wrapped


def _form(cursor: Any, owner: int, collection: int, names: Sequence[str]) -> Form | None:
    cursor.execute(
        "SELECT content FROM item WHERE owner = %s AND collection = %s AND number = %s",
        (owner, collection, FORM),
    )
    row = cursor.fetchone()
    return None if row is None else Form(bytes(row[0]).decode(), tuple(names))


def _links(
    previous_with: str | None, previous_start: Micros | None, next_with: str | None, next_start: Micros | None
) -> dict[LinkName, Link]:
    links: dict[LinkName, Link] = {}
    if previous_with is not None and previous_start is not None:
        links["previous"] = Link(previous_with, previous_start)
    if next_with is not None and next_start is not None:
        links["next"] = Link(next_with, next_start)
    return links


def _item(number: int, at: Micros | None, content: Any, name: str | None, algorithm: str | None) -> Item:
    if name is not None and algorithm is not None:
        return SealedItem(number, name, algorithm, bytes(content))
    text = bytes(content).decode()
    return UploadedItem(number, text, xmlenc.names_in(text)) if at is None else PlainItem(number, at, text)


def _key_names(item: Item) -> tuple[str, ...]:
    if isinstance(item, SealedItem):
        return (item.key_name,)
    return item.key_names if isinstance(item, UploadedItem) else ()


def _key(name: str, recipient: str, algorithm: str, cipher: Any) -> WrappedKey:
    if algorithm:
        return EncryptedKey(name, recipient, algorithm, bytes(cipher))
    return xmlenc.uploaded_key(bytes(cipher).decode())


def _add(found: list[WrappedKey], key: WrappedKey) -> None:
    """One that names several public keys has several rows."""
    if not isinstance(key, UploadedKey) or key not in found:
        found.append(key)


def _cut(position: str, window: Window) -> tuple[str, tuple[int, ...]]:
    clauses, values = "", tuple[int, ...]()
    for bound, operator in ((window.after, ">"), (window.before, "<")):
        if bound is not None:
            clauses += f" AND {position} {operator} ({', '.join(['%s'] * len(bound))})"
            values += bound
    return clauses, values


def _order(columns: str, window: Window) -> str:
    order = columns.format("DESC" if window.backwards else "ASC")
    return f" ORDER BY {order} LIMIT {int(window.limit)} OFFSET {int(window.index or 0)}"


def _in_order(rows: list[Any], window: Window) -> list[Any]:
    return rows[::-1] if window.backwards else rows
