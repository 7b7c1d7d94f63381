"""The file format of XEP-0136 0.13, section 11, read: of any of its namespaces, in clear or encrypted,
written by whom it may be; one collection in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from lxml import etree

from archive_crypt.core import attributes
from archive_crypt.core.archivefile import OURS
from archive_crypt.core.dialect import DIALECTS
from archive_crypt.errors import BadRequest
from archive_crypt.reader import protocol
from archive_crypt.reader.errors import NotUnderstood
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.formats.transcript import FINDINGS, Transcript, extras_of
from archive_crypt.reader.opening import Book, Entry
from archive_crypt.reader.protocol import ChatPage

#: What iterparse gives: the kind of event, and the element.
_Event = tuple[str, etree._Element]
_ROOTS = frozenset(f"{{{namespace}}}archive" for namespace in DIALECTS)


class ArchiveFile:
    """A file of this format, at its beginning. `owner`: whose archive it is, '' if it does not tell.

    :raises Problem: it cannot be read, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
            # Bounded in depth and size; no entity is looked up, and none is taken at all: see `_begin`.
            self._events: Iterator[_Event] = iter(
                etree.iterparse(
                    self._file,
                    events=("start", "end"),
                    resolve_entities=False,
                    no_network=True,
                    load_dtd=False,
                    huge_tree=False,
                    remove_comments=True,
                    remove_pis=True,
                )
            )
        except OSError as error:
            raise Problem(f"{path} cannot be read: {error.strerror}") from None
        try:
            self._root = self._begin()
        except Problem:
            self.close()
            raise
        self._with = self._root.get("with")
        self.owner: str = self._root.get(f"{{{OURS}}}owner") or ""

    def close(self) -> None:
        """Nothing more is read of it."""
        self._file.close()

    def transcripts(self, book: Book, *, trusted: bool) -> Iterator[Transcript]:
        """The collections, with what the book opens of them.

        `trusted`: the file is the user's own, so that the marks in it are believed. Otherwise only
        those are that make something more suspicious.

        :raises Problem: it is not as it should be; the text says where.
        """
        for chat in self._chats():
            if not chat.get("with") and self._with:
                chat.set("with", self._with)
            try:
                yield _transcript(chat, book, trusted)
            except (BadRequest, NotUnderstood, ValueError, KeyError):
                where = f"line {chat.sourceline}"
                raise Problem(f"{self._path}: the collection in {where} is not as it should be.") from None

    def _chats(self) -> Iterator[etree._Element]:
        name = f"{{{etree.QName(self._root).namespace}}}chat"
        while (event := self._next()) is not None:
            what, element = event
            if what == "end" and element.tag == name and element.getparent() is self._root:
                yield element
                element.clear()  # read, and done with; the parser still holds on to it, but to none before
                while element.getprevious() is not None:
                    del self._root[0]

    def _next(self) -> _Event | None:
        try:
            return next(self._events, None)
        except etree.XMLSyntaxError as error:  # its text can quote what is there
            raise Problem(f"{self._path}, line {error.lineno}: this is not well-formed XML.") from None
        except OSError as error:
            raise Problem(f"{self._path} cannot be read: {error.strerror}") from None

    def _begin(self) -> etree._Element:
        event = self._next()
        root = None if event is None else event[1]
        if root is None or root.tag not in _ROOTS:
            raise Problem(f"{self._path} is no archive file (XEP-0136 0.13, section 11).")
        if root.getroottree().docinfo.internalDTD is not None:
            raise Problem(f"{self._path} has a document type, which no archive file needs: it is not read.")
        return root


@dataclass(slots=True)
class _Reading:
    """A collection while it is read."""

    trusted: bool
    entries: list[Entry] = field(default_factory=list)
    missing: int = 0
    withheld: bool = False

    def remark(self, part: etree._Element) -> bool:
        """Whether a part only tells what is not there."""
        remark = part.get(f"{{{OURS}}}remark")
        if remark == "missing":
            self.missing += attributes.natural(part, f"{{{OURS}}}count") or 0
        elif remark == "withheld":
            self.withheld = True
        return remark in ("missing", "withheld")

    def add(self, entry: Entry) -> None:
        self.entries.append(replace(entry, missing=entry.missing + self.missing))
        self.missing = 0

    def marked(self, entry: Entry, part: etree._Element) -> Entry:
        """The entry of a part in clear, as its marks have it."""
        words = (part.get(f"{{{OURS}}}findings") or "").split()
        marks = [FINDINGS[word] for word in words]
        if part.get(f"{{{OURS}}}remark") == "unread":
            entry = replace(entry, item=None, at=None)
        ids = (part.get(f"{{{OURS}}}openpgp-keys") or "").split()
        entry = replace(entry, openpgp_keys=(*entry.openpgp_keys, *ids))
        if not self.trusted:
            marks = [finding for finding in marks if finding.suspicious]
            return replace(entry, findings=tuple(dict.fromkeys((*marks, *entry.findings))))
        expected = self.entries[-1].place + 1 if self.entries else 0
        place = attributes.natural(part, f"{{{OURS}}}place")
        return replace(
            entry,
            place=expected if place is None else place,
            sealed=part.get(f"{{{OURS}}}sealed") == "true",
            findings=tuple(dict.fromkeys((*marks, *entry.findings))),
        )


def _transcript(chat: etree._Element, book: Book, trusted: bool) -> Transcript:
    page = protocol.read_chat(chat)
    crypt = page.collection.crypt or any(map(protocol.is_sealed, page.parts))
    collection = replace(page.collection, crypt=crypt)
    reading = _Reading(trusted)
    book.begin(collection)
    book.read(ChatPage(collection, (), page.keys, 0, None))
    for part in page.parts:
        sealed = protocol.is_sealed(part)
        if not sealed and reading.remark(part):
            continue
        for entry in book.read(ChatPage(collection, (part,), (), 0, None)):
            reading.add(entry if sealed else reading.marked(entry, part))
    if trusted:
        version = attributes.natural(chat, f"{{{OURS}}}version")
        was_crypt = crypt or chat.get(f"{{{OURS}}}crypt") == "true"
        version = collection.version if version is None else version
        collection = replace(collection, crypt=was_crypt, version=version)
    extras = extras_of(page, book.form(page))
    return Transcript(collection, tuple(reading.entries), extras, reading.missing, reading.withheld)
