"""``prefs``: what the user prefers, set and shown with all words of XEP-0136."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import T, V
from archive_crypt.model import Otr, SaveMode
from archive_crypt.reader import preferring
from tests.reader.conftest import DOMAIN

ROMEO, NURSE = f"romeo@{DOMAIN}", f"nurse@{DOMAIN}"


async def prefer(reader, served, *arguments):
    """What is preferred then."""
    done = await reader("prefs", *arguments, "--json", at=served)
    assert (done.code, done.err) == (0, "")
    (now,) = done.lines
    return now


@ensureDeferred
async def test_show(served, reader):
    """What nobody set is the server's own; each line says what it is of."""
    done = await reader("prefs", "show", ROMEO, at=served)
    assert (done.code, done.err) == (0, "")
    assert "default" in done.out
    assert "save body, otr concede, kept, as the server has it" in done.out
    assert "auto concede, local concede, manual concede" in done.out
    now = await prefer(reader, served, "show", ROMEO)
    assert now["default"] == {"save": "body", "otr": "concede", "expire": None, "unset": True}
    assert (now["items"], now["sessions"]) == ([], [])


@ensureDeferred
async def test_default(served, reader):
    """Each mode is set by itself; what is not given stays as it was."""
    for arguments, expected in (
        (["--save", "message"], ("message", "concede", None)),
        (["--otr", "approve"], ("message", "approve", None)),
        (["--expire", "30d"], ("message", "approve", 30 * 86400)),
        (["--save", "false", "--otr", "require"], ("false", "require", 30 * 86400)),
        (["--expire", "never"], ("false", "require", None)),
    ):
        now = await prefer(reader, served, "default", ROMEO, *arguments)
        assert tuple(now["default"][name] for name in ("save", "otr", "expire")) == expected
        assert not now["default"]["unset"]


@ensureDeferred
@pytest.mark.clause("0136-pref-contact-02")
async def test_contact(served, reader):
    """A contact's modes begin as everybody's, are for the bare JID unless --exact, and can be forgotten."""
    await prefer(reader, served, "default", ROMEO, "--otr", "oppose")
    done = await reader("prefs", "contact", ROMEO, f"{NURSE}/phone", "--save", "false", at=served)
    assert f"This is for {NURSE}, whichever client" in done.err
    assert "save false, otr oppose, kept" in done.out
    now = await prefer(reader, served, "contact", ROMEO, f"{NURSE}/phone", "--exact", "--save", "message")
    modes = [(item["jid"], item["save"], item["otr"], item["exact"]) for item in now["items"]]
    assert sorted(modes) == [(NURSE, "false", "oppose", False), (f"{NURSE}/phone", "message", "oppose", True)]
    now = await prefer(reader, served, "contact", ROMEO, NURSE, "--expire", "1h")
    assert {"jid": NURSE, "save": "false", "otr": "oppose", "expire": 3600, "exact": False} in now["items"]
    now = await prefer(reader, served, "forget", ROMEO, NURSE, f"{NURSE}/phone")
    assert now["items"] == []


@ensureDeferred
async def test_methods(served, reader):
    """Each way of archiving is preferred, conceded or forbidden; the others stay as they were."""
    now = await prefer(reader, served, "methods", ROMEO, "--auto", "prefer", "--manual", "forbid")
    assert now["methods"] == {"auto": "prefer", "local": "concede", "manual": "forbid"}
    now = await prefer(reader, served, "methods", ROMEO, "--local", "prefer")
    assert now["methods"] == {"auto": "prefer", "local": "prefer", "manual": "forbid"}


@pytest.mark.parametrize("save", SaveMode)
@pytest.mark.parametrize("otr", Otr)
@ensureDeferred
@pytest.mark.clause("0136-pref-determine-13")
async def test_every_word(served, reader, save, otr):
    """All modes of XEP-0136 3.2 can be set, but for the one pair that it forbids, which no server is asked."""
    done = await reader(
        "prefs", "default", ROMEO, "--save", save.value, "--otr", otr.value, "--json", at=served
    )
    if otr is Otr.REQUIRE and save is not SaveMode.FALSE:
        assert (done.code, done.out) == (1, "")
        assert "--otr require takes --save false" in done.err
    else:
        (now,) = done.lines
        assert (now["default"]["save"], now["default"]["otr"]) == (save.value, otr.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["default", ROMEO], "Say what you prefer: --save, --otr or --expire."),
        (["contact", ROMEO, NURSE, "--exact"], "Say what you prefer"),
        (["methods", ROMEO], "Say what you think of --auto, --local or --manual."),
    ],
)
@ensureDeferred
async def test_nothing_to_set(reader, arguments, said):
    """Who sets nothing is told so before anything is asked."""
    done = await reader("prefs", *arguments)
    assert (done.code, done.out) == (1, "")
    assert said in done.err


@pytest.mark.parametrize("dialect", [V, T])
@ensureDeferred
async def test_older_servers(serve, reader, dialect):
    """The older dialects have preferences too; what they cannot do is said."""
    served = serve(features=[dialect.feature("pref")])
    now = await prefer(reader, served, "default", ROMEO, "--save", "message")
    assert now["default"]["save"] == "message"
    done = await reader("prefs", "forget", ROMEO, NURSE, at=served)
    assert done.code == (3 if dialect is V else 0)


@ensureDeferred
async def test_without_preferences(serve, reader):
    """A server that has none is not asked to keep any."""
    done = await reader("prefs", "show", ROMEO, at=serve(features=[T.feature("manage")]))
    assert (done.code, done.out) == (3, "")
    assert "offers no archive with pref" in done.err


@pytest.mark.parametrize("seconds", [0, 1, 59, 60, 3600, 5400, 86400, 30 * 86400, 7 * 86400, 31536000])
def test_time_spans(seconds):
    """A span is shown in a unit that says it exactly, and is read again as what it was."""
    assert preferring.seconds(preferring.duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "d", "1y", "-1d", "1.5h", "٣d"])
def test_no_time_span(text):
    """What is no span is refused."""
    with pytest.raises(ValueError, match="is no time span such as 30d"):
        preferring.seconds(text)
