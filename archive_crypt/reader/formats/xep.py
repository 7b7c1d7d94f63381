"""The file format of XEP-0136 0.13, section 11, written: ``<archive with='...'/>``, one file a contact.

Marks stand in attributes of our own, which other readers ignore; but where something is missing or
could not be read there is a ``<note/>``, which all of them show.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from lxml import etree

from archive_crypt.core import times
from archive_crypt.core.archivefile import TAIL, attributes, head, text
from archive_crypt.core.canonical import canonical
from archive_crypt.core.items import ReadItem
from archive_crypt.model import Micros
from archive_crypt.reader.formats.transcript import NO_EXTRAS, WITHHELD, Extras, of_missing, why_unread
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed


class Writer:
    """Writes to `file`, a text file in UTF-8; `with_` is the contact that it is about, `owner` whose
    archive it is, or None. `encrypted`: what is sealed stays so, given by `sealed` and `keys`.
    `goes_on`: the file has its beginning already."""

    def __init__(
        self,
        file: TextIO,
        owner: str | None,
        with_: str | None = None,
        *,
        encrypted: bool = False,
        goes_on: bool = False,
    ) -> None:
        self._file = file
        self._with = with_
        self._encrypted = encrypted
        self._collection: Listed | None = None
        self._place, self._seconds = 0, 0
        self._keys: set[str] = set()
        if not goes_on:
            self._file.write(head(owner, with_))

    def begin(self, collection: Listed, extras: Extras = NO_EXTRAS) -> None:
        self.end()
        self._collection = collection
        self._place, self._seconds, self._keys = 0, 0, set()
        # `crypt` tells of EncryptedData, and there is none where they were opened.
        crypt = "crypt" if self._encrypted else "a:crypt"
        told = attributes(
            ("with", collection.with_ if collection.with_ != self._with else None),
            ("start", collection.told),
            ("thread", collection.thread),
            ("subject", collection.subject),
            (crypt, "true" if collection.crypt else None),
            ("a:version", None if collection.version is None else str(collection.version)),
        )
        self._file.write(f"  <chat{told}>\n")
        for name in ("previous", "next"):
            link = extras.links.get(name)
            if link is not None:
                ends = attributes(("with", link.with_), ("start", times.render(link.start)))
                self._line(f"<{name}{ends}/>")
        if extras.form:
            self._line(extras.form)

    def entry(self, entry: Entry) -> None:
        if entry.missing:
            self.missing(entry.missing)
        words = " ".join(finding.word for finding in entry.findings)
        marks = attributes(
            ("a:place", None if entry.place == self._place else str(entry.place)),
            ("a:sealed", "true" if entry.sealed else None),
            ("a:findings", words or None),
            ("a:openpgp-keys", " ".join(entry.openpgp_keys) or None),
        )
        self._place = entry.place + 1
        if entry.item is None:
            self._line(f"<note a:remark='unread'{marks}>{text(why_unread(entry))}</note>")
        else:
            self._line(self._item(entry.item, entry.at, marks))

    def sealed(self, part: etree._Element) -> None:
        """An EncryptedData as the server gave it."""
        self._place += 1
        self._line(canonical(part))

    def keys(self, keys: Iterable[etree._Element]) -> None:
        """The EncryptedKeys that came with a page of the collection."""
        for key in keys:
            written = canonical(key)
            if written not in self._keys:
                self._keys.add(written)
                self._line(written)

    def missing(self, count: int) -> None:
        self._line(f"<note a:remark='missing' a:count='{count}'>{text(of_missing(count))}</note>")

    def withheld(self, collection: Listed) -> None:
        if collection is not self._collection:
            self.begin(collection)
        self._line(f"<note a:remark='withheld'>{text(WITHHELD)}</note>")

    def finish(self) -> None:
        self.end()
        self._file.write(TAIL)

    def _item(self, item: ReadItem, at: Micros | None, marks: str) -> str:
        utc = attributes(("utc", None if at is None else times.render(at)))
        who = attributes(("name", item.name), ("jid", item.jid))
        if item.kind == "note":
            said = text("".join(body for _, body in item.bodies))
            return f"<note{utc}{who}{marks}>{said}{''.join(item.rest)}</note>"
        bodies = "".join(
            f"<body{attributes(('xml:lang', language))}>{text(body)}</body>" for language, body in item.bodies
        )
        inner = f"{bodies}{''.join(item.rest)}"
        return f"<{item.kind}{self._secs(at)}{utc}{who}{marks}>{inner}</{item.kind}>"

    def _secs(self, at: Micros | None) -> str:
        """``secs``: since the message before, the first one's since the start; rounded so that their
        sum is never a second off."""
        if at is None or self._collection is None:
            return ""
        reached = max(self._seconds, times.whole_seconds(at, self._collection.start))
        secs, self._seconds = reached - self._seconds, reached
        return f" secs='{secs}'"

    def end(self) -> None:
        """The collection is over, if one was begun; the file may go on."""
        if self._collection is not None:
            self._file.write("  </chat>\n")
        self._collection = None

    def _line(self, written: str) -> None:
        self._file.write(f"    {written}\n")
