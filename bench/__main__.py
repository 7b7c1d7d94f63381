"""Runs everything, prints one table."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from contextlib import closing
from datetime import date
from pathlib import Path

import psycopg2
from twisted.internet import defer, reactor

from archive_crypt.hosts.postgres import EmbeddedPostgres
from archive_crypt.store.migrate import migrate
from bench import floor, hardening, spool, streams
from bench.archive import Bench, postmaster


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--collections", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3, help="of recording; the median counts")
    options = parser.parse_args()
    failures: list[object] = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        dsn = postgres.start()
        try:
            migrate(dsn)
            reactor.callWhenRunning(_run, postgres, dsn, Path(folder), options, failures)
            reactor.run()
        finally:
            postgres.destroy()
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _run(postgres, dsn, folder, options, failures):
    data = folder / "server"
    data.mkdir()
    d = _measure(dsn, data, options)
    d.addCallback(lambda normal: _spooled(postgres, dsn, folder, options, normal))
    d.addErrback(lambda failure: failures.append(failure.getTraceback()))
    d.addBoth(lambda _: reactor.stop())


@defer.inlineCallbacks
def _measure(dsn, data, options):
    bench = Bench(dsn, reactor, postmaster(dsn))
    octets = yield bench.open_collections(options.collections)  # first, while memory is fresh
    yield bench.close()
    print(_machine(dsn))
    print()
    print(f"{options.messages} messages, bodies of 60 characters (median), sealed for one RSA-3072 key")
    print()
    print("                                        20 owners   400 owners")
    found = {}
    for owners in (20, 400):
        found[owners] = yield _one(dsn, options, owners)
    _row("recorded, sealed, durable: messages/s", found, lambda f: f"{f['rate']:,.0f}")
    _row("floor: psycopg2 INSERT by 500, rows/s", found, lambda f: f"{f['insert']:,.0f}")
    _row("  ratio", found, lambda f: f"{f['rate'] / f['insert']:.2f}")
    _row("floor: psycopg2 COPY by 500, rows/s", found, lambda f: f"{f['copy']:,.0f}")
    _row("  ratio", found, lambda f: f"{f['rate'] / f['copy']:.2f}")
    _row("CPU s per 1000 messages: archive", found, lambda f: f"{f['own']:.3f}")
    _row("CPU s per 1000 messages: PostgreSQL", found, lambda f: f"{f['database']:.3f}")
    _row("octets on disk a message", found, lambda f: f"{f['octets']:.0f}")
    bench = Bench(dsn, reactor, postmaster(dsn))
    rate = yield streams.record(bench, options.messages // 4, 10)
    yield bench.close()
    print(f"through 20 client streams of the embedded host, both sides archived: {rate:,.0f} copies/s")
    print(f"memory an open sealed collection ({options.collections} open), octets: {octets:,.0f}")
    cost = yield hardening.cost(dsn, data, reactor, bench.key, options.messages // 2, options.rounds)
    print("the same by TLS, CPU s per 1000 copies of the whole server:")
    medians = f"normal {cost.normal:.3f}, hardened {cost.hardened:.3f}"
    print(f"  {medians}; median of the rounds' ratios {cost.ratio:.2f}")
    return found[spool.OWNERS]["rate"]


@defer.inlineCallbacks
def _spooled(postgres, dsn, folder, options, normal):
    found = yield spool.measure(postgres, dsn, reactor, postmaster(dsn), folder, options.messages)
    print()
    print(f"a spool, {spool.OWNERS} owners                    messages/s    beside none")
    rates = [("idle", found.idle), ("at work, the database away", found.away)]
    for label, rate in [*rates, ("written when it is back", found.replayed)]:
        print(f"  {label:36}{rate:>11,.0f}{rate / normal:>14.2f}")
    print(f"  octets of it a message: {found.octets:,.0f}")
    print("what kill -9 loses, at 500 messages/s: nothing acknowledged, and of the rest what came within")
    for label, (middle, most) in (("the database", found.window), ("the spool at work", found.window_away)):
        print(f"  {label:36}{middle:>8.1f} ms (p50){most:>8.1f} ms (p99)")


@defer.inlineCallbacks
def _one(dsn, options, owners):
    rounds = []
    for _ in range(options.rounds):
        bench = Bench(dsn, reactor, postmaster(dsn))
        recorded = yield bench.record(options.messages, owners)
        yield bench.close()
        written = floor.rows(dsn)
        rounds.append(
            {
                "rate": recorded.rate,
                "own": recorded.own_cpu,
                "database": recorded.database_cpu,
                "octets": recorded.octets,
                "insert": floor.insert(dsn, written),
                "copy": floor.copy(dsn, written),
            }
        )
    return {name: sorted(one[name] for one in rounds)[len(rounds) // 2] for name in rounds[0]}


def _row(label, found, text):
    print(f"{label:38}" + "".join(f"{text(found[owners]):>11}  " for owners in (20, 400)).rstrip())


def _machine(dsn):
    with closing(psycopg2.connect(dsn)) as connection:
        version = "{}.{}".format(*divmod(connection.server_version, 10000))
    return (
        f"{date.today()}, Python {platform.python_version()}, PostgreSQL {version},"
        f" {os.cpu_count()} cores, {processor()}, fsync on"
    )


def processor():
    """What the machine calls its processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
