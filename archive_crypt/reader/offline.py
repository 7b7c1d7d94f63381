"""What ``search`` does, and ``list``, ``read`` and ``export`` without a server: from a mirror to a
display, or into a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from archive_crypt.model import Micros
from archive_crypt.reader.formats.transcript import Extras, Transcript
from archive_crypt.reader.mirrordb import Kept, Mirror
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.reading import Display
from archive_crypt.reader.show import local


class Shown(Display, Protocol):
    """Where what is in a mirror is shown, collection by collection."""

    def begin(self, collection: Listed, *, unlisted: bool = False) -> None:
        """The entries that follow are of this collection; `unlisted`: see `Kept`."""


class Found(Shown, Protocol):
    """Where what was found is shown."""

    def found(self, entry: Entry, *, hit: bool) -> None:
        """One message: a hit, or what was said near one."""

    def gap(self) -> None:
        """What was said in between is not shown."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for: a `match` of `words`, in collections `with_` somebody (None: anybody), in
    what was said `since` (inclusive) and `until` (exclusive). So many messages before and after each hit
    are its `context`."""

    match: str
    with_: str | None = None
    since: Micros | None = None
    until: Micros | None = None
    context: int = 0


def choose(mirror: Mirror, query: Query) -> list[Kept]:
    """The collections that match: the one that is named exactly, by contact and start, or all."""
    found = mirror.collections(query)
    named = [
        kept for kept in found if (kept.collection.with_, kept.collection.start) == (query.with_, query.start)
    ]
    return named or found


def read(
    mirror: Mirror,
    chosen: Sequence[Kept],
    display: Shown,
    last: int | None = None,
    inner: Callable[[Listed, Entry], Entry] | None = None,
) -> int:
    """Show these collections, or only their `last` so many messages; `inner`: see `Book`. In how many
    places there is something that could not be read, or is suspicious."""
    troubles = 0
    for kept, entries in _contents(mirror, chosen, last):
        if inner is not None:
            entries = [inner(kept.collection, entry) for entry in entries]
        display.begin(kept.collection, unlisted=kept.unlisted)
        for entry in entries:
            display.entry(entry)
        if kept.head.missing:
            display.missing(kept.head.missing)
        troubles += sum(entry.suspicious for entry in entries) + (kept.head.missing > 0)
    return troubles


def transcripts(
    mirror: Mirror, chosen: Sequence[Kept], inner: Callable[[Listed, Entry], Entry] | None = None
) -> Iterator[Transcript]:
    """These collections for files, each read when those before it were taken; `inner`: see `Book`."""
    for kept, entries in _contents(mirror, chosen, None):
        if inner is not None:
            entries = [inner(kept.collection, entry) for entry in entries]
        extras = Extras(kept.head.links, kept.head.form)
        yield Transcript(kept.collection, tuple(entries), extras, kept.head.missing)


def search(mirror: Mirror, wanted: Wanted, display: Found) -> tuple[int, int]:
    """Show what is found: how many messages that is, and how many of those that are shown are suspicious."""
    with mirror.snapshot():
        hits = mirror.search(wanted.match, wanted.since, wanted.until)
        found = [kept for kept in mirror.collections(Query(wanted.with_)) if kept.id in hits]
        troubles = sum(_show(mirror, kept, hits[kept.id], wanted.context, display) for kept in found)
    return sum(len(hits[kept.id]) for kept in found), troubles


def told_age(mirror: Mirror, account: str) -> str:
    """What is to be told of a mirror that is not asked about at the server."""
    how = f"archive-reader sync {account} brings it up to date."
    if mirror.synced is None:
        return f"The mirror is not whole yet: {how}"
    return f"The mirror is of {local(mirror.synced).isoformat(' ', 'minutes')}; {how}"


def _contents(
    mirror: Mirror, chosen: Sequence[Kept], last: int | None
) -> Iterator[tuple[Kept, Sequence[Entry]]]:
    if last is None:
        for kept in chosen:
            yield kept, [entry for _, entry in mirror.entries(kept)]
        return
    found: list[tuple[Kept, Sequence[Entry]]] = []
    for kept in reversed(chosen):
        if last <= 0:
            break
        entries = [entry for _, entry in mirror.entries(kept)][-last:]
        last -= len(entries)
        found.insert(0, (kept, entries))
    yield from found


def _show(mirror: Mirror, kept: Kept, hits: Sequence[int], context: int, display: Found) -> int:
    display.begin(kept.collection, unlisted=kept.unlisted)
    troubles, found = 0, frozenset(hits)
    for number, (first, last) in enumerate(_runs(hits, context)):
        if number and context:
            display.gap()
        for id_, entry in mirror.entries(kept, first, last):
            display.found(entry, hit=id_ in found)
            troubles += entry.suspicious
    return troubles


def _runs(hits: Sequence[int], context: int) -> list[tuple[int, int]]:
    """The ids of the hits with their context, from which to which: where they touch they are one run."""
    runs: list[tuple[int, int]] = []
    for hit in hits:
        first, last = hit - context, hit + context
        if runs and first <= runs[-1][1] + 1:
            first = runs.pop()[0]
        runs.append((first, last))
    return runs
