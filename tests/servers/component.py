"""A bare component (XEP-0114) of a test server: it is sent what the archive would be, and says what a test wants.

It stands on a socket and lxml alone, so that what the server sends is seen as it is.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any

from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from tests.servers.base import COMPONENT, SECRET, Server
from tests.servers.inbox import Inbox

_OPEN = (
    "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='{}'>"
)
_DISCO = "http://jabber.org/protocol/disco#info"


class Component(Protocol):
    """The component's stream. What arrives is kept in `inbox`, as lxml has it."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._parser = etree.XMLPullParser(events=("start", "end"))
        self._depth = 0
        self.inbox = Inbox()
        #: Fires when the server has accepted the secret.
        self.ready: Deferred[Component] = Deferred()
        #: Fires when the connection is gone.
        self.gone: Deferred[None] = Deferred()

    def send(self, xml: str) -> None:
        """Send what is written."""
        self.transport.write(xml.encode())

    def close(self) -> Deferred[None]:
        """End the stream, and wait until the connection is gone."""
        self.send("</stream:stream>")
        self.transport.loseConnection()
        return self.gone

    def abort(self) -> Deferred[None]:
        """Lose the connection: a TCP reset."""
        self.transport.abortConnection()
        return self.gone

    def take(self, path: str, sender: str | None = None) -> Deferred[Any]:
        """The first stanza, of those that are here or else when it comes, in which lxml finds `path`, such as
        ``{urn:xmpp:privilege:2}privilege`` for a child; from `sender` if one is given."""
        return self.inbox.take(lambda s: s.find(path) is not None and sender in (None, s.get("from")))

    async def announce(self, domain: str, namespace: str) -> None:
        """Answer the two questions of that domain's mod_delegation about what it is to announce. On ejabberd
        the namespace is delegated then."""
        for _ in range(2):
            iq = await self.inbox.take(lambda s: s.get("from") == domain and namespace in _node(s))
            node = _node(iq)
            self.send(
                f"<iq type='result' id='{iq.get('id')}' from='{COMPONENT}' to='{domain}'>"
                f"<query xmlns='{_DISCO}' node='{node}'><feature var='{namespace}'/></query></iq>"
            )
        await self.take(f"{{*}}delegation/{{*}}delegated[@namespace='{namespace}']", domain)

    # Twisted tells:

    def connectionMade(self) -> None:
        self.send(_OPEN.format(COMPONENT))

    def dataReceived(self, data: bytes) -> None:
        self._parser.feed(data)
        for event, element in self._parser.read_events():
            self._depth += 1 if event == "start" else -1
            if event == "start" and self._depth == 1:
                digest = sha1((element.get("id") + self._secret).encode()).hexdigest()
                self.send(f"<handshake>{digest}</handshake>")
            elif event == "end" and self._depth == 1:
                self._received(element)

    def connectionLost(self, reason: Any = None) -> None:
        if not self.ready.called:
            self.ready.errback(reason)
        self.gone.callback(None)

    def _received(self, stanza: Any) -> None:
        stanza.getparent().remove(stanza)
        if stanza.tag == "{jabber:component:accept}handshake":
            self.ready.callback(self)
        else:
            self.inbox.put(stanza)


async def connect_component(server: Server, secret: str = SECRET) -> Component:
    """The component of that server, accepted by it. Raises ConnectionLost if it is not."""
    from twisted.internet import reactor

    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", server.component_port)
    component = await connectProtocol(endpoint, Component(secret))
    return await component.ready


def _node(stanza: Any) -> str:
    query = stanza.find(f"{{{_DISCO}}}query")
    return "" if query is None else query.get("node", "")
