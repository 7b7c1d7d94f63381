"""A process that uses a data key the plain way, as no other module does: what an auditor must find.

``python -m archive_crypt.audit.control``: reads a public key, as hexadecimal DER, in a line; writes the key,
wrapped, in a line; ends when its input does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from archive_crypt.crypto import publickeys
from archive_crypt.crypto.envelope import RSA_OAEP, WRAP_ALGORITHMS
from archive_crypt.crypto.publickeys import PublicKey


@contextmanager
def running(public_key: PublicKey) -> Iterator[tuple[int, bytes]]:
    """(its process, the wrapped key), while it runs."""
    with subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-P", "-m", "archive_crypt.audit.control"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None, "they are pipes"  # noqa: PT018
        process.stdin.write(f"{public_key.der.hex()}\n")
        process.stdin.flush()
        yield process.pid, bytes.fromhex(process.stdout.readline())
        process.stdin.close()


def main() -> None:
    """Keep a key, and an object that seals with it."""
    public_key = publickeys.from_der(bytes.fromhex(sys.stdin.readline()), "auditor")
    key = os.urandom(32)
    cipher = AESGCM(key)
    wrapped = public_key.rsa.encrypt(key, WRAP_ALGORITHMS[RSA_OAEP])
    cipher.encrypt(os.urandom(12), b"Art thou not Romeo?", None)
    print(wrapped.hex(), flush=True)
    sys.stdin.readline()
    del key, cipher


if __name__ == "__main__":
    main()
