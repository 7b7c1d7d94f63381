"""Initialisation vectors."""

from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.crypto import nonces


@given(st.integers(1, 256))
def test_size(size):
    """As many octets come as were asked for."""
    assert len(nonces.nonce(size)) == size


def test_never_twice():
    """No nonce comes twice, and every octet of it varies."""
    drawn = [nonces.nonce(12) for _ in range(5000)]
    assert len(set(drawn)) == len(drawn)
    assert all(len({nonce[place] for nonce in drawn}) > 200 for place in range(12))


def test_without_the_quick_way(monkeypatch):
    """Where the quick way does not exist the ordinary one serves."""
    monkeypatch.setattr(nonces, "_getrandom", None)
    assert len({nonces.nonce(12) for _ in range(100)}) == 100
