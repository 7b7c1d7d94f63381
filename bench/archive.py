"""What is measured of the archive itself: recording through the archiver, and open collections."""

from __future__ import annotations

import gc
import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from twisted.internet import defer
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.archiver import Archiver
from archive_crypt.core.dialect import F
from archive_crypt.core.stanzas import AutoRequest
from archive_crypt.core.xmlenc import RSAKeyValue
from archive_crypt.crypto import opening
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.model import Direction, Settings, UserLimits
from archive_crypt.store.pgsql import PgStorage
from archive_crypt.store.writer import Writer
from archive_crypt.works import Works
from bench.load import messages

#: Messages on their way at once: a server does not wait for one before it takes the next.
OUTSTANDING = 4000
#: Messages handed over in one turn of the reactor.
BURST = 50

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Recorded:
    """What recording took: messages a second, seconds of CPU per 1000 messages here and in
    PostgreSQL, octets on disk a message."""

    rate: float
    own_cpu: float
    database_cpu: float
    octets: float


class Bench:
    """One archiver on an empty database, with sealing for one RSA-3072 key."""

    def __init__(self, dsn: str, reactor, postmaster: int, spooling=None) -> None:
        self.dsn, self.reactor, self.postmaster = dsn, reactor, postmaster
        with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("TRUNCATE owner, item CASCADE")
        self.storage = PgStorage(dsn, reactor)
        writer = Writer(self.storage, reactor, spooling=spooling)
        works = Works(self.storage, writer, KeyRing(), reactor, Settings())
        self.archiver = Archiver(works)
        numbers = opening.generate(3072).public("bench").rsa.public_numbers()
        self.key = RSAKeyValue("bench", numbers.n.to_bytes(384, "big"), numbers.e.to_bytes(3, "big"))

    @defer.inlineCallbacks
    def streams(self, count: int):
        """Open a stream for each user, recording with encryption."""
        self.jids = [JID(f"user{n}@montague.lit/x") for n in range(count)]
        yield defer.gatherResults([self.archiver.stream_opened(jid) for jid in self.jids])
        request = AutoRequest(F, True, True, False, (self.key,))
        yield defer.gatherResults([self.archiver.switching.set(jid, request) for jid in self.jids])

    @defer.inlineCallbacks
    def record(self, count: int, owners: int):
        """Record `count` messages of `owners` users, all durable at the end."""
        yield self.streams(owners)
        load = messages(count + owners, owners)
        yield defer.gatherResults([self._hand_over(n, load[n]) for n in range(owners)])  # warm
        gc.collect()
        gc.freeze()  # the load is ours: a server does not hold all of its messages at once
        own, database = cpu(os.getpid()), self._database_cpu()
        begun = time.perf_counter()
        yield self._flood(load[owners:])
        seconds = time.perf_counter() - begun
        own, database = cpu(os.getpid()) - own, self._database_cpu() - database
        gc.unfreeze()
        octets = self._octets() / len(load)
        return Recorded(count / seconds, own / count * 1000, database / count * 1000, octets)

    @defer.inlineCallbacks
    def open_collections(self, count: int):
        """Octets of memory for each of `count` sealed collections that are open at once."""
        owners = -(-count // UserLimits().open_collections)
        yield self.streams(owners)
        yield self._one_each("warm", 2000)  # what is made once is not counted
        for jid in self.jids:
            self.archiver.stream_closed(jid)
        yield self.streams(owners)
        gc.collect()
        before = _resident()
        yield self._one_each("someone", count)
        gc.collect()
        return (_resident() - before) / count

    @defer.inlineCallbacks
    def _one_each(self, name, count):
        """A message from each of `count` peers, a few at a time, to the owners in turn."""
        for start in range(0, count, 100):
            part = messages(min(100, count - start), 1)
            for number, message in enumerate(part, start):
                message["from"] = f"{name}{number}@capulet.lit/chamber"
            yield self._flood(part, first=start)

    @defer.inlineCallbacks
    def close(self):
        yield self.archiver.close()
        self.storage.close()

    def hand_over(self, load, first=0):
        """Fires when all of `load` is durable; it begins with the owner `first`."""
        return self._flood(load, first)

    def _flood(self, load, first=0):
        done, state = defer.Deferred(), {"sent": 0, "back": 0}

        def back(_):
            state["back"] += 1
            if state["back"] == len(load):
                done.callback(None)

        def burst():
            for _ in range(BURST):
                if state["sent"] == len(load) or state["sent"] - state["back"] > OUTSTANDING:
                    break
                number = state["sent"]
                state["sent"] += 1
                self._hand_over(first + number, load[number]).addCallback(back)
            if state["sent"] < len(load):
                self.reactor.callLater(0, burst)

        burst()
        return done

    def _hand_over(self, number, message):
        jid = self.jids[number % len(self.jids)]
        return self.archiver.message(jid, Direction.FROM, message, time.time_ns() // 1000)

    def _database_cpu(self):
        family = [self.postmaster, *_children(self.postmaster)]
        return sum(map(cpu, family))

    def _octets(self):
        with closing(psycopg2.connect(self.dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
                " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            )
            return int(cursor.fetchone()[0])


def postmaster(dsn):
    """The process number of the PostgreSQL that a DSN leads to."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'")
        (folder,) = cursor.fetchone()
    return int(Path(folder, "postmaster.pid").read_text().split()[0])


def cpu(pid):
    """Seconds of CPU a process has used, its ended children included."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(fields[n]) for n in (11, 12)) / _TICKS


def _children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
