"""Users' clients (slixmpp) at a test server. What they receive is kept, and can be waited for."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from lxml import etree
from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError
from slixmpp.stanza import Iq, Message, Presence, StreamFeatures
from slixmpp.xmlstream import ET, StanzaBase, tostring
from twisted.internet.defer import Deferred

from tests.servers.base import Server
from tests.servers.inbox import Inbox
from tests.servers.process import PATIENCE


def awaited(coroutine: Any) -> Deferred[Any]:
    """What an asyncio coroutine gives, as a Deferred."""
    return Deferred.fromFuture(asyncio.ensure_future(coroutine))


class Client:
    """One stream of a user, logged in. Its coroutines are for Twisted's tests, not for asyncio's loop."""

    def __init__(self, xmpp: ClientXMPP, address: tuple[str, int]) -> None:
        self.xmpp = xmpp
        self._address = address
        #: Messages, presences and iqs, those that answer its own requests included.
        self.inbox = Inbox()
        #: What the server named as its stream's features, before and after authentication, as lxml has it.
        self.features: list[etree._Element] = []
        self._queries = 0
        xmpp.add_filter("in", self._received)

    @property
    def jid(self) -> str:
        """The full JID that the server bound."""
        return str(self.xmpp.boundjid.full)

    @property
    def bare(self) -> str:
        return str(self.xmpp.boundjid.bare)

    async def connect(self, until: str = "session_start") -> Any:
        """Open the stream, and give what slixmpp tells with the event `until`: ``session_start``, or
        ``session_resumed`` after `abort` if stream management is on."""
        event = self.event(until)
        self.xmpp.connect(*self._address)
        return await event

    def event(self, name: str) -> Deferred[Any]:
        """slixmpp's next event of that name."""
        return awaited(self.xmpp.wait_until(name, PATIENCE))

    def abort(self) -> Deferred[Any]:
        """Lose the connection, as out of reach: a TCP reset, no end of the stream. Fires when it is done."""
        lost = self.event("disconnected")
        self.xmpp.abort()
        return lost

    async def close(self) -> None:
        """End the stream as clients do, if it is open, and wait for the server to end its side."""
        if self.xmpp.is_connected():
            await awaited(self.xmpp.disconnect())
        # slixmpp's task that sends outlives the stream.
        sending = getattr(self.xmpp, "_run_out_filters", None)
        if sending is not None:
            sending.cancel()

    def send(self, xml: str) -> None:
        """Send what is written."""
        self.xmpp.send_raw(xml)

    def say(self, to: str, body: str, kind: str = "chat", **attributes: str) -> None:
        """Send a message."""
        message = self.xmpp.make_message(to, body, mtype=kind)
        for name, value in attributes.items():
            message[name] = value
        message.send()

    async def ask(self, xml: str, kind: str = "get", to: str | None = None) -> etree._Element:
        """The answer to an iq with `xml` in it, result or error, as lxml has it. No `to`: the own account."""
        self._queries += 1
        iq = self.xmpp.make_iq(id=f"ask-{self._queries}", itype=kind, ito=to)
        iq.xml.append(ET.fromstring(xml))
        answer = await awaited(_answer(iq))
        return etree.fromstring(tostring(answer.xml))

    async def settled(self) -> None:
        """When the server has processed all that was sent before."""
        await self.ask("<ping xmlns='urn:xmpp:ping'/>", to=self.xmpp.boundjid.domain)

    def message(self, body: str | None = None) -> Deferred[Message]:
        """The next message (with that body) that arrives, or did."""
        return self.inbox.take(lambda s: isinstance(s, Message) and body in (None, s["body"]))

    def iq(self, kind: str, namespace: str) -> Deferred[Iq]:
        """The next iq of that type with a child of that namespace."""
        start = f"{{{namespace}}}"
        return self.inbox.take(
            lambda s: (
                isinstance(s, Iq)
                and s["type"] == kind
                and any(child.tag.startswith(start) for child in s.xml)
            )
        )

    def presence(self, sender: str) -> Deferred[Presence]:
        """The next presence from that JID."""
        return self.inbox.take(lambda s: isinstance(s, Presence) and s["from"] == sender)

    def _received(self, stanza: StanzaBase) -> StanzaBase:
        if isinstance(stanza, Message | Presence | Iq):
            self.inbox.put(stanza)
        elif isinstance(stanza, StreamFeatures):
            self.features.append(etree.fromstring(tostring(stanza.xml)))
        return stanza


def new_client(
    server: Server,
    jid: str,
    password: str | None = None,
    tls: bool = False,
    resumes: bool = False,
    resumable: int | None = None,
) -> Client:
    """A client that is not connected yet. Without `password` it is the name before the @.

    :param jid: bare, or full to ask for that resource
    :param tls: use STARTTLS, and verify the certificate
    :param resumes: use XEP-0198
    :param resumable: seconds that the server is asked to keep the stream for, when its connection is lost
    """
    # In clear by PLAIN: slixmpp's SCRAM takes a tenth of a second.
    mechanisms = {} if tls else {"use_mechs": {"PLAIN"}, "unencrypted_plain": True}
    xmpp = ClientXMPP(
        jid,
        password or jid.split("@")[0],
        plugin_config={"feature_mechanisms": mechanisms},
        ssl_context=ssl.create_default_context(cafile=server.certificate),
    )
    xmpp.enable_direct_tls = False
    xmpp.enable_starttls = tls
    xmpp.enable_plaintext = not tls
    for plugin in ("xep_0030", "xep_0199", "xep_0203", *(["xep_0198"] if resumes else [])):
        xmpp.register_plugin(plugin)
    if resumable is not None:
        xmpp.add_filter("out", lambda stanza: _asked_for(stanza, resumable))
    return Client(xmpp, ("127.0.0.1", server.tls_port if tls else server.plain_port))


def _asked_for(stanza: StanzaBase, seconds: int) -> StanzaBase:
    if stanza.xml.tag == "{urn:xmpp:sm:3}enable":
        stanza.xml.set("max", str(seconds))
    return stanza


async def _answer(iq: Iq) -> Iq:
    try:
        return await iq.send(timeout=PATIENCE)
    except IqError as error:
        return error.iq
