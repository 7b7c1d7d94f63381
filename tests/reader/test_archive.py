"""The commands' view of an archive, on a real connection: to a server of ours, and to one that lies."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core.items import ReadItem
from archive_crypt.model import SECOND, SaveMode
from archive_crypt.reader.errors import NotFound, NotUnderstood
from archive_crypt.reader.failures import NoConnection
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed, Query
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN
from tests.reader.kit import said
from tests.reader.scripted import SILENCE, Scripted

ROMEO, JULIET = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}"
START = MORNING * SECOND


async def all_of(iterator):
    return [one async for one in iterator]


@ensureDeferred
async def test_what_commands_do(served, using):
    """Preferences are told; what is saved, sealed or in clear, is listed, read, told as a change, and removed;
    keys are listed and deleted."""
    chats = [Listed.named(JULIET, START + hour) for hour in range(2)]
    item = ReadItem("to", START, None, None, ((None, "x"),), None)
    names = [LAPTOP.public().name]

    async def use(archive):
        assert (await archive.preferences()).default.save is SaveMode.BODY
        for chat, keys in zip(chats, (None, [LAPTOP.public(), PHONE.public()]), strict=True):
            assert (await archive.save(chat, [item], keys)).items == 1
        listed = await all_of(archive.collections(Query()))
        assert [chat.crypt for chat in listed] == [False, True]
        ((sealed, keys),) = await all_of(archive.keys(names))
        assert len(keys) == 1
        await archive.delete(sealed, names)
        assert await all_of(archive.keys(names)) == []
        book = Book([PHONE])
        book.begin(sealed)
        assert said([one async for page in archive.pages(sealed, book) for one in book.read(page)]) == ["x"]
        await archive.remove(listed[0])
        with pytest.raises(NotFound):
            await archive.remove_matching(Query(JULIET), recording=True)
        return [change.removed async for page in archive.modified() for change in page.changes]

    assert await using(served, use) == [False, True]


@ensureDeferred
async def test_the_last_of_what_was_sealed_together(served, using, reader, key_files):
    """--last counts messages, of which clients seal many at once."""
    items = [ReadItem("to", START + n * SECOND, None, None, ((None, str(n)),), None) for n in range(5)]

    async def use(archive):
        for hour in range(2):
            await archive.save(Listed.named(JULIET, START + hour), items, [LAPTOP.public()])

    await using(served, use)
    for last, expected in ((3, "234"), (5, "01234"), (7, "3401234")):
        done = await reader("read", ROMEO, "--json", "--last", last, "--key", key_files["laptop"], at=served)
        assert [line["bodies"][0]["text"] for line in done.lines] == list(expected)
        assert done.code == 0


def lying(serve, script):
    """A server whose archive answers by a script, and what it heard."""
    heard = []
    return serve(features=(), handler=lambda archiver, jid: Scripted(script, heard)), heard


def rsm(first, last, more=""):
    return (
        f"<set xmlns='http://jabber.org/protocol/rsm'><first {more}>{first}</first><last>{last}</last></set>"
    )


def chat_of(element, pages):
    items = "<to><body>x</body></to>" * 2
    return f"<chat xmlns='{element.uri}' with='{JULIET}' start='2026-11-21T10:00:00Z'>{items}{pages}</chat>"


@ensureDeferred
async def test_no_answer(serve, using):
    """Where the stream ends, why it did is told; where an answer does not come, that."""
    served, _ = lying(serve, lambda element: SILENCE if element.name == "pref" else served.server.close())

    async def waits(archive):
        archive.plain.timeout = 0.1
        await archive.preferences()

    async def loses(archive):
        await all_of(archive.collections(Query()))

    with pytest.raises(NoConnection, match="does not answer"):
        await using(served, waits)
    with pytest.raises(NoConnection, match="The server ended the connection"):
        await using(served, loses)


@ensureDeferred
@pytest.mark.parametrize("lasts", [["b"], ["b", "c"], ["b", "c", "d"]])
async def test_pages_without_end(serve, using, lasts):
    """A collection whose pages come again and again is no endless reading."""
    served, heard = lying(serve, lambda element: chat_of(element, rsm("a", lasts[len(heard) % len(lasts)])))

    async def use(archive):
        with pytest.raises(NotUnderstood, match="again and again"):
            await all_of(archive.pages(Listed.named(JULIET, START), Book([])))

    await using(served, use)
    assert len(heard) == len(lasts) + 1


@ensureDeferred
async def test_last_pages_without_end(serve, using):
    """Nor is one read from its end."""
    served, heard = lying(serve, lambda element: chat_of(element, rsm("a", "b", "index='5'")))

    async def use(archive):
        return await archive.last_pages(Listed.named(JULIET, START), Book([]), 100)

    assert len(await using(served, use)) == 2
    assert len(heard) == 2


@ensureDeferred
async def test_a_command_against_a_liar(serve, reader):
    """What a server makes up of a collection is a line that names it; what was read until then is there,
    and so are the other collections."""

    def script(element):
        if element.name == "list":
            chats = (f"<chat with='{JULIET}' start='2026-11-21T1{hour}:00:00Z'/>" for hour in range(2))
            return f"<list xmlns='{element.uri}'>{''.join(chats)}</list>"
        return chat_of(element, rsm("a", "b") if element["start"] == "2026-11-21T10:00:00Z" else "")

    served, _ = lying(serve, script)
    for last, code in (([], 4), (["--last", 9], 0)):
        done = await reader("read", ROMEO, "--json", *last, at=served)
        assert done.code == code
        starts = [line["start"] for line in done.lines]
        assert {"2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"} == set(starts)
        line = f"archive-reader: {JULIET}, 2026-11-21T10:00:00Z: The server gives the same page again and again.\n"
        assert (line in done.err) is bool(code)
