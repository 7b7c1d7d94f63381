"""Paging comes to an end, and does not lose anything unseen."""

import pytest

from archive_crypt.core.rsm import PageInfo
from archive_crypt.reader.errors import NotUnderstood
from archive_crypt.reader.xep_0136 import paging
from archive_crypt.reader.xep_0136.paging import Paging


def follow(*pages, after=None, complete=True):
    """What is asked after, for pages of (length, first, last, index, count); the last answer is None."""
    following, asked = Paging(after), []
    for length, *info in pages:
        asked.append(following.after)
        if not following.next(PageInfo(*info) if info else None, length, complete=complete):
            return [*asked, None]
    return asked


@pytest.mark.clause("0136-manage-list-09", "rsm-16")
def test_ids_are_opaque():
    """Whatever is given as <last/> is asked after, and it is counted, not compared, when all is there."""
    assert follow((2, "b", "a", 0, 5), (2, "z", "?", 2, 5), (1, "0", "0", 4, 5)) == [None, "a", "?", None]


@pytest.mark.parametrize(
    "pages",
    [
        [(2,)],
        [(0, None, None, None, 0)],
        [(2, None, "b", None, 2)],
        [(2, "a", "b", None, None), (0,)],
        [(2, "a", "b", None, None), (0, None, None, None, None)],
        [(2, "a", "b", 0, 3), (1, "c", "c", None, 3)],
    ],
)
def test_the_end(pages):
    """A set ends where the count says so, or with an empty page where there is none."""
    assert follow(*pages)[-1] is None


@pytest.mark.parametrize("round", [["b", "b"], ["b", "c", "b"], ["b", "c", "d", "c"]])
def test_pages_that_come_again(round):
    """A page that was there before is an error, even if others were between."""
    with pytest.raises(NotUnderstood, match="again and again"):
        follow(*[(2, "a", last, None, None) for last in round])
    with pytest.raises(NotUnderstood, match="again and again"):
        follow((2, "a", "kept", None, None), after="kept")


@pytest.mark.parametrize("page", [(0, None, None, None, 5), (2, None, None, None, 5), (2, "a", None, 1, 5)])
def test_less_than_there_is(page):
    """A list that stops before its own count is an error; but the pages of a collection are judged by
    who reads them."""
    with pytest.raises(NotUnderstood, match="counts 5 and gives no more than"):
        follow(page)
    assert follow(page, complete=False)[-1] is None


def test_what_is_not_known_is_not_complained_of():
    """Asked from the middle on, nobody knows how many were before."""
    assert follow((2, None, "d", None, 5), (0, None, None, None, 5), after="b") == ["b", "d", None]


def test_more_and_more(monkeypatch):
    """A server that makes up more and more comes to an end, too: it counts, or not."""
    monkeypatch.setattr(paging, "_GROWTH", 10)
    monkeypatch.setattr(paging, "_UNCOUNTED", 50)
    for count in (lambda place: place + 9, lambda place: None):
        with pytest.raises(NotUnderstood, match="no end"):
            follow(*[(5, "a", f"id{place}", place, count(place)) for place in range(0, 100, 5)])
