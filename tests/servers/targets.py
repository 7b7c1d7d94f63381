"""Which XMPP servers there are to test with, and where: those of the system, and those that `install` unpacked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
#: What `install` unpacks, beside the system's own.
UNPACKED = PROJECT / ".servers" / "newer"


@dataclass(frozen=True)
class Target:
    """One version of one server, unpacked below `root` as a Debian package lays it out."""

    name: str
    version: str
    root: Path

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def libraries(self) -> Path:
        """The folder of what was compiled for this machine, such as /usr/lib/x86_64-linux-gnu."""
        return next(self.root.glob("usr/lib/*-linux-gnu*/"))


def targets() -> list[Target]:
    """All that are here, the system's first; none if `install` did not run."""
    found = [target for root in (Path("/"), UNPACKED) for target in (*_ejabberds(root), *_prosodies(root))]
    return list({str(target): target for target in reversed(found)}.values())[::-1]


def _ejabberds(root: Path) -> list[Target]:
    named = (
        re.fullmatch(r"ejabberd-([\d.]+)", path.name) for path in root.glob("usr/lib/*-linux-gnu*/ejabberd-*")
    )
    return [Target("ejabberd", match[1], root) for match in named if match]


def _prosodies(root: Path) -> list[Target]:
    version = root / "usr/lib/prosody/prosody.version"
    return [Target("prosody", version.read_text().strip(), root)] if version.exists() else []
