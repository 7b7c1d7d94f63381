"""`make fuzz`: every target, as many at once as there are processors; fails if anything was found.

Needs atheris, which only this uses: it knows which lines an input reaches, and goes on from those that reach
new ones.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
#: Of a hundred inputs, how many each target gets; the slow ones first.
SHARES = {"handler": 4, "component": 4, "codec": 20, "keys": 12, "certificate": 25, "text": 35}
#: Of an input: octets, seconds that it may take, MiB. And that we are told how many there were.
BOUNDS = ("-max_len=8192", "-timeout=25", "-rss_limit_mb=1024", "-print_final_stats=1")
#: Where what was found is kept.
FOUND = Path(".fuzz")


def run(target, options, grown):
    """Fuzz one target; the inputs it was given, the seconds it took, and whether all went well."""
    (folder := Path(grown) / target).mkdir()
    bounds = [f"-runs={options.inputs * SHARES[target] // 100}"]
    if options.seconds:
        bounds = [f"-max_total_time={max(1, options.seconds * _workers() // len(SHARES))}"]
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.fuzz.child", target, *bounds, *BOUNDS]
    command += [f"-artifact_prefix={FOUND}/{target}-", str(folder), str(CORPUS / target)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    took = time.monotonic() - began
    units = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    return int(units[1]) if units else 0, took, None if done.returncode == 0 else done.stdout + done.stderr


def _workers():
    return len(os.sched_getaffinity(0))


def main():
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for all targets together")
    parser.add_argument("--seconds", type=int, help="for all targets together, instead")
    options = parser.parse_args()
    FOUND.mkdir(exist_ok=True)
    began, inputs, failed = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory() as grown, ThreadPoolExecutor(_workers()) as pool:
        results = pool.map(lambda target: run(target, options, grown), SHARES)
        for target, (count, took, wrong) in zip(SHARES, results, strict=True):
            inputs += count
            verdict = "nothing found" if wrong is None else "FAILED"
            print(f"{target:12} {count:9,} inputs {count / took:8,.0f} a second   {verdict}", flush=True)
            failed += [] if wrong is None else [wrong]
    print(f"{'together':12} {inputs:9,} inputs in {time.monotonic() - began:.0f} s")
    for wrong in failed:
        print("\n" + wrong[-4000:])
    if failed:
        print(
            f"The inputs are in {FOUND}/. Mend it, and keep each in {CORPUS.name}/TARGET/: tests repeat them."
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
