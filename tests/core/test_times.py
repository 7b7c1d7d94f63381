"""XEP-0082 times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.core import times
from archive_crypt.errors import BadRequest
from archive_crypt.model import MILLISECOND, SECOND

MOMENTS = st.integers(times.EARLIEST, times.LATEST)


@given(MOMENTS)
def test_written_times_read_back(moment):
    """Whatever moment is written, it is read as the same moment."""
    assert times.parse(times.render(moment)) == moment


@given(MOMENTS, MOMENTS)
def test_written_times_sort(one, other):
    """Of two whole seconds the later one is the greater text: lists sort as clients expect."""
    one, other = one - one % SECOND, other - other % SECOND
    assert (times.render(one) < times.render(other)) == (one < other)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_bad_request(text):
    """No text makes the parser fail in another way."""
    try:
        times.parse(text)
    except BadRequest:
        pass


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("1469-07-21T02:56:15Z", "1469-07-21T02:56:15Z"),
        ("1469-07-21T02:56:15.000Z", "1469-07-21T02:56:15Z"),
        ("1469-07-21T02:56:15+00:00", "1469-07-21T02:56:15Z"),
        ("1469-07-21T02:56:15-00:00", "1469-07-21T02:56:15Z"),
        ("2026-11-21T10:00:00.250Z", "2026-11-21T10:00:00.250Z"),
        ("2026-11-21T10:00:00.25Z", "2026-11-21T10:00:00.250Z"),
        ("2026-11-21T10:00:00.0000019Z", "2026-11-21T10:00:00.000001Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ],
)
def test_equal_instants(text, same):
    """However an instant is written, it is shown in one way."""
    assert times.render(times.parse(text)) == same


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "1469-07-21T04:56:15+02:00",
        "1469-07-21 02:56:15Z",
        "1469-07-21T02:56:15",
        "1469-02-30T00:00:00Z",
        "1469-07-21T25:00:00Z",
        "0000-01-01T00:00:00Z",
        "12345-01-01T00:00:00Z",
        "１469-07-21T02:56:15Z",
        "",
    ],
)
def test_no_times(text):
    """What is not a moment in UTC, or not writable as one, is refused."""
    with pytest.raises(BadRequest):
        times.parse(text)


def test_bounds_are_clamped():
    """As the bound of a range, the year 0000 is the beginning and 12345 the end of time."""
    assert times.parse("0000-01-01T00:00:00Z", clamp=True) == times.EARLIEST
    assert times.parse("12345-01-01T00:00:00Z", clamp=True) == times.LATEST


@given(MOMENTS)
def test_starts_have_milliseconds(moment):
    """A start time of ours has whole milliseconds and is never later than the moment."""
    start = times.floor_to_millisecond(moment)
    assert start % MILLISECOND == 0
    assert 0 <= moment - start < MILLISECOND
