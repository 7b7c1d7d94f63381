"""Random octets that are no secret: initialisation vectors. Keys are made in `lockedmem`."""

from __future__ import annotations

import os
from collections.abc import Callable

#: getrandom(2). Unlike os.urandom it does not give up the GIL for the microsecond it takes: a second
#: thread (the writer's) then takes it, and the reactor's waits to have it back. With each
#: message, that was a third of all the time that recording took.
_getrandom: Callable[[int], bytes] = getattr(os, "getrandom", os.urandom)  # not Linux: the reader's side


def nonce(size: int) -> bytes:
    """`size` octets from the kernel's random source, at most 256: so many always come whole."""
    return _getrandom(size)
