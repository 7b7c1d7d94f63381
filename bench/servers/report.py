"""What was measured, as one table in plain text: medians over rounds, a column for each system."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from datetime import date
from math import ceil
from statistics import median
from typing import Any

from bench.__main__ import processor
from bench.servers.measure import COPIES

Found = dict[str, Any]
_LABEL, _COLUMN = 42, 15


def text(found: Found) -> str:
    """The table, and what it was measured with."""
    sizes = found["sizes"]
    floor = {name: median(one[name] for one in found["floor"]) for name in found["floor"][0]}
    columns = [Column(one, floor) for one in found["systems"].values()]
    for column in columns:
        column.compare(columns)
    return "\n".join(
        [
            f"{date.today()}, Python {platform.python_version()}, PostgreSQL {found['postgresql']},"
            f" {os.cpu_count()} cores, {processor()}, fsync on, no TLS",
            f"{sizes['messages']:,} messages between 10 pairs of users, each archived on both sides;"
            " archive_crypt seals each for an RSA-2048 key",
            f"floor: psycopg2 INSERT by 500, {floor['rate']:,.0f} rows/s, {floor['cpu']:.3f} s of CPU per"
            f" 1000 rows, {floor['octets']:.0f} octets a row",
            "",
            _line("", [column.server for column in columns]),
            _line("", [column.kind for column in columns]),
            *(_line(label, [shown(column) for column in columns]) for label, shown in _rows(sizes)),
            "",
            f"{found['seconds']:.0f} s for all",
        ]
    )


class Column:
    """What was measured of one system."""

    def __init__(self, found: Found, floor: Found) -> None:
        self.server, self.kind = found["server"], found["kind"]
        self._found, self.floor = found, floor
        self._alone: Column | None = None
        self._mam: Column | None = None

    def compare(self, columns: Sequence[Column]) -> None:
        """Find those of the same server that this is compared with."""
        same = {column.kind: column for column in columns if column.server == self.server}
        self._alone, self._mam = same.get("alone"), same.get("mod_mam")

    def middle(self, *path: str) -> float | None:
        """The median over rounds."""
        values = [_at(one, path) for one in self._found["rounds"]]
        return None if None in values else median(values)

    def once(self, *path: str) -> Any:
        """What was measured once; None if it was not."""
        return _at(self._found, path)

    @property
    def rows(self) -> float | None:
        """Durable, a second."""
        return _product(self.middle("durable"), COPIES)

    @property
    def cpu(self) -> float:
        """Seconds per 1000 messages, of all processes but the load."""
        return sum(self.middle("cpu", name) or 0 for name in ("server", "component", "database"))

    @property
    def added(self) -> float | None:
        """The same, less what the server takes alone."""
        return self.cpu - self._alone.cpu if self._alone and self.rows else None

    @property
    def of_mam(self) -> float | None:
        """What it adds, as a part of what mod_mam adds."""
        return _ratio(self.added, self._mam.added if self._mam else None)

    def quantile(self, part: float, *path: str) -> float | None:
        """Of the seconds that were measured in all rounds, or once; in milliseconds."""
        pooled = self.once(*path) or [
            value for one in self._found["rounds"] for value in _at(one, path) or ()
        ]
        return 1000 * sorted(pooled)[ceil(part * len(pooled)) - 1] if pooled else None


def _rows(sizes: Found) -> list[tuple[str, Callable[[Column], str]]]:
    return [
        ("delivered, messages/s", lambda c: _whole(c.middle("delivered"))),
        ("durable, messages/s", lambda c: _whole(c.middle("durable"))),
        ("  rows, of the floor's", lambda c: _short(_ratio(c.rows, c.floor["rate"]))),
        ("CPU s per 1000 messages: server", lambda c: _fine(c.middle("cpu", "server"))),
        ("  component", lambda c: _fine(c.middle("cpu", "component") or None)),
        ("  PostgreSQL", lambda c: _fine(c.middle("cpu", "database") or None)),
        ("  all", lambda c: _fine(c.cpu)),
        ("  added to the server alone", lambda c: _fine(c.added)),
        ("  added, of what mod_mam adds", lambda c: _short(c.of_mam)),
        ("  added, of the floor's", lambda c: _short(_ratio(c.added, COPIES * c.floor["cpu"]))),
        ("  (the load itself)", lambda c: _fine(c.middle("cpu", "load"))),
        ("octets a row", lambda c: _whole(c.middle("octets"))),
        ("  of the floor's", lambda c: _short(_ratio(c.middle("octets"), c.floor["octets"]))),
        (f"sent to durable at {sizes['rate']:.0f}/s, ms: p50", lambda c: _tenths(c.quantile(0.5, "latency"))),
        ("  p99", lambda c: _tenths(c.quantile(0.99, "latency"))),
        ("one pair: durable, messages/s", lambda c: _whole(c.once("pair"))),
        (f"read {sizes['read']:,} back: s", lambda c: _short(c.once("read", "seconds"))),
        ("  CPU s of all", lambda c: _short(_sum(c.once("read", "cpu")))),
        ("  a page of 100, ms: p50", lambda c: _tenths(c.quantile(0.5, "read", "pages"))),
        ("  p99", lambda c: _tenths(c.quantile(0.99, "read", "pages"))),
        ("memory at most, MB: server", lambda c: _whole(c.middle("memory", "server"))),
        ("  component", lambda c: _whole(c.middle("memory", "component"))),
        (f"burst of {COPIES * sizes['burst']:,}: copies/s", lambda c: _whole(c.once("burst", "copies"))),
        ("  memory at most, MB: server", lambda c: _whole(c.once("burst", "memory", "server"))),
        ("  component", lambda c: _whole(c.once("burst", "memory", "component"))),
        ("component restarted: copies lost", lambda c: _whole(c.once("restart", "lost"))),
        ("  s from stop to the next archived", lambda c: _short(c.once("restart", "seconds"))),
    ]  # fmt: skip


def _line(label: str, values: Sequence[str]) -> str:
    return f"{label:{_LABEL}}" + "".join(f"{value:>{_COLUMN}}" for value in values)


def _at(found: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        found = found.get(name) if found is not None else None
    return found


def _sum(parts: Found | None) -> float | None:
    return None if parts is None else sum(parts.values())


def _product(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


def _shown(form: str) -> Callable[[float | None], str]:
    return lambda value: "-" if value is None else format(value, form)


_whole, _tenths, _short, _fine = (_shown(form) for form in (",.0f", ",.1f", ".2f", ".3f"))
