"""The trust file: the public keys that the user confirmed to be his own, by their fingerprints. Nothing
is wrapped for any other (XEP-0241 2): that a key is published under his name does not make it his.

Beside them it keeps by which other names keys were ever seen published, confirmed or not: EncryptedKeys
call them so for good, and when they are published no more nobody else can tell.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from archive_crypt.crypto.publickeys import PublicKey, fingerprint
from archive_crypt.reader import files
from archive_crypt.reader.failures import Problem

_VERSION = 1
_DIGEST = 32  # octets of SHA-256
#: Of one key: all of them go into one request, and each has up to 512 octets, or five times that as XML.
_MOST_NAMES = 32


@dataclass(frozen=True, slots=True)
class _Content:
    """What is in the file, by fingerprint."""

    confirmed: Mapping[str, datetime]
    names: Mapping[str, tuple[str, ...]]


def default_path() -> Path:
    """Where the trust file is."""
    return files.folder() / "trust.json"


def load(path: Path) -> Mapping[str, datetime]:
    """The fingerprints that are confirmed, and when each was. Without a file there is none.

    :raises Problem: it cannot be read, or others could have written it: then none can be trusted.
    """
    return _load(path).confirmed


def names(path: Path) -> Mapping[str, tuple[str, ...]]:
    """By which names keys were seen published, besides their fingerprint.

    :raises Problem: as in `load`.
    """
    return _load(path).names


def remember(path: Path, called: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keep that these keys, by their fingerprints, were published by these names. Those that are not kept, as
    the key has too many: whoever was in the account once could add more each time.

    :raises Problem: one is no fingerprint, or the file cannot be read or written.
    """
    wanted = [(checked(one), name) for one, name in called if one != name]
    known = names(path)
    if all(name in known.get(one, ()) for one, name in wanted):  # as a rule: nothing is written, nor locked
        return []
    with files.locked(path):
        content = _load(path)
        more, left_out = dict(content.names), []
        for one, name in wanted:
            kept = more.get(one, ())
            if name not in kept and len(kept) < _MOST_NAMES:
                more[one] = (*kept, name)
            elif name not in kept:
                left_out.append((one, name))
        if more != content.names:
            _write(path, replace(content, names=more))
    return left_out


def _load(path: Path) -> _Content:
    try:
        others_write = path.stat().st_mode & 0o022
        content = path.read_bytes()
    except FileNotFoundError:
        return _Content({}, {})
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
        content = _load(path)
        known = dict(content.confirmed)
        new = [one for one in dict.fromkeys(wanted) if one not in known]
        if new:
            _write(path, replace(content, confirmed=known | dict.fromkeys(new, datetime.now(UTC))))
    return new


def withdraw(path: Path, fingerprints: Iterable[str]) -> list[str]:
    """Nothing is wrapped for these keys any more; those of them that were confirmed. Their names stay.

    :raises Problem: one is no fingerprint, or the file cannot be read or written.
    """
    wanted = [checked(one) for one in fingerprints]
    with files.locked(path):
        content = _load(path)
        known = dict(content.confirmed)
        gone = [one for one in dict.fromkeys(wanted) if known.pop(one, None)]
        if gone:
            _write(path, replace(content, confirmed=known))
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


def _read(content: Any) -> _Content:
    if content["version"] != _VERSION:
        raise ValueError("of another version")
    confirmed, called = {}, {}
    try:
        for one, facts in content["confirmed"].items():
            confirmed[checked(one)] = datetime.fromisoformat(facts["at"])
        for one, found in content.get("names", {}).items():
            called[checked(one)] = _names(found)
    except Problem:
        raise ValueError("no fingerprint") from None
    return _Content(confirmed, called)


def _names(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(name, str) and name for name in found):
        raise ValueError("no names")
    return tuple(found)


def _write(path: Path, content: _Content) -> None:
    confirmed = {one: {"at": at.isoformat(timespec="seconds")} for one, at in content.confirmed.items()}
    whole = {"version": _VERSION, "confirmed": confirmed, "names": content.names}
    files.replace(path, f"{json.dumps(whole, indent=2)}\n".encode())
