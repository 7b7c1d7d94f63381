"""Where mirrors are: one for each account, each with its key beside it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Container, Iterator, Sequence
from functools import partial
from pathlib import Path

from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.reader import files, inventory, mirrorkey
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.mirrordb import Mirror
from archive_crypt.reader.mirrorfile import NotOfThisKey


def folder() -> Path:
    """Where they all are: XDG_DATA_HOME, or ~/.local/share, /archive-reader. It may not be there."""
    configured = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (configured if configured.is_absolute() else Path.home() / ".local/share") / "archive-reader"


def make(account: str, private_keys: Sequence[PrivateKey], confirmed: Container[str]) -> Mirror:
    """The mirror of an account, by its bare JID; an empty one, if there is none. From now on those of these
    keys open it that are `confirmed`, and none that is not; if none of them is confirmed, all of them do, and
    those that did before.

    :raises Problem: none of them opens it, it cannot be used, or it is in use and has to get another key.
    """
    path, key_path = _paths(account)
    halves = mirrorkey.fit(private_keys, confirmed)
    with files.locked(key_path), _advising(path, key_path, private_keys):
        keys = _keys(path, key_path, private_keys, halves)
        known = mirrorkey.names(key_path)
        retired = {name for name in known if name not in confirmed}
        at_hand = any(half.name in confirmed for half in halves)
        if at_hand and (retired or len(keys) > 1):
            absent = known - retired - {half.name for half in halves}
            return _rekeyed(path, keys, key_path, halves + inventory.public_halves(absent))
        new = [half for half in halves if half.name not in known]
        if new and len(keys) == 1:
            mirrorkey.add(key_path, keys[0], new)
        return _opened(path, keys)


def find(account: str, private_keys: Sequence[PrivateKey]) -> Mirror:
    """The mirror of an account, opened with any of these keys.

    :raises Problem: there is none, none of the keys opens it, or it cannot be used.
    """
    path, key_path = _paths(account)
    if not path.exists():
        raise Problem(f"There is no mirror of {account} here: archive-reader sync {account} makes one.")
    # Locked, or it could get another key in between.
    with files.locked(key_path), _advising(path, key_path, private_keys):
        try:
            return _opened(path, mirrorkey.load(key_path, private_keys))
        except FileNotFoundError:
            raise _locked_out(path, key_path) from None


def _keys(
    path: Path, key_path: Path, private_keys: Sequence[PrivateKey], halves: Sequence[PublicKey]
) -> list[bytes]:
    """As `mirrorkey.load`; where there is no mirror yet, a new key, in a file that opens with these alone."""
    try:
        return mirrorkey.load(key_path, private_keys)
    except FileNotFoundError:
        if path.exists() and path.stat().st_size:  # the key may be in a backup: no other takes its place
            raise _locked_out(path, key_path) from None
        key = secrets.token_bytes(mirrorkey.SIZE)
        mirrorkey.replace(key_path, key, halves)
        return [key]


@contextlib.contextmanager
def _advising(path: Path, key_path: Path, private_keys: Sequence[PrivateKey]) -> Iterator[None]:
    """Who was killed while the mirror got another key may have left it under one that opens with a private
    key which is not at hand: then that is said, and not that it is damaged."""
    try:
        yield
    except NotOfThisKey:
        if mirrorkey.names(key_path) <= {key.fingerprint for key in private_keys}:
            raise
        raise Problem(
            f"{path} does not open with these of your private keys: give the others, too, with which you "
            "synced before (--key FILE). If there are none, it is damaged: move it away and sync again."
        ) from None


def _locked_out(path: Path, key_path: Path) -> Problem:
    return Problem(
        f"{key_path} does not exist, and without it {path} cannot be opened: bring it back from a backup, "
        "or move the mirror away and sync again."
    )


def _opened(path: Path, keys: Sequence[bytes]) -> Mirror:
    """The mirror; its key is one of these."""
    for key in keys[:-1]:
        with contextlib.suppress(NotOfThisKey):
            return Mirror(path, key)
    return Mirror(path, keys[-1])


def _rekeyed(path: Path, keys: Sequence[bytes], key_path: Path, halves: Sequence[PublicKey]) -> Mirror:
    """The mirror under a new key, which opens with these alone. At each moment the file of keys has the one
    that the mirror is encrypted with."""
    key = secrets.token_bytes(mirrorkey.SIZE)
    with _opened(path, keys) as mirror:
        mirror.rekey(key, partial(mirrorkey.add, key_path, key, halves))
    with contextlib.ExitStack() as opened:
        mirror = opened.enter_context(Mirror(path, key))  # each page is looked at, see MirrorFile
        mirrorkey.replace(key_path, key, halves)  # only then the old key goes
        opened.pop_all()
    return mirror


def _paths(account: str) -> tuple[Path, Path]:
    return folder() / f"{account}.mirror", folder() / f"{account}.mirror.key"
