"""The handler as a host has it; what it answers to good requests is in tests/dialogues."""

import pytest
from lxml import etree
from twisted.logger import LogLevel, globalLogPublisher
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.core.dialect import F
from archive_crypt.model import Direction, Settings
from archive_crypt.xmpp.handler import offered
from tests.kit import House, element

ORCHARD = "romeo@montague.lit/orchard"
LIST = f"<iq type='get' id='l'><list xmlns='{F.namespace}'/></iq>"


def test_one_answer_only():
    """What another handler has answered is left alone; a child called <handled/> says nothing."""
    stream = House().stream(ORCHARD)
    assert stream.ask(f"<iq type='get' id='x'><handled xmlns='{F.namespace}'/></iq>").get("type") == "error"
    iq = element(LIST)
    iq["from"], iq.handled = ORCHARD, True
    before = len(stream.received)
    stream.dispatch(iq)
    assert len(stream.received) == before


@pytest.mark.clause("INT-13")
@pytest.mark.parametrize("name", ["list", "auto", "bogus"])
def test_deep_nesting(name):
    """A request nested ten thousand deep is a bad request, and the next one is answered."""
    stream = House().stream(ORCHARD)
    deep = f"<{name} xmlns='{F.namespace}'>{'<x>' * 10_000}{'</x>' * 10_000}</{name}>"
    answer = stream.ask(f"<iq type='get' id='d'>{deep}</iq>")
    assert answer.get("type") == "error"
    assert answer.find(".//{*}bad-request") is not None
    assert stream.ask(LIST).get("type") == "result"


def test_errors_say_what_and_repeat_small_requests():
    """An error has the condition, a text, the legacy code, and repeats the request as the XEP's do."""
    stream = House().stream(ORCHARD)
    answer = stream.ask(f"<iq type='get' id='r'><retrieve xmlns='{F.namespace}' with='a@b'/></iq>")
    assert answer.find("{*}retrieve").get("with") == "a@b"
    error = answer.find("{*}error")
    assert (error.get("type"), error.get("code")) == ("modify", "400")
    assert "with and start" in error.findtext("{*}text")


def test_bugs_are_ours_and_say_nothing():
    """A bug is answered with internal-server-error; neither answer nor log quotes anything."""
    house = House()
    stream = house.stream(ORCHARD)
    events = []

    def fail(*_):
        raise RuntimeError("Wherefore art thou")

    house.storage.collections = fail
    globalLogPublisher.addObserver(events.append)
    try:
        answer = stream.ask(LIST)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert answer.find(".//{*}internal-server-error") is not None
    assert b"Wherefore" not in etree.tostring(answer)
    assert any(event["log_level"] is LogLevel.error for event in events)
    assert "Wherefore" not in repr(events)


def test_notices_come_from_the_server():
    """What a user is told comes as a message from his server, to his stream."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.handler.onNotice("Something <happened>")
    (message,) = stream.received
    assert (message.get("from"), message.get("to")) == ("montague.lit", ORCHARD)
    assert message.findtext("{*}body") == "Something <happened>"


def test_features():
    """Encryption is announced if it is offered, and only then."""
    assert "urn:xmpp:tmp:archive:encrypt" in offered(Settings())
    assert not any(feature.endswith("encrypt") for feature in offered(Settings(encryption=False)))


def test_a_stream_nobody_opened():
    """A message on a stream the archive was never told of is not archived, and harms nothing."""
    house = House()
    message = element("<message to='juliet@capulet.lit'><body>x</body></message>")
    results = []
    house.archiver.message(JID(ORCHARD), Direction.TO, message, house.now()).addCallback(results.append)
    assert results == [False]
