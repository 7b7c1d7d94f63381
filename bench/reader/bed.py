"""What the reader is measured against: `archive-crypt serve` on PostgreSQL in processes of their own, with an
archive that was recorded by the archiver itself, sealed for a key of 3072 bits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from twisted.internet import defer
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.archiver import Archiver
from archive_crypt.audit.server import DOMAIN, Server, Variant
from archive_crypt.core.dialect import F
from archive_crypt.core.stanzas import AutoRequest
from archive_crypt.core.xmlenc import RSAKeyValue
from archive_crypt.crypto import opening
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.hosts.postgres import EmbeddedPostgres
from archive_crypt.model import SECOND, Direction, Settings
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.connection import Account, Connection
from archive_crypt.store.migrate import migrate
from archive_crypt.store.pgsql import PgStorage
from archive_crypt.store.writer import Writer
from archive_crypt.works import Works
from bench.archive import cpu, postmaster
from bench.load import messages

#: Whose archive is measured; his password is his name.
USER = "user0"
OWNER = f"{USER}@{DOMAIN}"
#: When the first of a user's collections begins: 2026-01-01.
_BEGIN = 1_767_225_600 * SECOND
#: Messages that are recorded before it is waited for them.
_BURST = 1000


@dataclass
class Bed:
    """A running server whose archives are empty at first. `used` is what a measurement took."""

    dsn: str
    server: Server
    postmaster: int
    key: PrivateKey = field(default_factory=opening.generate)

    @asynccontextmanager
    async def archive(self, user: str = USER) -> AsyncIterator[Archive]:
        """A user's archive, over TLS."""
        account = Account(f"{user}@{DOMAIN}", "127.0.0.1", self.server.port, self.server.certificate)
        async with Connection(account, user) as connection:
            yield Archive(connection)

    async def record(self, collections: int, each: int, user: str = USER) -> None:
        """So many conversations of so many messages are in a user's archive, an hour apart."""
        from twisted.internet import reactor

        storage = PgStorage(self.dsn, reactor)
        # All of them may be open at once, and an hour may pass in a moment.
        limits = replace(Settings().limits, open_collections=collections)
        settings = replace(Settings(), limits=limits)
        works = Works(storage, Writer(storage, reactor), KeyRing(), reactor, settings)
        archiver = Archiver(works)
        jid = JID(f"{user}@{DOMAIN}/recorder")
        await _awaited(archiver.stream_opened(jid))
        await _awaited(archiver.switching.set(jid, AutoRequest(F, True, True, False, (self._public(),))))
        waiting = []
        load = messages(each, 1)
        for number in range(collections):
            for second, message in enumerate(load):
                message["from"] = f"peer{number}@capulet.lit/chamber"
                at = _BEGIN + (number * 3600 + second) * SECOND
                waiting.append(archiver.message(jid, Direction.FROM, message, at))
            if len(waiting) >= _BURST or number == collections - 1:
                await _awaited(defer.gatherResults(waiting))
                waiting.clear()
        await _awaited(archiver.close())
        storage.close()

    @contextmanager
    def used(self) -> Iterator[Used]:
        """What it takes from here on is known at the end of the ``with``."""
        used = Used()
        begun, own, server, database = self._clocks()
        yield used
        ended = self._clocks()
        used.seconds, used.own, used.server, used.database = (
            after - before for after, before in zip(ended, (begun, own, server, database), strict=True)
        )

    def _clocks(self) -> tuple[float, float, float, float]:
        children = Path(f"/proc/{self.postmaster}/task/{self.postmaster}/children").read_text().split()
        database = sum(map(cpu, [self.postmaster, *map(int, children)]))
        return time.perf_counter(), time.process_time(), cpu(self.server.pid), database

    def _public(self) -> RSAKeyValue:
        numbers = self.key.public().rsa.public_numbers()
        return RSAKeyValue(
            self.key.public().name, numbers.n.to_bytes(384, "big"), numbers.e.to_bytes(3, "big")
        )


@dataclass
class Used:
    """Seconds: by the clock; of CPU in the reader, the server, PostgreSQL."""

    seconds: float = 0.0
    own: float = 0.0
    server: float = 0.0
    database: float = 0.0


@contextmanager
def made(folder: Path) -> Iterator[Bed]:
    """A bed in an empty folder."""
    postgres = EmbeddedPostgres(folder / "postgres")
    dsn = postgres.start()
    try:
        migrate(dsn)
        data = folder / "server"
        data.mkdir()
        users = [USER, *(f"user{number}" for number in range(1, 10))]
        with Server(data, dsn, Variant(hardened=False, secret=False), users) as server:
            yield Bed(dsn, server, postmaster(dsn))
    finally:
        postgres.destroy()


async def _awaited(deferred):
    return await deferred.asFuture(asyncio.get_running_loop())
