"""Random octets that are no secret: initialisation vectors. Keys are made in `lockedmem`."""

from __future__ import annotations

import ctypes
import os
from typing import Any

#: getrandom(2) without giving up the GIL, which os.urandom does for the microsecond it takes: a
#: second thread (the writer's) then takes it, and the reactor's waits to have it back. With each
#: message, that was a third of all the time that recording took.
_getrandom: Any
try:
    _getrandom = ctypes.PyDLL(None).getrandom
    _getrandom.restype = ctypes.c_ssize_t
    _getrandom.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)
except (AttributeError, OSError, TypeError):  # not Linux: the reader's side
    _getrandom = None


def nonce(size: int) -> bytes:
    """`size` octets from the kernel's random source, at most 256."""
    if _getrandom is not None:
        buffer = ctypes.create_string_buffer(size)
        if _getrandom(buffer, size, 0) == size:
            return buffer.raw
    return os.urandom(size)
