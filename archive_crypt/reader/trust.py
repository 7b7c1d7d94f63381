"""The trust file: the public keys that the user confirmed to be his own, by their fingerprints. Nothing
is wrapped for any other (XEP-0241 2): that a key is published under his name does not make it his.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from archive_crypt.crypto.publickeys import PublicKey, fingerprint
from archive_crypt.reader import files
from archive_crypt.reader.failures import Problem

_VERSION = 1
_DIGEST = 32  # octets of SHA-256


def default_path() -> Path:
    """Where the trust file is."""
    return files.folder() / "trust.json"


def load(path: Path) -> Mapping[str, datetime]:
    """The fingerprints that are confirmed, and when each was. Without a file there is none.

    :raises Problem: it cannot be read, or others could have written it: then none can be trusted.
    """
    try:
        others_write = path.stat().st_mode & 0o022
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None
    if others_write:
        raise Problem(f"{path} can be changed by others on this computer: look at it, then chmod 600 {path}")
    try:
        return _read(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Problem(
            f"{path} is damaged. Remove it, and confirm your keys anew: archive-reader keys confirm"
        ) from None


def confirm(path: Path, fingerprints: Iterable[str]) -> list[str]:
    """These keys are the user's own; those of them that were not confirmed before.

    :raises Problem: one is no fingerprint, or the file cannot be read or written.
    """
    wanted = [checked(one) for one in fingerprints]
    with files.locked(path):
        known = dict(load(path))
        new = [one for one in dict.fromkeys(wanted) if one not in known]
        if new:
            _write(path, known | dict.fromkeys(new, datetime.now(UTC)))
    return new


def withdraw(path: Path, fingerprints: Iterable[str]) -> list[str]:
    """Nothing is wrapped for these keys any more; those of them that were confirmed.

    :raises Problem: one is no fingerprint, or the file cannot be read or written.
    """
    wanted = [checked(one) for one in fingerprints]
    with files.locked(path):
        known = dict(load(path))
        gone = [one for one in dict.fromkeys(wanted) if known.pop(one, None)]
        if gone:
            _write(path, known)
    return gone


def divide(
    keys: Sequence[PublicKey], confirmed: Mapping[str, datetime]
) -> tuple[list[PublicKey], list[PublicKey]]:
    """The keys to wrap for, and those that nothing may be wrapped for, whatever they call themselves."""
    own = [key for key in keys if fingerprint(key.der) in confirmed]
    return own, [key for key in keys if fingerprint(key.der) not in confirmed]


def checked(text: str) -> str:
    """A fingerprint, just as it was given.

    :raises Problem: it is none.
    """
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != _DIGEST or base64.b64encode(digest).decode() != text:
        raise Problem(f"{text!r} is neither a file nor a fingerprint, which has 44 characters.")
    return text


def _read(content: Any) -> dict[str, datetime]:
    if content["version"] != _VERSION:
        raise ValueError("of another version")
    found = {}
    for name, facts in content["confirmed"].items():
        try:
            found[checked(name)] = datetime.fromisoformat(facts["at"])
        except Problem:
            raise ValueError("no fingerprint") from None
    return found


def _write(path: Path, confirmed: Mapping[str, datetime]) -> None:
    facts = {name: {"at": at.isoformat(timespec="seconds")} for name, at in confirmed.items()}
    text = json.dumps({"version": _VERSION, "confirmed": facts}, indent=2)
    files.replace(path, f"{text}\n".encode())
