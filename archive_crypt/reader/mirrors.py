"""Where mirrors are: one for each account, each with its key beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.reader import mirrorkey
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.mirrordb import Mirror


def folder() -> Path:
    """Where they all are: XDG_DATA_HOME, or ~/.local/share, /archive-reader. It may not be there."""
    configured = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (configured if configured.is_absolute() else Path.home() / ".local/share") / "archive-reader"


def make(account: str, private_keys: Sequence[PrivateKey]) -> Mirror:
    """The mirror of an account, by its bare JID; an empty one, if there is none. All of these keys open it
    from now on.

    :raises Problem: none of them opens it, or it cannot be used.
    """
    path, key_path = _paths(account)
    return Mirror(path, mirrorkey.make(key_path, private_keys))


def find(account: str, private_keys: Sequence[PrivateKey]) -> Mirror:
    """The mirror of an account, opened with any of these keys.

    :raises Problem: there is none, none of the keys opens it, or it cannot be used.
    """
    path, key_path = _paths(account)
    if not path.exists():
        raise Problem(f"There is no mirror of {account} here: archive-reader sync {account} makes one.")
    try:
        key = mirrorkey.load(key_path, private_keys)
    except FileNotFoundError:
        raise Problem(
            f"{key_path} does not exist, and without it {path} cannot be opened: remove that and sync again."
        ) from None
    return Mirror(path, key)


def _paths(account: str) -> tuple[Path, Path]:
    return folder() / f"{account}.mirror", folder() / f"{account}.mirror.key"
