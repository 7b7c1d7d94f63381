"""Requests that a server delegates (XEP-0355): unwrapped, given to the archive as the user's own, and the
answers wrapped again. Versions 1 and 2 of the namespace, each answered in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID, InvalidFormat
from twisted.words.xish.domish import Element

from archive_crypt.core.dialect import DIALECTS, RSM
from archive_crypt.hosts.component.clients import Clients
from archive_crypt.hosts.component.feed import NS_FORWARD
from archive_crypt.hosts.wire import NS_CLIENT, NS_DISCO_INFO, address, bare, refusal, result

#: ejabberd speaks the first, Prosody the second.
NS_DELEGATIONS = ("urn:xmpp:delegation:1", "urn:xmpp:delegation:2")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request under way: the server's iq and the namespace it wrapped the user's in, whose id and
    address the answer repeats."""

    outer: Element
    namespace: str
    id: str
    to: str


class Delegation:
    """All requests of all virtual hosts. `send` sends a stanza to the server, or says that it cannot be."""

    def __init__(self, clients: Clients, send: Callable[[Element], bool]) -> None:
        self._clients = clients
        self._send = send
        self._asked: dict[str, _Asked] = {}
        self._ids = count()

    def lost(self) -> None:
        """The server is gone, and with it whoever waited for answers."""
        self._asked.clear()

    def leave(self) -> None:
        """We are about to go: whoever waits is told so, as nothing else would ever answer him."""
        asked, self._asked = self._asked, {}
        for one in asked.values():
            self._refuse_outer(one)

    def receive(self, domain: str, outer: Element, *, recording: bool) -> None:
        """A request wrapped by the virtual host `domain`; `recording`: whether messages reach us too.

        :raises StanzaError: the wrapper is not as XEP-0355 4.2 has it.
        """
        wrapper = next(outer.elements())
        iq = _unwrapped(wrapper)
        sender = _user(iq.getAttribute("from"), domain)
        to = iq.getAttribute("to")
        asked = _Asked(outer, wrapper.uri, iq["id"], to or (bare(sender).full() if sender else domain))
        token = iq["id"] = f"d{next(self._ids)}"
        self._asked[token] = asked
        payload = next(iq.elements())
        if sender is None:  # of another domain: nobody there has an archive here
            self._refuse(iq, "forbidden")
        elif payload.uri not in DIALECTS:
            self._refuse(iq, "service-unavailable")
        elif payload.name == "auto" and not recording:
            self._refuse(iq, "feature-not-implemented")
        else:
            self._clients.asks(sender).handler.onRequest(iq)

    def answer(self, iq: Element) -> None:
        """The archive's answer to one of the requests. One that was lost with the server is dropped."""
        asked = self._asked.pop(iq.getAttribute("id") or "", None)
        if asked is None:
            return
        iq["id"], iq["from"] = asked.id, asked.to
        iq.uri = iq.defaultUri = NS_CLIENT
        # The outer is a result whatever the inner is: XEP-0355 4.3 would make every error of ours
        # service-unavailable, and both servers pass on the inner one (A-ERR-8).
        answer = result(asked.outer)
        wrapper = answer.addElement((asked.namespace, "delegation"))
        wrapper.addElement((NS_FORWARD, "forwarded")).addChild(iq)
        if not self._send(answer):  # too long: an id of any length comes back escaped
            self._refuse_outer(asked)

    def _refuse_outer(self, asked: _Asked) -> None:
        refused = refusal(asked.outer, "internal-server-error")
        assert refused is not None, "a set"
        self._send(refused)

    def _refuse(self, iq: Element, condition: str) -> None:
        refused = refusal(iq, condition)
        assert refused is not None, "a get or a set"
        self.answer(refused)


def nested(iq: Element, offered: Sequence[str]) -> Element | None:
    """The answer to a server that asks what to announce, of itself or of its users, for one of the delegated
    namespaces (XEP-0355 7); None if `iq` asks something else. `offered`: all our features."""
    node = next(iq.elements()).getAttribute("node") or ""
    for delegation in NS_DELEGATIONS:
        for namespace in DIALECTS:
            if node in (f"{delegation}::{namespace}", f"{delegation}:bare:{namespace}"):
                answer = result(iq)
                query = answer.addElement((NS_DISCO_INFO, "query"))
                query["node"] = node
                for feature in offered:
                    if feature == RSM or feature.startswith(namespace):
                        query.addElement("feature")["var"] = feature
                return answer
    return None


def _unwrapped(wrapper: Element) -> Element:
    stanzas = [
        stanza
        for forwarded in wrapper.elements(NS_FORWARD, "forwarded")
        for stanza in forwarded.elements(NS_CLIENT, "iq")
    ]
    if len(stanzas) != 1:
        raise StanzaError("bad-request")
    iq: Element = stanzas[0]
    if iq.getAttribute("type") not in ("get", "set") or not iq.getAttribute("id") or not any(iq.elements()):
        raise StanzaError("bad-request")
    return iq


def _user(text: str | None, domain: str) -> JID | None:
    """The full JID of a user of `domain`; None for anybody else."""
    try:
        jid = address(text or "")
    except InvalidFormat:
        return None
    return jid if jid.user and jid.resource and jid.host == domain else None
