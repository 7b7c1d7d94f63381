"""The seam between a server and the archive: what an archive offers, and all that a host does
for it, so that nothing the archive does can harm the server.

No routing and no XML here.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.jid import JID
from twisted.words.protocols.jabber.xmlstream import STREAM_AUTHD_EVENT, STREAM_CONNECTED_EVENT
from twisted.words.xish.domish import Element
from wokkel.subprotocols import StreamManager, XMPPHandler

from archive_crypt.hosts.c2s import ClientStream
from archive_crypt.model import Direction, Micros

log = Logger()


class Archiver(Protocol):
    """What the archive wants to know of a host. `jid` is a stream's full JID, unless it says bare."""

    def stream_opened(self, jid: JID) -> Any: ...

    def stream_closed(self, jid: JID) -> None: ...

    def message(self, jid: JID, direction: Direction, element: Element, when: Micros) -> Any:
        """A user's own copy of a message: TO if this stream sent it, FROM if it was delivered here.

        The Deferred it returns is waited for by no delivery. `element` is shared with the copies
        of others, so it may be read and kept but not changed.
        """

    def keys_published(self, jid: JID, nodes: Mapping[str, Sequence[Element]]) -> Any:
        """What the user, a bare JID, has published in those of his nodes that `ArchivePlug.nodes`
        names: all payloads, in the order of publication, of all nodes that there are.

        Called when one of them has changed, and before `stream_opened` if there is any. The
        payloads may be read and kept but not changed.
        """


class DistantArchiver(Archiver, Protocol):
    """What it offers besides to a host whose clients are connected to another process."""

    switching: Any
    """`switching.finder`: to be set, see there. `switching.forget_streams(domain)`: to be called when all
    open streams of a domain were told of."""

    @property
    def load(self) -> float:
        """From 1 on, the host should bring nothing more."""

    def has_streams(self, owner: str) -> bool: ...

    def is_sealing(self, owner: str) -> bool: ...

    def sealing(self) -> list[str]: ...

    def listen(self, jid: JID, listener: Any) -> None: ...

    def stream_opened(self, jid: JID, *, known: bool = False) -> Any: ...

    def stream_pending(self, jid: JID, *, pending: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class ArchivePlug:
    """An archive as a host sees it: `handler_for(jid)` gives the handler of one stream's archive
    iqs, `features` is what service discovery announces, `stream_features` are the elements, as
    XML with their namespaces, that the stream features announce to users who have logged in.
    `nodes` are the nodes of users that hold keys: those of these names, and those whose name
    continues one of them after a ':'."""

    archiver: Archiver
    handler_for: Callable[[JID], XMPPHandler]
    features: Sequence[str] = ()
    stream_features: Sequence[str] = ()
    nodes: Sequence[str] = ()


class Seam:
    """All that a host does for the archive. Whatever fails there stays there: it is logged by its
    kind, without its text, which might quote a message."""

    def __init__(self, plug: ArchivePlug | None, reactor: Any, clock: Callable[[], Micros]) -> None:
        self._plug = plug
        self._reactor = reactor
        self._clock = clock

    def watches(self, node: str) -> bool:
        """Whether the archive wants to know what users publish in this node."""
        names = self._plug.nodes if self._plug is not None else ()
        return any(node == name or node.startswith(f"{name}:") for name in names)

    def published(self, user: JID, nodes: Mapping[str, Sequence[Element]]) -> None:
        """What there is in the user's nodes, of those that the archive watches."""
        if self._plug is not None and self._plug.nodes:
            self._call(self._plug.archiver.keys_published, user, nodes)

    def opened(self, jid: JID) -> None:
        """A resource is bound; none of its stanzas has been looked at."""
        if self._plug is not None:
            self._call(self._plug.archiver.stream_opened, jid)

    def attach(self, stream: ClientStream, jid: JID) -> None:
        """Give the stream its archive handler.

        The handler's parent is a StreamManager, which sends for it, tracks what it asks of the
        client, and tells it of the stream's end.
        """
        if self._plug is not None:
            self._call(self._attach, self._plug, stream, jid)

    def message(self, jid: JID, direction: Direction, element: Element) -> None:
        """A user's copy of a message, after it was sent on."""
        if self._plug is not None:
            self._call(self._plug.archiver.message, jid, direction, element, self._clock())

    def closed(self, jid: JID) -> None:
        """The stream has ended; its handler knows already."""
        if self._plug is not None:
            self._call(self._plug.archiver.stream_closed, jid)

    def _attach(self, plug: ArchivePlug, stream: ClientStream, jid: JID) -> None:
        manager = StreamManager(_Events(stream), self._reactor)
        plug.handler_for(jid).setHandlerParent(manager)
        stream.dispatch(stream, STREAM_CONNECTED_EVENT)
        stream.dispatch(stream, STREAM_AUTHD_EVENT)

    def _call(self, what: Callable[..., Any], *args: Any) -> None:
        maybeDeferred(what, *args).addErrback(_log_kind)


class _Events:
    """The part of a stream factory that a StreamManager uses, for one stream."""

    def __init__(self, stream: ClientStream) -> None:
        self.addBootstrap = stream.addObserver


def _log_kind(failure: Failure) -> None:
    log.error("the archive failed: {kind}", kind=failure.type.__name__ if failure.type else "unknown")
