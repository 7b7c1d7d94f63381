"""Runs everything, prints one table."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from datetime import date
from pathlib import Path

from twisted.internet import asyncioreactor

asyncioreactor.install()

from twisted.internet import reactor  # noqa: E402 - it has to be there first

from bench.__main__ import processor  # noqa: E402
from bench.reader import bed as beds  # noqa: E402
from bench.reader import mirroring, rekeying, retrieval  # noqa: E402
from bench.reader.bed import Bed  # noqa: E402


async def _retrieval(bed: Bed, options: argparse.Namespace) -> None:
    await bed.record(options.collections, options.messages // options.collections)
    found = await retrieval.retrieve(bed)
    used, seconds = found.used, found.used.seconds
    per = 1000 / found.count
    print(f"{found.count} messages in {len(found.collections)} collections, over TLS")
    _row("listed, s", f"{found.listing:.2f}")
    _row("retrieved and opened, s", f"{seconds:.2f}")
    _row("messages/s", f"{found.count / (found.listing + seconds):,.0f}")
    _row("CPU s per 1000 messages: reader", f"{used.own * per:.3f}")
    _row("  of which opening", f"{found.opening * per:.3f}")
    _row("CPU s per 1000 messages: server", f"{used.server * per:.3f}")
    _row("CPU s per 1000 messages: PostgreSQL", f"{used.database * per:.3f}")
    rates = [retrieval.open_again(bed, found.pages) for _ in range(options.rounds)]
    clock, own = map(max, zip(*rates, strict=True))
    print("the opener alone: AES-256-GCM, a data key for each collection, unwrapped by RSA-3072")
    _row("items/s", f"{clock:,.0f}")
    _row("items per CPU s of its thread", f"{own:,.0f}")


async def _rekey(bed: Bed, options: argparse.Namespace) -> None:
    collections = 10 * options.collections
    await bed.record(collections, 5)
    used = await rekeying.replace(bed, collections)
    print(f"{collections} collections rekeyed, each verified before the old key goes; RSA-3072")
    _row("s", f"{used.seconds:.1f}")
    _row("collections/s", f"{collections / used.seconds:,.0f}")
    _row("CPU ms a collection: reader", f"{used.own * 1000 / collections:.1f}")
    _row("CPU ms a collection: server", f"{used.server * 1000 / collections:.1f}")
    _row("CPU ms a collection: PostgreSQL", f"{used.database * 1000 / collections:.1f}")


async def _mirror(bed: Bed, options: argparse.Namespace) -> None:
    collections, each = 10 * options.collections, options.messages // options.collections
    await bed.record(collections, each)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "mirror"
        done = await mirroring.copy(bed, path)
        found = mirroring.searches(path, each)
    used, per = done.used, 1000 / done.messages
    print(f"a mirror of {done.messages} messages in {collections} collections, over TLS")
    _row("first sync, s", f"{used.seconds:.2f}")
    _row("messages/s", f"{done.messages / used.seconds:,.0f}")
    _row("CPU s per 1000 messages: reader", f"{used.own * per:.3f}")
    _row("CPU s per 1000 messages: server", f"{used.server * per:.3f}")
    _row("CPU s per 1000 messages: PostgreSQL", f"{used.database * per:.3f}")
    _row("next sync, nothing new, s", f"{done.again:.2f}")
    _row("octets on disk a message", f"{done.octets / done.messages:.0f}")
    _row("opened, every page checked, s", f"{done.opening:.2f}")
    for wanted, hits, seconds in found:
        _row(f"search: {wanted}, {hits:,} hits, s", f"{seconds:.3f}")


def _row(label: str, value: str) -> None:
    print(f"  {label:48}{value:>10}")


#: What is measured, by name; each prints its lines.
ROWS = {"retrieval": _retrieval, "rekey": _rekey, "mirror": _mirror}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-reader", description=__doc__)
    parser.add_argument(
        "--messages",
        type=int,
        default=10_000,
        help="listed, retrieved, opened; ten times as many in a mirror",
    )
    parser.add_argument(
        "--collections", type=int, default=100, help="ten times as many rekeyed, and mirrored"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of the opener; the best counts")
    parser.add_argument("rows", nargs="*", default=list(ROWS), help=f"of {', '.join(ROWS)}; all unless told")
    options = parser.parse_args()
    print(f"{date.today()}, Python {platform.python_version()}, {os.cpu_count()} cores, {processor()}")
    task = asyncio.get_event_loop().create_task(_measure(options))
    task.add_done_callback(lambda _: reactor.stop())
    reactor.run()
    task.result()
    return 0


async def _measure(options: argparse.Namespace) -> None:
    for row in options.rows:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, beds.made(Path(folder)) as bed:
            print()
            await ROWS[row](bed, options)


if __name__ == "__main__":
    sys.exit(main())
