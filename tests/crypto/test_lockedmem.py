"""Locked pages: what they promise of a slot, and what becomes of them."""

import ctypes
import errno
import os
import pickle
import platform

import pytest

from archive_crypt.crypto import lockedmem
from archive_crypt.errors import KeyDestroyed, LockedMemoryUnavailable

from .kit import UNPRIVILEGED, run

KINDS = [True, False]  # secret or not


def address_of(view):
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(view))


def flags_at(address):
    """The kernel's VmFlags of the mapping at an address; none where there is no mapping."""
    inside = False
    with open("/proc/self/smaps") as lines:
        for first, *rest in map(str.split, lines):
            if "-" in first:
                start, end = (int(part, 16) for part in first.split("-"))
                inside = start <= address < end
            elif inside and first == "VmFlags:":
                return set(rest)
    return set()


@pytest.mark.parametrize("secret", KINDS)
def test_page_has_128_slots_of_32_zeros_that_do_not_overlap(secret):
    """A page holds 128 slots of 32 writable octets, zero at first, and no two share an octet."""
    page = lockedmem.new_page(secret=secret)
    slots = [page.slot(i) for i in range(lockedmem.SLOTS)]
    assert len(slots) == 128
    assert all(bytes(slot) == bytes(32) for slot in slots)
    for number, slot in enumerate(slots):
        slot[:] = bytes([number]) * 32
    assert all(bytes(slot) == bytes([number]) * 32 for number, slot in enumerate(slots))
    page.close()


@pytest.mark.parametrize("secret", KINDS)
def test_page_is_locked_undumped_and_unforked(secret):
    """The kernel itself says of the page: locked, not in a core dump, not copied by fork."""
    page = lockedmem.new_page(secret=secret)
    assert flags_at(address_of(page.slot(0))) >= {"lo", "dd", "dc"}  # locked, no dump, no copy
    page.close()


@pytest.mark.usefixtures("memfd_secret")
def test_a_secret_page_is_shared_with_its_file_and_leaves_no_descriptor():
    """No descriptor stays open through which a forked child or pidfd_getfd(2) could map the page."""
    page = lockedmem.new_page()
    assert page.kind == lockedmem.SECRET
    assert "sh" in flags_at(address_of(page.slot(0)))
    targets = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # the listing's own descriptor
            continue
    assert not [target for target in targets if "secretmem" in target]
    page.close()


@pytest.mark.parametrize("secret", KINDS)
def test_a_closed_page_is_gone(secret):
    """After close no view of the page can be used, no slot is handed out, and closing again is nothing."""
    page = lockedmem.new_page(secret=secret)
    slot = page.slot(5)
    page.close()
    page.close()
    with pytest.raises(ValueError, match="released"):
        slot[0]
    with pytest.raises(KeyDestroyed):
        page.slot(5)


@pytest.mark.parametrize("secret", KINDS)
def test_a_page_is_wiped_before_it_is_given_back(secret):
    """Should somebody still be using a slot, close fails, but only when all of the page is zeros."""
    page = lockedmem.new_page(secret=secret)
    lockedmem.fill(page.slot(3))
    held = pickle.PickleBuffer(page.slot(3))  # as a reader of another thread would hold it
    assert any(held.raw())
    with pytest.raises(BufferError):
        page.close()
    assert not any(held.raw())
    with pytest.raises(KeyDestroyed):
        page.slot(3)


@pytest.mark.parametrize("secret", KINDS)
def test_a_page_that_is_forgotten_is_unmapped(secret):
    """A page nobody closed goes when it is collected."""
    page = lockedmem.new_page(secret=secret)
    address = address_of(page.slot(0))
    assert "dd" in flags_at(address)
    del page
    assert "dd" not in flags_at(address)


def test_wipe_leaves_zeros():
    """wipe overwrites every octet, of any view."""
    octets = bytearray(b"Wherefore art thou")
    lockedmem.wipe(memoryview(octets)[:9])
    assert octets == bytes(9) + b" art thou"


def test_fill_is_random():
    """fill overwrites the whole view, each time with other octets."""
    page = lockedmem.new_page()
    seen = set()
    for _ in range(100):
        lockedmem.fill(page.slot(0))
        seen.add(bytes(page.slot(0)))
    assert len(seen) == 100
    assert all(len({octets[i] for octets in seen}) > 1 for i in range(32))
    assert bytes(page.slot(1)) == bytes(32)
    page.close()


@pytest.mark.parametrize("answer", [-1, 0, 31])
def test_short_of_randomness_there_is_no_key(monkeypatch, answer):
    """An error or a short answer of getrandom(2) is an error."""
    monkeypatch.setattr(lockedmem, "_getrandom", lambda target, size, flags: answer)
    page = lockedmem.new_page()
    with pytest.raises(LockedMemoryUnavailable), page.slot(0)[:32] as view:
        lockedmem.fill(view)
    page.close()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.EINVAL])
def test_without_memfd_secret_mlock_does(monkeypatch, code):
    """Whatever memfd_secret(2) answers, a page can still be locked by mlock(2)."""

    def refuse():
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lockedmem, "_memfd_secret", refuse)
    page = lockedmem.new_page()
    assert page.kind == lockedmem.LOCKED
    page.close()


def test_on_an_unknown_machine_mlock_does(monkeypatch):
    """Where the number of memfd_secret(2) is not known, no call is guessed."""
    monkeypatch.setattr(platform, "machine", lambda: "alpha")
    page = lockedmem.new_page()
    assert page.kind == lockedmem.LOCKED
    page.close()


def test_without_descriptors_mlock_does():
    """A process that has no descriptor left falls back to mlock(2): the kernel's own refusal, not ours."""
    out = run("""
        import os, resource
        from archive_crypt.crypto import lockedmem
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        page = lockedmem.new_page()
        lockedmem.fill(page.slot(0))
        print(page.kind)
    """)
    assert out == "mlock"


@pytest.mark.parametrize("secret", KINDS)
def test_with_nothing_to_lock_there_is_no_page(secret):
    """Where RLIMIT_MEMLOCK is 0, LockedMemoryUnavailable is raised, with the reason as its cause."""
    out = run(f"""
        {UNPRIVILEGED.replace(chr(10), chr(10) + " " * 8)}
        from archive_crypt.crypto import lockedmem
        from archive_crypt.errors import LockedMemoryUnavailable
        limit(0)
        try:
            lockedmem.new_page(secret={secret})
        except LockedMemoryUnavailable as error:
            print(type(error.__cause__).__name__)
    """)
    assert out in ("OSError", "PermissionError")


def test_the_limit_ends_pages_but_not_those_there_are():
    """With room for two pages the third is refused, and the first two still work."""
    out = run(f"""
        {UNPRIVILEGED.replace(chr(10), chr(10) + " " * 8)}
        import mmap
        from archive_crypt.crypto import lockedmem
        from archive_crypt.errors import LockedMemoryUnavailable
        limit(2 * mmap.PAGESIZE)
        pages = [lockedmem.new_page(), lockedmem.new_page()]
        try:
            lockedmem.new_page()
        except LockedMemoryUnavailable:
            print("refused")
        for page in pages:
            lockedmem.fill(page.slot(127))
            page.close()
        lockedmem.new_page()
    """)
    assert out == "refused"


FORK = """
    import os, resource, signal, sys
    from archive_crypt.crypto import lockedmem
    from archive_crypt.errors import KeyDestroyed
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    page = lockedmem.new_page(secret={secret})
    view = page.slot(0)
    lockedmem.fill(view)
    child = os.fork()
    if not child:
        {child}
    _, status = os.waitpid(child, 0)
    assert any(view), "the parent's page is as it was"
    print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("secret", KINDS)
def test_a_forked_child_cannot_read_the_page(secret):
    """Even a view of the page taken before the fork reads nothing: there is no memory (SIGSEGV)."""
    assert run(FORK.format(secret=secret, child="os._exit(view[0])")) == "-11"


@pytest.mark.parametrize("secret", KINDS)
def test_a_forked_child_gets_no_slot(secret):
    """In a forked child the page says KeyDestroyed, and so does not crash it."""
    child = """
        try:
            page.slot(0)
        except KeyDestroyed:
            os._exit(7)
    """
    assert run(FORK.format(secret=secret, child=child.strip())) == "7"


@pytest.mark.parametrize("secret", KINDS)
def test_a_forked_child_ends_in_order(secret):
    """A forked child that closes the page, or forgets it and exits, does not touch that memory."""
    assert run(FORK.format(secret=secret, child="page.close(); del page; sys.exit(5)")) == "5"


def test_pages_left_open_do_not_disturb_the_end():
    """A program may end without closing its pages."""
    assert run("from archive_crypt.crypto import lockedmem; page = lockedmem.new_page()") == ""
