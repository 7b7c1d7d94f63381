"""From the stream header to a bound resource: RFC 6120 4 to 7 on the server's side.

What the mechanisms compute is sasl.py's; what happens to a bound stream is embedded.py's.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import binascii
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Protocol

from twisted.words.protocols.jabber.error import StanzaError, StreamError
from twisted.words.protocols.jabber.jid import JID, InvalidFormat
from twisted.words.protocols.jabber.xmlstream import ListenAuthenticator
from twisted.words.xish.domish import Element

from archive_crypt.hosts import sasl
from archive_crypt.hosts.c2s import ClientStream
from archive_crypt.hosts.limits import Limits
from archive_crypt.hosts.wire import (
    NS_BIND,
    NS_CLIENT,
    NS_SASL,
    NS_SESSION,
    NS_STREAMS,
    NS_TLS,
    address,
    refusal,
    result,
)

_Steps = dict[tuple[str, str], Callable[[Element], None]]


class Binder(Protocol):
    """Who gives resources to users that have logged in."""

    def bind(self, stream: ClientStream, node: str, resource: str | None) -> JID:
        """Give the stream its JID; None: any resource.

        :raises StanzaError: this one cannot be had.
        """

    def bound(self, stream: ClientStream) -> None:
        """The client has been told; its stanzas may come."""


class Negotiation(ListenAuthenticator):
    """Brings one stream up: header, STARTTLS, SASL, header again, resource."""

    xmlstream: ClientStream

    def __init__(
        self,
        accounts: sasl.Accounts,
        binder: Binder,
        tls: Any,
        limits: Limits,
        announced: Sequence[str] = (),
    ) -> None:
        """`tls`: what `startTLS` takes, None for no TLS; `announced`: more stream features, as XML,
        for those who have logged in."""
        super().__init__()
        self._accounts = accounts
        self._binder = binder
        self._tls = tls
        self._tries = limits.login_tries
        self._stanza_bytes = limits.stanza
        self._announced = announced
        self._login: sasl.Mechanism | None = None
        self._node: str | None = None

    def connectionMade(self) -> None:
        self.xmlstream.thisEntity = address(self._accounts.domain)
        self.xmlstream.sid = secrets.token_hex(16)  # for the header of an error before theirs
        self.xmlstream.receive = self._receive

    # the header

    def streamStarted(self, root: Element) -> None:
        stream = self.xmlstream
        stream.sid = secrets.token_hex(16)
        stream.otherEntity = self._claimed(root)
        self._check(root)
        stream.sendHeader()
        stream.send(self._features())

    def _check(self, root: Element) -> None:
        if root.uri != NS_STREAMS or root.defaultUri != NS_CLIENT:
            raise StreamError("invalid-namespace")
        if root.name != "stream":
            raise StreamError("bad-format")
        if _version(root.getAttribute("version", "")) < (1, 0):
            raise StreamError("unsupported-version")
        if not root.getAttribute("to"):
            raise StreamError("improper-addressing")
        try:
            served = address(root["to"]).full() == self._accounts.domain
        except InvalidFormat:
            served = False
        if not served:
            raise StreamError("host-unknown")

    def _claimed(self, root: Element) -> JID | None:
        """Whom the answering header names in 'to' (RFC 6120 4.7.2); it proves nothing."""
        try:
            return address(root.getAttribute("from") or "")
        except InvalidFormat:
            return None

    def _features(self) -> Element:
        features = Element((NS_STREAMS, "features"))
        if self._node is not None:
            features.addElement((NS_BIND, "bind"))
            features.addElement((NS_SESSION, "session")).addElement("optional")
            for xml in self._announced:
                features.addRawXml(xml)
            return features
        if self._tls is not None and not self.xmlstream.secure:
            starttls = features.addElement((NS_TLS, "starttls"))
            if not self._loopback():
                starttls.addElement("required")
        offered = self._offer()
        if offered:
            mechanisms = features.addElement((NS_SASL, "mechanisms"))
            for name in offered:
                mechanisms.addElement("mechanism", content=name)
        return features

    def _offer(self) -> tuple[str, ...]:
        return sasl.offer(secure=self.xmlstream.secure, loopback=self._loopback(), tls=self._tls is not None)

    def _loopback(self) -> bool:
        return is_loopback(self.xmlstream.transport.getPeer())

    # what may come when

    def _receive(self, element: Element) -> None:
        step = self._steps().get((element.uri, element.name))
        if step is not None:
            step(element)
        elif element.uri == NS_CLIENT and element.name in ("message", "presence", "iq"):
            raise StreamError("not-authorized")  # RFC 6120 4.9.3.12 and 7.1
        else:
            raise StreamError("unsupported-stanza-type")

    def _steps(self) -> _Steps:
        if self._node is not None:
            return {(NS_CLIENT, "iq"): self._bind}
        return {
            (NS_TLS, "starttls"): self._starttls,
            (NS_SASL, "auth"): self._auth,
            (NS_SASL, "response"): self._response,
            (NS_SASL, "abort"): self._abort,
        }

    def _starttls(self, _: Element) -> None:
        stream = self.xmlstream
        if self._tls is None or stream.secure:
            stream.send(Element((NS_TLS, "failure")))
            stream.finish()
            return
        stream.send(Element((NS_TLS, "proceed")))
        self._login = None
        stream.start_tls(self._tls)

    # SASL

    def _auth(self, element: Element) -> None:
        name = element.getAttribute("mechanism")
        if name not in self._offer():
            unencrypted = name in (sasl.PLAIN, sasl.SCRAM)
            self._refuse("encryption-required" if unencrypted else "invalid-mechanism")
            return
        self._login = sasl.begin(name, self._accounts)
        if str(element):
            self._response(element)
        else:  # no initial response; every mechanism of ours has the client speak first
            self._say("challenge", b"")

    def _response(self, element: Element) -> None:
        if self._login is None:
            self._refuse("malformed-request")
            return
        try:
            outcome = self._login.step(_decoded(str(element)))
        except sasl.SaslFailure as e:
            self._refuse(e.condition)
            return
        if isinstance(outcome, sasl.Challenge):
            self._say("challenge", outcome.data)
        else:
            self._succeed(outcome)

    def _abort(self, _: Element) -> None:
        self._refuse("aborted")

    def _refuse(self, condition: str) -> None:
        self._login = None
        failure = Element((NS_SASL, "failure"))
        failure.addElement(condition)
        self.xmlstream.send(failure)
        self._tries -= 1
        if self._tries <= 0:
            raise StreamError("policy-violation", "too many failed logins")  # RFC 6120 6.4.5

    def _succeed(self, outcome: sasl.Success) -> None:
        self._login = None
        self._node = outcome.node
        self._say("success", outcome.data)
        self.xmlstream.stanza_bytes = self._stanza_bytes
        self.xmlstream.reset()

    def _say(self, name: str, data: bytes | None) -> None:
        """Send SASL data; empty data is written ``=``, none as nothing (RFC 6120 6.4.2)."""
        element = Element((NS_SASL, name))
        if data is not None:
            element.addContent(b64encode(data).decode() or "=")
        self.xmlstream.send(element)

    # the resource

    def _bind(self, iq: Element) -> None:
        bind = next(iq.elements(NS_BIND, "bind"), None)
        if bind is None or self._node is None or iq.getAttribute("type") != "set":
            raise StreamError("not-authorized")
        wanted = next(bind.elements(NS_BIND, "resource"), None)
        try:
            if not iq.getAttribute("id"):
                raise StanzaError("bad-request")
            jid = self._binder.bind(self.xmlstream, self._node, str(wanted or "") or None)
        except StanzaError as e:
            self.xmlstream.send(refusal(iq, e.condition))
            return
        answer = result(iq)
        answer.addElement((NS_BIND, "bind")).addElement("jid", content=jid.full())
        self.xmlstream.send(answer)
        self.xmlstream.logged_in()
        self._binder.bound(self.xmlstream)


def is_loopback(peer: Any) -> bool:
    """Whether a transport's peer is this machine. Behind a proxy on this machine everybody seems
    to be: such a proxy has to speak TLS itself."""
    host = getattr(peer, "host", None)
    if host is None:
        return hasattr(peer, "name")  # a Unix socket
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    try:
        return int(major), int(minor)
    except ValueError:
        return (0, 0)


def _decoded(text: str) -> bytes:
    try:
        return b"" if text == "=" else b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise sasl.SaslFailure("incorrect-encoding") from None
