"""Answers are read with distrust: what makes no sense is one error."""

import pytest

from archive_crypt.core import times
from archive_crypt.core.dialect import F
from archive_crypt.reader import protocol
from archive_crypt.reader.errors import NotUnderstood
from archive_crypt.reader.protocol import Listed

NS = F.namespace
START = "2026-11-21T10:00:00Z"
CHAT = f"with='juliet@capulet.lit' start='{START}'"
JULIET = Listed("juliet@capulet.lit", times.parse(START), START)


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
