"""Which collections ``rearchive`` replaces: those with OpenPGP messages. What was agreed in their threads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from archive_crypt.core import jids
from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.model import Micros
from archive_crypt.reader import ahead, ox, reading
from archive_crypt.reader.agreed import Agreements
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import NotUnderstood, Refused
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.reading import Report


@dataclass(frozen=True, slots=True)
class Found:
    """The collections that hold an OpenPGP message; what was agreed in their threads; and how many could not
    be read, which were reported."""

    collections: list[Listed]
    agreements: Agreements
    unread: int


async def find(archive: Archive, query: Query, private: Sequence[PrivateKey], report: Report) -> Found:
    """What matches a query. Of what does not, those collections are read, too, in which it may have been
    agreed not to log what follows.

    :raises RequestFailed: they could not be listed.
    """
    agreements = Agreements()
    chosen = await reading.choose(archive, query)
    found, unread = await _look(archive, chosen, private, report, agreements)
    before = [] if query == Query() else await _before(archive, found, chosen)
    _, more = await _look(archive, before, private, report, agreements)
    return Found(found, agreements, unread + more)


async def _look(
    archive: Archive,
    chosen: Sequence[Listed],
    private: Sequence[PrivateKey],
    report: Report,
    agreements: Agreements,
) -> tuple[list[Listed], int]:
    """Those of the collections that hold an OpenPGP message, and how many could not be read; what was agreed
    in any of them is added to the agreements."""
    found, unread, book = [], 0, Book(private)
    async with aclosing(ahead.transcripts(archive, chosen, book)) as each:
        async for collection, pages in each:
            book.begin(collection)
            try:
                entries = [entry async for page in pages for entry in book.read(page)]
            except (Refused, NotUnderstood) as error:
                report(collection, str(error))
                unread += 1
            else:
                agreements.outcome(collection, entries)
                found += [collection] if any(map(ox.is_openpgp, entries)) else []
            book.end(None)
    return found, unread


async def _before(archive: Archive, found: Sequence[Listed], chosen: Sequence[Listed]) -> list[Listed]:
    """The collections that were not chosen, of the threads of those that were found, and before them."""
    last: dict[tuple[str, str | None], Micros] = {}
    for one in found:
        if one.thread is not None:
            key = jids.bare(one.with_), one.thread
            last[key] = max(one.start, last.get(key, one.start))
    known = {(one.with_, one.start) for one in chosen}
    others = [
        one
        for with_ in sorted({with_ for with_, _ in last})
        for one in await reading.listed(archive, Query(with_))
    ]
    return [
        one
        for one in others
        if (one.with_, one.start) not in known
        and one.start < last.get((jids.bare(one.with_), one.thread), one.start)
    ]
