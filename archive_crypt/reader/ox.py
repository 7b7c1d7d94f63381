"""OpenPGP for XMPP (XEP-0373, XEP-0374) in an archive: ``<openpgp/>`` in an item -> the message in it, and
whether it is its sender's. What the rules are is here; the cryptography is the keyring's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from lxml import etree

from archive_crypt.core import jids, xmlenc
from archive_crypt.core.canonical import canonical
from archive_crypt.core.items import ReadItem
from archive_crypt.errors import BadRequest
from archive_crypt.model import SECOND, Micros
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.openpgp import Opened, Signature
from archive_crypt.reader.protocol import Listed, parse

OPENPGP = "urn:xmpp:openpgp:0"

#: How far the time of signing may be from that of archiving, as messages wait for who is offline.
SKEW: Micros = 24 * 3600 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OX = f"{{{OPENPGP}}}"
_BODIES = ("{jabber:client}body", "{jabber:server}body")  # XEP-0374 2.2
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


class Opener(Protocol):
    """What opens OpenPGP messages: `openpgp.Keyring`."""

    def open(self, message: bytes) -> Opened:
        """A message, decrypted and looked at."""


@dataclass(frozen=True, slots=True)
class _Content:
    """A ``<signcrypt/>``: to whom, when (None: no time), and what stands in its payload."""

    to: frozenset[str]
    at: Micros | None
    bodies: tuple[tuple[str | None, str], ...]
    rest: tuple[str, ...]


class Reader:
    """Reads the OpenPGP messages among the entries of `owner`'s archive."""

    def __init__(self, owner: str, keyring: Opener) -> None:
        self._owner = owner
        self._keyring = keyring

    def read(self, collection: Listed, entry: Entry) -> Entry:
        """The entry with what its OpenPGP message says, in place of the text beside it for those who
        cannot read it, and with a finding that says whether to believe it. Other entries as they are.

        What cannot be opened stays as it is, with the ids of the keys that would open it.
        """
        message = _message(entry.item)
        if entry.item is None or message is None:
            return entry
        opened = self._keyring.open(message)
        if opened.plaintext is None:
            others = opened.recipients and not opened.ours
            finding = Finding.OPENPGP_CLOSED if others else Finding.OPENPGP_INVALID
            return replace(entry, findings=(*entry.findings, finding), openpgp_keys=opened.recipients)
        content = _content(opened.plaintext)
        if content is None:
            return replace(entry, findings=(*entry.findings, Finding.OPENPGP_INVALID))
        findings = (*entry.findings, *self._judged(collection, entry, content, opened))
        item = replace(entry.item, bodies=content.bodies, rest=(*content.rest, *entry.item.rest))
        return replace(entry, item=item, findings=findings)

    def _judged(
        self, collection: Listed, entry: Entry, content: _Content, opened: Opened
    ) -> Iterator[Finding]:
        """XEP-0373 3.1 and 7.2: it is for whom it was archived as sent to, and its sender signed it."""
        sent = entry.item is not None and entry.item.kind == "to"
        owner, contact = _bare(self._owner), _bare(collection.with_)
        sender, recipient = (owner, contact) if sent else (contact, owner)
        states = {state for state, _ in opened.signers}
        by_sender = any(
            state is Signature.GOOD and f"xmpp:{sender}" in user_ids for state, user_ids in opened.signers
        )
        if recipient not in content.to or content.at is None or states <= {Signature.BAD}:
            yield Finding.OPENPGP_INVALID
        elif by_sender:
            yield Finding.OPENPGP_VALID
        else:
            # A good signature of somebody else is none of the sender.
            yield Finding.OPENPGP_UNKNOWN if Signature.UNKNOWN in states else Finding.OPENPGP_INVALID
        if content.at is not None and entry.at is not None and abs(content.at - entry.at) > SKEW:
            yield Finding.OPENPGP_TIME


def is_openpgp(entry: Entry) -> bool:
    """Whether there is an OpenPGP message in an entry."""
    return _message(entry.item) is not None


def _message(item: ReadItem | None) -> bytes | None:
    """The OpenPGP message in an item; b"" if it is none; None if there is not anything of the kind."""
    for child in () if item is None else item.rest:
        if OPENPGP not in child:
            continue
        element = parse(child.encode())
        if element.tag == f"{_OX}openpgp":
            try:
                return xmlenc.decode_base64(element.text or "")
            except BadRequest:
                return b""
    return None


def _content(plaintext: bytes) -> _Content | None:
    """What was signed and encrypted; None if it is anything but a ``<signcrypt/>`` (XEP-0374 2.1)."""
    try:
        root = parse(plaintext)
    except etree.XMLSyntaxError:
        return None
    payload = root.find(f"{_OX}payload")
    if root.tag != f"{_OX}signcrypt" or payload is None:
        return None
    bodies, rest = [], []
    for child in payload.iterchildren("*"):
        if child.tag in _BODIES:
            bodies.append((child.get(_LANGUAGE), child.text or ""))
        else:
            try:
                rest.append(canonical(child))
            except BadRequest:
                return None
    time = root.find(f"{_OX}time")
    return _Content(
        to=frozenset(_bare(to.get("jid") or "") for to in root.iterfind(f"{_OX}to")),
        at=None if time is None else _moment(time.get("stamp") or ""),
        bodies=tuple(bodies),
        rest=tuple(rest),
    )


def _moment(stamp: str) -> Micros | None:
    """A DateTime (XEP-0082), of any zone; None if it is none."""
    try:
        moment = datetime.fromisoformat(stamp)
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, TypeError, OverflowError):  # TypeError: no zone
        return None


def _bare(address: str) -> str:
    jid = jids.read(address)
    return address.partition("/")[0] if jid is None else str(jid.userhost())
