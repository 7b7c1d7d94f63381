"""A house with nothing made up but the time: PostgreSQL, servers on sockets, clients that talk to them.

The reactor is imported late: conftest.py is read before pytest-twisted has installed its own.
"""

import time
from functools import partial

import psycopg2
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import Clock, deferLater
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.archiver import Archiver
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.expiry import Expiry
from archive_crypt.hosts.embedded import EmbeddedServer
from archive_crypt.hosts.seam import ArchivePlug
from archive_crypt.hosts.wire import render
from archive_crypt.model import SECOND, Settings
from archive_crypt.store.interfaces import SetPreferences
from archive_crypt.store.pgsql import PgStorage
from archive_crypt.store.writer import Writer
from archive_crypt.works import Works
from archive_crypt.xmpp.handler import ArchiveHandler, offered
from tests.kit import MORNING, element
from tests.realclient import PATIENCE, Client

#: Who lives where: a server for each domain.
DOMAINS = {"romeo": "montague.lit", "juliet": "capulet.lit", "nurse": "capulet.lit"}


class HouseClock(Clock):
    """What is to happen at once happens; what is to happen later waits until time is made to pass."""

    def __init__(self):
        super().__init__()
        self._at_once = []

    def callLater(self, delay, what, *args, **kwargs):
        from twisted.internet import reactor

        if delay > 0:
            return super().callLater(delay, what, *args, **kwargs)
        call = reactor.callLater(0, what, *args, **kwargs)
        self._at_once = [call, *(other for other in self._at_once if other.active())]
        return call

    @property
    def busy(self):
        """Whether something is about to happen at once."""
        return any(call.active() for call in self._at_once)

    def next(self, end):
        """The moment of the next call before `end`; `end` if there is none."""
        return min([end, *(call.getTime() for call in self.getDelayedCalls())])


class WatchedStorage:
    """A storage that tells what it is doing: `running` has a Deferred for each call, which fires
    when that is done, well or not."""

    def __init__(self, storage):
        self._storage = storage
        self.running = []

    def __getattr__(self, name):
        method = getattr(self._storage, name)

        def watched(*args, **kwargs):
            done = Deferred()
            self.running.append(done)
            return method(*args, **kwargs).addBoth(self._over, done)

        return watched

    def _over(self, result, done):
        self.running.remove(done)
        done.callback(None)
        return result


class Stream:
    """A client and its server's end of the stream. Each call is over when the archive, too, is
    done with what it caused."""

    def __init__(self, house, jid):
        self._house, self._jid, self._client = house, jid, Client()

    async def opens(self, server, port):
        from twisted.internet import reactor

        self._server = server
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), self._client)
        await self._client.login(self._jid)
        await self._house.settle()

    async def asks(self, xml):
        """The client sends an iq; its answer."""
        answer = await self._client.ask(xml)
        await self._house.settle()
        return answer

    async def says(self, xml):
        """The client sends any other stanza."""
        await self._client.says(xml)
        await self._house.settle()

    async def hears(self, xml):
        """A message is delivered to the client as if another server had sent it."""
        message = element(xml)
        if not message.hasAttribute("to"):
            message["to"] = self._jid.full()
        self._server._deliver(self._server._sessions.find(self._jid), message)
        await self._client.passes_over(render(message).decode())
        await self._house.settle()

    async def gets(self):
        """The next message or push that came and no `hears` brought, or None."""
        return await self._client.gets()

    async def unasked_answers(self):
        """Answers that came for nothing asked: more than one, or with another id."""
        return await self._client.unasked_answers()

    async def closes(self):
        """The client ends the stream."""
        await self._client.logout()
        await self._house.settle()

    def breaks(self):
        """The connection is gone, whatever was going on."""
        self._client.transport.abortConnection()


class RealHouse:
    """One archive on the PostgreSQL of `dsn`, plugged into the servers of all `domains`.

    What is slow to make lasts as long as the house; archive, servers and rows last from `begins`
    to `ends`.
    """

    def __init__(self, dsn, domains=DOMAINS):
        from twisted.internet import reactor

        self._domains = domains
        self._pool = PgStorage(dsn, reactor, readers=2)
        self._connection = psycopg2.connect(dsn)
        self._streams, self._servers = [], {}

    async def begins(self, **settings):
        """Make an archive without rows, at MORNING."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("DELETE FROM owner; DELETE FROM item")  # TRUNCATE takes 30 ms
        self._settings = Settings(**settings)
        self._clock = HouseClock()
        self._storage = WatchedStorage(self._pool)
        writer = Writer(self._storage, self._clock)
        self._works = Works(self._storage, writer, KeyRing(), self._clock, self._settings)
        self.archiver = Archiver(self._works, self.now)
        self._streams, self._servers = [], {}

    async def ends(self):
        """Close the archive, the servers and all streams."""
        from twisted.internet import reactor

        for stream in self._streams:
            stream.breaks()
        for server, _ in self._servers.values():
            await server.close().addTimeout(PATIENCE, reactor)
        await self.archiver.close().addTimeout(PATIENCE, reactor)
        await self.settle()

    def close(self):
        """Nothing of the house is left."""
        self._connection.close()
        self._pool.close()

    async def prefers(self, owner, request):
        """A user's preferences are these, whatever the archive would say of them."""
        change = SetPreferences(owner, request.default, request.items, methods=dict(request.methods))
        await self._works.writer.submit(change)
        await self.archiver.wishes.refresh(owner)

    def ages(self, seconds):
        """Everything in the database was written that much earlier."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(
                "UPDATE change SET stamp = stamp - %(s)s, archived = archived - %(s)s",
                {"s": seconds * SECOND},
            )

    async def expires(self):
        """One round of expiry, by the database's clock."""
        await Expiry(self._works, lambda: time.time_ns() // 1000).run()

    def now(self):
        """The time in the house, in microseconds since 1970."""
        return MORNING * SECOND + int(self._clock.seconds() * SECOND)

    async def stream(self, jid):
        """A client logs in, with all of this full JID."""
        stream = Stream(self, JID(jid))
        self._streams.append(stream)
        await stream.opens(*self._server(JID(jid).host))
        return stream

    async def passes(self, seconds):
        """Time goes by; whatever is due on the way happens in its turn."""
        end = self._clock.seconds() + seconds
        while self._clock.seconds() < end:
            self._clock.advance(self._clock.next(end) - self._clock.seconds())
            await self.settle()

    async def settle(self):
        """Wait until the archive does nothing any more, but wait for time to pass or somebody to speak."""
        from twisted.internet import reactor

        await deferLater(reactor, 0)
        while self._storage.running or self._clock.busy:
            await gatherResults(list(self._storage.running)).addTimeout(PATIENCE, reactor)
            await deferLater(reactor, 0)

    def _server(self, domain):
        from twisted.internet import reactor

        if domain not in self._servers:
            handler = partial(ArchiveHandler, self.archiver)
            plug = ArchivePlug(self.archiver, handler, offered(self._settings))
            users = {node: node for node, home in self._domains.items() if home == domain}
            server = EmbeddedServer(reactor, domain, users, archive=plug, clock=self.now)
            self._servers[domain] = server, server.listen().getHost().port
        return self._servers[domain]
