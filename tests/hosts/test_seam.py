"""What the host does for the archive, and that nothing the archive does harms the host."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, fail
from wokkel.subprotocols import XMPPHandler

from archive_crypt.hosts.seam import ArchivePlug
from tests.hosts.kit import Echo, Recorder, body, condition

ROMEO, JULIET = "romeo@capulet.example", "juliet@capulet.example"
ARCHIVE = "<list xmlns='urn:example:archive'/>"


def chat(text, to=ROMEO):
    return f"<message to='{to}' type='chat'><body>{text}</body></message>"


@ensureDeferred
async def test_life_of_a_stream(server, connect, recorder):
    """The archive hears of a bound stream before its first stanza, and of its end."""
    juliet = await connect(server)
    await juliet.open()
    await juliet.authenticate("juliet")
    assert recorder.calls == []
    await juliet.bind("balcony")
    assert recorder.calls == [("opened", JULIET + "/balcony")]
    juliet.say("</stream:stream>")
    await juliet.end()
    assert recorder.calls[1:] == [("closed", JULIET + "/balcony")]


@ensureDeferred
async def test_conflict_closes_before_it_opens(server, connect, recorder):
    """When a stream takes the place of another, the old one is closed first."""
    for _ in range(2):
        await (await connect(server)).login("juliet")
    at = JULIET + "/balcony"
    assert recorder.calls == [("opened", at), ("closed", at), ("opened", at)]


@ensureDeferred
async def test_each_copy_is_told(serve, connect, recorder):
    """The sender's copy and each delivered one are the archive's, with the time."""
    server = serve(clock=lambda: 1_469_000_000_000_000)
    juliet, phone, desk = [await connect(server) for _ in range(3)]
    await juliet.login("juliet")
    await phone.login("romeo", "phone")
    await desk.login("romeo", "desk")
    juliet.say(chat("hi"))
    await juliet.ping()
    told = [call for call in recorder.calls if call[0] in ("to", "from")]
    assert told == [
        ("to", JULIET + "/balcony", "hi", 1_469_000_000_000_000),
        ("from", ROMEO + "/phone", "hi", 1_469_000_000_000_000),
        ("from", ROMEO + "/desk", "hi", 1_469_000_000_000_000),
    ]


@ensureDeferred
async def test_message_to_oneself_has_two_copies(server, connect, recorder):
    """A memo is both sent and received."""
    juliet = await connect(server)
    await juliet.login("juliet")
    juliet.say(chat("memo", JULIET))
    await juliet.ping()
    at = JULIET + "/balcony"
    assert recorder.copies() == [("to", at, "memo"), ("from", at, "memo")]


@ensureDeferred
async def test_offline_copy_is_told_when_delivered(server, connect, recorder):
    """A stored message becomes its recipient's copy when it reaches him, delay and all."""
    delays = []
    recorder.message = lambda jid, direction, element, when: delays.append(
        (direction.value, bool(element.delay))
    )
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    juliet.say(chat("later"))
    await juliet.ping()
    assert delays == [("to", False)]
    await romeo.login("romeo")
    await romeo.next("message")
    assert delays == [("to", False), ("from", True)]


class Broken(Recorder):
    """An archive where everything fails."""

    def stream_opened(self, jid):
        raise RuntimeError("opened")

    stream_closed = stream_opened


class Raises(Broken):
    def message(self, jid, direction, element, when):
        raise RuntimeError(str(element.body))


class Fails(Broken):
    def message(self, jid, direction, element, when):
        return fail(RuntimeError(str(element.body)))


class Hangs(Broken):
    def message(self, jid, direction, element, when):
        return Deferred()


class Vandal(Broken):
    def message(self, jid, direction, element, when):
        element.children = []
        element["to"] = "nobody@capulet.example"


@pytest.mark.parametrize("archive", [Raises, Fails, Hangs, Vandal])
@ensureDeferred
async def test_delivery_does_not_depend_on_the_archive(serve, connect, archive, capsys):
    """An archive that raises, fails, never answers or changes what it was shown alters no delivery,
    and no text of a message reaches the log."""
    server = serve(archive=ArchivePlug(archive(), lambda jid: Echo()))
    juliet, phone, desk = [await connect(server) for _ in range(3)]
    await juliet.login("juliet")
    await phone.login("romeo", "phone")
    await desk.login("romeo", "desk")
    juliet.say(chat("wherefore"))
    for romeo in (phone, desk):
        got = await romeo.next("message")
        assert (got.get("to"), body(got)) == (ROMEO, "wherefore")
    assert "wherefore" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("to", ["", f"to='{JULIET}'", "to='capulet.example'", f"to='{ROMEO}'"])
@ensureDeferred
async def test_handler_answers(server, connect, to):
    """The stream's handler sees requests to the server, the user, and other users' accounts."""
    juliet = await connect(server)
    await juliet.login("juliet")
    juliet.say(f"<iq type='get' id='1' {to}>{ARCHIVE}</iq>")
    answer = await juliet.next("iq")
    assert answer.findtext("{urn:example:archive}by") == JULIET + "/balcony"


@ensureDeferred
async def test_handler_does_not_see_what_is_for_others(server, connect):
    """A request to another client or another server is none of the archive's business."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    juliet.say(f"<iq type='get' id='1' to='{ROMEO}/balcony'>{ARCHIVE}</iq>")
    assert (await romeo.next("iq")).get("from") == JULIET + "/balcony"
    juliet.say(f"<iq type='get' id='2' to='montague.example'>{ARCHIVE}</iq>")
    assert condition(await juliet.next("iq")) == "cancel/remote-server-not-found"


@ensureDeferred
async def test_each_stream_has_its_handler(serve, connect):
    """A handler belongs to one stream, and lives as long."""
    handlers = {}

    class Handler(Echo):
        lost = None

        def connectionLost(self, reason):
            self.lost = self.xmlstream is not None
            super().connectionLost(reason)

    def handler_for(jid):
        return handlers.setdefault(jid.full(), Handler())

    server = serve(archive=ArchivePlug(Recorder(), handler_for))
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    assert list(handlers) == [JULIET + "/balcony", ROMEO + "/balcony"]
    juliet.say("</stream:stream>")
    await juliet.end()
    assert [h.lost for h in handlers.values()] == [True, None]
    assert [h.xmlstream is None for h in handlers.values()] == [True, False]


@ensureDeferred
async def test_handler_asks_the_client(serve, connect):
    """A handler may send a request to its client, and gets the answer."""
    answers = []

    class Asks(XMPPHandler):
        def connectionInitialized(self):
            from wokkel.generic import Request

            self.request(Request()).addCallback(answers.append)

    server = serve(archive=ArchivePlug(Recorder(), lambda jid: Asks()))
    juliet = await connect(server)
    await juliet.login("juliet", presence="")
    asked = await juliet.next("iq")
    juliet.say(f"<iq type='result' id='{asked.get('id')}'/>")
    await juliet.ping()
    assert [a["id"] for a in answers] == [asked.get("id")]


@ensureDeferred
async def test_handler_that_raises(serve, connect):
    """A handler that raises costs its request only: the client gets an error, the stream lives."""

    class Raises(XMPPHandler):
        def connectionInitialized(self):
            self.xmlstream.addObserver("/iq", self.on_iq)

        def on_iq(self, iq):
            raise RuntimeError

    server = serve(archive=ArchivePlug(Recorder(), lambda jid: Raises()))
    juliet = await connect(server)
    await juliet.login("juliet")
    juliet.say(f"<iq type='get' id='1'>{ARCHIVE}</iq>")
    assert condition(await juliet.next("iq")) == "cancel/service-unavailable"
    assert await juliet.ping() == []


@ensureDeferred
async def test_no_handler_can_be_made(serve, connect):
    """An archive that has no handler to give leaves a stream that works without."""

    def handler_for(jid):
        raise RuntimeError

    juliet = await connect(serve(archive=ArchivePlug(Recorder(), handler_for)))
    await juliet.login("juliet")
    assert await juliet.ping() == []


@ensureDeferred
async def test_no_archive(serve, connect):
    """The server runs without any archive."""
    juliet = await connect(serve(archive=None))
    await juliet.login("juliet")
    juliet.say(chat("memo", JULIET))
    assert body(await juliet.next("message")) == "memo"
