"""What was encrypted between two people, archived anew for one of them: sealed with the archive's own
keys, so that it outlives theirs (XEP-0136 5.1, XEP-0218 3).

Here it is decided what is uploaded and what keeps from it; the upload is the plugins', who seal it. The
keys between the two are never part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lxml import etree

from archive_crypt.core import times
from archive_crypt.core.dialect import F
from archive_crypt.core.items import ReadItem, read
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import BadRequest
from archive_crypt.model import MILLISECOND, Micros, SaveMode
from archive_crypt.reader.agreed import OffTheRecord
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.otr import Logging
from archive_crypt.reader.protocol import Listed, parse
from archive_crypt.reader.xep_0136 import uploads

#: What is asked before the transcript of a session with short-lived keys is archived.
CONSENT = (
    "Nobody can open this conversation any more once its keys are gone, which is soon. Archived, whoever "
    "gets hold of one of your private keys can read it, for as long as it is kept. Archive it?"
)

_Essence = tuple[object, ...]

_HINTS = "urn:xmpp:hints"
_NOT_STORED = frozenset(f"{{{_HINTS}}}{name}" for name in ("no-store", "no-permanent-store"))
_SHIM = "{http://jabber.org/protocol/shim}"
#: What meant something of the encryption, or on the way, and is not said by anybody.
_TRAPPINGS = (
    _HINTS,
    "urn:xmpp:openpgp:0",
    "urn:xmpp:eme:0",
    "http://www.xmpp.org/extensions/xep-0200.html#ns",
    "http://www.xmpp.org/extensions/xep-0116.html#ns-init",
    "http://jabber.org/protocol/amp",
    _SHIM[1:-1],
)


class NothingThere(Problem):
    """There is no message to archive."""


class ConsentNeeded(Problem):
    """The user has to agree first, as `CONSENT` puts it."""


@dataclass(frozen=True, slots=True)
class Session:
    """An encrypted session as its client knows it: with the contact's full JID, in a thread; `logging` as
    it was negotiated, None if it was not; its messages decrypted, each at the time of its receipt."""

    with_: str
    thread: str | None
    logging: Logging | None
    items: tuple[ReadItem, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A collection to upload, sealed for exactly these public keys: what `Archive.save` takes. Each item
    has its time. `left_out`: how many messages are not in it; `replaces`: what can be removed, if
    `is_there` finds all of it in the archive."""

    collection: Listed
    items: tuple[ReadItem, ...]
    keys: tuple[PublicKey, ...]
    left_out: int = 0
    replaces: Listed | None = None


def plan_session(session: Session, keys: Sequence[PublicKey], *, consent: bool, forced: bool = False) -> Plan:
    """What to upload of a session whose keys will be gone (XEP-0200).

    `forced`: also messages whose senders asked that they are not stored.

    :raises OffTheRecord: logging was forbidden; nothing overrides that.
    :raises ConsentNeeded: the user did not agree to what it costs.
    :raises NothingThere: there is no message.
    :raises Problem: there is no key.
    """
    if session.logging is Logging.MUSTNOT:
        raise OffTheRecord("Both of you agreed to keep this conversation off the record: it is not archived.")
    if not consent:
        raise ConsentNeeded(CONSENT)
    kept = [item for item in session.items if forced or not _is_not_stored(item)]
    items = tuple(_bared(replace(item, at=_created(item) or item.at)) for item in kept)
    moments = [item.at for item in items if item.at is not None]
    if not moments:
        raise NothingThere("There is no message to archive.")
    start = times.floor_to_millisecond(min(moments))
    return Plan(
        _sealed(session.with_, start, session.thread),
        _dated(items, start),
        _some(keys),
        left_out=len(session.items) - len(items),
    )


def plan_openpgp(collection: Listed, entries: Iterable[Entry], keys: Sequence[PublicKey]) -> Plan:
    """What to upload so that a collection with OpenPGP messages (XEP-0374), as `ox.Reader` opened
    them, no longer needs the OpenPGP key. Its signatures are not kept: they were looked at.

    What could not be opened, is suspicious, or says nothing without its encryption, is left out; then
    the old collection has to stay. So it has where who signed is not known: it alone could ever show it.

    :raises NothingThere: none of its OpenPGP messages could be opened.
    :raises Problem: there is no key.
    """
    every = list(entries)
    good = [entry for entry in every if entry.item is not None and not entry.suspicious]
    if not any(_was_openpgp(entry) for entry in good):
        raise NothingThere("There is no OpenPGP message here that could be opened.")
    said = [
        (_bared if _was_openpgp(entry) else _settled)(replace(entry.item, at=entry.at))
        for entry in good
        if entry.item is not None
    ]
    dated = filter(_comes_back, _dated(said, collection.start))
    items, _ = uploads.sift(dated, SaveMode.MESSAGE)
    left_out = len(every) - len(items)
    unchecked = any(Finding.OPENPGP_UNKNOWN in entry.findings for entry in every)
    return Plan(
        # Another start, as one contact has one collection of each.
        _sealed(collection.with_, collection.start + MILLISECOND, collection.thread),
        tuple(items),
        _some(keys),
        left_out,
        None if left_out or unchecked else collection,
    )


def is_there(plan: Plan, entries: Iterable[Entry]) -> bool:
    """Whether the entries that were read back are all that was planned, in order, and beyond suspicion:
    only then anything may be removed."""
    return _vouched(entries) == _planned(plan)


def is_sound(entries: Iterable[Entry]) -> bool:
    """Whether all of them could be read, and are beyond suspicion."""
    return _vouched(entries) is not None


def is_other(plan: Plan, entries: Iterable[Entry]) -> bool:
    """Whether some of the entries could be read, and nothing of that was planned."""
    planned = _planned(plan)
    found = [_essence(entry.item, entry.at) for entry in entries if entry.item is not None]
    return bool(found) and not any(essence in planned for essence in found)


def begun(plan: Plan, entries: Iterable[Entry]) -> int | None:
    """How many items an upload that was interrupted brought there, the first of what was planned; None: the
    entries are something else, or not beyond suspicion."""
    found, planned = _vouched(entries), _planned(plan)
    return len(found) if found and found == planned[: len(found)] else None


def is_older(plan: Plan, entries: Iterable[Entry]) -> bool:
    """Whether the entries are some of what was planned, in order, and beyond suspicion: uploaded when less
    of it could be opened."""
    found = _vouched(entries)
    return found is not None and bool(found) and _is_within(found, _planned(plan))


def is_newer(plan: Plan, entries: Iterable[Entry]) -> bool:
    """Whether the entries are more than what was planned, in order, and beyond suspicion: uploaded when
    more of it could be opened."""
    found = _vouched(entries)
    return found is not None and _is_within(_planned(plan), found)


def lessened(plan: Plan, mode: SaveMode) -> Plan:
    """The same without what the user does not want to be saved of it.

    :raises NothingThere: nothing stays.
    """
    kept, _ = uploads.sift(filter(_comes_back, plan.items), mode)
    if not kept:
        raise NothingThere("There is no message to archive.")
    return replace(plan, items=tuple(kept), left_out=plan.left_out + len(plan.items) - len(kept))


def _vouched(entries: Iterable[Entry]) -> list[_Essence] | None:
    """What they say, if all of them are beyond suspicion."""
    found = []
    for entry in entries:
        if entry.suspicious or entry.item is None:
            return None
        found.append(_essence(entry.item, entry.at))
    return found


def _planned(plan: Plan) -> list[_Essence]:
    return [_essence(item, item.at) for item in plan.items]


def _is_within(some: Iterable[_Essence], many: Iterable[_Essence]) -> bool:
    """Whether all of some are among many, in order."""
    left = iter(many)
    return all(one in left for one in some)


def _sealed(with_: str, start: Micros, thread: str | None) -> Listed:
    return Listed(with_, start, times.render(start), thread=thread, crypt=True)


def _some(keys: Sequence[PublicKey]) -> tuple[PublicKey, ...]:
    if not keys:
        raise Problem("There is no public key to seal it for: give one with --key.")
    return tuple(keys)


def _dated(items: Iterable[ReadItem], start: Micros) -> tuple[ReadItem, ...]:
    """Each with a time: one that does not tell its own has that of the one before."""
    found = []
    for item in items:
        start = start if item.at is None else item.at
        found.append(replace(item, at=start))
    return tuple(found)


def _essence(item: ReadItem, at: Micros | None) -> _Essence:
    return item.kind, at, item.name, item.jid, item.bodies, item.rest


def _was_openpgp(entry: Entry) -> bool:
    return not {Finding.OPENPGP_VALID, Finding.OPENPGP_UNKNOWN}.isdisjoint(entry.findings)


def _bared(item: ReadItem) -> ReadItem:
    """What was said, without what is said of its encryption."""
    kept = tuple(
        text for text, element in _children(item) if etree.QName(element).namespace not in _TRAPPINGS
    )
    return _settled(replace(item, rest=kept))


def _settled(item: ReadItem) -> ReadItem:
    """The same out of its collection, and as it is when it is written and read."""
    bodies = tuple((language or None, text) for language, text in item.bodies)
    name, jid = item.name or None, item.jid or None
    return replace(item, name=name, jid=jid, bodies=bodies, secs=None, bound=None)


def _comes_back(item: ReadItem) -> bool:
    """Whether it is the same when it was uploaded and is read back."""
    written = uploads.Timed(item, 0).write(F.namespace)
    try:
        back = read(parse(written.encode()))
    except (BadRequest, etree.XMLSyntaxError):
        return False
    return _essence(back, back.at) == _essence(item, item.at)


def _is_not_stored(item: ReadItem) -> bool:
    return any(element.tag in _NOT_STORED for _, element in _children(item))


def _created(item: ReadItem) -> Micros | None:
    """When an offline message was encrypted, as its encrypted header says (XEP-0187, XEP-0131); None: it says
    nothing, or what cannot be, as it was received before."""
    for _, element in _children(item):
        found = element.iterfind(f"{_SHIM}header[@name='Created']")
        header = next(found, None) if element.tag == f"{_SHIM}headers" else None
        if header is not None:
            try:
                created = times.parse((header.text or "").strip())
            except BadRequest:
                return None
            return None if item.at is not None and created > item.at else created
    return None


def _children(item: ReadItem) -> Iterator[tuple[str, etree._Element]]:
    return ((text, parse(text.encode())) for text in item.rest)
