"""XEP-0059."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from archive_crypt.core import rsm
from archive_crypt.core.dialect import RSM
from archive_crypt.errors import BadRequest, NoSuchCursor
from archive_crypt.model import PageRequest, Window

#: What XML 1.0 can carry, but for white space, which is stripped.
IDS = st.text(st.characters(min_codepoint=33, exclude_categories=("Cs", "Cc", "Cn", "Z")), min_size=1)
NUMBERS = st.none() | st.integers(0, 10**18 - 1)


def parsed(xml):
    return etree.fromstring(f"<q>{xml}</q>")


def asked(inner):
    return rsm.read_request(parsed(f"<set xmlns='{RSM}'>{inner}</set>"))


@given(NUMBERS, st.none() | IDS, NUMBERS)
def test_requests_read_back(most, after, index):
    """Whatever page is asked for, it is understood so."""
    request = PageRequest(max=most, after=after, index=index, given=True)
    assert rsm.read_request(parsed(rsm.write_request(request))) == request


@given(IDS, IDS, st.integers(0, 10**9), st.integers(0, 10**9))
def test_answers_read_back(first, last, index, count):
    """Whatever an answer says, a client reads."""
    info = rsm.PageInfo(first, last, index, count)
    assert rsm.read_answer(parsed(rsm.write_answer(info))) == info


def test_empty_page():
    """A page without items has neither first nor last (2.2)."""
    assert rsm.write_answer(rsm.PageInfo(None, None, None, 5)) == f"<set xmlns='{RSM}'><count>5</count></set>"


def test_no_set():
    """Without a set, nothing is asked for and nothing said."""
    assert rsm.read_request(parsed("")) == PageRequest()
    assert rsm.read_answer(parsed("")) is None


def test_empty_before():
    """An empty before is another thing than none."""
    assert asked("<before/>").before == ""
    assert asked("<max>1</max>").before is None


@pytest.mark.parametrize(
    "inner",
    [
        "<max>-1</max>",
        "<max>x</max>",
        "<max/>",
        "<max>1.0</max>",
        "<max>٣</max>",
        "<index>-1</index>",
        "<max>99999999999999999999</max>",
        "<after>a</after><before>b</before>",
    ],
)
def test_malformed(inner):
    """Numbers below 0, no numbers, and two cursors at once are refused."""
    with pytest.raises(BadRequest):
        asked(inner)


def read_id(text):
    return (int(text),)


@pytest.mark.parametrize(
    ("inner", "window"),
    [
        ("", Window(100)),
        ("<max>5</max>", Window(5)),
        ("<max>1000</max>", Window(100)),
        ("<max>0</max>", Window(0)),
        ("<after>7</after>", Window(100, after=(7,))),
        ("<before>7</before>", Window(100, before=(7,), backwards=True)),
        ("<before/>", Window(100, backwards=True)),
        ("<after>7</after><before/>", Window(100, after=(7,), backwards=True)),
        ("<index>3</index>", Window(100, index=3)),
        ("<after>7</after><index>3</index>", Window(100, after=(7,))),
    ],
)
def test_windows(inner, window):
    """What each way of asking means; a maximum above ours is capped, not refused."""
    assert rsm.window(asked(inner), read_id, 100) == window


def test_unknown_cursor():
    """A cursor that is none of ours is not found (2.4)."""
    with pytest.raises(NoSuchCursor):
        rsm.window(asked("<after>garbage</after>"), read_id, 100)
