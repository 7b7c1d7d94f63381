"""The rows of an upload (XEP-0136 5.3): one collection made or added to, or nothing changed at all."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from archive_crypt.core import times
from archive_crypt.errors import NotAcceptable, QuotaExceeded
from archive_crypt.model import SECOND, Collection, EncryptedKey, Form, Link, Micros, UploadedKey
from archive_crypt.store import sql
from archive_crypt.store.interfaces import FIRST_UPLOAD, MOST_WRAPPED, Save
from archive_crypt.store.quota import Quota, make_room
from archive_crypt.store.sql import Growth, Locked, Place, Row

#: The number of the row that is a collection's form.
FORM = -1


def save(cursor: Any, owner: Locked, change: Save, quota: Quota) -> Collection:
    """The collection as it is after the upload.

    :raises NotAcceptable: it would mix what is in clear with what is encrypted, or grow too large.
    :raises QuotaExceeded: its owner would keep more than he may.
    """
    known = sql.find(cursor, owner.id, change.with_, change.start)
    place = (owner.id, change.collection if known is None else known.id)
    growth = _growth(cursor, place, change)
    _check(cursor, place, change, growth)
    if not make_room(cursor, quota, owner, growth.octets, known is None, place):
        raise QuotaExceeded
    if known is None:
        _create(cursor, place, change)
        owner.collections += 1
        owner.octets += growth.octets
    changed = _describe(cursor, place, known, change)
    changed |= _put_form(cursor, place, change)
    changed |= bool(_put_keys(cursor, place, change.keys))
    changed |= _put_items(cursor, place, change)
    if changed or known is None:
        _set_crypt(cursor, place)
    if known is None:
        identity = (change.with_, change.start)
        sql.insert_changes(cursor, {place: identity}, sql.stamps(cursor, [place]), {place: growth})
    elif changed:
        sql.bump_one(cursor, owner, place, growth)
    found = sql.find(cursor, owner.id, change.with_, change.start)
    assert found is not None  # noqa: S101 - it was made or found above
    return found


def refresh_crypt(cursor: Any, place: Place) -> None:
    """``crypt`` tells whether there is EncryptedData or an EncryptedKey (XEP-0241 4)."""
    _set_crypt(cursor, place)


def _growth(cursor: Any, place: Place, change: Save) -> Growth:
    """How much more the collection will hold."""
    octets = sum(len(item.content.encode()) for item in change.items)
    if change.form is not None:
        octets += len(change.form.content.encode()) - len(_form(cursor, place))
    new = {hashlib.sha256(key.content.encode()).digest(): key for key in change.keys}
    if new:
        cursor.execute(
            "SELECT DISTINCT sha256(cipher) FROM encrypted_key"
            " WHERE owner = %s AND collection = %s AND algorithm = ''",
            place,
        )
        for (digest,) in cursor.fetchall():
            new.pop(bytes(digest), None)
    octets += sum(len(key.content.encode()) * len(_recipients(key)) for key in new.values())
    return Growth(len(change.items), octets)


def _recipients(key: UploadedKey) -> tuple[str, ...]:
    """The public keys it has a row for, each."""
    return tuple(dict.fromkeys(key.recipients)) or ("",)


def _check(cursor: Any, place: Place, change: Save, growth: Growth) -> None:
    plain, crypt = _holds(cursor, place)
    plain |= any(not item.encrypted for item in change.items)
    crypt |= bool(change.keys) or any(item.encrypted for item in change.items)
    crypt |= _encrypts_form(cursor, place, change.form)
    if plain and crypt:
        raise NotAcceptable("A collection holds messages and notes in clear, or encrypted data: not both.")
    cursor.execute("SELECT octets FROM change WHERE owner = %s AND collection = %s", place)
    (octets,) = cursor.fetchone() or (0,)
    if growth.octets > 0 and octets + growth.octets > change.most_octets:
        raise NotAcceptable("The collection would grow too large; begin another one.")
    if change.keys:
        _check_keys(cursor, place, change.keys)


def _check_keys(cursor: Any, place: Place, keys: tuple[UploadedKey, ...]) -> None:
    """Each row counts: the element is in as many as there are public keys that it names."""
    owner, collection = place
    octets, digests = Counter[str](), []
    for content, key in {key.content.encode(): key for key in keys}.items():
        octets[key.key_name] += len(content) * len(_recipients(key))
        digests.append(hashlib.sha256(content).digest())
    cursor.execute(
        "SELECT name, sum(octet_length(cipher)) FROM encrypted_key"
        " WHERE owner = %s AND name = ANY(%s) AND algorithm = ''"
        " AND NOT (collection = %s AND sha256(cipher) = ANY(%s)) GROUP BY name",
        (owner, list(octets), collection, digests),
    )
    octets.update(dict(cursor.fetchall()))
    if any(all_ > MOST_WRAPPED for all_ in octets.values()):
        raise NotAcceptable("There are too many EncryptedKeys of one data key; delete some first.")


def _encrypts_form(cursor: Any, place: Place, form: Form | None) -> bool:
    """Whether the collection's form will hold encrypted data: the new one or, without one, the old."""
    if form is not None:
        return bool(form.content and form.key_names)
    cursor.execute("SELECT form_keys <> '{}' FROM collection WHERE owner = %s AND id = %s", place)
    (encrypted,) = cursor.fetchone() or (False,)
    return bool(encrypted)


def _holds(cursor: Any, place: Place) -> tuple[bool, bool]:
    """Whether a collection holds messages in clear, and whether it holds encrypted data or keys, or is
    sealed by the recorder; its form apart. One item tells for all, as they never mix."""
    cursor.execute(
        "SELECT at IS NOT NULL FROM item WHERE owner = %s AND collection = %s AND number >= 0 LIMIT 1", place
    )
    row = cursor.fetchone()
    if row is not None:
        return row[0], not row[0]
    cursor.execute(
        "SELECT 1 FROM encrypted_key WHERE owner = %s AND collection = %s"
        " UNION ALL SELECT 1 FROM data_key WHERE owner = %s AND collection = %s LIMIT 1",
        (*place, *place),
    )
    return False, cursor.fetchone() is not None


def _create(cursor: Any, place: Place, change: Save) -> None:
    cursor.execute(
        "INSERT INTO collection (owner, id, with_, start, thread, crypt) VALUES (%s, %s, %s, %s, %s, false)",
        (*place, change.with_, change.start, change.thread or None),
    )


def _describe(cursor: Any, place: Place, known: Collection | None, change: Save) -> bool:
    """Set the attributes and links that are given; whether one of them is another now."""
    wanted: dict[str, object] = {}
    if change.subject is not None:
        wanted["subject"] = change.subject or None
    if change.thread and known is not None and known.thread is None:
        wanted["thread"] = change.thread
    for name, link in change.links.items():
        wanted[f"{name}_with"], wanted[f"{name}_start"] = _identity(link)
    if not wanted:
        return False
    columns = list(wanted)
    cursor.execute(f"SELECT {', '.join(columns)} FROM collection WHERE owner = %s AND id = %s", place)
    if cursor.fetchone() == tuple(wanted.values()):
        return False
    assignments = ", ".join(f"{column} = %s" for column in columns)
    cursor.execute(
        f"UPDATE collection SET {assignments} WHERE owner = %s AND id = %s", (*wanted.values(), *place)
    )
    return True


def _identity(link: Link | None) -> tuple[str | None, Micros | None]:
    return (link.with_, link.start) if link else (None, None)


def _put_form(cursor: Any, place: Place, change: Save) -> bool:
    if change.form is None:
        return False
    content = change.form.content.encode()
    if content == _form(cursor, place):
        return False
    cursor.execute("DELETE FROM item WHERE owner = %s AND collection = %s AND number = %s", (*place, FORM))
    if content:
        sql.copy(cursor, [Row(place, FORM, None, None, content)])
    names = list(change.form.key_names) if content else []
    cursor.execute("UPDATE collection SET form_keys = %s WHERE owner = %s AND id = %s", (names, *place))
    return True


def _form(cursor: Any, place: Place) -> bytes:
    """The collection's form; empty without one."""
    cursor.execute(
        "SELECT content FROM item WHERE owner = %s AND collection = %s AND number = %s", (*place, FORM)
    )
    row = cursor.fetchone()
    return b"" if row is None else bytes(row[0])


def _put_keys(cursor: Any, place: Place, keys: tuple[UploadedKey, ...]) -> int:
    rows = [
        (place, EncryptedKey(key.key_name, recipient, "", key.content.encode()))
        for key in keys
        for recipient in _recipients(key)
    ]
    return len(sql.insert_keys(cursor, rows))


def _put_items(cursor: Any, place: Place, change: Save) -> bool:
    if not change.items:
        return False
    cursor.execute(
        "SELECT number, at FROM item WHERE owner = %s AND collection = %s AND number >= 0"
        " ORDER BY number DESC LIMIT 1",
        place,
    )
    last, at = cursor.fetchone() or (FIRST_UPLOAD - 1, None)
    at = change.start if at is None else at
    rows = []
    for number, item in enumerate(change.items, max(last + 1, FIRST_UPLOAD)):
        at = min(at + item.secs * SECOND, times.LATEST)
        rows.append(Row(place, number, None, None if item.encrypted else at, item.content.encode()))
    sql.copy(cursor, rows)
    for name in dict.fromkeys(name for item in change.items for name in item.key_names):
        sql.insert_data_key(cursor, place, name, "")
    return True


def _set_crypt(cursor: Any, place: Place) -> None:
    _, crypt = _holds(cursor, place)
    cursor.execute(
        "UPDATE collection SET crypt = (%s OR form_keys <> '{}') WHERE owner = %s AND id = %s",
        (crypt, *place),
    )
