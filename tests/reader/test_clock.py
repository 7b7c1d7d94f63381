"""When messages were said: by the standard's own examples, and as real servers have it."""

import pytest

from archive_crypt.core import times
from archive_crypt.reader import protocol
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import ChatPage, Listed

NS = "urn:xmpp:archive"
START = "1469-07-21T02:56:15Z"
COLLECTION = Listed("juliet@capulet.com/chamber", times.parse(START), START)


def page(*items, index=0):
    """A page of items; each is what stands in its tag."""
    parts = "".join(item if item.startswith("<") else f"<from {item}><body>x</body></from>" for item in items)
    parsed = protocol.parse(f"<chat xmlns='{NS}'>{parts}</chat>".encode())
    return ChatPage(COLLECTION, tuple(parsed), (), index, None)


def read(*pages, **how):
    """The times of day, '-' where there is none."""
    book = Book([], **how)
    book.begin(COLLECTION)
    found = [entry.at for page in pages for entry in book.read(page)]
    return ["-" if at is None else times.render(at)[11:-1] for at in found]


@pytest.mark.clause("SDK-04", "0136-manual-collection-13", "0136-impl-offline-01")
@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["secs='0'", "secs='11'", "secs='14'"], ["02:56:15", "02:56:26", "02:56:40"]),
        (["secs='0'", "secs='11'", "secs='7'"], ["02:56:15", "02:56:26", "02:56:33"]),
        (["utc='1469-07-21T00:32:29Z'", "secs='11'", "secs='14'"], ["00:32:29", "02:56:26", "02:56:40"]),
    ],
    ids=["0.13, example 15", "1.3.1, example 21", "0.13, example 19"],
)
def test_examples_of_the_standard(items, expected):
    """Time is the start and the running sum of secs; a utc is its own item's only."""
    assert read(page(*items)) == expected


@pytest.mark.clause("SDK-04")
def test_notes_move_no_clock():
    """A message after a note counts from the message before it."""
    note = "<note utc='1469-07-21T03:04:35Z'>x</note>"
    assert read(page("secs='1'", note, "secs='2'", "")) == ["02:56:16", "03:04:35", "02:56:18", "-"]


def test_both_times():
    """Of both, utc is the item's time, and the sum goes on, so that an old message moves nothing."""
    old = "secs='0' utc='1469-07-20T00:00:00Z'"
    assert read(page("secs='5' utc='1469-07-21T02:56:20.5Z'", old, "secs='3'")) == [
        "02:56:20.500",
        "00:00:00",
        "02:56:23",
    ]


@pytest.mark.parametrize("first", ["secs='60'", "secs='60' utc='1469-07-21T02:57:15Z'"])
def test_later_pages(first):
    """The first item of a later page counts from the start, as Openfire and our own server have it; read
    alone, or after the page before."""
    before, later = page("secs='0'", "secs='30'"), page(first, "secs='5'", index=2)
    assert read(later) == ["02:57:15", "02:57:20"]
    assert read(before, later)[2:] == ["02:57:15", "02:57:20"]


def test_servers_that_count_from_the_start():
    """What Tigase sends is told when that is said."""
    pages = page("secs='0'", "secs='11'"), page("secs='14'", index=2)
    assert read(*pages, secs_from_start=True) == ["02:56:15", "02:56:26", "02:56:29"]


def test_days_that_no_calendar_has():
    """A time beyond all calendars is none, and moves nothing."""
    assert read(page("secs='99999999999999'", "secs='5'")) == ["-", "02:56:20"]
