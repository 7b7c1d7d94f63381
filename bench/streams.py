"""Recording through real client streams of the embedded host: sockets, XML, delivery and both archives."""

from __future__ import annotations

import time
from base64 import b64encode
from functools import partial

from twisted.internet import defer, endpoints
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import CertificateOptions

from archive_crypt.core.dialect import F
from archive_crypt.core.xmlenc import write_key_value
from archive_crypt.hosts.embedded import EmbeddedServer
from archive_crypt.hosts.seam import ArchivePlug
from archive_crypt.xmpp.handler import ArchiveHandler
from bench.load import bodies

DOMAIN = "montague.lit"
#: Messages written to a socket at once.
BURST = 20


class Client(Protocol):
    """Says what it is told to; `heard` fires for each marker that comes back."""

    def __init__(self) -> None:
        self._buffer, self._marker, self._waiting = b"", b"", defer.Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._buffer = (self._buffer + data)[-4096:]
        if self._marker and self._marker in self._buffer:
            self._buffer, self._marker = b"", b""
            self._waiting.callback(None)

    def connectionLost(self, reason) -> None:
        if self._marker:
            self._marker = b""
            self._waiting.errback(reason)

    def say(self, xml: str, until: str) -> defer.Deferred[None]:
        """Send; fires when `until` was received."""
        self._marker, self._waiting = until.encode(), defer.Deferred()
        self.transport.write(xml.encode())
        return self._waiting

    @defer.inlineCallbacks
    def login(self, user: str, key: str, domain: str = DOMAIN, *, tls: bool = False):
        """Up to a bound stream that records with encryption."""
        header = (
            f"<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xmlns='jabber:client'"
            " xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        plain = b64encode(f"\0{user}\0{user}".encode()).decode()
        yield self.say(header, "</stream:features>")
        if tls:
            yield self.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<proceed")
            self.transport.startTLS(CertificateOptions(verify=False))
            yield self.say(header, "</stream:features>")
        sasl = "urn:ietf:params:xml:ns:xmpp-sasl"
        yield self.say(f"<auth xmlns='{sasl}' mechanism='PLAIN'>{plain}</auth>", "<success")
        yield self.say(header, "</stream:features>")
        bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>x</resource></bind>"
        yield self.say(f"<iq type='set' id='b'>{bind}</iq>", "</iq>")
        auto = f"<auto xmlns='{F.namespace}' save='true' encrypt='true'>{key}</auto>"
        yield self.say(f"<iq type='set' id='auto'>{auto}</iq>", "id='auto'")


@defer.inlineCallbacks
def record(bench, count: int, pairs: int):
    """Copies recorded a second while `pairs` of users talk: each message is archived on both sides."""
    users = [f"user{n}" for n in range(2 * pairs)]
    plug = ArchivePlug(bench.archiver, partial(ArchiveHandler, bench.archiver))
    server = EmbeddedServer(bench.reactor, DOMAIN, {user: user for user in users}, archive=plug)
    port = server.listen().getHost().port
    key = write_key_value(bench.key.name, bench.key.modulus, bench.key.exponent)
    clients = []
    for user in users:
        endpoint = endpoints.TCP4ClientEndpoint(bench.reactor, "127.0.0.1", port)
        client = yield endpoints.connectProtocol(endpoint, Client())
        yield client.login(user, key)
        clients.append(client)
    texts = bodies(count)
    begun, archived = time.perf_counter(), bench.archiver.counts["archived"]
    yield talk(clients, DOMAIN, texts)
    yield bench.archiver.management._works.writer.drained()
    seconds = time.perf_counter() - begun
    copies = bench.archiver.counts["archived"] - archived
    for client in clients:
        client.transport.loseConnection()
    yield server.close()
    return copies / seconds


def talk(clients, domain, texts):
    """Say `texts`, each client in an even place to the next one; fires when the server has seen them all."""
    pairs = len(clients) // 2
    return defer.gatherResults(
        [_talk(clients[2 * n], f"user{2 * n + 1}@{domain}/x", texts[n::pairs]) for n in range(pairs)]
    )


@defer.inlineCallbacks
def _talk(client, to, texts):
    for start in range(0, len(texts), BURST):
        part = "".join(
            f"<message to='{to}' type='chat' id='m{start + n}'><body>{text}</body></message>"
            for n, text in enumerate(texts[start : start + BURST])
        )
        ping = f"<iq type='get' id='p{start}'><ping xmlns='urn:xmpp:ping'/></iq>"
        yield client.say(part + ping, f"id='p{start}'")
