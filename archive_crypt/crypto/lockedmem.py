"""Pages of memory for keys: locked, kept out of core dumps and forked children, wiped at the end.

No key, no algorithm and no policy is known here: only pages, slots and random octets. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import sys
import weakref

from archive_crypt.errors import KeyDestroyed, LockedMemoryUnavailable

PAGE_SIZE = 4096  # octets; where the kernel's pages are larger, it rounds up
SLOT_SIZE = 32  # octets: an AES-256 key
SLOTS = PAGE_SIZE // SLOT_SIZE

#: The kinds of page. SECRET is unmapped from the kernel too: /proc/PID/mem and process_vm_readv(2) fail
#: even for root, who has to run code in the process itself. LOCKED never goes to swap; root can read it.
SECRET, LOCKED = "memfd_secret", "mlock"

_MEMFD_SECRET = 447  # memfd_secret(2): no libc wraps it; the number is the same on these machines
_MACHINES = ("x86_64", "aarch64", "riscv64")
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_getrandom = _libc.getrandom
_getrandom.restype = ctypes.c_ssize_t
_getrandom.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)


#: How often this process has been forked off: a page of another count belongs to a forebear.
#: (os.getpid() says the same, but asks the kernel, with every item that is sealed.)
_generation = 0


def _forked() -> None:
    global _generation
    _generation += 1


os.register_at_fork(after_in_child=_forked)


class KeyPage:
    """One page of SLOTS slots of SLOT_SIZE octets; `kind` is SECRET or LOCKED.

    It belongs to the process that made it: a forked child does not have it. It is wiped by
    `close`, else when it is collected, else when the interpreter exits in order. Not for several threads.
    """

    __slots__ = ("__weakref__", "_close", "_owner", "_slots", "kind")

    def __init__(self, kind: str, address: int) -> None:
        self.kind = kind
        self._owner = _generation
        page = memoryview((ctypes.c_ubyte * PAGE_SIZE).from_address(address)).cast("B")
        self._slots = tuple(page[i : i + SLOT_SIZE] for i in range(0, PAGE_SIZE, SLOT_SIZE))
        self._close = weakref.finalize(self, _discard, address, (page, *self._slots), self._owner)

    def slot(self, index: int) -> memoryview:
        """The octets of slot `index` (0 to SLOTS - 1), writable: the same view at each call.

        A part cut out of the view must be released before the page is closed.

        :raises KeyDestroyed: the page is closed, or another process made it.
        """
        if self._owner != _generation or not self._close.alive:
            raise KeyDestroyed
        return self._slots[index]

    def close(self) -> None:
        """Wipe the page and give it back; every view of it is dead then. Again: nothing happens.

        :raises BufferError: somebody is using a slot; it is wiped all the same, but stays mapped.
        """
        self._close()


def new_page(*, secret: bool = True) -> KeyPage:
    """A page full of zeros; SECRET if asked for and possible, else LOCKED.

    :raises LockedMemoryUnavailable: not even mlock(2) does it (RLIMIT_MEMLOCK, as a rule); the
        cause says why, and holds no secret.
    """
    if secret:
        # Whatever was wrong (an old kernel, switched off, no descriptor left), mlock may do.
        with contextlib.suppress(OSError):
            return _secret_page()
    try:
        return _protect(_map(mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1), LOCKED)
    except OSError as error:
        raise LockedMemoryUnavailable from error


def fill(view: memoryview) -> None:
    """Fill at most 256 octets from the kernel's random source, without any copy on the way.

    The kernel is also the first to touch a new page: could it not be had, this is an error
    where a store of ours would be a SIGBUS.

    :raises LockedMemoryUnavailable: no random octets were to be had.
    """
    # getrandom(2), not a file: it waits for the seed at boot, works in a chroot, and has no
    # descriptor that a daemonizer may close and a socket then inherit. 256 octets come whole.
    if _getrandom((ctypes.c_ubyte * len(view)).from_buffer(view), len(view), 0) != len(view):
        raise LockedMemoryUnavailable("No random octets were to be had for a key.")


def wipe(view: memoryview) -> None:
    """Overwrite with zeros."""
    view[:] = bytes(len(view))


def _secret_page() -> KeyPage:
    fd = _memfd_secret()
    try:
        os.ftruncate(fd, PAGE_SIZE)
        address = _map(mmap.MAP_SHARED, fd)
    finally:
        # The mapping lives without it, and through an open descriptor a forked child, or root by
        # pidfd_getfd(2), could map the page again. (Python's mmap would keep it open: hence ctypes.)
        os.close(fd)
    return _protect(address, SECRET)


def _memfd_secret() -> int:
    if platform.machine() not in _MACHINES or sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, "The number of memfd_secret(2) is not known here")
    return _checked(_libc.syscall(_MEMFD_SECRET, os.O_CLOEXEC))


def _map(flags: int, fd: int) -> int:
    address = _libc.mmap(None, PAGE_SIZE, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, 0)
    return _checked(-1 if address == _MAP_FAILED else address)


def _protect(address: int, kind: str) -> KeyPage:
    try:
        _checked(_libc.madvise(address, PAGE_SIZE, mmap.MADV_DONTFORK))
        _checked(_libc.madvise(address, PAGE_SIZE, mmap.MADV_DONTDUMP))
        if kind == LOCKED:  # a SECRET page is born locked
            _checked(_libc.mlock(address, PAGE_SIZE))
    except OSError:
        _libc.munmap(address, PAGE_SIZE)
        raise
    return KeyPage(kind, address)


def _discard(address: int, views: tuple[memoryview, ...], owner: int) -> None:
    if _generation != owner:
        return  # a forked child has no such page, perhaps something of its own at that address
    wipe(views[0])
    for view in views:
        view.release()  # a use from now on is a ValueError, not a stray write
    _checked(_libc.munmap(address, PAGE_SIZE))


def _checked(result: int) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
