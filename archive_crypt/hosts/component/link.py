"""The component's connection to its server (XEP-0114): made, kept, and made anew after growing pauses.

What is said over it is host.py's.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Protocol

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.component import ConnectComponentAuthenticator
from twisted.words.protocols.jabber.error import StreamError
from twisted.words.protocols.jabber.xmlstream import STREAM_AUTHD_EVENT, STREAM_ERROR_EVENT, XmlStream
from twisted.words.xish.domish import Element

from archive_crypt.deferreds import follow
from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.component.elements import MOST_REMEMBERED, ElementStream

#: Seconds between tries, growing; soon at first, as a restart of either side is over in a moment.
_PAUSE = backoffPolicy(initialDelay=0.1, maxDelay=30.0, factor=1.6, jitter=lambda: 0.0)
#: Seconds that a server has to authenticate us; that a connection must hold for the next to be made at once;
#: that the server has to hold back what comes, before we leave; and to take leave itself.
_PATIENCE = 10.0
_LASTING = 10.0
_FAREWELL = 1.0
_LINGER = 2.0
#: Octets of a stanza that every server takes: a longer one ends the stream (Prosody: 512 KiB).
_LONGEST = 500_000

#: A server that vanished without a word is found to be away in a minute; usual are two hours.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}

#: Stream errors that no later try mends, and what to do about them.
_HOPELESS = {
    "not-authorized": "the server does not accept the secret: give both sides the same",
    "host-unknown": "the server has no component of that name: add it there, or mend jid",
    "invalid-namespace": "that port is not for components (XEP-0114): mend port",
}


class Receiver(Protocol):
    """Who is told of the link."""

    def linked(self) -> None:
        """It is there, and authenticated."""

    def unlinked(self) -> None:
        """It is lost, and will be made anew."""

    def receive(self, stanza: Element) -> None: ...

    def taken(self, cut: int) -> None:
        """What was read at once has been given to `receive`; `cut` stanzas of it without what was in them, as
        it was too much."""

    def refused(self, error: ConfigurationError) -> None:
        """The server will not have us, however often we try; the link is not made anew."""

    def too_long(self, stanza: Element) -> None:
        """It was not sent, as the server would end the stream."""


class _Stream(XmlStream):
    """One connection."""

    # What twisted leaves untyped.
    transport: Any
    stream: Any
    thisEntity: Any

    def __init__(self, jid: str, secret: str, receiver: Receiver, remembered: int) -> None:
        self._receiver = receiver
        self._remembered = remembered
        self._is_linked = False
        #: What went wrong, if anything did.
        self.error: BaseException | None = None
        self.over: Deferred[None] = Deferred()
        self.authenticated: Deferred[None] = Deferred()
        super().__init__(ConnectComponentAuthenticator(jid, secret))
        self.addOnetimeObserver(STREAM_AUTHD_EVENT, self._authd)
        self.addOnetimeObserver(STREAM_ERROR_EVENT, self._failed)

    def _initializeStream(self) -> None:
        self.stream = ElementStream(self._remembered)
        self.stream.DocumentStartEvent = self.onDocumentStart
        self.stream.ElementEvent = self.onElement
        self.stream.DocumentEndEvent = self.onDocumentEnd

    def connectionMade(self) -> None:
        transport = getattr(self.transport, "transport", self.transport)  # beneath TLS
        if ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
            for option, value in _KEEPALIVE.items():
                transport.getHandle().setsockopt(socket.IPPROTO_TCP, option, value)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._is_linked:
            self._receiver.taken(self.stream.cut)
            self.stream.cut = 0

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        super().connectionLost(reason)
        if self._is_linked:
            self._is_linked = False
            self._receiver.unlinked()
        elif not self.authenticated.called:
            self.authenticated.errback(self.error or reason.value or ConnectionClosed())
        self.over.callback(None)

    def onElement(self, element: Element) -> None:
        """A child of the root; ours are all but the server's stream error."""
        if self._is_linked and element.uri == self.namespace:
            self._receiver.receive(element)
        else:
            super().onElement(element)

    def rendered(self, stanza: Element) -> bytes:
        """As it goes over the wire."""
        xml: str = stanza.toXml(defaultUri=self.namespace)
        return xml.encode()

    def leave(self, reactor: Any) -> None:
        """End the stream: what the server sends before it ends its own is received all the same."""
        self.sendFooter()
        late = reactor.callLater(_LINGER, self.transport.abortConnection)
        self.over.addCallback(lambda _: late.active() and late.cancel())

    def _authd(self, _: object) -> None:
        self._is_linked = True
        self._receiver.linked()
        self.authenticated.callback(None)

    def _failed(self, failure: Failure) -> None:
        self.error = failure.value


class Link:
    """The connection of the component `jid` to `endpoint`, from `start` to `close`.

    `forgetful`: whether there is a new parser whenever stanzas were read, as one keeps what it read last.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, endpoint: Any, jid: str, secret: str, receiver: Receiver, *, forgetful: bool
    ) -> None:
        remembered = 0 if forgetful else MOST_REMEMBERED
        self.paused = False  #: whether nothing is read
        self._reactor = reactor
        self._endpoint = endpoint
        self._receiver = receiver
        self._factory: Any = Factory.forProtocol(partial(_Stream, jid, secret, receiver, remembered))
        self._factory.noisy = False
        self._stream: _Stream | None = None
        self._failures = 0
        self._running: Deferred[None] | None = None
        self._waiting: Deferred[Any] | None = None
        self._closing = False

    def start(self) -> None:
        """Connect, now and whenever the connection is lost."""
        self._running = self._run()

    def close(self, farewell: Callable[[], Deferred[Any]]) -> Deferred[None]:
        """Connect no more; fires when the connection is closed. If there is one, it is kept until what
        `farewell` returns fires, or the server has had its time for that."""
        self._closing = True
        if self._waiting is not None:
            self._waiting.cancel()
        if self._stream is not None:
            self.resume()
            stream, said = self._stream, farewell().addTimeout(_FAREWELL, self._reactor)
            said.addBoth(lambda _: stream.leave(self._reactor))
        return succeed(None) if self._running is None else follow(self._running)

    def send(self, stanza: Element) -> bool:
        """Send it if we are connected, as nothing is kept for later. Whether it was sent."""
        if self._stream is None:
            return False
        text = self._stream.rendered(stanza)
        if len(text) > _LONGEST:
            self._receiver.too_long(stanza)
            return False
        self._stream.transport.write(text)
        return True

    def pause(self) -> None:
        """Read nothing until `resume`: the server keeps it meanwhile. It would not when we leave."""
        if self._stream is not None and not self.paused and not self._closing:
            self.paused = True
            self._stream.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if self._stream is not None and self.paused:
            self.paused = False
            self._stream.transport.resumeProducing()

    @inlineCallbacks
    def _run(self) -> Generator[Deferred[Any], Any, None]:
        while not self._closing:
            try:
                if self._failures:
                    yield self._wait(deferLater(self._reactor, _PAUSE(self._failures)))
                self._stream = stream = yield self._wait(self._connected())
                since = self._reactor.seconds()
                yield stream.over
                if stream.error is not None:
                    self.log.warn("the server ended the stream: {why}", why=_why(stream.error))
                if self._reactor.seconds() - since >= _LASTING:
                    self._failures = 0
            except Exception as error:  # noqa: BLE001 - tried again, unless that is hopeless or we are closing
                mend = _HOPELESS.get(getattr(error, "condition", ""))
                if mend is not None:
                    self._receiver.refused(ConfigurationError(mend))
                    return
                if not self._closing:
                    self.log.warn("no connection to the server: {why}", why=_why(error))
            self._stream, self.paused = None, False
            self._failures += 1

    @inlineCallbacks
    def _connected(self) -> Generator[Deferred[Any], Any, _Stream]:
        stream: _Stream = yield self._endpoint.connect(self._factory)
        try:
            yield stream.authenticated.addTimeout(_PATIENCE, self._reactor)
        except BaseException:
            stream.transport.abortConnection()
            raise
        return stream

    def _wait(self, deferred: Deferred[Any]) -> Deferred[Any]:
        """So that `close` can end it."""
        self._waiting = deferred

        def done(result: Any) -> Any:
            self._waiting = None
            return result

        return deferred.addBoth(done)


def _why(error: BaseException) -> str:
    if isinstance(error, StreamError):
        return str(error.condition)
    return str(getattr(error, "osError", None) or type(error).__name__)
