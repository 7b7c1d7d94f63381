"""A raw client for the real house: it sends what it is given, answers pushes, and keeps what it gets.

The reactor is imported late: conftest.py is read before pytest-twisted has installed its own.
"""

from lxml import etree
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import Protocol

from tests.hosts.kit import bind, header, plain

#: Seconds, real ones, before a wait fails its test.
PATIENCE = 10


def parsed(xml):
    """The element that `xml` is in a client's stream."""
    return etree.fromstring(f"<stream xmlns='jabber:client'>{xml}</stream>")[0]


class Client(Protocol):
    """A raw client. Of what it did not ask for it keeps messages, and iqs of type set (pushes),
    which it answers; messages that bounced, and presence, do not count."""

    def __init__(self):
        self._answers = {}
        self._unasked = []
        self._others = []
        self._closed = False
        self._waiting = []
        self._pings = 0

    async def login(self, jid):
        """Up to a bound resource, without presence."""
        self._begin(jid, plain(jid.user, jid.user))
        await self._until(lambda: any(other.tag.endswith("}success") for other in self._others))
        self._begin(jid, bind(jid.resource))
        await self._answer("b")

    async def logout(self):
        """End the stream; it is over on both sides."""
        self._say("</stream:stream>")
        await self._until(lambda: self._closed)

    async def ask(self, xml):
        """Send an iq; its answer."""
        self._say(xml)
        return await self._answer(parsed(xml).get("id"))

    async def says(self, xml):
        """Send a stanza; the server has taken it."""
        self._say(xml)
        await self.ping()

    async def ping(self):
        """Everything said before was taken, and everything sent here before has arrived."""
        self._pings += 1
        await self.ask(f"<iq type='get' id='ping{self._pings}'><ping xmlns='urn:xmpp:ping'/></iq>")

    async def gets(self):
        """The next stanza it did not ask for, or None."""
        await self.ping()
        return self._unasked.pop(0) if self._unasked else None

    async def unasked_answers(self):
        """The results and errors that came for nothing it asked, or a second time."""
        await self.ping()
        return list(self._answers.values())

    async def passes_over(self, xml):
        """It has got the message `xml`, which no `gets` will give any more."""
        await self.ping()
        got = [one for one in self._unasked if _canonical(one) == _canonical(parsed(xml))]
        for one in got[:1]:
            self._unasked.remove(one)

    # What comes in.

    def dataReceived(self, data):
        self._parser.feed(data)
        for event, found in self._parser.read_events():
            self._depth += 1 if event == "start" else -1
            if event == "end" and self._depth == 1:
                self._take(found)
        self._wake()

    def connectionLost(self, reason):
        self._closed = True
        self._wake()

    def _take(self, found):
        name, kind = etree.QName(found).localname, found.get("type")
        if name == "iq" and kind in ("result", "error"):
            self._answers[found.get("id")] = found
        elif name == "iq":
            self._say(f"<iq type='result' id='{found.get('id')}' to='{found.get('from', '')}'/>")
        else:
            self._others.append(found)
        if (name, kind) == ("iq", "set") or (name == "message" and kind != "error"):
            self._unasked.append(found)

    # How it is done.

    def _begin(self, jid, first):
        """Begin a stream, on a connection that may have carried another before."""
        self._parser, self._depth = etree.XMLPullParser(("start", "end")), 0
        self._say(header(jid.host) + first)

    def _say(self, xml):
        self.transport.write(xml.encode())

    async def _answer(self, name):
        await self._until(lambda: name in self._answers)
        return self._answers.pop(name)

    async def _until(self, condition):
        from twisted.internet import reactor

        while not condition():
            last = [etree.tostring(other).decode() for other in self._others[-1:]]
            assert not self._closed, f"the stream is closed: {last}"
            deferred = Deferred()
            self._waiting.append(deferred)
            try:
                await deferred.addTimeout(PATIENCE, reactor)
            except TimeoutError:
                raise AssertionError("there is no answer") from None

    def _wake(self):
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)


def _canonical(found):
    return etree.tostring(found, method="c14n", exclusive=True)
