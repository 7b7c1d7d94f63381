"""People who talk, come what may; and who read their archives when all is over."""

from __future__ import annotations

from collections import Counter

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.core.dialect import F
from tests import realclient
from tests.kit import LAPTOP, key_info, opened

DOMAIN = "localhost"
_RSM = "http://jabber.org/protocol/rsm"
AUTO = f"<auto xmlns='{F.namespace}' save='true' encrypt='true'>{key_info(LAPTOP, 'laptop')}</auto>"
#: Seconds between two messages of one person, and before another try to come back.
_EVERY, _PAUSE = 0.05, 0.2


class Client(realclient.Client):
    """A client that insists on TLS, whoever is on the other side."""

    async def login(self, jid: JID) -> None:
        self._begin(jid, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        await self._until(lambda: any(other.tag.endswith("}proceed") for other in self._others))
        self._others.clear()
        self.transport.startTLS(CertificateOptions())
        await super().login(jid)
        self._say("<presence/>")

    @property
    def closed(self) -> bool:
        return self._closed

    def tell(self, to: str, body: str) -> None:
        """Send a message, without waiting for anything."""
        self._others.clear()
        self._unasked.clear()
        self._say(f"<message to='{to}' type='chat' id='{body}'><body>{body}</body></message>")


class Person:
    """One who talks to `peer`, counting. `said`: how many messages; `records`: whether they are recorded."""

    def __init__(self, archive, name: str, peer: str) -> None:
        self.jid = f"{name}@{DOMAIN}"
        self.said, self.records = 0, False
        self._archive, self._name, self._peer = archive, name, f"{peer}@{DOMAIN}"
        self._talks, self._client = True, None
        self._life = Deferred.fromCoroutine(self._lives())

    async def falls_silent(self) -> None:
        """Talk no more; but stay."""
        self._talks = False
        await self._life

    async def ask(self, payload: str, kind: str = "get"):
        """The answer to a request."""
        return await self._client.ask(f"<iq type='{kind}' id='q'>{payload}</iq>")

    async def comes(self) -> None:
        """Be connected, and recorded."""
        if self._client is None or self._client.closed:
            self.records = False
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self._archive.port or 1)
            self._client = await connectProtocol(endpoint, Client())
            await self._client.login(JID(f"{self.jid}/x"))
        while not self.records:
            answer = await self.ask(AUTO, "set")
            self.records = answer.get("type") == "result"
            if not self.records:
                await pause(_PAUSE)

    def leaves(self) -> None:
        if self._client is not None and not self._client.closed:
            self._client.transport.abortConnection()

    async def _lives(self) -> None:
        while self._talks:
            try:
                await self.comes()
                while self._talks and not self._client.closed:
                    self._client.tell(self._peer, f"{self._name}-{self.said}")
                    self.said += 1
                    await pause(_EVERY)
            except Exception:  # noqa: BLE001 - whatever it was, somebody who wants to talk tries again
                self.leaves()
            await pause(_PAUSE)


async def read(ask) -> list[list[str]]:
    """All that is in somebody's archive, whose requests `ask` makes: the bodies of each collection, in
    order."""
    collections = []
    for shown in await _all(ask, "list", "", "chat"):
        where = f"with='{shown.get('with')}' start='{shown.get('start')}'"
        texts: list[str] = []
        async for page in _pages(ask, "retrieve", where):
            texts += [item.bodies[0][1] for item in opened(page, LAPTOP)]
        collections.append(texts)
    return collections


async def _all(ask, name, where, child) -> list:
    return [one async for page in _pages(ask, name, where) for one in page.iter(f"{{{F.namespace}}}{child}")]


async def _pages(ask, name, where):
    after = ""
    while True:
        window = f"<set xmlns='{_RSM}'><max>100</max>{after}</set>"
        answer = await ask(f"<{name} xmlns='{F.namespace}' {where}>{window}</{name}>")
        if answer.get("type") != "result":
            raise RuntimeError(f"cannot read: {answer[-1][0].tag}")
        yield answer[0]
        last = answer.find(f".//{{{_RSM}}}last")
        if last is None:
            return
        after = f"<after>{last.text}</after>"


def judged(owner: str, read: list[list[str]], acknowledged: set[tuple[str, str]]) -> tuple[int, int, int]:
    """How many of an owner's acknowledged messages are lost, how many of all are there twice, and how many
    stand before one that the same person said earlier."""
    times = Counter(body for texts in read for body in texts)
    lost = sum(body not in times for who, body in acknowledged if who == owner)
    doubled = sum(count - 1 for count in times.values())
    disordered = 0
    for texts in read:
        last: dict[str, int] = {}
        for body in texts:
            who, _, number = body.rpartition("-")
            disordered += int(number) < last.get(who, 0)
            last[who] = int(number)
    return lost, doubled, disordered


def pause(seconds: float) -> Deferred:
    return deferLater(reactor, seconds)
