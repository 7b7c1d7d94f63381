"""What the tests of crypto share: one private key of the user's, and locked pages where there are any."""

import ctypes
import errno
import os

import pytest

from archive_crypt.crypto import lockedmem, opening


@pytest.fixture(scope="session")
def private_key():
    """The user's private key, of 2048 bits."""
    return opening.generate(2048)


@pytest.fixture(scope="session")
def public_key(private_key):
    """Its public half."""
    return private_key.public("laptop")


@pytest.fixture
def memfd_secret():
    """Nothing, but the test is skipped where the kernel has no memfd_secret(2)."""
    fd = ctypes.CDLL(None, use_errno=True).syscall(447, 0)  # asked without our own code, which is under test
    if fd < 0:
        pytest.skip(f"This kernel offers no memfd_secret(2): {os.strerror(ctypes.get_errno())}.")
    os.close(fd)


@pytest.fixture
def without_memfd_secret(monkeypatch):
    """From here on memfd_secret(2) fails as on a kernel that lacks it."""

    def refuse():
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(lockedmem, "_memfd_secret", refuse)
