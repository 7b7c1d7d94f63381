"""The player of dialogues hears what clients get, and says so when that is not what was written."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import F
from archive_crypt.model import SaveMode
from tests.dialogue import Player, read

HEAD = """= A dialogue
settings: save=message encryption=false most_items=3 silence=1.5 expire=none seal_algorithm=urn:x
juliet/chamber comes
nurse/kitchen comes
"""
SAID = """juliet/chamber says
    <message to='nurse@capulet.lit/kitchen' id='m1' type='chat'><body>What news?</body></message>
"""
GOT = """nurse/kitchen gets
    <message from='juliet@capulet.lit/chamber' id='{id}'><body>What news?</body></message>
"""
NOTHING = "nurse/kitchen gets nothing\n"


@pytest.fixture
def play(tmp_path, real_house):
    """A function that plays a dialogue of these lines, in F."""

    def start(lines):
        path = tmp_path / "a.txt"
        path.write_text(HEAD + lines)
        return Player(read(path)[0], "F", real_house).play()

    return start


def test_settings(tmp_path):
    """Settings are read as the types that they have."""
    path = tmp_path / "a.txt"
    path.write_text(HEAD)
    assert read(path)[0].settings == {
        "save": SaveMode.MESSAGE,
        "encryption": False,
        "most_items": 3,
        "silence": 1.5,
        "expire": None,
        "seal_algorithm": "urn:x",
    }


@ensureDeferred
async def test_a_message_is_got_once(play):
    """What a user of the same server said is got, with attributes of its own that nobody wrote."""
    await play(SAID + GOT + NOTHING)


@ensureDeferred
async def test_what_was_heard_is_not_got(play):
    """A message that the dialogue itself delivered is not got again."""
    await play(
        "nurse/kitchen hears\n    <message from='romeo@montague.lit/x'><body>Good morrow</body></message>\n"
        + NOTHING
    )


@ensureDeferred
async def test_what_bounced_is_not_got(play):
    """The error for a message that could not be delivered is not got."""
    await play(
        SAID.replace("nurse@capulet.lit/kitchen", "romeo@montague.lit") + "juliet/chamber gets nothing"
    )


@ensureDeferred
async def test_a_push_is_got_and_answered(play):
    """An iq of type set is got, and its sender has an answer."""
    push = "<iq type='set' id='p1' {}='{}'><push xmlns='urn:x'/></iq>\n"
    await play(
        "juliet/chamber asks\n    "
        + push.format("to", "nurse@capulet.lit/kitchen")
        + "juliet/chamber is told\n    <iq type='result' id='p1' from='nurse@capulet.lit/kitchen'/>\n"
        + "nurse/kitchen gets\n    "
        + push.format("from", "juliet@capulet.lit/chamber")
        + NOTHING
    )


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (SAID + NOTHING, "a.txt:7: nurse/kitchen gets nothing .F.\nit got <message"),
        (GOT, "it got nothing"),
        (SAID + GOT.replace("What", "No"), "'What news.' instead of 'No news.'"),
        (SAID + GOT + GOT, "it got nothing"),
    ],
)
@ensureDeferred
async def test_what_is_not_as_written_fails(play, lines, reason):
    """Whatever is got otherwise than written fails, and says where."""
    with pytest.raises(AssertionError, match=reason):
        await play(lines)


@ensureDeferred
async def test_time_passes_as_told(play):
    """What is recorded has the time of the dialogue."""
    await play(f"""juliet/chamber asks
    <iq type='set' id='a1'><auto xmlns='{F.namespace}' save='true'/></iq>
5400 seconds pass
{SAID}juliet/chamber asks
    <iq type='get' id='l1'><list xmlns='{F.namespace}'/></iq>
juliet/chamber is told
    <iq type='result' id='l1'><list xmlns='{F.namespace}'>
    <chat with='nurse@capulet.lit/kitchen' start='2026-11-21T11:30:00Z' version='0'/>
    <set xmlns='http://jabber.org/protocol/rsm'><first index='0'>{{id}}</first><last>{{id}}</last><count>1</count></set>
    </list></iq>
""")
