"""What the component does on behalf of users and their server (XEP-0356): pushes, notices, and reading
their nodes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from archive_crypt.core.dialect import DIALECTS
from archive_crypt.hosts.component.feed import NS_FORWARD
from archive_crypt.hosts.wire import NS_CLIENT, NS_HINTS, NS_PUBSUB, NS_STANZAS

NS_PRIVILEGE = "urn:xmpp:privilege:2"
#: An older server announces in this one, which knows no iqs.
NS_PRIVILEGES = ("urn:xmpp:privilege:1", NS_PRIVILEGE)

#: Seconds that a server has to answer.
_PATIENCE = 10.0
#: What begins the ids of our notices, so that their copies are known when they come back.
_NOTICE = f"archive-{secrets.token_hex(8)}-"


def is_notice(message: Element) -> bool:
    """Whether a copy is of a message that the archive itself sent: from the server or the component.
    Whoever got one knows how their ids begin, but a user's message is never one."""
    user = "@" in (message.getAttribute("from") or "@")
    return not user and (message.getAttribute("id") or "").startswith(_NOTICE)


class Permissions:
    """What one virtual host lets us do: by the announcement of its mod_privilege, or by our own module."""

    def __init__(self) -> None:
        self.iqs: frozenset[str] = frozenset()
        self.messages = False

    def announced(self, element: Element) -> None:
        """``<privilege/>`` (XEP-0356 4.2, 5.1, 7.1)."""
        for permission in element.elements(element.uri, "perm"):
            access = permission.getAttribute("access")
            if access == "message":
                self.messages = permission.getAttribute("type") == "outgoing"
            elif access == "iq":
                # Prosody 0.12 nests the namespaces in each other.
                self.iqs = frozenset(_namespaces(permission))

    def given(self, namespace: str) -> None:
        """By our own module, which takes just what we send."""
        if namespace == NS_PRIVILEGE:
            self.iqs = frozenset((*DIALECTS, NS_PUBSUB))
            self.messages = True


class Privilege:
    """Speaks for the users of all virtual hosts, as component `jid`. `send` sends to the server, or says
    that it is not there; `clock` is an IReactorTime."""

    def __init__(self, jid: str, send: Callable[[Element], bool], clock: Any) -> None:
        self.permissions: dict[str, Permissions] = {}
        self._jid = jid
        self._send = send
        self._clock = clock
        self._asked: dict[str, tuple[str, Deferred[Element]]] = {}

    def lost(self) -> None:
        """The server is gone, and its answers with it."""
        self.permissions.clear()
        asked, self._asked = self._asked, {}
        for _, answer in asked.values():
            answer.errback(StanzaError("recipient-unavailable"))

    def of(self, domain: str) -> Permissions:
        return self.permissions.setdefault(domain, Permissions())

    def push(self, jid: JID, iq: Element) -> bool:
        """Send an iq of type 'set' to one of a user's own streams, from his bare JID. Whether that may
        be; whether it was answered is of no interest (A-PREF-13)."""
        if not set(DIALECTS) <= self.of(jid.host).iqs:
            return False
        return self._send(self._wrapped(secrets.token_hex(8), jid.userhost(), iq))

    def notice(self, jid: JID, message: Element) -> bool:
        """Send a message to one of a user's streams: from his server if that may be, else from us."""
        message["id"] = f"{_NOTICE}{secrets.token_hex(4)}"
        message.addElement((NS_HINTS, "no-store"))  # it is of this stream, and of this moment
        message.uri = message.defaultUri = NS_CLIENT
        if not self.of(jid.host).messages:
            message["from"] = self._jid
            message.uri = message.defaultUri = None
            return self._send(message)
        outer = Element((None, "message"))
        outer["from"], outer["to"] = self._jid, jid.host
        privilege = outer.addElement((NS_PRIVILEGE, "privilege"))
        privilege.addElement((NS_FORWARD, "forwarded")).addChild(message)
        return self._send(outer)

    def ask(self, user: str, payload: Element) -> Deferred[Element]:
        """Send an iq of type 'get' as the user (a bare JID) to his own account; fires with the
        iq that answers it, a result or an error.

        Fails with StanzaError if that may not be, and TimeoutError if no answer comes.
        """
        if payload.uri not in self.of(user.rpartition("@")[2]).iqs:
            return fail(StanzaError("forbidden"))
        iq = Element((NS_CLIENT, "iq"))
        iq["type"], iq["id"], iq["to"] = "get", secrets.token_hex(8), user  # ejabberd 24.12 needs 'to'
        iq.addChild(payload)
        id_ = secrets.token_hex(8)
        answer: Deferred[Element] = Deferred(lambda _: self._forget(id_))
        self._asked[id_] = (user, answer)
        if not self._send(self._wrapped(id_, user, iq)):
            del self._asked[id_]
            return fail(StanzaError("recipient-unavailable"))
        return answer.addTimeout(_PATIENCE, self._clock)

    def answered(self, iq: Element) -> bool:
        """An iq of type 'result' or 'error' came; whether we had asked for it.

        Only the server can answer as the user himself, so that nobody slips in keys of his own: ids
        cannot be guessed, and the sender must be whom we asked.
        """
        user, answer = self._asked.get(iq.getAttribute("id") or "", (None, None))
        if answer is None or iq.getAttribute("from") != user:
            return False
        del self._asked[iq["id"]]
        inner = _unwrapped(iq)
        if inner is None:
            answer.errback(StanzaError(condition(iq)))
        else:
            answer.callback(inner)
        return True

    def _forget(self, id_: str) -> None:
        self._asked.pop(id_, None)

    def _wrapped(self, id_: str, user: str, iq: Element) -> Element:
        iq.uri = iq.defaultUri = NS_CLIENT
        outer = Element((None, "iq"))
        outer["type"], outer["id"], outer["from"], outer["to"] = iq["type"], id_, self._jid, user
        outer.addElement((NS_PRIVILEGE, "privileged_iq")).addChild(iq)
        return outer


def _namespaces(element: Element) -> list[str]:
    found = []
    for child in element.elements(element.uri, "namespace"):
        if child.getAttribute("type") in ("both", "get", "set") and child.getAttribute("ns"):
            found.append(child["ns"])
        found += _namespaces(child)
    return found


def _unwrapped(iq: Element) -> Element | None:
    for privilege in iq.elements(NS_PRIVILEGE, "privilege"):
        for forwarded in privilege.elements(NS_FORWARD, "forwarded"):
            inner: Element | None = next(forwarded.elements(NS_CLIENT, "iq"), None)
            return inner
    return None


def condition(iq: Element) -> str:
    """Why an iq was refused."""
    for error in iq.elements():
        if error.name == "error":
            for child in error.elements():
                if child.uri == NS_STANZAS:
                    return str(child.name)
    return "undefined-condition"
