"""``watch``: what is new, once, in order; at the terminal and for programs, until Ctrl-C."""

import asyncio
import json
import signal
import time
from contextlib import aclosing
from dataclasses import replace

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.core import stanzas
from archive_crypt.core.dialect import F
from archive_crypt.core.items import ReadItem
from archive_crypt.core.rsm import PageInfo
from archive_crypt.model import SECOND, Direction
from archive_crypt.reader import given, protocol
from archive_crypt.reader.errors import NotUnderstood
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.watching import Watch
from tests.kit import LAPTOP, MORNING, element
from tests.reader.conftest import DOMAIN, USERS
from tests.reader.kit import said, turning_on
from tests.reader.terminal import AtTerminal

ROMEO, JULIET, NURSE = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", f"nurse@{DOMAIN}"


def soon():
    """A time, in seconds, that is not over yet."""
    return int(time.time()) + 1


async def as_asyncio(deferred):
    """What a Deferred, or a coroutine of Twisted's, gives, in a coroutine of asyncio's."""
    return await Deferred.fromCoroutine(deferred).asFuture(asyncio.get_running_loop())


async def news(watched):
    """With whom, and what was said, since the last call."""
    async with aclosing(watched.news()) as found:
        return [(collection.with_, said(entries)) async for collection, entries in found]


@pytest.fixture
def watching(served, using):
    """A function that runs something with romeo's archive being watched; the clock is the test's."""

    def start(use, query=None, report=None):
        async def run(archive):
            watched = Watch(archive, Book([LAPTOP]), query or Query(), report or pytest.fail)
            await watched.begin()
            return await use(archive, watched)

        return using(served, run)

    return start


class Stream:
    """A stream of romeo's that is archived sealed, and stays."""

    def __init__(self, served):
        self.served, self.jid = served, JID(f"{ROMEO}/phone")

    async def open(self):
        await self.served.archiver.stream_opened(self.jid)
        request = turning_on(F, [LAPTOP.public()])
        await self.served.archiver.switching.set(
            self.jid, stanzas.parse("set", protocol.parse(request.encode()))
        )

    async def says(self, text, to=JULIET):
        await self._message(Direction.TO, f"to='{to}'", text)

    async def hears(self, text, by=f"{JULIET}/balcony"):
        await self._message(Direction.FROM, f"from='{by}'", text)

    async def _message(self, direction, who, text):
        message = element(f"<message {who} type='chat'><body>{text}</body></message>")
        await self.served.archiver.message(self.jid, direction, message, time.time_ns() // 1000)


@ensureDeferred
async def test_each_new_message_comes_once(served, watching):
    """What was there before is not shown; what comes is, once, also in a collection that was there, and in one
    that is renamed meanwhile; nothing of it looks suspicious."""
    stream = Stream(served)
    await stream.open()
    await stream.says("before")

    async def use(archive, watched):
        assert await news(watched) == []
        await as_asyncio(stream.says("one"))
        assert await news(watched) == [(JULIET, ["one"])]
        assert await news(watched) == []
        await as_asyncio(stream.hears("two"))
        await as_asyncio(stream.says("three", NURSE))
        await as_asyncio(stream.hears("four"))
        async with aclosing(watched.news()) as found:
            (other, others), (renamed, entries) = [one async for one in found]
        assert (renamed.with_, said(entries)) == (f"{JULIET}/balcony", ["two", "four"])
        assert (other.with_, said(others)) == (NURSE, ["three"])
        assert not any(entry.findings for entry in (*entries, *others))
        assert await news(watched) == []

    await watching(use)


@ensureDeferred
async def test_only_with_some(served, watching):
    """With a query only what matches it is shown: a contact whatever his client, or a domain."""

    async def use(archive, watched):
        await as_asyncio(served.record("for her", to=NURSE, at=soon()))
        await as_asyncio(served.record("for you", to=f"{JULIET}/chamber", at=soon()))
        return await news(watched)

    assert await watching(use, Query(JULIET)) == [(f"{JULIET}/chamber", ["for you"])]
    assert await watching(use, Query("elsewhere.example")) == []


@ensureDeferred
async def test_where_the_server_makes_no_sense(served, watching):
    """A collection that comes to no end is told of, and the news of the others come."""
    told = []

    async def use(archive, watched):
        page = archive.sealed.page

        async def repeated(collection, wanted, request):
            if collection.with_ != JULIET:
                return await page(collection, wanted, request)
            return replace(await page(collection, wanted), info=PageInfo("a", "again", None, None))

        archive.sealed.page = repeated
        await as_asyncio(served.record("But soft", at=soon()))
        await as_asyncio(served.record("Ay me", to=NURSE, at=soon()))
        return await news(watched)

    assert await watching(use, report=lambda *why: told.append(why)) == [(NURSE, ["Ay me"])]
    ((collection, why),) = told
    assert (collection.with_, why) == (JULIET, "The server gives the same page again and again.")


@ensureDeferred
async def test_no_sense_at_the_beginning(served, using):
    """A collection whose end the server does not tell in any sense is told of; it ends nothing, and what is
    said in it from then on comes, as of the others."""
    told = []
    await served.record("Good morrow", at=soon() - 10)

    async def use(archive):
        page, watched = (
            archive.sealed.page,
            Watch(archive, Book([LAPTOP]), Query(), lambda *why: told.append(why)),
        )

        async def senseless(collection, wanted, request):
            raise NotUnderstood("The answer is another collection.")

        archive.sealed.page = senseless
        await watched.begin()
        archive.sealed.page = page
        await as_asyncio(served.record("But soft", at=soon()))
        return await news(watched)

    assert await using(served, use) == [(JULIET, ["But soft"])]
    ((collection, why),) = told
    assert (collection.with_, why) == (JULIET, "The answer is another collection.")


@ensureDeferred
async def test_many_at_once(serve, using):
    """What comes between two looks may take more than a page, of a collection and of changes."""
    served = serve(most_items=2, most_collections=1)

    async def use(archive):
        archive.plain.list_page = 1
        watched = Watch(archive, Book([LAPTOP]), Query(), pytest.fail)
        await watched.begin()
        await as_asyncio(served.record(*"01234", at=soon()))
        await as_asyncio(served.record(*"56", to=NURSE, at=soon()))
        return await news(watched)

    assert await using(served, use) == [(JULIET, list("01234")), (NURSE, list("56"))]


@ensureDeferred
async def test_an_old_collection_grows(served, watching):
    """Of one that changed long ago only what is said from now on is shown."""
    await served.record("long ago")

    async def use(archive, watched):
        watched._followed.clear()  # as if it had changed before the hour that is looked back on
        collection = Listed.named(JULIET, MORNING * SECOND)
        now = ReadItem("from", time.time_ns() // 1000, None, None, ((None, "now"),), None)
        await archive.save(collection, [now], [LAPTOP.public()], since=MORNING * SECOND)
        return await news(watched)

    assert await watching(use) == [(JULIET, ["now"])]


@ensureDeferred
async def test_removed_ones_are_told(served, watching):
    """A collection that goes while it is watched comes with nothing."""
    await served.record("one")

    async def use(archive, watched):
        await archive.remove(Listed.named(JULIET, MORNING * SECOND))
        return await news(watched)

    assert await watching(use) == [(JULIET, [])]


@ensureDeferred
async def test_at_the_terminal(served, certificate, key_files, reader):
    """Messages and changed preferences are shown as they come, each at once; Ctrl-C ends it, in peace."""
    where = ["--host", "127.0.0.1", "--port", served.port, "--ca", certificate]
    password = {given.PASSWORD: USERS["romeo"]}
    shell = await deferToThread(
        AtTerminal, "watch", ROMEO, "--json", "--key", key_files["laptop"], *where, **password
    )
    await deferToThread(shell.sees, b"Ctrl-C ends it.\n")
    await served.record("But soft", at=soon())
    first = json.loads(await deferToThread(shell.process.stdout.readline))
    assert (first["with"], first["bodies"][0]["text"]) == (JULIET, "But soft")
    await reader("prefs", "default", ROMEO, "--save", "message", at=served)
    changed = json.loads(await deferToThread(shell.process.stdout.readline))
    assert changed["preferences"]["default"]["save"] == "message"
    shell.process.send_signal(signal.SIGINT)
    code, out, err = await deferToThread(shell.ends)
    assert (code, out) == (130, b"")
    assert b"Traceback" not in err


@ensureDeferred
async def test_the_server_goes_away(served, certificate, key_files):
    """Where the stream ends, so does the watching: one line, exit code 2."""
    where = ["--host", "127.0.0.1", "--port", served.port, "--ca", certificate]
    password = {given.PASSWORD: USERS["romeo"]}
    shell = await deferToThread(AtTerminal, "watch", ROMEO, "--key", key_files["laptop"], *where, **password)
    await deferToThread(shell.sees, b"Ctrl-C ends it.\n")
    await served.server.close()
    code, out, err = await deferToThread(shell.ends)
    assert (code, out) == (2, b"")
    assert err.count(b"\n") == 2
