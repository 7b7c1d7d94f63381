"""Answers are read with distrust: what makes no sense is one error, and paging comes to an end."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core import stanzas, times
from archive_crypt.core.dialect import DIALECTS, F
from archive_crypt.model import PageRequest
from archive_crypt.reader import protocol
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.failures import NotUnderstood
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed, Query
from tests.kit import LAPTOP, PHONE
from tests.reader.conftest import awaited

NS = F.namespace
START = "2026-11-21T10:00:00Z"
CHAT = f"with='juliet@capulet.lit' start='{START}'"
JULIET = Listed("juliet@capulet.lit", times.parse(START), START)


def parsed(request, kind):
    """What the server's own reader takes a request for."""
    return stanzas.parse(kind, protocol.parse(request.encode()))


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=str)
def test_requests_are_what_the_server_reads(dialect):
    """Each request says, in each dialect, what was meant."""
    keys = [LAPTOP.public(), PHONE.public()]
    auto = parsed(protocol.write_auto(dialect, keys, encrypt=True, lasting=True), "set")
    assert (auto.save, auto.encrypt, auto.lasting) == (True, True, dialect.scoped)
    assert [key.name for key in auto.keys] == [key.name for key in keys]
    plain = parsed(protocol.write_auto(dialect, [], encrypt=False, lasting=False), "set")
    assert (plain.save, plain.encrypt, plain.lasting, plain.keys) == (True, False, False, ())
    page = PageRequest(max=7, after="<&>", given=True)
    listed = parsed(protocol.write_list(dialect, Query("a@b/'\"", 0, 1000), page), "get")
    assert (listed.with_, listed.start, listed.end, listed.page) == ("a@b/'\"", 0, 1000, page)
    retrieve = parsed(protocol.write_retrieve(dialect, JULIET, ["<&>"], page), "get")
    assert (retrieve.with_, retrieve.start, retrieve.key_names) == (JULIET.with_, JULIET.start, ("<&>",))


def test_a_start_goes_back_as_it_came():
    """However a server writes its times, it gets them back byte by byte."""
    chat = f"<chat xmlns='{NS}' with='a@b' start='2026-11-21T10:00:00.000+00:00'/>"
    collection = protocol.read_chat(protocol.parse(chat.encode())).collection
    assert '"2026-11-21T10:00:00.000+00:00"' in protocol.write_retrieve(F, collection, (), PageRequest())


@pytest.mark.parametrize(
    "answer",
    [
        f"<chat xmlns='{NS}' {CHAT}/>",
        "<list xmlns='jabber:client'/>",
        f"<list xmlns='{NS}'><chat start='{START}'/></list>",
        f"<list xmlns='{NS}'><chat with='a@b'/></list>",
        f"<list xmlns='{NS}'><chat with='a@b' start='noon'/></list>",
        f"<list xmlns='{NS}'><chat with='a@b' start='{START}' version='x'/></list>",
        f"<list xmlns='{NS}'><set xmlns='http://jabber.org/protocol/rsm'><count>many</count></set></list>",
    ],
)
def test_a_list_that_is_none(answer):
    """An answer that makes no sense is one error."""
    with pytest.raises(NotUnderstood):
        protocol.read_list(protocol.parse(answer.encode()))


def test_a_page_without_index():
    """Where a server tells no index, the place is counted."""
    answer = f"<chat xmlns='{NS}' {CHAT}><from/><unknown/><x xmlns='jabber:x:data'/></chat>"
    page = protocol.read_chat(protocol.parse(answer.encode()), 40)
    assert (page.index, len(page.parts), page.keys, page.info) == (40, 1, (), None)
    with pytest.raises(NotUnderstood):
        protocol.read_chat(protocol.parse(f"<list xmlns='{NS}'/>".encode()))


class Repeats:
    """A server as no honest one is: it gives one answer to everything, for ever."""

    def __init__(self, answer):
        self.answer, self.asked = protocol.parse(answer.encode()), 0

    async def ask(self, kind, request, to=None):
        self.asked += 1
        assert self.asked < 10
        return self.answer


def rsm(first, last, more=""):
    return (
        f"<set xmlns='http://jabber.org/protocol/rsm'><first {more}>{first}</first><last>{last}</last></set>"
    )


@ensureDeferred
async def test_paging_ends():
    """One page again and again is no archive: paging ends, in all three ways."""
    items = "<to xmlns='urn:xmpp:archive'><body>x</body></to>" * 2

    async def run(using, answer):
        return [each async for each in using(Archive(Repeats(answer), F))]

    listing = f"<list xmlns='{NS}'><chat {CHAT}/>{rsm('a', 'b')}</list>"
    chat = f"<chat xmlns='{NS}' {CHAT}>{items}{rsm('a', 'b')}</chat>"
    with pytest.raises(NotUnderstood, match="again and again"):
        await awaited(run(lambda archive: archive.collections(Query()), listing))
    with pytest.raises(NotUnderstood, match="again and again"):
        await awaited(run(lambda archive: archive.pages(JULIET, Book([])), chat))
    backwards = chat.replace("<first >", "<first index='5'>")
    pages = await awaited(Archive(Repeats(backwards), F).last_pages(JULIET, Book([]), 100))
    assert len(pages) == 2


@ensureDeferred
async def test_an_empty_answer():
    """A result without a child makes no sense either."""

    class Empty(Repeats):
        async def ask(self, kind, request, to=None):
            return None

    with pytest.raises(NotUnderstood, match="empty"):
        await awaited(Archive(Empty("<x/>"), F).last_pages(JULIET, Book([]), 1))
