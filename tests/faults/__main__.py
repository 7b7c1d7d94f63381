"""Injects every fault, and prints what it cost: ``python -m tests.faults --seconds 60``. The exit code is 1 if
anything that was acknowledged is lost, or anything is there twice or in another order."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.faults import faults
from tests.faults.component import cut_link
from tests.faults.process import Database
from tests.faults.scene import Result, Scene

_HUGE = 2**30
#: Each fault, its part of the time, and how large the spool may be. Besides, each takes some seconds to settle.
_PLAN = [
    (faults.kill, 0.40, _HUGE),
    (faults.stop_database, 0.08, _HUGE),
    (faults.crash_database, 0.08, _HUGE),
    (faults.end_connections, 0.04, _HUGE),
    (faults.freeze_database, 0.10, _HUGE),
    (faults.kill_in_outage, 0.08, _HUGE),
    (faults.kill_frozen, 0.08, _HUGE),
    (faults.fill_disk, 0.03, _HUGE),
    (faults.fill_spool, 0.03, 60_000),
    (faults.jump, 0.03, _HUGE),
]
_CUT = 0.05
_COLUMNS = ("times", "messages", "copies", "lost", "doubled", "disorder")


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="of faults, all together")
    parser.add_argument("--only", help="one fault, by its name")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="for the moments")
    parser.add_argument("--json", action="store_true", help="the table as JSON, a line for each fault")
    options = parser.parse_args()
    random.seed(options.seed)
    failures: list[str] = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        database = Database(Path(folder))
        try:
            reactor.callWhenRunning(_run, Path(folder), database, options, failures)
            reactor.run()
            if failures:
                print((Path(folder) / "archive.log").read_text()[-5000:], file=sys.stderr)
        finally:
            database.destroy()
    for failure in failures:
        print(f"seed {options.seed}: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _run(folder: Path, database: Database, options, failures: list[str]) -> None:
    d = Deferred.fromCoroutine(_all(folder, database, options, failures))
    d.addErrback(lambda failure: failures.append(failure.getTraceback()))
    d.addBoth(lambda _: reactor.stop())


async def _all(folder: Path, database: Database, options, failures: list[str]) -> None:
    if not options.json:
        print(f"{'fault':<52}" + "".join(f"{column:>10}" for column in _COLUMNS), flush=True)
    total = dict.fromkeys(_COLUMNS, 0)
    async for fault, times, result in _results(folder, database, options):
        row = dict(zip(_COLUMNS, (times, *result.numbers), strict=True))
        total = {column: total[column] + row[column] for column in _COLUMNS}
        _tell(fault, row, result.wrong, options)
        if not result.well:
            failures.append(f"{fault}: not well")
    _tell("all", total, [], options)


async def _results(folder: Path, database: Database, options) -> AsyncIterator[tuple[str, int, Result]]:
    for number, (fault, part, most_spooled) in enumerate(_PLAN):
        if options.only in (None, fault.__name__):
            scene = Scene(folder, database, number, most_spooled)
            await scene.begins()
            times = await fault(scene, options.seconds * part)
            yield fault.__doc__, times, await scene.ends()
    if options.only in (None, cut_link.__name__):
        yield cut_link.__doc__, *await cut_link(folder, database, options.seconds * _CUT)


def _tell(fault: str, row: dict[str, int], wrong: list[str], options) -> None:
    if options.json:
        print(json.dumps({"fault": fault, **row, "wrong": wrong}), flush=True)
    else:
        numbers = "".join(f"{number:>10}" for number in row.values())
        print(f"{fault:<52}{numbers}  {', '.join(wrong)}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
