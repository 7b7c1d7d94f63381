"""XEP-0082 date and time profiles <-> microseconds since 1970. No clock is read here."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from archive_crypt.errors import BadRequest
from archive_crypt.model import MILLISECOND, SECOND, Micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_DATETIME = re.compile(
    r"([0-9]{4,9})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,20}))?"
    r"(?:Z|[+-]00:00)",
)

#: The moments that XEP-0082 and we can write: years 1 to 9999.
EARLIEST: Micros = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
LATEST: Micros = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH) // _MICROSECOND


@lru_cache(maxsize=1024)  # every message of a collection repeats its start
def parse(text: str, *, clamp: bool = False) -> Micros:
    """The moment that a UTC DateTime names; finer fractions than a microsecond are cut off.

    `clamp`: years before 1 and after 9999 become the earliest and the latest moment, as range
    bounds may have them (XEP-0136 8.3 shows the year 0000).

    :raises BadRequest: not a DateTime, or not in UTC.
    """
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise BadRequest("A time must be a UTC DateTime such as 1469-07-21T02:56:15Z.")
    year, month, day, hour, minute, second, decimals = match.groups()
    if clamp and not 1 <= int(year) <= 9999:
        return EARLIEST if int(year) < 1 else LATEST
    fraction = int(f"{decimals}000000"[:6]) if decimals else 0
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))
    except ValueError:
        raise BadRequest("A time names a day or an hour that does not exist.") from None
    return (moment - _NAIVE_EPOCH) // _MICROSECOND + fraction


def render(moment: Micros) -> str:
    """A moment as DateTime in UTC: byte-identical wherever it is shown.

    A fraction appears only if there is one: of three digits when that is enough, else of six.
    """
    whole, fraction = _whole(moment // SECOND), moment % SECOND
    if not fraction:
        return f"{whole}Z"
    if fraction % MILLISECOND:
        return f"{whole}.{fraction:06}Z"
    return f"{whole}.{fraction // MILLISECOND:03}Z"


@lru_cache(maxsize=1024)  # every message of a second asks for the same
def _whole(seconds: int) -> str:
    return (_NAIVE_EPOCH + timedelta(seconds=seconds)).isoformat()


def floor_to_millisecond(moment: Micros) -> Micros:
    """A start time of ours: clients that re-serialise times keep milliseconds."""
    return moment - moment % MILLISECOND


def whole_seconds(later: Micros, earlier: Micros) -> int:
    """Whole seconds from `earlier` to `later`, never below 0 (``secs`` has no sign)."""
    return (later - earlier) // SECOND if later > earlier else 0
