"""mbox read: files of ours, and mails of whatever origin (XEP-0136 5.1, messages from other media).

Of mails of others each thread becomes a collection: its contact is who wrote, or to whom the owner
wrote first.
"""

from __future__ import annotations

import mailbox
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

from lxml import etree

from archive_crypt.core import jids, times
from archive_crypt.core.archivefile import legal, text
from archive_crypt.core.items import ReadItem
from archive_crypt.errors import BadRequest
from archive_crypt.model import MILLISECOND, Micros
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.formats.mbox import NOWHERE
from archive_crypt.reader.formats.transcript import FINDINGS, Gathered, Transcript
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: What the local part of a JID cannot hold stands so in it (XEP-0106).
_ESCAPES = {ord(c): f"\\{ord(c):02x}" for c in " \"&'/:<>@\\"}
#: What email's parsers raise where a header is beyond them.
_BEYOND = (ValueError, TypeError, LookupError, AttributeError)


@dataclass(frozen=True, slots=True)
class _Mail:
    """What of a mail decides where it belongs. `sent`: its owner wrote it."""

    key: str
    with_: str
    thread: str
    at: Micros
    sent: bool
    ours: bool


def read(path: Path, owner: str) -> Iterator[Transcript]:
    """The transcripts in an mbox file. What `owner` wrote (his bare JID, or his address of mail) he sent.

    The file is read twice: to see what belongs together, then one collection after the other.

    :raises Problem: it cannot be read, or holds no mail.
    """
    address = jids.read(owner)
    owner = owner if address is None else str(address.userhost())
    try:
        with closing(mailbox.mbox(path, create=False)) as box:
            yield from _transcripts(path, box, owner)
    except (OSError, mailbox.Error):
        raise Problem(f"{path} cannot be read as an mbox file.") from None


def _transcripts(path: Path, box: mailbox.mbox, owner: str) -> Iterator[Transcript]:
    mails = [_mail(key, _parsed(box, key), owner) for key in box.iterkeys()]
    if not mails:
        raise Problem(f"{path} holds no mail: an mbox file begins with 'From '.")
    threads: dict[tuple[str, str], list[_Mail]] = {}
    for mail in mails:
        threads.setdefault((mail.with_, mail.thread), []).append(mail)
    taken: set[tuple[str, Micros]] = set()
    for thread in threads.values():
        yield from _of_ours(box, thread) if thread[0].ours else _of_others(box, thread, taken)


def _mail(key: str, mail: EmailMessage, owner: str) -> _Mail:
    with_, start = _header(mail, "X-Archive-With"), _header(mail, "X-Archive-Start")
    if with_ and _moment(start) is not None:
        return _Mail(key, with_, start, 0, False, True)
    sender, recipient = _jid(mail, "From"), _jid(mail, "To")
    sent = sender == owner
    references = f"{_header(mail, 'References')} {_header(mail, 'In-Reply-To')} {_header(mail, 'Message-ID')}"
    thread = next(iter(references.split()), key)
    return _Mail(key, recipient if sent else sender, thread, _date(mail), sent, False)


def _of_ours(box: mailbox.mbox, mails: Sequence[_Mail]) -> Iterator[Transcript]:
    """A collection as we wrote it."""
    first = _parsed(box, mails[0].key)
    start = _header(first, "X-Archive-Start")
    collection = Listed(
        with_=mails[0].with_,
        start=times.parse(start),
        told=start,
        thread=_header(first, "X-Archive-Thread") or None,
    )
    gathered = Gathered()
    gathered.begin(collection)
    missing = place = 0
    for each in mails:
        mail = _parsed(box, each.key)
        remark, _, count = _header(mail, "X-Archive-Remark").partition(" ")
        if remark == "missing":
            missing += int(count) if count.isdecimal() else 1
        elif remark == "withheld":
            gathered.withheld(collection)
        else:
            gathered.entry(_entry_of_ours(mail, place, missing, unread=remark == "unread"))
            place, missing = place + 1, 0
    gathered.missing(missing)
    yield from gathered.take()


def _entry_of_ours(mail: EmailMessage, place: int, missing: int, *, unread: bool) -> Entry:
    words = _header(mail, "X-Archive-Findings").split()
    findings = tuple(FINDINGS[word] for word in words if word in FINDINGS)
    if unread:
        return Entry(place, False, None, None, findings, missing)
    kind, at = _header(mail, "X-Archive-Kind"), _moment(_header(mail, "X-Archive-Time"))
    item = ReadItem(
        kind=kind if kind in ("to", "from", "note") else "note",
        at=at,
        secs=None,
        name=_header(mail, "X-Archive-Name") or None,
        bodies=_bodies(mail),
        bound=None,
    )
    return Entry(place, False, item, at, findings, missing)


def _of_others(
    box: mailbox.mbox, mails: Sequence[_Mail], taken: set[tuple[str, Micros]]
) -> Iterator[Transcript]:
    """A thread of mails, by their dates; its start is one that no other has with this contact."""
    mails = sorted(mails, key=lambda mail: mail.at)
    with_, start = mails[0].with_, mails[0].at
    while (with_, start) in taken:
        start += MILLISECOND
    taken.add((with_, start))
    collection = Listed(with_, start, times.render(start), thread=mails[0].thread)
    entries = []
    for place, each in enumerate(mails):
        mail = _parsed(box, each.key)
        subject = _header(mail, "Subject")
        item = ReadItem(
            kind="to" if each.sent else "from",
            at=each.at,
            secs=None,
            name=None,
            bodies=_bodies(mail),
            bound=None,
            rest=(f'<subject xmlns="jabber:client">{text(subject)}</subject>',) if subject else (),
        )
        entries.append(Entry(place, False, item, each.at, ()))
    yield Transcript(collection, tuple(entries))


def _bodies(mail: EmailMessage) -> tuple[tuple[str | None, str], ...]:
    """The texts of a mail by their language; of attachments the names."""
    parts = [part for part in mail.walk() if not part.is_multipart()]
    texts = [part for part in parts if part.get_content_type() == "text/plain" and not part.is_attachment()]
    if not texts:
        texts = [part for part in parts if part.get_content_type() == "text/html"]
    left_out = "".join(
        f"\n[attachment left out: {_filename(part)}]" for part in parts if part.is_attachment()
    )
    found = [(_header(part, "Content-Language") or None, _said(part) + left_out) for part in texts]
    return tuple(found or [(None, left_out.strip() or "(no text)")])


def _said(part: EmailMessage) -> str:
    try:
        said = str(part.get_content())
    except _BEYOND:  # a charset that is none
        payload = part.get_payload(decode=True)
        said = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    if part.get_content_type() == "text/html":
        root = etree.fromstring(said.encode() or b"<p/>", etree.HTMLParser(no_network=True, encoding="utf-8"))
        said = "" if root is None else "".join(_visible(root)).strip()
    return legal(said.replace("\r\n", "\n").removesuffix("\n"))


def _visible(root: etree._Element) -> Iterator[str]:
    hidden = "ancestor::script or ancestor::style or ancestor::head"
    found = root.xpath(f"//text()[not({hidden})]")
    return (str(part) for part in found) if isinstance(found, list) else iter(())


def _filename(part: EmailMessage) -> str:
    try:
        return legal(part.get_filename() or part.get_content_type())
    except _BEYOND:
        return "?"


def _parsed(box: mailbox.mbox, key: str) -> EmailMessage:
    return message_from_bytes(box.get_bytes(key), policy=policy.default)


def _header(mail: EmailMessage, name: str) -> str:
    """A header's text, '' without it."""
    try:
        return legal(str(mail[name] or "")).strip()
    except _BEYOND:
        return ""


def _jid(mail: EmailMessage, name: str) -> str:
    """The JID of a header's first address, escaped (XEP-0106) where it has to be."""
    try:
        address = mail[name].addresses[0]
        local, domain = address.username, address.domain
    except _BEYOND:
        local = domain = ""
    jid = jids.read(f"{local.translate(_ESCAPES)}@{domain}") if local and domain else None
    return f"unknown@{NOWHERE}" if jid is None else str(jid.userhost())


def _date(mail: EmailMessage) -> Micros:
    """When it was written; 1970 where it does not tell."""
    try:
        moment = parsedate_to_datetime(_header(mail, "Date"))
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (zoned - _EPOCH) // _MICROSECOND
    except (*_BEYOND, OverflowError):
        return 0


def _moment(said: str) -> Micros | None:
    try:
        return times.parse(said)
    except BadRequest:
        return None
