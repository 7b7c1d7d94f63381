"""Runs everything, prints one table."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bench.servers import floor, report
from bench.servers.database import Database
from bench.servers.measure import COPIES, Measuring, Sizes
from bench.servers.systems import USERS, Archive, Mam, System
from tests.servers.kit import Target, targets

_KINDS = {kind.kind: kind for kind in (System, Mam, Archive)}


def main() -> int:
    options = _options()
    # Whatever was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.setswitchinterval(0.0005)  # what looks at the database is a thread of what sends the load
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-servers-", dir="/var/tmp") as folder:
        database = Database(Path(folder))
        try:
            database.start()
            found = _all(options, database, Path(folder))
            found["postgresql"] = database.version
        finally:
            database.destroy()
    found["seconds"] = time.monotonic() - begun
    print(report.text(found))
    if options.json:
        options.json.write_text(json.dumps(found))
    return 0


def _options() -> argparse.Namespace:
    installed = {str(target): target for target in targets() if target.root == Path("/")}
    names = [f"{name}+{kind}" for name in installed for kind in _KINDS]
    parser = argparse.ArgumentParser(prog="make bench-servers", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="of a flood; each makes two copies")
    parser.add_argument("--rounds", type=int, default=3, help="the median counts")
    parser.add_argument("--read", type=int, default=10_000, help="messages that are read back")
    parser.add_argument(
        "--burst", type=int, default=40_000, help="messages at once, while the component stands still"
    )
    parser.add_argument(
        "--systems", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all that was measured")
    options = parser.parse_args()
    if not installed:
        parser.error("there is no XMPP server here: run python -m tests.servers.install")
    options.systems = [
        (installed[target], _KINDS[kind]) for target, _, kind in (n.rpartition("+") for n in options.systems)
    ]
    return options


def _all(options: argparse.Namespace, database: Database, folder: Path) -> dict:
    """The floor and each system in turn, in rounds: what the machine does besides then meets them all."""
    sizes = Sizes(options.messages, options.read, options.burst)
    floors: list[dict] = []
    systems: dict[str, dict] = {}
    for number in range(options.rounds):
        floors.append(asdict(floor.measure(database, COPIES * options.messages, len(USERS))))
        for target, kind in options.systems:
            one = systems.setdefault(
                f"{target}+{kind.kind}", {"server": str(target), "kind": kind.kind, "rounds": []}
            )
            with _measured(target, kind, database, folder, sizes) as measuring:
                one["rounds"].append(_round(measuring, sizes))
                if number == options.rounds - 1:
                    one |= _once(measuring, sizes)
    for target, kind in options.systems:
        if kind is Archive:
            with _measured(target, kind, database, folder, sizes) as measuring:
                systems[f"{target}+{kind.kind}"] |= {
                    "restart": measuring.restart(),
                    "burst": measuring.burst(),
                }
    return {"sizes": asdict(sizes), "floor": floors, "systems": systems}


@contextmanager
def _measured(
    target: Target, kind: type[System], database: Database, folder: Path, sizes: Sizes
) -> Iterator[Measuring]:
    begun = time.monotonic()
    system = kind(target, database, Path(tempfile.mkdtemp(prefix="server-", dir=folder)))
    try:
        measuring = Measuring(system, sizes)
        yield measuring
        measuring.close()
    finally:
        system.close()
    print(f"{target}, {kind.kind}: {time.monotonic() - begun:.0f} s", file=sys.stderr)


def _round(measuring: Measuring, sizes: Sizes) -> dict:
    found = {"latency": measuring.latency() if measuring.archives else [], **measuring.flood(sizes.messages)}
    return found | {"memory": measuring.memory(), "octets": measuring.octets_a_row()}


def _once(measuring: Measuring, sizes: Sizes) -> dict:
    """Of one pair, until their archives can be read back."""
    if not measuring.archives:
        return {}
    pair = measuring.flood(sizes.read, pairs=1)
    return {"pair": pair["durable"], "read": measuring.read()}


if __name__ == "__main__":
    sys.exit(main())
