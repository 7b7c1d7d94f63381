"""What processes use, from /proc: seconds of CPU, and memory."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu(root: int, without: Collection[int] = ()) -> float:
    """Seconds of CPU that a process and its descendants have used, those that ended included.

    :param without: processes that do not count
    """
    children, used = defaultdict(list), {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        pid = int(path.parent.name)
        children[int(fields[1])].append(pid)
        used[pid] = sum(map(int, fields[11:15])) / _TICKS
    family = [root]
    for pid in family:  # which grows
        family += children[pid]
    return sum(used.get(pid, 0.0) for pid in family if pid not in without)


def peak_memory(pid: int) -> float:
    """The most memory that a process had at once, in MB (1,000,000 octets)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 / 1e6
