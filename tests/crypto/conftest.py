"""What the tests of crypto share: one private key of the user's, and locked pages where there are any."""

import errno

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
def without_memfd_secret(monkeypatch):
    """From here on memfd_secret(2) fails as on a kernel that lacks it."""

    def refuse():
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(lockedmem, "_memfd_secret", refuse)
