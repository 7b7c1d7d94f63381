"""Paging comes to an end, and does not lose anything unseen."""

import pytest

from archive_crypt.core.rsm import PageInfo
from archive_crypt.reader.errors import NotUnderstood
from archive_crypt.reader.xep_0136.paging import COLLECTIONS, ITEMS, PAGES, Paging


def follow(*pages, complete=True, **begun):
    """What is asked after, for pages of (length, first, last, index, count); the last answer is None."""
    following, asked = Paging(**begun), []
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


def pages(length, count, end):
    """Pages of so many up to an end, each with other ids; `count`: what is counted at a place."""
    for place in range(0, end, length):
        yield length, f"first{place}", f"last{place}", place, count(place)


@pytest.mark.parametrize("count", [lambda place: place + 1_009, lambda place: None, lambda place: 10**12])
@pytest.mark.parametrize("most", [ITEMS, COLLECTIONS])
def test_more_and_more(count, most):
    """A server that makes up more and more comes to an end, too: it counts, more at each page or at once
    more than there can be, or not."""
    with pytest.raises(NotUnderstood, match="no end"):
        follow(*pages(1_000, count, most + 2_000), most=most)


def test_very_small_pages():
    """A server that gives one at a time, however many it counts, comes to an end before all round trips are
    made that there could be."""
    with pytest.raises(NotUnderstood, match="262,145 by now, and comes to no end"):
        follow(*pages(1, lambda place: 10**12, PAGES + 10), most=COLLECTIONS)


@pytest.mark.parametrize(("most", "there"), [(ITEMS, 1_000_000), (COLLECTIONS, 10_000_000)])
@pytest.mark.parametrize("counts", [True, False])
def test_very_much(most, there, counts):
    """Archives as large as any, and collections into which years were uploaded, are read to their end."""
    known = pages(1_000, lambda place: there if counts else None, there)
    assert follow(*known, (0,), most=most)[-1] is None
