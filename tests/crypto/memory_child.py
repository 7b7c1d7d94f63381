"""The process that test_memory looks into: it uses keys as the server does, and stops at marks.

It reads a public key from stdin, and never sends a data key but wrapped. No tests here.
"""

import contextlib
import functools
import os
import sys

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from archive_crypt.crypto import keyring, lockedmem, publickeys
from archive_crypt.crypto.envelope import AES256_GCM, RSA_OAEP, WRAP_ALGORITHMS
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import UnusableKey

ITEMS = 20
TEXT = b"<to><body>Art thou not Romeo?</body></to>"
#: Its modulus is even: the library loads it, and fails to encrypt.
UNFIT = PublicKey("unfit", b"", RSAPublicNumbers(65537, 2**2047 + 2).public_key())


def new_ring(kind):
    return keyring.KeyRing(functools.partial(lockedmem.new_page, secret=kind == lockedmem.SECRET))


def mark(name, octets=b""):
    """Say where we are, then wait for a line: in between, the parent looks."""
    print(name, octets.hex(), flush=True)
    sys.stdin.readline()


def use_ring(public_key, kind, seal=AES256_GCM, wrap=RSA_OAEP):
    """The server's way, for one conversation. `kind`: which pages to use."""
    ring = new_ring(kind)
    key = ring.create(seal)
    wrapped = ring.wrap(key, public_key, wrap)
    for _ in range(ITEMS):
        ring.seal(key, TEXT)
    assert ring.kind == kind
    mark("alive", wrapped)
    ring.destroy(key)
    mark("destroyed")


def use_ring_for_a_crowd(public_key, kind):
    """The server's way, for many conversations that open and close around ours."""
    ring = new_ring(kind)
    others = [ring.create() for _ in range(100)]
    key = ring.create()
    others += [ring.create() for _ in range(200)]
    wrapped = ring.wrap(key, public_key)
    with contextlib.suppress(UnusableKey):
        ring.wrap(key, UNFIT)
    for other in others:
        ring.wrap(other, public_key)
        ring.seal(other, TEXT)
        ring.seal(key, TEXT)
    for other in others[::2]:
        ring.destroy(other)
    mark("alive", wrapped)
    ring.destroy(key)
    mark("destroyed")
    ring.close()
    mark("closed")


def use_octets(public_key):
    """The plain way, which the server must not go."""
    key = os.urandom(32)
    cipher = AESGCM(key)
    wrapped = public_key.rsa.encrypt(key, WRAP_ALGORITHMS[RSA_OAEP])
    for _ in range(ITEMS):
        cipher.encrypt(os.urandom(12), TEXT, None)
    mark("alive", wrapped)
    del key, cipher
    mark("destroyed")


if __name__ == "__main__":
    public_key = publickeys.from_der(bytes.fromhex(sys.stdin.readline()), "parent")
    ways = {"ring": use_ring, "crowd": use_ring_for_a_crowd, "octets": use_octets}
    ways[sys.argv[1]](public_key, *sys.argv[2:])
