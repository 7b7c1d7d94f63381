"""What hardened mode costs: `archive-crypt serve` in a process of its own, normal and hardened in turns,
while clients talk through it over TLS and both sides are archived, sealed.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg2
from twisted.internet import defer, endpoints

from archive_crypt.audit.server import DOMAIN, Server, Variant
from archive_crypt.core.dialect import F
from archive_crypt.core.xmlenc import write_key_value
from archive_crypt.crypto import lockedmem
from bench.archive import cpu
from bench.load import bodies
from bench.streams import Client, talk

USERS = [f"user{n}" for n in range(20)]


@dataclass(frozen=True)
class Cost:
    """Seconds of the server's CPU per 1000 copies archived, and the median of the rounds' ratios."""

    normal: float
    hardened: float
    ratio: float


@defer.inlineCallbacks
def cost(dsn: str, folder: Path, reactor, key, messages: int, rounds: int):
    """Measure it, as often as `rounds` says; `key` is the RSAKeyValue to seal for."""
    text = write_key_value(key.name, key.modulus, key.exponent)
    pairs = []
    for _ in range(rounds):
        normal = yield _one(dsn, folder, reactor, text, messages, hardened=False)
        hardened = yield _one(dsn, folder, reactor, text, messages, hardened=True)
        pairs.append((normal, hardened))
    return Cost(
        median(normal for normal, _ in pairs),
        median(hardened for _, hardened in pairs),
        median(hardened / normal for normal, hardened in pairs),
    )


@defer.inlineCallbacks
def _one(dsn, folder, reactor, key, messages, *, hardened):
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE owner, item CASCADE")
    page = lockedmem.new_page()
    page.close()
    with Server(folder, dsn, Variant(hardened, page.kind == lockedmem.SECRET), USERS) as server:
        clients = []
        for user in USERS:
            endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", server.port)
            client = yield endpoints.connectProtocol(endpoint, Client())
            yield client.login(user, key, DOMAIN, tls=True)
            clients.append(client)
        yield talk(clients, DOMAIN, bodies(len(USERS) * 20))  # warm
        yield _written(clients)
        before = cpu(server.pid)
        yield talk(clients, DOMAIN, bodies(messages))
        yield _written(clients)
        seconds = cpu(server.pid) - before
        for client in clients:
            client.transport.abortConnection()
    return seconds / (2 * messages) * 1000


def _written(clients):
    """All that was said is durable."""
    query = f"<iq type='get' id='w'><list xmlns='{F.namespace}'/></iq>"
    return defer.gatherResults([client.say(query, "</iq>") for client in clients])
