"""What all formats write and read: a collection with its entries. No file and no format is known here.

Writers are displays (`reading.Display`), so that what is read of a server goes into a file as it
comes; whoever has transcripts gives them to `write`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from lxml import etree

from archive_crypt.core.canonical import canonical
from archive_crypt.errors import BadRequest
from archive_crypt.model import Link, LinkName, Micros
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import ChatPage, Listed
from archive_crypt.reader.show import local

#: Findings by the word that files have for them.
FINDINGS: Mapping[str, Finding] = {finding.word: finding for finding in Finding}


@dataclass(frozen=True, slots=True)
class Extras:
    """What a collection has besides items: links to others (XEP-0136 5.7) and its attributes form
    (5.8), in canonical XML."""

    links: Mapping[LinkName, Link] = field(default_factory=dict)
    form: str | None = None


NO_EXTRAS = Extras()


def extras_of(page: ChatPage, form: etree._Element | None) -> Extras:
    """Those of a page; `form` is its form, opened. One that could not be opened stays as it is."""
    found = page.form if form is None else form
    try:
        return Extras(page.links, None if found is None else canonical(found))
    except BadRequest:  # it has no form by itself
        return Extras(page.links)


@dataclass(frozen=True, slots=True)
class Transcript:
    """A collection and its entries, in order. `missing`: so many at its end were counted and not
    given; `withheld`: it was listed, but the server did not give it, or not to its end."""

    collection: Listed
    entries: tuple[Entry, ...]
    extras: Extras = NO_EXTRAS
    missing: int = 0
    withheld: bool = False


class Writer(Protocol):
    """Writes a file: what its collections hold, one after another, and at last `finish`."""

    def begin(self, collection: Listed, extras: Extras = NO_EXTRAS) -> None:
        """The entries that follow are of this collection."""

    def entry(self, entry: Entry) -> None:
        """One message."""

    def missing(self, count: int) -> None:
        """The collection has so many more messages, and the server did not give them."""

    def withheld(self, collection: Listed) -> None:
        """The collection, begun or not, was listed, but the server did not give it, or not to its end."""

    def finish(self) -> None:
        """Nothing follows. Without it the file is not whole."""


class Gathered:
    """A writer that keeps the collection last begun: what readers of files fill, line by line."""

    def __init__(self) -> None:
        self._transcript: Transcript | None = None
        self._entries: list[Entry] = []

    def begin(self, collection: Listed, extras: Extras = NO_EXTRAS) -> None:
        self._transcript, self._entries = Transcript(collection, (), extras), []

    def entry(self, entry: Entry) -> None:
        self._entries.append(entry)

    def missing(self, count: int) -> None:
        if self._transcript is not None:
            self._transcript = replace(self._transcript, missing=self._transcript.missing + count)

    def withheld(self, collection: Listed) -> None:
        if self._transcript is None or self._transcript.collection != collection:
            self.begin(collection)
        if self._transcript is not None:
            self._transcript = replace(self._transcript, withheld=True)

    def finish(self) -> None:
        pass

    def take(self) -> Iterator[Transcript]:
        """What was kept since the last call: one transcript or none."""
        if self._transcript is not None:
            yield replace(self._transcript, entries=tuple(self._entries))
        self._transcript, self._entries = None, []


def write(writer: Writer, transcripts: Iterable[Transcript]) -> None:
    """A file of these transcripts, each taken when those before it are written."""
    for transcript in transcripts:
        writer.begin(transcript.collection, transcript.extras)
        for entry in transcript.entries:
            writer.entry(entry)
        if transcript.missing:
            writer.missing(transcript.missing)
        if transcript.withheld:
            writer.withheld(transcript.collection)
    writer.finish()


def settled(entry: Entry) -> Entry:
    """The entry as it is by itself, out of its archive: its item has the time that was found, and
    neither one that counts from another item nor what binds it to its place."""
    if entry.item is None:
        return entry
    return replace(entry, item=replace(entry.item, at=entry.at, secs=None, bound=None))


def speaker(entry: Entry, collection: Listed, owner: str) -> str:
    """A name for who said it, as people call each other; '' where that is not known."""
    item = entry.item
    if item is None:
        return ""
    if item.name:
        return item.name
    if item.kind == "note":
        return "note"
    address = (owner or "me") if item.kind == "to" else item.jid or collection.with_
    return address.partition("/")[0].partition("@")[0]


def stamp(moment: Micros) -> str:
    """A moment in the local zone, to the second, with the zone's offset."""
    return local(moment).isoformat(" ", "seconds")


def why_unread(entry: Entry) -> str:
    """What is told where a message could not be read."""
    reasons = "; ".join(finding.text for finding in entry.findings) or "the reason is not known"
    return f"This message could not be read: {reasons}."


def of_missing(count: int) -> str:
    """What is told where so many messages should be."""
    return "A message is missing here." if count == 1 else f"{count} messages are missing here."


WITHHELD = "This collection was listed, but the server did not give it, or not to its end."
