"""The component on a wire that obeys: a server whose every word the test writes, and a clock that it turns."""

import hashlib
import itertools

import pytest
from lxml import etree
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from archive_crypt.core import published
from archive_crypt.core.dialect import DIALECTS, F
from archive_crypt.hosts.component.host import Component, Lack
from archive_crypt.hosts.seam import ArchivePlug
from archive_crypt.model import AutoState, Settings, SuppliedKey
from archive_crypt.store.interfaces import SetAuto
from archive_crypt.xmpp.handler import ArchiveHandler, offered
from tests.kit import LAPTOP, House, key_info, opened

FEED = "urn:x-archive-crypt:feed:1"
PRIVILEGE = "urn:xmpp:privilege:2"
US, HERE = "archive.capulet.lit", "capulet.lit"
JULIET = "juliet@capulet.lit/chamber"
SECRET = "0f1e2d3c"


class Server:
    """The server's end: an endpoint that connects at once, unless it is `down`. Time is `clock`'s."""

    def __init__(self, clock, condition=None):
        self.clock, self.condition = clock, condition
        self.down = False
        self.tries = []
        self.connections = 0

    def connect(self, factory):
        self.tries.append(self.clock.seconds())
        if self.down:
            return fail(ConnectionRefusedError())
        self.connections += 1
        self.stream = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.stream.makeConnection(self.transport)
        self.clock.callLater(0, self._greets)
        return succeed(self.stream)

    def _greets(self):
        self.raw(
            "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='s1'>"
        )
        said = self.transport.value().decode()
        assert hashlib.sha1(f"s1{SECRET}".encode()).hexdigest() in said
        assert SECRET not in said
        self.transport.clear()
        if self.condition is None:
            self.raw("<handshake/>")
        else:
            error = f"<{self.condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
            self.raw(f"<stream:error>{error}</stream:error></stream:stream>")
            self.loses()

    def raw(self, xml):
        self.stream.dataReceived(xml.encode())

    def says(self, child, sender=HERE, kind="message", **attributes):
        """A stanza of the server, with `child` in it."""
        more = "".join(f" {name}='{value}'" for name, value in attributes.items())
        self.raw(f"<{kind} from='{sender}' to='{US}'{more}>{child}</{kind}>")

    def feeds(self, name, text="", **attributes):
        more = "".join(f" {name}='{value}'" for name, value in attributes.items())
        self.says(f"<{name} xmlns='{FEED}'{more}>{text}</{name}>")

    def copies(self, body, direction="in", **attributes):
        message = (
            f"<message xmlns='jabber:client' from='romeo@montague.lit/x' to='{JULIET}' type='chat'>"
            f"<body>{body}</body></message>"
        )
        forwarded = f"<forwarded xmlns='urn:xmpp:forward:0'>{message}</forwarded>"
        self.feeds("copy", forwarded, jid=JULIET, direction=direction, **attributes)

    def snapshot(self, *streams, privilege=PRIVILEGE, **attributes):
        self.feeds("snapshot", event="begin", server="Test 1", privilege=privilege, **attributes)
        for jid in streams:
            self.feeds("stream", jid=jid, event="open")
        self.feeds("snapshot", event="end")

    def delegates(self, request, kind="get", sender=JULIET, to=None, version=2, domain=HERE):
        """A user's request, delegated; what the client gets, or None."""
        address = f" to='{to}'" if to else ""
        inner = f"<iq xmlns='jabber:client' type='{kind}' id='c1' from='{sender}'{address}>{request}</iq>"
        wrapped = f"<forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded>"
        self.transport.clear()
        self.says(
            f"<delegation xmlns='urn:xmpp:delegation:{version}'>{wrapped}</delegation>",
            domain,
            "iq",
            type="set",
            id="o1",
        )

    def got(self):
        """The stanzas that were sent here since `transport.clear`."""
        return list(
            etree.fromstring(
                f"<stream xmlns='jabber:component:accept'>{self.transport.value().decode()}</stream>"
            )
        )

    def loses(self):
        """The connection breaks."""
        self.stream.connectionLost(Failure(ConnectionRefusedError()))


class Scene:
    """A house in memory, its component, and the server."""

    def __init__(self, condition=None, domains=(HERE,), **settings):
        self.house = House(**settings)
        self.clock = self.house.clock
        self.server = Server(self.clock, condition)
        self.refusals = []
        archiver = self.house.archiver
        plug = ArchivePlug(
            archiver, lambda jid: ArchiveHandler(archiver, jid), nodes=published.watched(openpgp=False)
        )
        self.component = Component(
            self.clock,
            self.server,
            US,
            SECRET,
            domains,
            plug,
            lambda recording: offered(Settings(), recording),
            self.refusals.append,
            self.house.now,
        )
        self.component.start()
        self.house.settle()

    def records(self, encrypt=False):
        """Juliet's stream is open and records."""
        self.server.snapshot(JULIET)
        self.house.settle()
        more, keys = (" encrypt='true'", key_info(LAPTOP, "laptop")) if encrypt else ("", "")
        self.server.delegates(f"<auto xmlns='{F.namespace}' save='true'{more}>{keys}</auto>", "set")
        self.answers_keys()
        assert self.answer().get("type") == "result"

    def answers_keys(self, error="", payload="", clear=False):
        """The server knows of no published key; or it has this `error`, or in each node that `payload`."""
        self.house.settle()
        asked = self.server.got()
        if clear:
            self.server.transport.clear()
        for stanza in asked:
            inner = stanza.find(f"{{{PRIVILEGE}}}privileged_iq/*")
            if inner is not None:
                self.server.says(
                    privileged(inner.get("id"), "result" if payload else "error", payload or error),
                    stanza.get("to"),
                    "iq",
                    type="result",
                    id=stanza.get("id"),
                )
        self.house.settle()

    def answer(self):
        """The inner iq of the answer to what was delegated."""
        (outer,) = [stanza for stanza in self.server.got() if stanza.get("id") == "o1"]
        return outer.find("{*}delegation/{*}forwarded/{jabber:client}iq")

    def listed(self):
        self.server.delegates(f"<list xmlns='{F.namespace}'/>")
        self.house.settle()
        return self.answer().findall(f".//{{{F.namespace}}}chat")

    @property
    def archived(self):
        self.house.settle()
        return self.house.archiver.counts["archived"]


def privileged(id_, kind, payload=""):
    error = "<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    inner = f"<iq xmlns='jabber:client' type='{kind}' id='{id_}'>{payload or error}</iq>"
    return f"<privilege xmlns='{PRIVILEGE}'><forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded></privilege>"


@pytest.fixture
def logged():
    """The texts of all log lines of the test."""
    lines = []

    def observe(event):
        lines.append(event["log_format"].format(**event) if event.get("log_format") else "")

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize("condition", ["not-authorized", "host-unknown"])
def test_refused_for_good(condition):
    """A server that will never have us is told of once, with what to do, and not tried again."""
    scene = Scene(condition)
    scene.house.passes(3600)
    (error,) = scene.refusals
    assert "secret" in str(error) or "component" in str(error)
    assert SECRET not in str(error)
    assert scene.server.connections == 1


def test_tried_again_with_growing_pauses():
    """A server that is away is tried again, soon at first and then at most every 30 seconds, for ever."""
    scene = Scene()
    scene.server.down = True
    scene.server.loses()
    for _ in range(3000):
        scene.house.passes(0.1)
    tries = scene.server.tries[1:]
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert tries[0] < 0.5
    assert all(later > earlier - 0.11 for earlier, later in itertools.pairwise(pauses))
    assert 29 < pauses[-1] < 31
    scene.server.down = False
    scene.house.passes(31)
    assert scene.component.connected


def test_connections_that_do_not_last(logged):
    """A server that takes us and soon ends the stream, as when a second component comes, is tried again with growing
    pauses, too, and the log says why it did; one that had us for long is tried at once."""
    scene = Scene()
    condition = "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
    for _ in range(400):
        if scene.component.connected:
            scene.server.raw(f"<stream:error>{condition}</stream:error></stream:stream>")
            scene.server.loses()
        scene.house.passes(0.25)
    assert 3 < scene.server.connections < 20
    assert any("conflict" in line for line in logged)
    scene.house.passes(60)
    scene.house.passes(60)
    tries = len(scene.server.tries)
    scene.server.loses()
    scene.house.passes(0.3)
    assert len(scene.server.tries) == tries + 1


def test_a_server_that_says_nothing():
    """A connection on which nobody answers is given up and made anew."""
    scene = Scene()
    scene.server._greets = lambda: None
    scene.server.loses()
    for _ in range(300):
        scene.house.passes(0.1)
    assert scene.server.connections > 2


def test_streams_go_on_through_a_lost_connection():
    """A conversation that was open when the connection broke goes on in the same collection, as the next snapshot
    names its stream."""
    scene = Scene()
    scene.records(encrypt=True)
    scene.server.copies("one")
    scene.server.loses()
    scene.house.passes(1)
    scene.server.snapshot(JULIET)
    scene.server.copies("two")
    assert scene.archived == 2
    (shown,) = scene.listed()
    scene.server.delegates(
        f"<retrieve xmlns='{F.namespace}' with='{shown.get('with')}' start='{shown.get('start')}'/>"
    )
    scene.house.settle()
    assert [item.bodies[0][1] for item in opened(scene.answer()[0], LAPTOP)] == ["one", "two"]


def test_no_sender_cuts_the_link():
    """Whatever namespaces a sender thinks of, the connection lives, and the message is archived."""
    scene = Scene()
    scene.records()
    scene.server.copies("one</body><x xmlns='urn:a b' xmlns:p='&quot;&lt;' p:a=''/><body xml:lang='it'>uno")
    scene.server.copies("two")
    assert scene.archived == 2
    assert scene.server.connections == 1


@pytest.mark.parametrize("resumed", [True, False])
def test_open_again(resumed):
    """A stream that is said to be open again goes on with its setting if it was resumed; else it is another, which
    asked for nothing."""
    scene = Scene()
    scene.records()
    scene.server.feeds("stream", jid=JULIET, event="pending")
    scene.server.feeds("stream", jid=JULIET, event="open")
    if resumed:
        scene.server.feeds("stream", jid=JULIET, event="resume")
    scene.server.copies("one")
    assert scene.archived == (1 if resumed else 0)


def test_streams_that_a_snapshot_does_not_name():
    """They ended while nobody could tell: they are closed, with their keys."""
    scene = Scene()
    scene.records(encrypt=True)
    scene.server.copies("one")
    scene.house.settle()
    assert len(scene.house.keyring) == 1
    scene.server.snapshot("nurse@capulet.lit/x")
    scene.house.settle()
    assert len(scene.house.keyring) == 0
    assert not scene.house.archiver.has_streams("juliet@capulet.lit")


def test_what_was_missed_is_said(logged):
    """How many messages passed while we were away is counted, and said."""
    scene = Scene()
    scene.server.snapshot(missed=17)
    assert scene.component.counts["missed while away"] == 17
    assert any("17 message(s) of capulet.lit" in line for line in logged)


def test_held_copies():
    """A copy that had to wait is archived with the time at which it was made; none comes from the future."""
    scene = Scene()
    scene.records()
    scene.server.copies("one", held="2026-11-21T09:59:58.500Z")
    scene.server.copies("two", held="2036-11-21T09:59:58Z")
    assert scene.archived == 2
    (shown,) = scene.listed()
    assert shown.get("start").startswith("2026-11-21T09:59:58.5")


GARBAGE = (
    "<copy xmlns='urn:x-archive-crypt:feed:1'/>",
    f"<copy xmlns='{FEED}' jid='{JULIET}'/>",
    f"<copy xmlns='{FEED}' jid='{JULIET}' direction='in'/>",
    f"<copy xmlns='{FEED}' jid='{JULIET}' direction='up'><forwarded xmlns='urn:xmpp:forward:0'/></copy>",
    f"<copy xmlns='{FEED}' jid='romeo@montague.lit/x' direction='in'/>",
    f"<copy xmlns='{FEED}' jid='@/' direction='in'/>",
    f"<stream xmlns='{FEED}' jid='juliet@capulet.lit' event='open'/>",
    f"<stream xmlns='{FEED}' jid='capulet.lit' event='open'/>",
    f"<stream xmlns='{FEED}' jid='{JULIET}'/>",
    f"<stream xmlns='{FEED}' jid='{JULIET}' event='explode'/>",
    f"<published xmlns='{FEED}' jid='{JULIET}' node='urn:xmpp:pubkey:2'/>",
    f"<published xmlns='{FEED}' jid='juliet@capulet.lit'/>",
    "<copy xmlns='urn:x-archive-crypt:feed:99'/>",
)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage(garbage):
    """What cannot be understood of the feed is counted and skipped; what follows is archived."""
    scene = Scene()
    scene.records()
    before = sum(scene.component.counts.values())
    scene.server.says(garbage)
    assert sum(scene.component.counts.values()) == before + 1
    scene.server.copies("after it")
    assert scene.archived == 1


@pytest.mark.parametrize(
    "stanza",
    [
        "<message/>",
        "<presence/>",
        "<iq/>",
        "<iq type='get'/>",
        "<iq type='set' id='x'/>",
        "<what/>",
        "<iq type='result' id='x'/>",
        "<iq type='set' id='x'><delegation xmlns='urn:xmpp:delegation:2'/></iq>",
        "<iq type='get' id='x'><delegation xmlns='urn:xmpp:delegation:1'/></iq>",
        "<iq type='get' id='x'><query xmlns='http://jabber.org/protocol/disco#info' node='urn:xmpp:delegation:2::x'/></iq>",
    ],
)
def test_other_garbage(stanza):
    """No stanza ends the connection, whoever sends it and whatever it lacks."""
    scene = Scene()
    scene.records()
    for sender in ("", f" from='{HERE}'", " from='mallory@example.org/x'", " from='@'"):
        scene.server.raw(
            stanza.replace(" ", f"{sender} ", 1) if " " in stanza else stanza.replace("/>", f"{sender}/>")
        )
    scene.server.copies("after it")
    assert scene.archived == 1


@pytest.mark.parametrize(
    "sender", ["montague.lit", "capulet.lit.example.org", "juliet@capulet.lit", JULIET, "capulet.lit/x", ""]
)
def test_believed_from_exactly_a_host_of_ours(sender, logged):
    """What anybody else tells of streams, messages and requests is dropped and counted, and the sender logged."""
    scene = Scene()
    scene.records()
    for child, kind, attributes in (
        (f"<stream xmlns='{FEED}' jid='{JULIET}' event='close'/>", "message", {}),
        (f"<privilege xmlns='{PRIVILEGE}'/>", "message", {}),
        ("<delegation xmlns='urn:xmpp:delegation:2'/>", "iq", {"type": "set", "id": "x"}),
    ):
        scene.server.transport.clear()
        scene.server.says(child, sender, kind, **attributes)
        answers = [stanza.find(".//{*}forbidden") is not None for stanza in scene.server.got()]
        assert answers == ([True] if kind == "iq" else [])
    assert scene.house.archiver.has_streams("juliet@capulet.lit")
    assert any(sender and f"from {sender}" in line for line in logged) or not sender
    assert scene.component.strangers == (
        {sender} if "@" not in sender and "/" not in sender and sender else set()
    )


def test_complaints_do_not_fill_the_log(logged):
    """A flood of forged stanzas is one line a minute, with its number."""
    scene = Scene()
    for _ in range(1000):
        scene.server.says(f"<copy xmlns='{FEED}'/>", "mallory@example.org/x")
    scene.house.passes(61)
    scene.server.says(f"<copy xmlns='{FEED}'/>", "mallory@example.org/x")
    lines = [line for line in logged if "mallory" in line]
    assert len(lines) == 2
    assert "1000 since" in lines[1]


def test_complaints_do_not_quote(logged):
    """A flood of forged stanzas that are never the same is one line a minute, too, and none of them is remembered."""
    scene = Scene()
    for n in range(1000):
        scene.server.says(f"<copy xmlns='{FEED}{n}{'x' * 500}'/>", "mallory@example.org/x")
    assert len([line for line in logged if "mallory" in line]) == 1
    assert all(len(line) < 300 for line in logged)
    assert len(scene.component.counts) == 1


def test_reading_stops_while_the_archive_is_full(monkeypatch):
    """With enough to do we stop reading, and go on when there is less."""
    scene = Scene()
    scene.records()
    load = [1.0]
    monkeypatch.setattr(type(scene.house.archiver), "load", property(lambda _: load[0]))
    scene.server.copies("one")
    assert scene.server.transport.producerState == "paused"
    load[0] = 0.7
    scene.house.passes(1)
    assert scene.server.transport.producerState == "paused"
    load[0] = 0.4
    scene.house.passes(1)
    assert scene.server.transport.producerState == "producing"


def test_reading_does_not_stop_for_ever(monkeypatch):
    """A server is not made to keep messages for longer than half a minute: then we read on, and the archive counts
    what it cannot take."""
    scene = Scene()
    scene.records()
    monkeypatch.setattr(type(scene.house.archiver), "load", property(lambda _: 2.0))
    scene.server.copies("one")
    for _ in range(310):
        scene.house.passes(0.1)
    assert scene.server.transport.producerState == "producing"
    scene.server.copies("two")
    assert scene.server.transport.producerState == "producing"
    monkeypatch.setattr(type(scene.house.archiver), "load", property(lambda _: 0.0))
    scene.house.passes(1)
    monkeypatch.setattr(type(scene.house.archiver), "load", property(lambda _: 2.0))
    scene.server.copies("three")
    assert scene.server.transport.producerState == "paused"


@pytest.mark.parametrize("version", [1, 2])
def test_the_answer_mirrors_the_request(version):
    """The inner answer repeats id and address of the request, in the version in which the server asks."""
    scene = Scene()
    scene.server.snapshot(JULIET)
    for to in (None, "juliet@capulet.lit", HERE):
        scene.server.delegates(f"<list xmlns='{F.namespace}'/>", to=to, version=version)
        scene.house.settle()
        answer = scene.answer()
        assert answer.getparent().getparent().tag == f"{{urn:xmpp:delegation:{version}}}delegation"
        assert dict(answer.attrib) == {
            "type": "result",
            "id": "c1",
            "from": to or "juliet@capulet.lit",
            "to": JULIET,
        }


@pytest.mark.parametrize("sender", ["romeo@montague.lit/x", "capulet.lit", "juliet@capulet.lit", "@", ""])
def test_requests_of_nobody_here(sender):
    """A server delegates requests of anybody to its users: whoever has no stream here is forbidden."""
    scene = Scene()
    scene.records()
    scene.server.delegates(f"<list xmlns='{F.namespace}'/>", sender=sender, to="juliet@capulet.lit")
    answer = scene.answer()
    assert answer.get("type") == "error"
    assert answer.find(".//{*}forbidden") is not None
    assert answer.get("from") == "juliet@capulet.lit"


@pytest.mark.parametrize("what", ["id", "request"])
def test_answers_that_are_too_long(what):
    """A server ends the stream that sends it a stanza of half a MiB: who makes an answer that long, by what comes
    back escaped in it, has it refused instead."""
    scene = Scene()
    scene.server.snapshot(JULIET)
    long = "'" * 200_000
    id_, with_ = (long, "") if what == "id" else ("c1", f'with="@{long}"')
    inner = f"<iq xmlns='jabber:client' type='get' id=\"{id_}\" from='{JULIET}'><list xmlns='{F.namespace}' {with_}/></iq>"
    wrapped = f"<forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded>"
    scene.server.transport.clear()
    scene.server.says(
        f"<delegation xmlns='urn:xmpp:delegation:2'>{wrapped}</delegation>", HERE, "iq", type="set", id="o1"
    )
    scene.house.settle()
    assert len(scene.server.transport.value()) < 2000
    (answer,) = scene.server.got()
    assert answer.get("id") == "o1"
    assert answer.find(".//{*}error") is not None


@pytest.mark.parametrize(
    "namespace",
    [
        "x'/&gt;&lt;evil/&gt;&lt;x y='",
        "urn:a&amp;b",
        "a b",
        "&lt;",
        "a&#10;b",
        "http://etherx.jabber.org/streams",
    ],
)
def test_namespaces_that_are_xml(namespace):
    """What a client calls a namespace is never more than a name when his request is repeated to him."""
    scene = Scene()
    scene.server.snapshot(JULIET)
    for request in (
        f'<list xmlns="{F.namespace}" with="@" xmlns:x="{namespace}" x:y="z"/>',
        f'<list xmlns="{F.namespace}" with="@"><evil xmlns="{namespace}"/></list>',
        f'<list xmlns="{F.namespace}" with="@"><x:evil xmlns:x="{namespace}"><x:y xmlns:x="u"/></x:evil></list>',
    ):
        scene.server.delegates(request)
        scene.house.settle()
        (outer,) = scene.server.got()
        assert outer.get("id") == "o1"
        assert scene.answer().find("{*}error") is not None


@pytest.mark.parametrize("kind", ["iq", "message"])
def test_stanzas_of_too_many_elements(kind):
    """A stanza that would take too much memory is counted and skipped, an iq refused; what follows is archived."""
    scene = Scene()
    scene.records()
    scene.server.transport.clear()
    child = f"<delegation xmlns='urn:xmpp:delegation:2'>{'<a/>' * 150_000}<b>x</b></delegation>"
    scene.server.says(child, HERE, kind, type="set" if kind == "iq" else "chat", id="o1")
    assert [stanza.get("type") for stanza in scene.server.got()] == (["error"] if kind == "iq" else [])
    assert scene.component.counts["too many elements"] == 1
    scene.server.copies("after it")
    assert scene.archived == 1


def test_answers_after_a_lost_connection():
    """A request that was under way when the connection broke is answered to nobody, and its id is free again."""
    scene = Scene()
    scene.server.snapshot(JULIET)
    scene.server.delegates(f"<list xmlns='{F.namespace}'/>")
    scene.server.loses()
    scene.house.passes(1)
    assert [stanza for stanza in scene.server.got() if stanza.get("id") == "o1"] == []


def test_without_feed():
    """A server that does not feed us gets an archive without recording: that is not announced, and <auto/> is refused."""
    scene = Scene()
    for dialect in DIALECTS.values():
        node = f"urn:xmpp:delegation:2::{dialect.namespace}"
        scene.server.transport.clear()
        query = f"<query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/>"
        scene.server.says(query, HERE, "iq", type="get", id="q")
        (answer,) = scene.server.got()
        features = {feature.get("var") for feature in answer.iter("{*}feature")}
        assert dialect.feature("manage") in features
        assert dialect.feature("auto") not in features
    scene.server.delegates(f"<auto xmlns='{F.namespace}' save='true'/>", "set")
    scene.house.settle()
    assert scene.answer().find(".//{*}feature-not-implemented") is not None
    assert scene.listed() == []


def test_what_does_not_work_is_said(logged):
    """A server that does not set up everything is reported once it had its time, with what that costs."""
    scene = Scene()
    scene.house.passes(6)
    assert scene.component.lacking(HERE) == list(Lack)
    for lack in Lack:
        assert any(lack.value in line for line in logged)


def test_guests_are_forgotten():
    """A stream of which only a request is known is closed when it has not asked for long."""
    scene = Scene()
    scene.server.delegates(f"<list xmlns='{F.namespace}'/>")
    scene.house.settle()
    assert scene.house.archiver.has_streams("juliet@capulet.lit")
    scene.house.passes(3600)
    scene.server.delegates(f"<list xmlns='{F.namespace}'/>", sender="nurse@capulet.lit/x")
    scene.house.settle()
    assert not scene.house.archiver.has_streams("juliet@capulet.lit")


def test_prosodys_announcement():
    """Permissions are read as Prosody 0.12 nests them, too."""
    scene = Scene()
    nested = (
        f"<namespace ns='{F.namespace}' type='set'>"
        + "".join(
            f"<namespace ns='{ns}' type='set'>"
            for ns in (*list(DIALECTS)[:2], "http://jabber.org/protocol/pubsub")
        )
        + "</namespace>" * 4
    )
    scene.server.says(
        f"<privilege xmlns='{PRIVILEGE}'><perm access='iq'>{nested}</perm><perm access='message' type='outgoing'/></privilege>"
    )
    assert Lack.PRIVILEGE not in scene.component.lacking(HERE)


def test_a_notice_without_permission():
    """Where nothing may be sent in the server's name a notice comes from the component itself; its copy is not
    archived."""
    scene = Scene()
    scene.records(encrypt=True)
    scene.server.snapshot(JULIET, privilege="")
    scene.component._privilege.of(HERE).messages = False
    scene.server.transport.clear()
    scene.component._clients.get(scene.component._clients.of(HERE)[0]).onNotice("words")
    (notice,) = scene.server.got()
    assert (notice.get("from"), notice.get("to")) == (US, JULIET)
    inner = f"<message xmlns='jabber:client' from='{US}' to='{JULIET}' id='{notice.get('id')}'><body>words</body></message>"
    scene.server.feeds(
        "copy", f"<forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded>", jid=JULIET, direction="in"
    )
    assert scene.archived == 0


@pytest.mark.parametrize(("direction", "sender"), [("in", "romeo@montague.lit/x"), ("out", JULIET)])
def test_a_users_message_with_the_id_of_a_notice(direction, sender):
    """Whoever has seen a notice can keep no message of his own out of an archive by giving it such an id."""
    scene = Scene()
    scene.records()
    scene.server.transport.clear()
    scene.component._clients.get(scene.component._clients.of(HERE)[0]).onNotice("words")
    (notice,) = scene.server.got()
    id_ = notice.find(".//{jabber:client}message").get("id")
    inner = f"<message xmlns='jabber:client' from='{sender}' to='x@y' id='{id_}'><body>words</body></message>"
    scene.server.feeds(
        "copy", f"<forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded>", jid=JULIET, direction=direction
    )
    assert scene.archived == 1


def test_keys_that_were_just_published():
    """Whoever asks for encryption without a key that is known gets his nodes read once more before it is refused: the
    news of a key may still be on its way."""
    scene = Scene()
    scene.server.snapshot(JULIET)
    scene.house.settle()
    for _ in range(2):
        scene.server.delegates(f"<auto xmlns='{F.namespace}' save='true' encrypt='true'/>", "set")
        scene.house.settle()
        asked = [
            stanza
            for stanza in scene.server.got()
            if stanza.find(f"{{{PRIVILEGE}}}privileged_iq") is not None
        ]
        assert len(asked) >= len(published.watched(openpgp=False))
        scene.answers_keys()
        scene.answers_keys()


def test_keys_are_read_again():
    """What users published while nobody could tell is used soon after the connection is there again."""
    scene = Scene()
    scene.records(encrypt=True)
    scene.server.loses()
    scene.house.passes(1)
    scene.server.snapshot(JULIET)
    scene.server.transport.clear()
    scene.house.passes(5)
    asked = [stanza.find(".//{*}items") for stanza in scene.server.got()]
    assert {items.get("node") for items in asked if items is not None} == set(
        published.watched(openpgp=False)
    )


def test_nothing_is_sent_while_away():
    """Pushes and notices for a server that is away are dropped, not kept."""
    scene = Scene()
    scene.records()
    scene.server.down = True
    scene.server.loses()
    client = scene.component._clients.get(scene.component._clients.of(HERE)[0])
    client.onNotice("words")
    scene.server.down = False
    scene.house.passes(60)
    assert scene.component.connected
    assert scene.server.got() == []


def asked_for_keys(scene):
    """Whose nodes the component asks for, since `transport.clear`."""
    return [
        stanza.get("to")
        for stanza in scene.server.got()
        if stanza.find(f"{{{PRIVILEGE}}}privileged_iq//{{*}}items") is not None
    ]


def test_keys_that_changed_while_away():
    """After each connection the keys in use are read anew: nobody told what was retracted meanwhile."""
    scene = Scene()
    scene.records(encrypt=True)
    scene.house.passes(6)
    scene.answers_keys()
    scene.server.loses()
    scene.house.passes(1)
    scene.server.snapshot(JULIET)
    scene.house.passes(6)
    assert set(asked_for_keys(scene)) == {"juliet@capulet.lit"}


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (
            "<error type='cancel'><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>",
            1,
        ),
        ("<error type='wait'><resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>", 1),
        ("<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>", 0),
    ],
)
def test_keys_that_cannot_be_read(error, left):
    """A published key is in use until its node is said to be gone: no failure of the server's ends that."""
    scene = Scene()
    scene.server.snapshot(JULIET)
    scene.server.delegates(f"<auto xmlns='{F.namespace}' save='true' encrypt='true'/>", "set")
    item = f"<item id='x'>{key_info(LAPTOP, 'laptop')}</item>"
    scene.answers_keys(
        payload=f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='x'>{item}</items></pubsub>"
    )
    assert scene.answer().get("type") == "result"
    scene.server.transport.clear()
    scene.server.feeds("published", jid="juliet@capulet.lit", node="urn:xmpp:pubkey:2")
    scene.answers_keys(error)
    assert len(scene.house.archiver._owners["juliet@capulet.lit"].sealing.keys) == left


def test_a_server_with_many_streams(logged):
    """While a virtual host still names its streams nothing is said to be missing: it says what it does after that."""
    scene = Scene()
    scene.server.feeds("snapshot", event="begin", server="Test 1", privilege=PRIVILEGE)
    scene.house.passes(6)
    assert not any("check says more" in line for line in logged)
    scene.server.feeds("snapshot", event="end")
    scene.house.passes(6)
    assert any(Lack.DELEGATION.value in line for line in logged)


def test_a_change_after_keys_could_not_be_read():
    """A change is followed for whom something is sealed, whether his keys could be read before or not."""
    scene = Scene()
    scene.server.snapshot(JULIET)
    auto = f"<auto xmlns='{F.namespace}' save='true' encrypt='true'>{key_info(LAPTOP, 'laptop')}</auto>"
    scene.server.delegates(auto, "set")
    scene.house.passes(11)  # nobody says what is published
    assert scene.answer().get("type") == "result"
    scene.server.transport.clear()
    scene.server.feeds("published", jid="juliet@capulet.lit", node="urn:xmpp:pubkey:2")
    assert set(asked_for_keys(scene)) == {"juliet@capulet.lit"}


def test_keys_of_many():
    """A snapshot of many streams does not have all their users' keys asked for at once, but in the end."""
    scene = Scene()
    users = [f"user{n}@capulet.lit" for n in range(50)]
    sealed = AutoState(True, True, F.namespace, (SuppliedKey("laptop", LAPTOP.public("laptop").der),))
    scene.house.storage.apply([SetAuto(user, None, {"x": sealed}) for user in users])
    scene.server.transport.clear()
    scene.server.snapshot(*(f"{user}/x" for user in users))
    asked = []
    for _ in range(20):
        scene.house.settle()
        now = asked_for_keys(scene)
        assert len(set(now)) <= 8
        asked += now
        scene.answers_keys(clear=True)
    assert set(asked) == set(users)


LEFT = f"<left xmlns='{FEED}'/>"


def test_closing():
    """Closing has the server hold back what happens, and then ends the stream; what the server sends before it ends
    its own is archived. Nothing is tried again."""
    scene = Scene()
    scene.records()
    closed = scene.component.close()
    (leave,) = [stanza for stanza in scene.server.got() if stanza.find(f"{{{FEED}}}leave") is not None]
    assert (leave.get("from"), leave.get("to")) == (US, HERE)
    assert b"</stream:stream>" not in scene.server.transport.value()
    scene.server.copies("on its way")
    scene.server.says(LEFT)
    assert b"</stream:stream>" in scene.server.transport.value()
    assert scene.archived == 1
    scene.server.raw("</stream:stream>")
    assert scene.server.transport.disconnecting
    scene.server.loses()
    scene.house.passes(60)
    assert closed.called
    assert scene.server.connections == 1


def test_closing_while_the_archive_is_full(monkeypatch):
    """What the server sends last is read however much there is to do: nobody would read it later."""
    scene = Scene()
    scene.records()
    scene.component.close()
    monkeypatch.setattr(type(scene.house.archiver), "load", property(lambda _: 2.0))
    scene.server.copies("on its way")
    assert scene.server.transport.producerState == "producing"


def test_closing_while_a_request_is_under_way():
    """Whoever still waits for an answer is told, by the server, that there will be none."""
    scene = Scene()
    scene.server.snapshot(JULIET)
    scene.house.settle()
    scene.house.storage.collections = lambda *args: Deferred()
    scene.server.delegates(f"<list xmlns='{F.namespace}'/>")
    scene.house.settle()
    scene.component.close()
    scene.server.says(LEFT)
    written = scene.server.transport.value().decode()
    assert written.index("internal-server-error") < written.index("</stream:stream>")
    assert "id='o1'" in written


def test_closing_without_the_server():
    """A server that does not end its stream is not waited for long, whether it fed us or not."""
    for hosts in ([], [JULIET]):
        scene = Scene()
        if hosts:
            scene.server.snapshot(*hosts)
        scene.component.close()
        scene.house.passes(1)
        scene.house.passes(2)
        assert scene.server.transport.disconnected


def test_closing_as_the_server_vanishes():
    """A server that is gone is not waited for."""
    scene = Scene()
    scene.server.snapshot(JULIET)
    closed = scene.component.close()
    scene.server.loses()
    assert closed.called


def test_closing_while_away():
    """So does closing between two tries."""
    scene = Scene()
    scene.server.down = True
    scene.server.loses()
    assert scene.component.close().called
    scene.house.passes(60)
    assert len(scene.server.tries) == 1
