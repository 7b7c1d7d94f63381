"""Messages are read while the connection goes on."""

import asyncio
import threading

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.reader import exporting, reading
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Query
from tests.kit import LAPTOP
from tests.reader.conftest import PATIENCE
from tests.reader.kit import said


class Shown:
    """A display, and a writer, that keeps the messages."""

    def __init__(self):
        self.entries = []

    def begin(self, collection, extras=None):
        pass

    def entry(self, entry):
        self.entries.append(entry)


async def read(archive, chosen, book, shown):
    await reading.read(archive, chosen, book, shown, pytest.fail)


async def read_last(archive, chosen, book, shown):
    await reading.read(archive, chosen, book, shown, pytest.fail, 3)


async def export(archive, chosen, book, shown):
    await exporting.export(archive, chosen, book, shown, lambda summary: None, pytest.fail)


@pytest.mark.parametrize("how", [read, read_last, export])
@ensureDeferred
async def test_inner_messages(served, using, how):
    """While what is encrypted within a message is read, the server is still answered; and messages come in
    their order, however long each took."""
    await served.record("a", "b", "c")

    async def use(archive):
        asked, answered = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def slow(collection, entry):
            if entry.place == 0:
                loop.call_soon_threadsafe(asked.set)
                assert answered.wait(PATIENCE)
            return entry

        async def answer():
            await asked.wait()
            await archive.preferences()
            answered.set()

        chosen, shown = await reading.choose(archive, Query()), Shown()
        await asyncio.gather(how(archive, chosen, Book([LAPTOP], inner=slow), shown), answer())
        return said(shown.entries)

    assert await using(served, use) == ["a", "b", "c"]
