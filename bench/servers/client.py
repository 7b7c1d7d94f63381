"""A user's stream on a plain socket: it costs the machine as little as possible, as the servers need it."""

from __future__ import annotations

import socket
from base64 import b64encode

_HEAD = (
    "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='jabber:client'"
    " xmlns:stream='http://etherx.jabber.org/streams'>"
)
_AUTH = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{}</auth>"
_BIND = (
    "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
    "<resource>{}</resource></bind></iq>"
)
_AVAILABLE = "<presence/><iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>"
_CHUNK = 1 << 18
_PATIENCE = 60


class Stream:
    """Logged in and bound; `ask` and `read` block. Without TLS, and the password is the user's name.

    :param available: send presence, without which messages to the bare JID do not come here
    """

    def __init__(self, port: int, jid: str, resource: str, *, available: bool) -> None:
        self.jid = jid
        user, _, domain = jid.partition("@")
        self.socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.ask(_HEAD.format(domain), b"</stream:features>")
        self.ask(_AUTH.format(b64encode(f"\0{user}\0{user}".encode()).decode()), b"<success")
        self.ask(_HEAD.format(domain), b"</stream:features>")
        self.ask(_BIND.format(resource), b"</jid>")
        if available:
            self.ask(_AVAILABLE, b"jabber:iq:roster")

    def ask(self, xml: str, until: bytes) -> bytes:
        """Send; what came until then and with it. The stream must be silent otherwise."""
        self.socket.sendall(xml.encode())
        return self.read(until)

    def answer(self, id_: str, xml: str) -> bytes:
        """The answer to an iq with that id."""
        head = self.ask(xml, f"id='{id_}'".encode()) + self.read(b">")
        return head if head.endswith(b"/>") else head + self.read(b"</iq>")

    def read(self, until: bytes) -> bytes:
        """What comes until then and with it."""
        start = 0
        while (found := self._buffer.find(until, start)) < 0:
            start = max(0, len(self._buffer) - len(until) + 1)
            # A delayed ACK meets Nagle's algorithm in Prosody, and adds 40 ms of waiting to every page.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            data = self.socket.recv(_CHUNK)
            if not data:
                raise ConnectionError(f"{self.jid}: the server closed the stream")
            self._buffer += data
        end = found + len(until)
        taken, self._buffer = self._buffer[:end], self._buffer[end:]
        return taken

    def close(self) -> None:
        self.socket.close()
