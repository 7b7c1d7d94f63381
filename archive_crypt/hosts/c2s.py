"""One client's connection: bytes to stanzas and back, its end, and what it may hold up.

How a client logs in is negotiation.py's; where its stanzas go is embedded.py's.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.error import StreamError
from twisted.words.protocols.jabber.xmlstream import STREAM_END_EVENT, ListenAuthenticator, XmlStream
from twisted.words.xish.domish import Element, IElement
from zope.interface import implementer

from archive_crypt.hosts.guard import GuardedStream
from archive_crypt.hosts.limits import Limits
from archive_crypt.hosts.wire import NS_CLIENT, NS_PING, NS_STREAMS, render

log = Logger()


class Owner(Protocol):
    """Who wants to know of a stream's life."""

    def connected(self, stream: ClientStream) -> None:
        """Its connection is open."""

    def ended(self, stream: ClientStream) -> None:
        """Nothing more will come from it or reach it. Called once, before `disconnected`."""

    def disconnected(self, stream: ClientStream) -> None:
        """Its connection is closed."""


@implementer(IPushProducer)
class ClientStream(XmlStream):
    """The server's end of one client connection (RFC 6120 4).

    `receive` takes each complete child of the root element and may raise StreamError, which
    ends the stream; so does whatever breaks the limits. As a push producer it hears from the
    transport when the client does not read what we send.
    """

    namespace = NS_CLIENT
    # What twisted leaves untyped: the transport is TCP's, or any that can do TLS.
    transport: Any
    stream: Any
    thisEntity: Any
    otherEntity: Any
    sid: Any
    receive: Callable[[Element], None]

    def __init__(
        self, authenticator: ListenAuthenticator, owner: Owner, reactor: Any, limits: Limits
    ) -> None:
        self._owner = owner
        self._reactor = reactor
        self._limits = limits
        self.stanza_bytes = limits.stanza_before_login
        self.secure = False
        self.over = False
        self._heard = False  # since the last look
        self._pinged = False
        self._waiting = False  # whether the transport asked us to hold back
        self._unsent = 0  # bytes written since it did
        self._timer: Any = None
        super().__init__(authenticator)

    # the transport

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # stanzas are small and somebody waits for each
        self.transport.registerProducer(self, True)
        self._timer = self._reactor.callLater(self._limits.login, self.fail, "connection-timeout")
        self._owner.connected(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        if self.over:
            return  # it is only waited for that the client closes too
        self._heard = True
        try:
            self.stream.parse(data)
        except StreamError as e:
            self.fail(e.condition, e.text)
        except Exception as e:  # noqa: BLE001 - a fault of ours must cost one stream, and no text
            log.error("a client stream failed: {kind}", kind=type(e).__name__)
            self.fail("internal-server-error")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._end(reason)
        self._set_timer(None)
        self.stream = None
        self._owner.disconnected(self)

    def start_tls(self, options: Any) -> None:
        """Begin TLS; the client begins its stream anew inside it."""
        self.transport.startTLS(options)
        self.secure = True
        self.reset()

    # the parser

    def _initializeStream(self) -> None:
        if self.stream is not None:
            self.stream.stop()
        self.stream = GuardedStream(self.stanza_bytes, self._limits)
        self.stream.DocumentStartEvent = self.authenticator.streamStarted
        self.stream.ElementEvent = self._on_element
        self.stream.DocumentEndEvent = self.finish

    def _on_element(self, element: Element) -> None:
        if (element.uri, element.name) == (NS_STREAMS, "error"):
            self.finish()
        else:
            self.receive(element)

    # sending, and a client that does not read

    def send(self, obj: Any) -> None:
        """Send an element, or XML that is already rendered; nothing once the stream is over."""
        if self.over:
            return
        data = render(obj) if IElement.providedBy(obj) else obj.encode() if isinstance(obj, str) else obj
        if self._waiting:
            if self._unsent > self._limits.unsent:
                return  # its end is already on the way
            self._unsent += len(data)
            if self._unsent > self._limits.unsent:
                # In a later turn: its end sends presence, which may overflow the next one.
                self._reactor.callLater(0, self.fail, "resource-constraint")
                return
        self.transport.write(data)

    def pauseProducing(self) -> None:
        """The client reads slower than we write: its own requests wait until it has caught up."""
        self._waiting = True
        if not self.over:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """It has caught up."""
        self._waiting, self._unsent = False, 0
        self._heard = True  # whoever reads is there
        if not self.over:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone; connectionLost says so too."""

    # silence

    def logged_in(self) -> None:
        """No longer bounded by the time for login; from now on silence is watched."""
        self._heard = True
        self._watch()

    def _watch(self) -> None:
        if self._heard:
            self._heard = self._pinged = False
            self._set_timer(self._limits.idle, self._watch)
        elif not self._pinged:
            self._pinged = True
            self._ping()
            self._set_timer(self._limits.answer, self._watch)
        else:
            self.fail("connection-timeout")

    def _ping(self) -> None:
        ping = Element((None, "iq"))
        ping["type"], ping["id"] = "get", f"ping-{self.sid}"
        ping["from"], ping["to"] = self.thisEntity.full(), self.otherEntity.full()
        ping.addElement((NS_PING, "ping"))
        self.send(ping)

    # the end

    def fail(self, condition: str, text: str | None = None) -> None:
        """End the stream with an error (RFC 6120 4.9.3)."""
        if self.over:
            return
        if not self._headerSent:
            self.sendHeader()
        self.transport.write(render(StreamError(condition, text).getElement()))  # whatever is unsent
        self.finish()

    def finish(self) -> None:
        """End the stream: say so, and wait a little for the client to close the connection.

        Only our half of it is closed at first: to close both while the client still sends would
        reset the connection, and the error might never be read.
        """
        if self.over:
            return
        if self._headerSent:
            self.transport.write(b"</stream:stream>")
        self._end(None)
        self._set_timer(self._limits.linger, self.transport.abortConnection)
        self.transport.unregisterProducer()
        self.transport.resumeProducing()
        if self.secure:
            self.transport.loseConnection()  # waits for the peer's close alert
        else:
            self.transport.loseWriteConnection()

    def _end(self, reason: Failure | None) -> None:
        if self.over:
            return
        self.over = True
        if self.stream is not None:
            self.stream.stop()
        self.dispatch(reason, STREAM_END_EVENT)
        self._owner.ended(self)

    def _set_timer(self, seconds: float | None, then: Callable[[], None] | None = None) -> None:
        """There is one at a time: for login, then for silence, then for the closing."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self._reactor.callLater(seconds, then)
