"""A component whose link to its server is cut again and again. The server is a scripted one, and speaks the
feed (docs/feed.rst) as our modules do: it holds copies while the component is away."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from xml.sax.saxutils import escape

from lxml import etree
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.words.protocols.jabber import component, xmlstream

from archive_crypt.core.times import render
from tests.faults.people import AUTO, judged, pause, read
from tests.faults.process import PATIENCE, Acknowledged, Archive, Database
from tests.faults.scene import Result, settles

_DOMAIN, _US, _SECRET = "capulet.lit", "archive.capulet.lit", "0f1e2d3c"
_FEED, _FORWARD = "urn:x-archive-crypt:feed:1", "urn:xmpp:forward:0"
_DELEGATION = "urn:xmpp:delegation:2"
#: People, each of whom talks to one other, and the seconds between two messages of one.
_PEOPLE, _EVERY = 10, 0.05


async def cut_link(folder: Path, database: Database, seconds: float) -> tuple[int, Result]:
    """the component's link is cut"""
    server = Server([f"cut{n}" for n in range(_PEOPLE)])
    acknowledged = Acknowledged(folder / "cut.acknowledged")
    archive = Archive(_written(folder, database, server), folder / "archive.log", acknowledged)
    await archive.start()
    times, end = 0, time.monotonic() + seconds
    await gatherResults([Deferred.fromCoroutine(server.records(name)) for name in server.names])
    talks = Deferred.fromCoroutine(server.talks())
    while time.monotonic() < end or not times:
        await pause(random.uniform(0.2, 1.5))
        server.cut()
        times += 1
    await server.present()
    server.silent = True
    await talks
    result = Result()
    await settles(archive, result)
    for name in server.names:
        jid = f"{name}@{_DOMAIN}"
        result.add(
            judged(jid, await read(lambda payload, name=name: server.ask(name, payload)), acknowledged.said)
        )
    result.said, result.acknowledged = server.said, len(acknowledged.said)
    await archive.ends(result)
    await server.close()
    acknowledged.close()
    return times, result


class Server:
    """The server's side: its users called `names` talk to each other while it `talks`, until `silent`."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.said, self.silent = names, 0, False
        self._held: list[tuple[str, str, str, str]] = []
        self._stream, self._come, self._asked = None, Deferred(), {}
        factory = xmlstream.XmlStreamServerFactory(self._authenticator)
        factory.addBootstrap(xmlstream.STREAM_AUTHD_EVENT, self._welcomes)
        factory.addBootstrap(xmlstream.STREAM_END_EVENT, self._loses)
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    @property
    def port(self) -> int:
        return self._port.getHost().port

    def cut(self) -> None:
        """The link breaks, whatever was on its way."""
        if self._stream is not None:
            self._stream.transport.abortConnection()

    async def close(self) -> None:
        await self._port.stopListening()

    async def present(self) -> None:
        """The component is there."""
        if self._stream is None:
            self._come = self._come if not self._come.called else Deferred()
            waiter = Deferred()
            self._come.addCallback(lambda _: waiter.callback(None))
            await waiter.addTimeout(PATIENCE, reactor)

    async def records(self, name: str) -> None:
        """One of the users has his messages sealed."""
        answer = None
        while answer is None or answer.get("type") != "result":
            answer = await self.ask(name, AUTO, "set")

    async def talks(self) -> None:
        """Everybody says something to somebody, again and again."""
        while not self.silent:
            for place, name in enumerate(self.names):
                self._tells(name, self.names[place ^ 1], f"{name}-{self.said // len(self.names)}")
                self.said += 1
            await pause(_EVERY)

    async def ask(self, name: str, payload: str, kind: str = "get"):
        """The answer to a user's request, which is delegated."""
        await self.present()
        id_ = f"q{len(self._asked)}"
        inner = f"<iq xmlns='jabber:client' type='{kind}' id='{id_}' from='{name}@{_DOMAIN}/x'>{payload}</iq>"
        forwarded = f"<forwarded xmlns='{_FORWARD}'>{inner}</forwarded>"
        self._asked[id_] = Deferred()
        self._send(f"<delegation xmlns='{_DELEGATION}'>{forwarded}</delegation>", f"iq type='set' id='{id_}'")
        return await self._asked[id_].addTimeout(PATIENCE, reactor)

    def _tells(self, name: str, peer: str, body: str) -> None:
        message = (
            f"<message xmlns='jabber:client' from='{name}@{_DOMAIN}/x' to='{peer}@{_DOMAIN}/x' type='chat'"
            f" id='{body}'><body>{escape(body)}</body></message>"
        )
        for jid, direction in ((name, "out"), (peer, "in")):
            if self._stream is None:
                self._held.append((jid, direction, message, render(time.time_ns() // 1000)))
            else:
                self._copies(jid, direction, message)

    def _copies(self, name: str, direction: str, message: str, held: str = "") -> None:
        more = f" held='{held}'" if held else ""
        self._send(
            f"<copy xmlns='{_FEED}' jid='{name}@{_DOMAIN}/x' direction='{direction}'{more}>"
            f"<forwarded xmlns='{_FORWARD}'>{message}</forwarded></copy>"
        )

    def _send(self, child: str, kind: str = "message") -> None:
        self._stream.send(f"<{kind} from='{_DOMAIN}' to='{_US}'>{child}</{kind.split()[0]}>")

    def _authenticator(self):
        return component.ListenComponentAuthenticator(_SECRET)

    def _welcomes(self, stream) -> None:
        self._stream = stream
        stream.addObserver("/iq", self._hears_iq)
        stream.addObserver("/message/leave", self._lets_go)
        self._send(f"<snapshot xmlns='{_FEED}' event='begin' server='Scripted 1' missed='0'/>")
        for name in self.names:
            self._send(f"<stream xmlns='{_FEED}' jid='{name}@{_DOMAIN}/x' event='open'/>")
        self._send(f"<snapshot xmlns='{_FEED}' event='end'/>")
        held, self._held = self._held, []
        for copy in held:
            self._copies(*copy)
        if not self._come.called:
            self._come.callback(None)

    def _loses(self, _) -> None:
        self._stream = None

    def _lets_go(self, _) -> None:
        self._send(f"<left xmlns='{_FEED}'/>")
        self._stream = None

    def _hears_iq(self, iq) -> None:
        answered = self._asked.get(iq.getAttribute("id"))
        if answered is not None and not answered.called and iq["type"] in ("result", "error"):
            outer = etree.fromstring(iq.toXml())
            inner = outer.find("{*}delegation/{*}forwarded/{jabber:client}iq")
            answered.callback(outer if inner is None else inner)


def _written(folder: Path, database: Database, server: Server) -> Path:
    secret, config = folder / "secret", folder / "cut.toml"
    secret.write_text(_SECRET)
    config.write_text(
        f"[database]\ndsn = {json.dumps(database.dsn)}\nspool = '{folder / 'spool'}'\n"
        f"[component]\njid = '{_US}'\ndomains = ['{_DOMAIN}']\nserver = '127.0.0.1'\nport = {server.port}\n"
        f"secret_file = '{secret}'\n"
    )
    return config
