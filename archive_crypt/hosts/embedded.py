"""A small XMPP server in the process, and the worked example of how a server embeds the archive:
see where it calls its `Seam`.

The reactor is handed in. Nothing here knows of storage, keys or the archive's own XML.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.words.protocols.jabber.error import StanzaError, StreamError
from twisted.words.protocols.jabber.jid import JID, InvalidFormat
from twisted.words.xish.domish import Element

from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.c2s import ClientStream
from archive_crypt.hosts.limits import Limits
from archive_crypt.hosts.messages import Messages
from archive_crypt.hosts.negotiation import Negotiation
from archive_crypt.hosts.offline import Offline
from archive_crypt.hosts.pep import Pep
from archive_crypt.hosts.presence import Presences
from archive_crypt.hosts.sasl import Accounts
from archive_crypt.hosts.seam import ArchivePlug, Seam
from archive_crypt.hosts.services import Services
from archive_crypt.hosts.sessions import Session, Sessions
from archive_crypt.hosts.wire import NS_CLIENT, NS_DELAY, address, bare, refusal, render
from archive_crypt.model import Direction, Micros

log = Logger()


def wall_clock() -> Micros:
    """The time of day (a reactor's own clock may count from anywhere)."""
    return time.time_ns() // 1000


class EmbeddedServer(ServerFactory):
    """One domain, its users, and their client streams (RFC 6120, RFC 6121).

    It is also the protocol factory, for those who listen by endpoints of their own.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        domain: str,
        users: Mapping[str, str],
        *,
        tls: Any = None,
        archive: ArchivePlug | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        clock: Callable[[], Micros] = wall_clock,
    ) -> None:
        """`users`: node -> password; `tls`: what `startTLS` takes (tls.py), None for no TLS.

        :raises ConfigurationError: the domain or a user cannot be had.
        """
        try:
            domain = address(domain).host
        except InvalidFormat:
            raise ConfigurationError(f"domain: {domain!r} cannot be an XMPP domain") from None
        self.domain = domain
        self._reactor = reactor
        self._tls = tls
        self._archive = archive
        self._limits = limits
        self._accounts = Accounts(domain, users)
        self._sessions = Sessions()
        self._messages = Messages(self._accounts, self._sessions, Offline(domain, limits), clock)
        self._presences = Presences(self._accounts, self._sessions, self._deliver)
        self._pep = Pep(self._accounts, limits, self._node_changed)
        self._services = Services(self._accounts, archive.features if archive else (), clock, self._pep)
        self._seam = Seam(archive, reactor, clock)
        self._route = {"message": self._message, "presence": self._presence, "iq": self._iq}
        self._streams: dict[ClientStream, Session | None] = {}
        self._ports: list[Any] = []
        self._closing = False
        self._until_empty: list[Deferred[None]] = []

    # listening

    def listen(self, port: int = 0, interface: str = "127.0.0.1") -> IListeningPort:
        """Listen for clients; port 0: any that is free (``.getHost().port``)."""
        listening = self._reactor.listenTCP(port, self, interface=interface)
        self._ports.append(listening)
        return listening  # type: ignore[no-any-return]

    def close(self) -> Deferred[None]:
        """Stop listening and end every stream with system-shutdown.

        The Deferred fires when all connections are closed, at most `Limits.linger` later.
        """
        self._closing = True
        for stream in list(self._streams):
            stream.fail("system-shutdown")
        stopped = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports.clear()
        return DeferredList([*stopped, self._emptied()]).addCallback(lambda _: None)

    def _emptied(self) -> Deferred[None]:
        emptied: Deferred[None] = Deferred()
        self._until_empty.append(emptied)
        self._check_empty()
        return emptied

    def _check_empty(self) -> None:
        if not self._streams:
            waiting, self._until_empty = self._until_empty, []
            for emptied in waiting:
                emptied.callback(None)

    def buildProtocol(self, addr: Any) -> ClientStream | None:
        """A new client; None, which closes the connection, when there are too many."""
        if self._closing or len(self._streams) >= self._limits.connections:
            return None
        announced = self._archive.stream_features if self._archive else ()
        negotiation = Negotiation(self._accounts, self, self._tls, self._limits, announced)
        return ClientStream(negotiation, self, self._reactor, self._limits)

    # the life of a stream

    def connected(self, stream: ClientStream) -> None:
        self._streams[stream] = None

    def bind(self, stream: ClientStream, node: str, resource: str | None) -> JID:
        """Give a stream its full JID. Whoever has the same one already is closed with conflict.

        :raises StanzaError: the resource is not valid, or the user has too many.
        """
        try:
            jid = address(f"{node}@{self.domain}/{resource or token_hex(8)}")
        except InvalidFormat:
            raise StanzaError("bad-request") from None
        old = self._sessions.find(jid)
        if old is None and len(self._sessions.of(jid)) >= self._limits.resources:
            raise StanzaError("resource-constraint")
        if old is not None:
            old.stream.fail("conflict")
        session = Session(jid, stream)
        self._sessions.add(session)
        self._streams[stream] = session
        stream.otherEntity = jid
        stream.receive = partial(self._receive, session)
        nodes = self._pep.payloads(jid, self._seam.watches)
        if nodes:
            self._seam.published(bare(jid), nodes)
        self._seam.opened(jid)
        return jid

    def bound(self, stream: ClientStream) -> None:
        session = self._streams.get(stream)
        if session is not None:
            self._seam.attach(stream, session.jid)

    def ended(self, stream: ClientStream) -> None:
        session = self._streams.get(stream)
        if session is not None:
            self._sessions.remove(session)
            self._presences.gone(session)
            self._seam.closed(session.jid)

    def disconnected(self, stream: ClientStream) -> None:
        self._streams.pop(stream, None)
        self._check_empty()

    # stanzas

    def _receive(self, session: Session, stanza: Element) -> None:
        """Take a stanza from a client; it leaves here with the client's full JID as its sender."""
        if stanza.uri != NS_CLIENT or stanza.name not in self._route:
            raise StreamError("unsupported-stanza-type")
        _stamp(stanza, session.jid)
        try:
            self._route[stanza.name](session, stanza, _recipient(stanza))
        except StanzaError as e:
            self._refuse(session, stanza, e.condition, e.appCondition)
        except Exception as e:  # noqa: BLE001 - a fault of ours must cost one stanza, and no text
            log.error("a stanza failed: {kind}", kind=type(e).__name__)
            self._refuse(session, stanza, "internal-server-error")

    def _message(self, session: Session, message: Element, to: JID | None) -> None:
        if to is None:
            to = bare(session.jid)
            message["to"] = to.full()  # RFC 6120 10.3.1
        _strip_delays(message, self.domain)
        refused, copies = "", []
        try:
            copies = self._messages.recipients(message, to)
        except StanzaError as e:
            refused = e.condition
        xml = render(message)
        for copy in copies:
            copy.stream.send(xml)
        # The archive comes after delivery, which cannot wait for it nor be harmed by it.
        self._seam.message(session.jid, Direction.TO, message)
        for copy in copies:
            self._seam.message(copy.jid, Direction.FROM, message)
        if refused:
            self._refuse(session, message, refused)

    def _presence(self, session: Session, presence: Element, to: JID | None) -> None:
        self._presences.receive(session, presence, to)
        for message in self._messages.waiting(session):
            self._deliver(session, message)

    def _iq(self, session: Session, iq: Element, to: JID | None) -> None:
        kind = _iq_kind(iq)
        if to is not None and to.host != self.domain:
            raise StanzaError("remote-server-not-found")
        if to is not None and to.resource:
            target = self._sessions.find(to)
            if target is None:
                raise StanzaError("service-unavailable")
            self._deliver(target, iq)
            return
        # To the server, or to a user on whose behalf the server answers: the archive's handler
        # sees it first, another user's too, as it has to say 'forbidden' there.
        session.stream.dispatch(iq)
        # Not iq.handled: of an Element that would also find a child named <handled/>.
        if kind in ("get", "set") and not vars(iq).get("handled"):
            self._deliver(session, self._services.answer(session.jid, iq, to))

    def _node_changed(self, user: JID, node: str) -> None:
        if self._seam.watches(node):
            self._seam.published(user, self._pep.payloads(user, self._seam.watches))

    def _deliver(self, session: Session, stanza: Element) -> None:
        """Send a stanza to one client; a message is then that user's copy."""
        session.stream.send(stanza)
        if stanza.name == "message":
            self._seam.message(session.jid, Direction.FROM, stanza)

    def _refuse(
        self, session: Session, stanza: Element, condition: str, detail: Element | None = None
    ) -> None:
        answer = refusal(stanza, condition, detail)
        if answer is not None:
            self._deliver(session, answer)


def _stamp(stanza: Element, sender: JID) -> None:
    """RFC 6120 8.1.2.1: a client may name itself and nobody else."""
    claimed = stanza.getAttribute("from")
    if claimed is not None:
        try:
            known = address(claimed) in (sender, bare(sender))
        except InvalidFormat:
            known = False
        if not known:
            raise StreamError("invalid-from")
    stanza["from"] = sender.full()


def _strip_delays(message: Element, domain: str) -> None:
    """Only the server says what the server delayed (XEP-0203 5): archives and clients believe it."""
    message.children[:] = [
        child
        for child in message.children
        if not (
            isinstance(child, Element)
            and (child.uri, child.name) == (NS_DELAY, "delay")
            and child.getAttribute("from") == domain
        )
    ]


def _recipient(stanza: Element) -> JID | None:
    to = stanza.getAttribute("to")
    try:
        return None if to is None else address(to)
    except InvalidFormat:
        raise StanzaError("jid-malformed") from None


def _iq_kind(iq: Element) -> str:
    """RFC 6120 8.2.3."""
    kind = iq.getAttribute("type")
    children = sum(1 for _ in iq.elements())
    if not iq.getAttribute("id") or kind not in ("get", "set", "result", "error"):
        raise StanzaError("bad-request")
    if kind in ("get", "set") and children != 1:
        raise StanzaError("bad-request")
    return str(kind)
