"""What a server delivers again because its client never acknowledged it, or late because nobody was there."""

import sys

import pytest
from twisted.internet.defer import Deferred

from archive_crypt.model import SaveMode
from tests.kit import House

HER = "juliet@capulet.lit"
MESSAGE = "<message from='romeo@montague.lit/garden' id='{}' type='chat'><body>{}</body>{}</message>"
DELAY = "<delay xmlns='urn:xmpp:delay' from='{}' stamp='{}'/>"
BEFORE = "2026-11-21T09:00:00Z"
LIST = "<iq type='get' id='l'><list xmlns='urn:xmpp:archive'><set xmlns='http://jabber.org/protocol/rsm'/></list></iq>"


def recording(house, resource):
    stream = house.stream(f"{HER}/{resource}")
    stream.ask("<iq type='set' id='a'><auto xmlns='urn:xmpp:archive' save='true' scope='global'/></iq>")
    return stream


def archived(house):
    return house.archiver.counts["archived"]


@pytest.mark.parametrize("delayed_by", ["capulet.lit", HER])
@pytest.mark.parametrize("id_", ["m1", ""])
@pytest.mark.parametrize("full", [True, False])
def test_delivered_anew(delayed_by, id_, full):
    """What was sent to a stream whose connection was lost is archived once, though the server
    delivers it again with a <delay/>, to a later stream, days later."""
    house = House(save=SaveMode.MESSAGE, full_content=True) if full else House()
    first = recording(house, "phone")
    first.hears(MESSAGE.format(id_, "I take thee at thy word.", ""))
    house.archiver.stream_pending(first.jid, pending=True)
    first.hears(MESSAGE.format(f"{id_}2", "By a name I know not how.", ""))
    first.closes()
    house.passes(3 * 24 * 3600)
    second = recording(house, "phone")
    delay = DELAY.format(delayed_by, BEFORE)
    second.hears(MESSAGE.format(id_, "I take thee at thy word.", delay))
    second.hears(MESSAGE.format(f"{id_}2", "By a name I know not how.", delay))
    assert archived(house) == 2


@pytest.mark.parametrize("id_", ["m1", ""])
def test_delivered_anew_to_a_stream_that_was_open(id_):
    """So is what goes to another of the user's streams instead, however long that has been open."""
    house = House()
    first, other = recording(house, "phone"), recording(house, "laptop")
    house.passes(60)
    first.hears(MESSAGE.format(id_, "I take thee at thy word.", ""))
    house.archiver.stream_pending(first.jid, pending=True)
    house.passes(300)
    first.closes()
    other.hears(
        MESSAGE.format(id_, "I take thee at thy word.", DELAY.format("capulet.lit", "2026-11-21T10:01:00Z"))
    )
    assert archived(house) == 1


def test_much_delivered_anew():
    """Many messages may wait for a client that is away; while it is there few are remembered, as there may be
    100,000 streams."""
    house = House()
    stream = recording(house, "phone")
    for n in range(1000):
        stream.hears(MESSAGE.format(f"m{n}", "words", ""))
    assert sys.getsizeof(house.archiver._in_flight._of[stream.jid.full()]) < 2000
    house.archiver.stream_pending(stream.jid, pending=True)
    for n in range(1000, 1400):
        stream.hears(MESSAGE.format(f"m{n}", "words", ""))
    stream.closes()
    later = recording(house, "phone")
    for n in range(1000, 1400):
        later.hears(MESSAGE.format(f"m{n}", "words", DELAY.format("capulet.lit", BEFORE)))
    assert archived(house) == 1400


def test_copies_are_forgotten():
    """What a user's streams got is remembered for as long as a copy of it can come, not longer."""
    house = House()
    stream, _ = recording(house, "phone"), recording(house, "laptop")
    for n in range(300):
        stream.hears(MESSAGE.format(f"m{n}", "words", ""))
        house.passes(10)
    assert len(house.archiver._owners[HER].copies._seen) < 10


def test_delivered_late():
    """What waited for its user on the server is archived, at the time that the server says."""
    house = House()
    stream = recording(house, "phone")
    stream.hears(MESSAGE.format("m1", "words", DELAY.format("capulet.lit", BEFORE)))
    (chat,) = stream.ask(LIST)[0].findall("{urn:xmpp:archive}chat")
    assert chat.get("start").startswith("2026-11-21T09:00:00")


def test_a_client_that_came_back():
    """Nothing is taken for a repetition when the stream was resumed before it ended."""
    house = House()
    stream = recording(house, "phone")
    house.archiver.stream_pending(stream.jid, pending=True)
    house.archiver.stream_pending(stream.jid, pending=False)
    stream.hears(MESSAGE.format("m1", "words", ""))
    stream.closes()
    later = recording(house, "phone")
    later.hears(MESSAGE.format("m1", "words", DELAY.format("capulet.lit", BEFORE)))
    assert archived(house) == 2


def test_said_again():
    """The same words without a <delay/> of the server's are words said twice."""
    house = House()
    first = recording(house, "phone")
    first.hears(MESSAGE.format("m1", "words", ""))
    house.archiver.stream_pending(first.jid, pending=True)
    first.closes()
    recording(house, "phone").hears(MESSAGE.format("m1", "words", ""))
    assert archived(house) == 2


def test_a_delay_of_the_senders():
    """A sender who writes the server's <delay/> himself dates nothing that comes while the stream is open."""
    house = House()
    stream = recording(house, "phone")
    house.passes(60)
    stream.hears(MESSAGE.format("m1", "words", DELAY.format("capulet.lit", "2026-11-21T10:00:30Z")))
    (chat,) = stream.ask(LIST)[0].findall("{urn:xmpp:archive}chat")
    assert chat.get("start").startswith("2026-11-21T10:01:00")


def test_the_load(monkeypatch):
    """A host learns when it should bring nothing more: too much is unwritten, or too many streams wait."""
    house = House()
    assert house.archiver.load == 0
    monkeypatch.setattr("archive_crypt.archiver._MANY_LOADING", 2)
    house.storage.state = lambda owner: Deferred()
    house.stream(f"{HER}/a"), house.stream(f"{HER}/b")
    assert house.archiver.load == 1
