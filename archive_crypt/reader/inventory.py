"""What is known of the user's keys, put together: files, what he confirmed, what his account publishes, what
his archive holds. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.reader import files, keys
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.publishing import Item


@dataclass
class Known:
    """A key: by which other names it was ever seen published, its files, when it was confirmed (None: it is
    not), where it is published now, and in how many collections there are EncryptedKeys for it (None:
    that was not asked, or is not told)."""

    fingerprint: str
    called: tuple[str, ...] = ()
    files: list[Path] = field(default_factory=list)
    confirmed: datetime | None = None
    published: list[Item] = field(default_factory=list)
    collections: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What EncryptedKeys may call it."""
        published = (item.key.name for item in self.published)
        return tuple(dict.fromkeys((self.fingerprint, *self.called, *published)))

    @property
    def suspicious(self) -> bool:
        """Whether the server encrypts for it, or will, and the user never said that it is his."""
        return self.confirmed is None and not all(item.ended for item in self.published)


def own_files() -> tuple[dict[str, list[Path]], list[Problem]]:
    """The key files of the user's folder, by fingerprint; and what is wrong with others. No passphrase
    is asked for: the public half beside a private key tells its fingerprint."""
    found: dict[str, list[Path]] = {}
    problems = []
    for path in sorted((*keys.default_paths(), *files.folder().glob("*.pub"))):
        try:
            found.setdefault(_fingerprint(path), []).append(path)
        except Problem as problem:
            problems.append(problem)
    return found, problems


def public_halves(fingerprints: Iterable[str]) -> list[PublicKey]:
    """Those of these keys of which there is a file in the user's folder."""
    own, _ = own_files()
    return [_public(own[one][0]) for one in fingerprints if one in own]


def gather(
    own: Mapping[str, list[Path]],
    confirmed: Mapping[str, datetime],
    names: Mapping[str, tuple[str, ...]],
    published: Iterable[Item],
) -> list[Known]:
    """All keys that any of these knows: the user's files first, then what is confirmed, then the rest.
    `names`: by which other names keys were ever seen published."""
    items = list(published)
    fingerprints = dict.fromkeys((*own, *confirmed, *(item.fingerprint for item in items)))
    return [
        Known(
            fingerprint,
            names.get(fingerprint, ()),
            own.get(fingerprint, []),
            confirmed.get(fingerprint),
            [item for item in items if item.fingerprint == fingerprint],
        )
        for fingerprint in fingerprints
    ]


def _fingerprint(path: Path) -> str:
    return _public(path).name


def _public(path: Path) -> PublicKey:
    return keys.load_public(keys.public_if_there(path), _nobody)


def _nobody(path: Path) -> bytes:
    raise Problem(f"{path} is encrypted, and {keys.public_path(path)} is not there to tell its fingerprint.")
