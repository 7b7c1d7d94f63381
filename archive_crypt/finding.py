"""What a check found. Nothing is looked at here."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """What was looked at, whether it is as it should be, and what it is or how to mend it. `warning`: it
    works so, but could be safer."""

    ok: bool
    what: str
    found: str
    warning: bool = False
