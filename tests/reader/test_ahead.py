"""Collections are fetched ahead: in their order, no more than is promised, and nothing goes on unasked."""

import asyncio
from contextlib import aclosing

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.model import SECOND
from archive_crypt.reader import ahead, reading
from archive_crypt.reader.errors import NotFound
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed, Query
from tests.kit import LAPTOP, MORNING
from tests.reader.conftest import DOMAIN
from tests.reader.kit import said

JULIET = f"juliet@{DOMAIN}"


@pytest.fixture
def recorded(serve):
    """A function that starts a server with so many collections of three messages, two on a page."""

    async def start(count):
        served = serve(most_items=2)
        for number in range(count):
            await served.record(*(f"{number}{word}" for word in "abc"), at=MORNING + number * 3600)
        return served

    return start


@ensureDeferred
async def test_in_their_order(recorded, using):
    """Each collection comes with its own pages, first to last, however many were fetched meanwhile."""
    served = await recorded(7)

    async def use(archive):
        book, found = Book([LAPTOP]), []
        chosen = await reading.choose(archive, Query())
        async with aclosing(ahead.transcripts(archive, chosen, book)) as collections:
            async for collection, pages in collections:
                book.begin(collection)
                entries = [entry async for page in pages for entry in book.read(page)]
                assert not any(entry.findings for entry in entries)
                found.append((collection, said(entries)))
        return chosen, found

    chosen, found = await using(served, use)
    expected = [[f"{number}{word}" for word in "abc"] for number in range(7)]
    assert found == list(zip(chosen, expected, strict=True))


@ensureDeferred
async def test_one_that_is_not_there(recorded, using):
    """What cannot be fetched is told where it stands; those after it come all the same."""
    served = await recorded(2)

    async def use(archive):
        first, last = await reading.choose(archive, Query())
        chosen, counts = [first, Listed.named(JULIET, MORNING * SECOND + 1), last], []
        async with aclosing(ahead.transcripts(archive, chosen, Book([LAPTOP]))) as collections:
            async for _, pages in collections:
                try:
                    counts.append(sum([len(page) async for page in pages]))
                except NotFound:
                    counts.append(None)
        return counts

    assert await using(served, use) == [3, None, 3]


@ensureDeferred
async def test_no_more_than_is_promised(recorded, using):
    """While one collection is read, two more are fetched, and two pages of each at most."""
    served = await recorded(5)

    async def use(archive):
        asked = []
        pages = archive.pages

        async def watched(collection, wanted):
            async for page in pages(collection, wanted):
                asked.append((collection.start // SECOND - MORNING) // 3600)
                yield page

        archive.pages = watched
        chosen = await reading.choose(archive, Query())
        async with aclosing(ahead.transcripts(archive, chosen, Book([LAPTOP]))) as collections:
            async for _, _pages in collections:
                while len(asked) < 6:
                    await asyncio.sleep(0)
                break
        before = sorted(asked)
        await archive.preferences()  # time for whatever went on
        return before, sorted(asked)

    before, after = await using(served, use)
    assert before == after == [0, 0, 1, 1, 2, 2]
