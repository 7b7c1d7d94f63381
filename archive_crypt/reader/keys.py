"""The user's key files: made, never overwritten, and read. A private key leaves this computer in no way.

What a key is, and what an encrypted file of it looks like, is `crypto`'s.
"""

from __future__ import annotations

import base64
import binascii
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from archive_crypt.crypto import opening, publickeys
from archive_crypt.crypto.opening import CannotReadKey, PrivateKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import UnusableKey
from archive_crypt.reader import files
from archive_crypt.reader.failures import Problem

#: Asked for the passphrase of a file.
Asker = Callable[[Path], bytes]

_PUBLIC = "PUBLIC KEY-----"  # RFC 7468, 13


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair that was made: its two files and the name of its public half."""

    private: Path
    public: Path
    fingerprint: str


def default_path() -> Path:
    """Where a private key is kept unless the user says otherwise: key.pem in his `files.folder`."""
    return files.folder() / "key.pem"


def default_paths() -> list[Path]:
    """All private keys of that folder: key.pem first, the others by their names."""
    first = default_path()
    return sorted(first.parent.glob("*.pem"), key=lambda path: (path != first, path))


def public_path(private: Path) -> Path:
    """Where the public half of a key file is kept: beside it."""
    return private.with_name(f"{private.name}.pub")


def public_if_there(private: Path) -> Path:
    """The public half of a key file, which takes no passphrase; where it is not there, the file itself."""
    public = public_path(private)
    return public if public.exists() else private


def check_free(private: Path) -> None:
    """:raises Problem: one of a key pair's two files exists already."""
    for path in (private, public_path(private)):
        if os.path.lexists(path):
            raise Problem(
                f"{path} exists already, and no key is ever overwritten. Choose another with --out."
            )


def create(private: Path, bits: int, passphrase: bytes | None) -> KeyPair:
    """Make a key pair; `passphrase` None leaves the private half in clear, readable by its owner only.

    :raises Problem: a file exists or cannot be written, or a key cannot have so many bits.
    """
    check_free(private)
    try:
        key = opening.generate(bits)
    except ValueError as error:
        raise Problem(str(error)) from None
    return store(private, opening.dump(key, passphrase), key)


def store(private: Path, pem: bytes, key: PrivateKey) -> KeyPair:
    """Keep a private key, which `pem` holds, as such a pair of files.

    :raises Problem: a file exists or cannot be written.
    """
    check_free(private)
    files.create(private, pem, 0o600)
    files.create(public_path(private), _public_pem(key.public_der), 0o644)
    return KeyPair(private, public_path(private), key.fingerprint)


def load_private(path: Path, passphrase: Asker) -> PrivateKey:
    """The private key in a file; `passphrase` is asked for it only if the file is encrypted.

    :raises Problem: it cannot be read; the text says what to do.
    """
    return open_private(path, read(path), passphrase)


def load_public(path: Path, passphrase: Asker) -> PublicKey:
    """The public half of a key, named by its fingerprint, from a file of either half.

    :raises Problem: it cannot be read, or no server would take it.
    """
    pem = read(path)
    try:
        if f"-----BEGIN {_PUBLIC}".encode() in pem:
            return publickeys.from_der(_der(pem), None)
        return open_private(path, pem, passphrase).public()
    except (UnusableKey, binascii.Error) as error:
        raise Problem(f"{path}: {error}") from None


def is_private(path: Path) -> bool:
    """Whether a key file has the private half.

    :raises Problem: it cannot be read.
    """
    return b"PRIVATE KEY-----" in read(path)


def is_open_to_others(path: Path) -> bool:
    """Whether others on this computer may read the file; a file that is not there is not open."""
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def open_private(path: Path, pem: bytes, passphrase: Asker) -> PrivateKey:
    """The private key of what was read from a file; as `load_private`."""
    # "BEGIN ENCRYPTED PRIVATE KEY" of PKCS #8, or "Proc-Type: 4,ENCRYPTED" of older tools.
    secret = passphrase(path) if b"ENCRYPTED" in pem else None
    try:
        return opening.load(pem, secret)
    except CannotReadKey as error:
        raise Problem(f"{path}: {error}") from None


def read(path: Path) -> bytes:
    """What is in a file.

    :raises Problem: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise Problem(
            f"{path} does not exist. archive-reader keygen makes a key; --key FILE names another."
        ) from None
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None


def _public_pem(der: bytes) -> bytes:
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return "\n".join([f"-----BEGIN {_PUBLIC}", *lines, f"-----END {_PUBLIC}", ""]).encode()


def _der(pem: bytes) -> bytes:
    _, _, rest = pem.partition(f"-----BEGIN {_PUBLIC}".encode())
    body, _, _ = rest.partition(f"-----END {_PUBLIC}".encode())
    return base64.b64decode(b"".join(body.split()), validate=True)
