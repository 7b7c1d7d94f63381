"""What keeps texts and keys out of sight once they are done with: an environment that has freed memory
overwritten, no core dump, no reader, no swap. Asked for here, tried, and told. Linux only.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from twisted.logger import Logger

from archive_crypt.crypto import lockedmem
from archive_crypt.errors import ConfigurationError, LockedMemoryUnavailable

#: What has to stand in the environment before a process begins. Python must give back what it frees to
#: glibc, and glibc must overwrite it, which it leaves out for blocks that it keeps at hand for a thread. And
#: where functions are bound at their first call, the linker saves the vector registers, and with them
#: whatever was last copied or encrypted, on the stack (tests/crypto/kit.py).
ENVIRONMENT = {"LD_BIND_NOW": "1", "PYTHONMALLOC": "malloc"}
_TUNABLES = {"glibc.malloc.perturb": "165", "glibc.malloc.tcache_count": "0"}

#: Says that this is the second beginning: where the system takes something out of the environment (of a
#: program with privileges, say), there must be no third.
_TRIED = "ARCHIVE_CRYPT_HARDENED"

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4  # prctl(2)
_LEAST_LOCKED = 2**20  # octets: 32,768 conversations

_libc = ctypes.CDLL(None, use_errno=True)
_libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = (ctypes.c_size_t,)
_libc.free.argtypes = (ctypes.c_void_p,)


class Protection(NamedTuple):
    """Whether something holds in this process, what it is, and how it is or how to mend it. `ours`: whether
    that is the program's own doing, not that of whoever starts it."""

    holds: bool
    what: str
    found: str
    ours: bool = True


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment `given` with all that hardening takes, once more if it is there already."""
    tunables = dict(one.partition("=")[::2] for one in given.get("GLIBC_TUNABLES", "").split(":") if one)
    tunables |= _TUNABLES
    text = ":".join(f"{name}={value}" for name, value in tunables.items())
    return {**given, **ENVIRONMENT, "GLIBC_TUNABLES": text}


def enter() -> None:
    """Be a hardened process. Unless it was begun as one, this is begun anew, by the same command.

    :raises ConfigurationError: it cannot be.
    """
    tried = os.environ.pop(_TRIED, None)
    hardened = environment(os.environ)
    if tried is None and hardened != dict(os.environ):
        again = [sys.executable, *sys.orig_argv[1:]]
        try:
            os.execve(sys.executable, again, {**hardened, _TRIED: "1"})  # noqa: S606 - ourselves
        except (OSError, ValueError):  # ValueError: Python does not know its own program
            why = f"{sys.executable!r} cannot be begun anew: start with LD_BIND_NOW=1 {_shown()}"
            raise ConfigurationError(f"hardening.memory: {why}") from None
    close()


def close() -> None:
    """Leave no core dump, and let no other process of the same user look in. Where that is refused (by a
    filter for system calls, say), `protections` tell."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        pass
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def protections() -> Iterator[Protection]:
    """What holds in this process, as far as it can be tried."""
    yield key_memory()
    yield _freed_memory()
    yield _binding()
    yield _core_dumps()
    yield _lookers_on()
    yield _swap()


def tell(log: Logger) -> None:
    """Log each, as a warning if it does not hold."""
    for one in protections():
        write = log.info if one.holds else log.warn
        write("{what}: {found}", what=one.what, found=one.found)


def foretold() -> list[Protection]:
    """The protections of a hardened process, as a child tells them; or that there can be none."""
    try:
        told = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-P", "-m", "archive_crypt.hardening"],
            env=environment(os.environ),
            stdout=subprocess.PIPE,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        why = f"could not be tried: {sys.executable!r} fails ({type(error).__name__})"
        return [Protection(False, "hardening", why)]
    return [Protection(*one) for one in json.loads(told.stdout)]


def key_memory() -> Protection:
    """Where data keys would live, and how many have room."""
    what = "key memory"
    try:
        page = lockedmem.new_page()
    except LockedMemoryUnavailable:
        return Protection(
            False, what, "nothing can be locked: raise LimitMEMLOCK (ulimit -l) to 1 MiB or more"
        )
    kind = page.kind
    page.close()
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    room = ""
    if 0 <= limit < _LEAST_LOCKED:
        room = (
            f"; for {limit // lockedmem.SLOT_SIZE} conversations, unless LimitMEMLOCK (ulimit -l) is raised"
        )
    if kind == lockedmem.LOCKED:
        return Protection(
            True, what, f"locked, but readable to root (this kernel gives no memfd_secret){room}"
        )
    return Protection(True, what, f"secret even from root (memfd_secret){room}")


def _freed_memory() -> Protection:
    if _is_overwritten(_free_octets) and _is_overwritten(_free_block):
        return Protection(True, "freed memory", "overwritten at once")
    return Protection(
        False, "freed memory", f"not overwritten: start with {_shown()}, without -E or -I, on glibc"
    )


def _binding() -> Protection:
    if os.environ.get("LD_BIND_NOW"):
        return Protection(True, "registers", "not saved to the stack by the linker (LD_BIND_NOW)")
    return Protection(False, "registers", "saved to the stack by the linker: start with LD_BIND_NOW=1")


def _core_dumps() -> Protection:
    if resource.getrlimit(resource.RLIMIT_CORE)[0] == 0:
        return Protection(True, "core dumps", "none")
    return Protection(False, "core dumps", "possible: start with LimitCORE=0 (ulimit -c 0)")


def _lookers_on() -> Protection:
    what = "other processes"
    if _libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0:
        return Protection(True, what, "of the same user cannot look into this one")
    return Protection(
        False, what, "of the same user can look into this one: prctl(PR_SET_DUMPABLE) is refused"
    )


def _swap() -> Protection:
    try:
        some = len(Path("/proc/swaps").read_text().splitlines()) > 1
    except OSError:  # hidden, by ProcSubset=pid
        some = True
    if not some:
        return Protection(True, "swap", "there is none", False)
    if _is_kept_from_swap():
        return Protection(True, "swap", "kept out of it", False)
    return Protection(
        False, "swap", "texts may get there: set MemorySwapMax=0, as contrib/systemd does", False
    )


def _is_kept_from_swap() -> bool:
    """Whether the control group, or one above it, may not use swap."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        group = next(line.partition("::")[2] for line in lines if line.startswith("0::"))
        here = Path("/sys/fs/cgroup") / group.lstrip("/")
        limits = [folder / "memory.swap.max" for folder in (here, *here.parents)]
        return any(limit.exists() and limit.read_text().strip() == "0" for limit in limits)
    except (OSError, StopIteration):
        return False


def _is_overwritten(free: Callable[[bytes], int]) -> bool:
    """Whether nothing can be read any more where `free` had a sample before it freed it."""
    sample = bytes(range(64, 192))
    seen = ctypes.create_string_buffer(len(sample))
    for _ in range(16):  # one may be overwritten by chance, as its place is used again
        ctypes.memmove(seen, free(sample), len(sample))
        # At its ends a freed block has glibc's own notes, and octets that it forgets.
        if sample[48:64] in seen.raw or sample[64:80] in seen.raw:
            return False
    return True


def _free_octets(sample: bytes) -> int:
    """Where Python's copy of `sample` was."""
    copy = bytes(bytearray(sample))
    return id(copy) + bytes.__basicsize__ - 1


def _free_block(sample: bytes) -> int:
    """Where a C library's copy of `sample` was."""
    address = int(_libc.malloc(len(sample)))
    ctypes.memmove(address, sample, len(sample))
    _libc.free(address)
    return address


def _shown() -> str:
    return " ".join(f"{name}={value}" for name, value in environment({}).items() if name != "LD_BIND_NOW")


if __name__ == "__main__":
    close()
    print(json.dumps(list(protections())))
