"""A user whose archive is full: what he is told, and that a record never has a hole."""

import pytest

from archive_crypt.core.dialect import F
from archive_crypt.model import UserLimits, WhenFull
from tests.kit import LAPTOP, House, key_info, opened
from tests.test_hostile import JULIET, ROMEO, auto, chat, rows, told

SAVE = (
    "<iq type='set' id='s'><save xmlns='urn:xmpp:archive'><chat with='a@b' start='2026-01-0{}T00:00:00Z'>"
    "<to secs='0'><body>{}</body></to></chat></save></iq>"
)
REMOVE = "<iq type='set' id='r'><remove xmlns='urn:xmpp:archive'{}/></iq>"


def house(octets=1000, **more):
    return House(limits=UserLimits(octets=octets, **more))


def says(stream, *texts, **more):
    for text in texts:
        stream.says(chat(text, to=JULIET, **more)).addErrback(lambda _: None)


def notices(stream):
    return [one.findtext("{*}body") for one in stream.received if one.tag.endswith("message")]


def texts(house):
    return [
        [item.content.partition("<body>")[2].partition("<")[0] for item in items]
        for _, items, _ in rows(house)
    ]


@pytest.mark.parametrize("keys", ["", key_info(LAPTOP, "laptop")])
def test_recording_stops_as_a_whole(keys):
    """When the archive is full nothing more is recorded, though it would fit; its user is told once, all is
    counted, no data key stays alive, and nobody else notices."""
    full = house(3000)
    stream, other = full.stream(f"{ROMEO}/a"), full.stream(f"{JULIET}/b")
    for one in (stream, other):
        assert auto(one, encrypt="true" if keys else "false", keys=keys) == "result"
    says(stream, "short", "x" * 3000, "short", "short")
    assert sum(len(items) for _, items, _ in rows(full)) == 1
    assert len(notices(stream)) == 1
    assert "is full" in notices(stream)[0]
    assert full.archiver.counts["not archived: QuotaExceeded"] == 3
    assert len(full.archiver._owners[ROMEO].conversations) == 0
    assert other.hears(chat("hi", **{"from": f"{ROMEO}/a", "id": "1"})).result is True
    assert notices(other) == []


def test_what_a_stranger_fills():
    """A stranger's words fill an archive; where its owner prefers not to have his saved, or anybody's but his
    contacts', they take nothing."""
    prefers = "<iq type='set' id='p'><pref xmlns='urn:xmpp:archive'>{}</pref></iq>"
    for wish in (
        "",
        "<item jid='stranger@flood.lit' save='false' otr='concede'/>",
        "<item jid='flood.lit' save='false' otr='concede'/>",
        f"<default save='false' otr='concede'/><item jid='{JULIET}' save='body' otr='concede'/>",
    ):
        full = house(2000)
        stream = full.stream(f"{ROMEO}/a")
        auto(stream)
        if wish:
            assert told(stream.ask(prefers.format(wish))) == "result"
        for n in range(20):
            flood = chat("x" * 500, **{"from": "stranger@flood.lit/x", "id": f"s{n}"})
            stream.hears(flood).addErrback(lambda _: None)
        stream.hears(chat("love", **{"from": f"{JULIET}/b", "id": "1"})).addErrback(lambda _: None)
        assert full.archiver._owners[ROMEO].full is not bool(wish)
        assert (["love"] in texts(full)) is bool(wish)


def test_recording_goes_on_after_a_removal():
    """When something is removed recording goes on, in a new collection."""
    full = house(400)
    stream = full.stream(f"{ROMEO}/a")
    auto(stream)
    assert told(stream.ask(SAVE.format(1, "x" * 300))) == "result"
    says(stream, "one", "two" * 50, "three")
    assert texts(full) == [["x" * 300], ["one"]]
    assert told(stream.ask(REMOVE.format(" with='a@b'"))) == "result"
    says(stream, "four")
    assert texts(full) == [["one"], ["four"]]


def test_recording_goes_on_by_itself():
    """What another process removed is found after a minute: recording goes on."""
    full = house(400)
    stream = full.stream(f"{ROMEO}/a")
    auto(stream)
    stream.ask(SAVE.format(1, "x" * 300))
    says(stream, "one" * 50)
    full.storage._owners[ROMEO].kept.clear()
    says(stream, "two")
    full.passes(61)
    says(stream, "three")
    assert texts(full) == [["three"]]


def test_an_upload_that_does_not_fit():
    """It gets resource-constraint (wait), with a text that says what to do; what is there can still be read and
    removed."""
    full = house(400)
    stream = full.stream(f"{ROMEO}/a")
    stream.ask(SAVE.format(1, "x" * 300))
    answer = stream.ask(SAVE.format(2, "x" * 300))
    assert (told(answer), answer.find("{*}error").get("type")) == ("resource-constraint", "wait")
    assert "remove something" in answer.findtext("{*}error/{*}text")
    assert told(stream.ask(f"<iq type='get' id='l'><list xmlns='{F.namespace}'/></iq>")) == "result"
    assert told(stream.ask(REMOVE.format(" with='a@b'"))) == "result"
    assert told(stream.ask(SAVE.format(2, "x" * 300))) == "result"


def test_the_oldest_collections_go():
    """Where the operator prefers, whole collections go, the oldest first, and recording never stops; what can be
    read is sealed as before."""
    rolling = house(3000, when_full=WhenFull.EXPIRE)
    stream = rolling.stream(f"{ROMEO}/a")
    auto(stream, encrypt="true", keys=key_info(LAPTOP, "laptop"))
    for n in range(5):
        says(stream, f"{n}" * 500)
        rolling.passes(700)  # longer than silence: it is closed
    assert notices(stream) == []
    found = [shown for shown, _, _ in rows(rolling)]
    assert 0 < len(found) < 5
    page = stream.ask(
        f"<iq type='get' id='g'><retrieve xmlns='{F.namespace}' with='{JULIET}' start='"
        f"2026-11-21T10:46:40.000Z'/></iq>"
    )
    ((item),) = opened(page.find("{*}chat"), LAPTOP)
    assert item is not None
