"""Small things that the tests of crypto need: laws, children, keys in plain sight."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).parents[2]
#: The same examples at each run, and no clock: the machine may be busy.
law = settings(derandomize=True, deadline=None, max_examples=60)

#: Drops root's leave to lock as much as it likes, and limits locked memory to `octets`.
UNPRIVILEGED = """
import os, resource
def limit(octets):
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (octets, octets))
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
"""


def environment():
    """That of a child. With LD_BIND_NOW the dynamic linker has nothing to do later: while it binds a
    function at its first call, it saves the vector registers to the stack, and with them what AES or
    a copy of the key left there. Which call is the first is chance; here nothing is left to it."""
    return os.environ | {"LD_BIND_NOW": "1", "PYTHONPATH": str(ROOT)}


def run(code, expect=0):
    """What `code` prints, run in a Python of its own that ends with `expect`."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout.strip()


def octets_of(ring, key):
    """The data key itself, which the ring's interface never hands out."""
    with ring._octets(key) as octets:
        return bytes(octets)
