"""What the tests of the hosts are made of: an archive that only remembers, and a client that
says anything at all.

The reactor is imported late: conftest.py is read before pytest-twisted has installed its own.
"""

from __future__ import annotations

from base64 import b64encode
from xml.etree import ElementTree

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from wokkel.subprotocols import XMPPHandler

DOMAIN = "capulet.example"
USERS = {"juliet": "pencil", "romeo": "r0meo", "nurse": "n&<urse"}
PATIENCE = 5  # seconds before a wait fails its test
CLIENT = "{jabber:client}"
STREAMS = "{http://etherx.jabber.org/streams}"


class Recorder:
    """An archive that only remembers what the host told it."""

    def __init__(self):
        self.calls = []

    def stream_opened(self, jid):
        self.calls.append(("opened", jid.full()))

    def stream_closed(self, jid):
        self.calls.append(("closed", jid.full()))

    def message(self, jid, direction, element, when):
        self.calls.append((direction.value, jid.full(), str(element.body), when))

    def keys_published(self, jid, nodes):
        texts = {node: [str(payload) for payload in payloads] for node, payloads in nodes.items()}
        self.calls.append(("keys", jid.full(), texts))

    def copies(self):
        """(direction, JID, body) of every message."""
        return [call[:3] for call in self.calls if call[0] in ("to", "from")]


class Echo(XMPPHandler):
    """Answers every iq in urn:example:archive with its sender."""

    def connectionInitialized(self):
        self.xmlstream.addObserver("/iq/*[@xmlns='urn:example:archive']", self.on_iq)

    def on_iq(self, iq):
        iq.handled = True
        self.send(f"<iq type='result' id='{iq['id']}'><by xmlns='urn:example:archive'>{iq['from']}</by></iq>")


class Client(Protocol):
    """Says what it is told to; hears elements, one by one."""

    def __init__(self):
        self.heard = []
        self.raw = b""
        self.closed = False
        self._waiting = []
        self.restart()

    def restart(self):
        self._parser = ElementTree.XMLPullParser(("start", "end"))
        self._depth = 0
        self.header = None

    def dataReceived(self, data):
        self.raw += data
        self._parser.feed(data)
        for event, element in self._parser.read_events():
            self._depth += 1 if event == "start" else -1
            if event == "start" and self._depth == 1:
                self.header = element
            elif event == "end" and self._depth == 1:
                self.heard.append(element)
        self._wake()

    def connectionLost(self, reason):
        self.closed = True
        self._wake()

    def _wake(self):
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    async def _until(self, condition):
        from twisted.internet import reactor

        while not condition():
            deferred = Deferred()
            self._waiting.append(deferred)
            deferred.addTimeout(PATIENCE, reactor)
            await deferred

    def say(self, xml):
        self.transport.write(xml if isinstance(xml, bytes) else xml.encode())

    async def next(self, name=None):
        """The next element, or the next of this name (others before it are skipped)."""
        while True:
            await self._until(lambda: self.heard or self.closed)
            assert self.heard, "the connection was closed"
            element = self.heard.pop(0)
            if name is None or element.tag in (name, CLIENT + name):
                return element

    async def error(self):
        """The condition of the stream error, after which the connection was closed."""
        error = await self.next(STREAMS + "error")
        await self._until(lambda: self.closed)
        return error[0].tag.partition("}")[2]

    async def end(self):
        """Wait for the connection to close."""
        await self._until(lambda: self.closed)

    async def open(self, to=DOMAIN):
        """Send a header; the features that answer it."""
        self.restart()
        self.say(header(to))
        return await self.next(STREAMS + "features")

    async def authenticate(self, user):
        self.say(plain(user, USERS[user]))
        assert (await self.next()).tag.endswith("success")
        return await self.open()

    async def login(self, user, resource="balcony", presence="<presence/>"):
        """Up to a bound resource, and available unless `presence` is empty."""
        await self.open()
        await self.authenticate(user)
        jid = await self.bind(resource)
        if presence:
            self.say(presence)
            while (await self.next("presence")).get("from") != jid:
                pass
        return jid

    async def bind(self, resource):
        self.say(bind(resource))
        return (await self.next("iq")).findtext(".//{*}jid")

    async def ping(self):
        """Everything said before has been dealt with, and all that it caused here has arrived."""
        self.say("<iq type='get' id='sync'><ping xmlns='urn:xmpp:ping'/></iq>")
        await self._until(lambda: self.closed or any(e.get("id") == "sync" for e in self.heard))
        return [self.heard.pop(0) for _ in range(len(self.heard))][:-1]


def header(to=DOMAIN):
    return (
        f"<?xml version='1.0'?><stream:stream to='{to}' version='1.0' xmlns='jabber:client' "
        "xmlns:stream='http://etherx.jabber.org/streams'>"
    )


def plain(user, password, authzid=""):
    data = b64encode(f"{authzid}\0{user}\0{password}".encode()).decode()
    return f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{data}</auth>"


def bind(resource):
    wanted = f"<resource>{resource}</resource>" if resource else ""
    return f"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{wanted}</bind></iq>"


def condition(stanza):
    """type/condition of a stanza error."""
    error = stanza.find(CLIENT + "error")
    return f"{error.get('type')}/{error[0].tag.partition('}')[2]}"


def body(stanza):
    return stanza.findtext(CLIENT + "body")
