"""Random octets that are no secret: initialisation vectors. Keys are made in `lockedmem`."""

from __future__ import annotations

import os
from collections.abc import Callable

#: nonce(size): so many octets, at most 256, from the kernel's random source: getrandom(2). It keeps the
#: GIL, which os.urandom gives up for the microsecond it takes: a second thread (the writer's) then
#: takes it, and the reactor's waits to have it back. With each message, that was a third of all
#: the time that recording took. Where there is no getrandom, only a reader runs.
nonce: Callable[[int], bytes] = getattr(os, "getrandom", os.urandom)
