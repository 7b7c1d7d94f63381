"""The clients of a component's users: which streams are open in the server, and what the archive sends there.

Each has the archive's handler, as if it were connected here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.logger import Logger
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element
from wokkel.subprotocols import XMPPHandler

from archive_crypt.core.dialect import Dialect
from archive_crypt.core.preferences import Changes
from archive_crypt.deferreds import kind
from archive_crypt.hosts.seam import DistantArchiver
from archive_crypt.model import Preferences

#: Seconds without a request after which a stream is forgotten of which only requests are known.
_GUEST = 600.0


class Handler(Protocol):
    """The archive's handler of one stream (xmpp.handler)."""

    def onRequest(self, iq: Element) -> None: ...

    def onNotice(self, text: str) -> None: ...

    def onPush(self, dialect: Dialect, changes: Changes, wishes: Preferences) -> None: ...

    def setHandlerParent(self, parent: Any) -> None: ...


class Client:
    """One stream. It listens for what its user should be told, and is its handler's parent."""

    __slots__ = ("_handler", "_make", "_post", "jid", "until")

    def __init__(self, jid: JID, make: Callable[[JID], Any], post: Callable[[Client, Element], None]) -> None:
        self.jid = jid
        #: When it is forgotten, if only its requests are known.
        self.until: float | None = None
        self._make = make
        self._post = post
        self._handler: Handler | None = None

    @property
    def handler(self) -> Handler:
        """Made when it is needed: most streams never ask."""
        if self._handler is None:
            self._handler = self._make(self.jid)
            self._handler.setHandlerParent(self)
        return self._handler

    # What the archiver tells.

    def onNotice(self, text: str) -> None:
        self.handler.onNotice(text)

    def onPush(self, dialect: Dialect, changes: Changes, wishes: Preferences) -> None:
        self.handler.onPush(dialect, changes, wishes)

    # What a handler asks of its parent.

    def addHandler(self, handler: XMPPHandler) -> None:
        """There is only one."""

    def send(self, stanza: Element) -> None:
        self._post(self, stanza)


class Clients:
    """All streams that are open, by full JID, of all virtual hosts.

    `make(jid)`: the handler of a stream; `post(client, stanza)`: sends what it sends; `clock`: an
    IReactorTime.
    """

    log = Logger()

    def __init__(
        self,
        archiver: DistantArchiver,
        make: Callable[[JID], Any],
        post: Callable[[Client, Element], None],
        clock: Any,
    ) -> None:
        self._archiver = archiver
        self._make = make
        self._post = post
        self._clock = clock
        self._all: dict[str, Client] = {}
        self._swept = clock.seconds()
        self._in_doubt: set[JID] = set()

    def get(self, jid: JID) -> Client | None:
        return self._all.get(jid.full())

    def of(self, domain: str) -> Iterable[JID]:
        """Those of a virtual host."""
        return [client.jid for client in self._all.values() if client.jid.host == domain]

    def open(self, jid: JID, *, known: bool) -> None:
        """The stream is open; `known`: it was before. If we know of one already, that is resumed or another
        has taken its place: what comes next of it tells."""
        client = self._all.get(jid.full())
        if client is None:
            self._add(jid, known=known)
        elif client.until is not None:
            client.until = None
        elif not known:
            self._in_doubt.add(jid)

    def resume(self, jid: JID) -> None:
        """Its client came back to it."""
        self._in_doubt.discard(jid)
        if jid.full() in self._all:
            self._archiver.stream_pending(jid, pending=False)
        else:
            self._add(jid, known=True)

    def settle(self, jid: JID) -> None:
        """Something happens on the stream: if it was not resumed by now, it is another than before."""
        if self._in_doubt and jid in self._in_doubt:  # a JID is slow to look for, and this is each message
            self.close(jid)
            self._add(jid, known=False)

    def pending(self, jid: JID) -> None:
        """Its connection is lost; the client may come back."""
        self.settle(jid)
        self._archiver.stream_pending(jid, pending=True)

    def close(self, jid: JID) -> None:
        """It is over."""
        self._in_doubt.discard(jid)
        if self._all.pop(jid.full(), None) is not None:
            self._archiver.stream_closed(jid)

    def asks(self, jid: JID) -> Client:
        """The client that sent a request. If nobody told that its stream is open, it is for a while."""
        self.settle(jid)
        now = self._clock.seconds()
        client = self._all.get(jid.full())
        if client is None:
            if now - self._swept >= _GUEST / 10:  # not for each: it looks at all that there are
                self._swept = now
                for guest in [one for one in self._all.values() if one.until is not None and one.until < now]:
                    self.close(guest.jid)
            client = self._add(jid, known=True)
            client.until = now
        if client.until is not None:
            client.until = now + _GUEST
        return client

    def _add(self, jid: JID, *, known: bool) -> Client:
        client = self._all[jid.full()] = Client(jid, self._make, self._post)
        self._archiver.stream_opened(jid, known=known).addErrback(self._failed)
        self._archiver.listen(jid, client)
        return client

    def _failed(self, failure: Any) -> None:
        self.log.error("a stream's setting could not be loaded: {kind}", kind=kind(failure))
