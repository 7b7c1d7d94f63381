"""Initialisation vectors."""

import sys
import threading

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


def test_keeps_the_gil():
    """Drawing nonces lets no other thread run: giving up the GIL costs more than the nonce."""
    called, ran = threading.Event(), []
    other = threading.Thread(target=lambda: ran.append(called.wait()))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        other.start()
        called.set()
        for _ in range(20_000):
            nonces.nonce(12)
        assert not ran
    finally:
        sys.setswitchinterval(interval)
        other.join()
