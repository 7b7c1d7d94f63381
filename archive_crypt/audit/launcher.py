"""``python -m archive_crypt.audit.launcher OPTIONS -- COMMAND`` begins a program so that we can look into it.

``--no-memfd-secret``: as on a kernel that has none; its data keys are then in pages that are only locked, and
those can be searched. ``--own-users``: in a user namespace, whose maker may look into it although it lets
no other process do so.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

NO_MEMFD_SECRET, OWN_USERS = "--no-memfd-secret", "--own-users"

_MEMFD_SECRET = 447  # the number of the system call; the same on all machines we know
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
#: A program for the kernel, seccomp(2): load the call's number; if it is that one, ENOSYS; else let it be.
_FILTER = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x20, 0, 0, 0),
        (0x15, 0, 1, _MEMFD_SECRET),
        (0x06, 0, 0, _RET_ERRNO | errno.ENOSYS),
        (0x06, 0, 0, _RET_ALLOW),
    )
)
_CLONE_NEWUSER = 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _refuse_memfd_secret() -> None:
    program = _Program(len(_FILTER) // 8, _FILTER)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0))


def _have_own_users() -> None:
    """Be root in a namespace of one user."""
    user, group = os.geteuid(), os.getegid()
    _checked(_libc.unshare(_CLONE_NEWUSER))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _checked(result: int) -> None:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def main() -> None:
    """Become the command that the arguments say."""
    end = sys.argv.index("--")
    options = sys.argv[1:end]
    if OWN_USERS in options:
        _have_own_users()
    if NO_MEMFD_SECRET in options:
        _refuse_memfd_secret()
    os.execv(sys.argv[end + 1], sys.argv[end + 1 :])  # noqa: S606 - what we were told to run


if __name__ == "__main__":
    main()
