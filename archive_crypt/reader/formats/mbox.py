"""mbox (RFC 4155): each message a mail, each collection a thread of them, for mail programs to search
and keep. What could not be read, or is missing, is a mail that says so.
"""

from __future__ import annotations

import hashlib
import re
import time
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.policy import EmailPolicy
from typing import TextIO
from urllib.parse import quote

from archive_crypt.core import times
from archive_crypt.core.archivefile import legal
from archive_crypt.core.items import ReadItem
from archive_crypt.model import SECOND, Micros
from archive_crypt.reader.formats.transcript import NO_EXTRAS, WITHHELD, Extras, of_missing, why_unread
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.show import clean

#: Where nobody has an address (RFC 6761): for those who have none in XMPP, and for our message ids.
NOWHERE = "archive.invalid"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: RFC 4155 has seven-bit lines that end in a line feed.
_POLICY = EmailPolicy(cte_type="7bit", linesep="\n")
#: What an address may hold unquoted (RFC 5322 3.2.3).
_ATEXT = "!#$&'*+-/=?^_`{|}~."
_SEPARATOR = re.compile("^From ", re.MULTILINE)


class Writer:
    """Writes to `file`, a text file; `owner` is whose archive it is, or ''."""

    def __init__(self, file: TextIO, owner: str) -> None:
        self._file = file
        self._owner = owner or f"owner@{NOWHERE}"
        self._collection: Listed | None = None
        self._number = 0
        self._time: Micros = 0

    def begin(self, collection: Listed, extras: Extras = NO_EXTRAS) -> None:
        self._collection, self._number, self._time = collection, 0, collection.start

    def entry(self, entry: Entry) -> None:
        if entry.missing:
            self.missing(entry.missing)
        self._time = self._time if entry.at is None else entry.at
        words = [finding.word for finding in entry.findings]
        if entry.item is None:
            self._remark("unread", why_unread(entry), words)
            return
        mail = self._mail(*self._ends(entry.item), entry.item.kind)
        warnings = "; ".join(finding.text for finding in entry.findings if finding.suspicious)
        if warnings:
            mail.replace_header("Subject", f"[! {warnings}] {mail['Subject']}")
        if entry.at is not None:
            mail["X-Archive-Time"] = times.render(entry.at)
        if entry.item.name is not None:
            mail["X-Archive-Name"] = clean(entry.item.name)
        _set_bodies(mail, entry.item)
        self._write(mail, words)

    def missing(self, count: int) -> None:
        self._remark(f"missing {count}", of_missing(count))

    def withheld(self, collection: Listed) -> None:
        if collection is not self._collection:
            self.begin(collection)
        self._remark("withheld", WITHHELD)

    def finish(self) -> None:
        pass

    def _remark(self, remark: str, said: str, words: list[str] | None = None) -> None:
        mail = self._mail(Address("archive-reader", "archive-reader", NOWHERE), _address(self._owner))
        mail.replace_header("Subject", f"[!] {mail['Subject']}")
        mail["X-Archive-Remark"] = remark
        mail.set_content(f"{said}\n")
        self._write(mail, words or [])

    def _mail(self, sender: Address, recipient: Address, kind: str = "") -> EmailMessage:
        """A mail without content."""
        mail = EmailMessage(_POLICY)
        collection = self._collection
        if collection is None:
            raise ValueError("no collection was begun")
        moment = _EPOCH + timedelta(microseconds=self._time)
        identity = f"{collection.with_}\n{collection.told}"
        mail["From"], mail["To"] = sender, recipient
        mail["Date"] = moment.replace(microsecond=0)
        mail["Subject"] = clean(collection.subject or f"Conversation with {_bare(collection.with_)}")
        mail["Message-ID"] = _message_id(f"{identity}\n{self._number}")
        mail["References"] = _message_id(identity)  # the whole collection is one thread
        mail["X-Archive-With"] = clean(collection.with_)
        mail["X-Archive-Start"] = times.render(collection.start)
        if kind:
            mail["X-Archive-Kind"] = kind
        if collection.thread is not None:
            mail["X-Archive-Thread"] = clean(collection.thread)
        self._number += 1
        return mail

    def _ends(self, item: ReadItem) -> tuple[Address, Address]:
        owner = _address(self._owner)
        if item.kind == "note" or self._collection is None:
            return owner, owner
        peer = _address(item.jid or self._collection.with_, item.name)
        return (owner, peer) if item.kind == "to" else (peer, owner)

    def _write(self, mail: EmailMessage, words: list[str]) -> None:
        if words:
            mail["X-Archive-Findings"] = " ".join(words)
        moment = time.asctime((_EPOCH + timedelta(seconds=self._time // SECOND)).timetuple())
        sender = mail["From"].addresses[0].addr_spec
        self._file.write(f"From {sender} {moment}\n{mail.as_bytes().decode('ascii')}\n")


def _set_bodies(mail: EmailMessage, item: ReadItem) -> None:
    """One text, or one in each of several languages."""
    if len(item.bodies) < 2:
        language, said = item.bodies[0] if item.bodies else (None, "(no text)")
        mail.set_content(f"{legal(said)}\n", cte=_encoding(said))
        _set_language(mail, language)
        return
    for language, said in item.bodies:
        mail.add_alternative(f"{legal(said)}\n", cte=_encoding(said))
        *_, part = mail.iter_parts()
        _set_language(part, language)


def _set_language(part: MIMEPart, language: str | None) -> None:
    if language:
        part["Content-Language"] = clean(language)


def _encoding(said: str) -> str | None:
    """None: whatever suits. A line that begins as mails do in an mbox must not stand there, be it one of the
    text or of what becomes of a long one."""
    if "From " not in said:
        return None
    tried = MIMEPart(_POLICY)
    tried.set_content(f"{legal(said)}\n")
    return "base64" if _SEPARATOR.search(tried.as_string()) else None


def _address(address: str, name: str | None = None) -> Address:
    """A JID as an address of mail: what that cannot hold is percent-encoded."""
    bare, _, resource = address.partition("/")
    local, at, domain = bare.rpartition("@")
    local = quote(local, safe=_ATEXT).strip(".").replace("..", ".") or "xmpp"
    try:
        ascii_domain = domain.encode("idna").decode()
    except UnicodeError:
        ascii_domain = NOWHERE
    if not re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", ascii_domain):
        ascii_domain = NOWHERE
    return Address(clean(name or (local if at else domain)), local, ascii_domain)


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _message_id(of: str) -> str:
    """The same for the same, so that a file read twice is no two conversations."""
    return f"<{hashlib.sha256(of.encode(errors='replace')).hexdigest()[:32]}@{NOWHERE}>"
