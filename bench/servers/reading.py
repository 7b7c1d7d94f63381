"""A user reads his archive back: by MAM (XEP-0313), or by list and retrieve (XEP-0136). Opens nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from lxml import etree

from archive_crypt.core.dialect import F
from bench.servers.client import Stream

#: Messages a page.
PAGE = 100
_RSM = "http://jabber.org/protocol/rsm"
_MAM = "urn:xmpp:mam:2"
_LAST = re.compile(rb"<last>([^<]+)</last>")
_COUNT = re.compile(rb"<count>(\d+)</count>")


def by_mam(stream: Stream, count: int) -> Iterator[tuple[int, float]]:
    """Read the first `count` messages: of each page, how many it had and the seconds it took."""
    after, got = "", 0
    while got < count:
        begun = time.monotonic()
        query = f"<query xmlns='{_MAM}' queryid='q'>{_set(after)}</query>"
        answer = stream.ask(f"<iq type='set' id='read'>{query}</iq>", b"</fin>")
        found = answer.count(b"<result ")
        yield found, time.monotonic() - begun
        got += found
        after = _last(answer)
        if not found:
            return


def by_retrieve(stream: Stream, count: int) -> Iterator[tuple[int, float]]:
    """The same; the list of collections counts as a page with none."""
    begun = time.monotonic()
    answer = _answer(stream, f"<list xmlns='{F.namespace}'>{_set('')}</list>")
    yield 0, time.monotonic() - begun
    got = 0
    for chat in etree.fromstring(answer).iterfind(f".//{{{F.namespace}}}chat"):
        for found, seconds in _collection(stream, f"with='{chat.get('with')}' start='{chat.get('start')}'"):
            yield found, seconds
            got += found
            if got >= count:
                return


def _collection(stream: Stream, which: str) -> Iterator[tuple[int, float]]:
    after, got, count = "", 0, 1
    while got < count:
        begun = time.monotonic()
        page = _answer(stream, f"<retrieve xmlns='{F.namespace}' {which}>{_set(after)}</retrieve>")
        found = page.count(b"<EncryptedData")
        yield found, time.monotonic() - begun
        got, count, after = got + found, int(_COUNT.search(page)[1]), _last(page)


def _answer(stream: Stream, request: str) -> bytes:
    answer = stream.answer("read", f"<iq type='get' id='read'>{request}</iq>")
    return answer[answer.rindex(b"<iq ") :]


def _set(after: str) -> str:
    """XEP-0059's part of a request."""
    rest = f"<after>{after}</after>" if after else ""
    return f"<set xmlns='{_RSM}'><max>{PAGE}</max>{rest}</set>"


def _last(answer: bytes) -> str:
    found = _LAST.search(answer)
    return found[1].decode() if found else ""
