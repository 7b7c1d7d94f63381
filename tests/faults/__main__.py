"""Injects every fault, and prints what it cost: ``python -m tests.faults --seconds 60``. The exit code is 1 if
anything that was acknowledged is lost, or anything is there twice."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.faults import faults
from tests.faults.component import cut_link
from tests.faults.process import Database
from tests.faults.scene import Result, Scene

#: Each fault, its part of the time, and how large the spool may be.
_PLAN = [
    (faults.kill, 0.36, 2**30),
    (faults.stop_database, 0.08, 2**30),
    (faults.crash_database, 0.08, 2**30),
    (faults.end_connections, 0.04, 2**30),
    (faults.freeze_database, 0.10, 2**30),
    (faults.kill_in_outage, 0.08, 2**30),
    (faults.kill_frozen, 0.06, 2**30),
    (faults.fill_disk, 0.02, 2**30),
    (faults.fill_spool, 0.02, 60_000),
    (faults.jump, 0.03, 2**30),
]
_CUT = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--only", help="one fault, by its name")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    random.seed(options.seed)
    print(f"seed {options.seed}\n", flush=True)
    failures: list[object] = []
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
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _run(folder: Path, database: Database, options, failures: list[object]) -> None:
    d = Deferred.fromCoroutine(_all(folder, database, options))
    d.addCallbacks(
        lambda well: well or failures.append("not well"), lambda f: failures.append(f.getTraceback())
    )
    d.addBoth(lambda _: reactor.stop())


async def _all(folder: Path, database: Database, options) -> bool:
    print(
        f"{'fault':52}{'times':>6}{'messages':>10}{'copies':>8}{'lost':>6}{'doubled':>9}{'disorder':>9}",
        flush=True,
    )
    well = True
    for number, (fault, part, most_spooled) in enumerate(_PLAN):
        if options.only in (None, fault.__name__):
            scene = Scene(folder, database, number, most_spooled)
            await scene.begins()
            times = await fault(scene, options.seconds * part)
            well &= _told(fault.__doc__, times, await scene.ends())
    if options.only in (None, "cut_link"):
        times, result = await cut_link(folder, database, options.seconds * _CUT)
        well &= _told(cut_link.__doc__, times, result)
    return well


def _told(what: str, times: int, result: Result) -> bool:
    numbers = f"{times:>6}{result.said:>10}{result.acknowledged:>8}{result.lost:>6}{result.doubled:>9}{result.disordered:>9}"
    print(f"{what:52}{numbers}  {', '.join(result.wrong)}", flush=True)
    return result.well


if __name__ == "__main__":
    sys.exit(main())
