"""What a command's options give: a connection, keys, a display. What is missing is asked for here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.reader import keys, ox, trust
from archive_crypt.reader.asking import Source
from archive_crypt.reader.connection import Account, Connection
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.openpgp import Keyring
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.publishing import Item, Publisher
from archive_crypt.reader.show import Lines, Terminal, note

T = TypeVar("T")

# Names of variables.
PASSWORD, PASSPHRASE = "ARCHIVE_READER_PASSWORD", "ARCHIVE_READER_PASSPHRASE"  # noqa: S105
OPENPGP_PASSPHRASE = "ARCHIVE_READER_OPENPGP_PASSPHRASE"  # noqa: S105


def account(options: argparse.Namespace) -> Account:
    """Whose archive it is; for those commands that connect to no server.

    :raises Problem: it is no user's JID.
    """
    return Account(options.jid)


def connection(options: argparse.Namespace) -> Connection:
    """The stream to be, of the user and to the server that `usage.add_account` is about.

    :raises Problem: it is no user's JID, or there is no password, or it is none.
    """
    account = Account(options.jid, options.host, options.port, options.ca)
    source = Source(options.password_file, PASSWORD, "--password-file")
    return Connection(account, source.get(f"Password of {account.bare}", entry=account.bare))


def publisher(connection: Connection) -> Publisher:
    """The nodes of the user who is logged in. By which names keys are published there is kept in the trust
    file: fetching them raises Problem where that cannot be.
    """
    told = set[tuple[str, str]]()

    def seen(items: Sequence[Item]) -> None:
        called = [(item.fingerprint, item.key.name) for item in items]
        for fingerprint, name in trust.remember(trust.default_path(), called):
            if (fingerprint, name) not in told:
                note(
                    f"{fingerprint} has too many names; to be looked for by this one takes --old-name: {name}"
                )
            told.add((fingerprint, name))

    return Publisher(connection.client, seen)


def display(options: argparse.Namespace, owner: str | None = None) -> Terminal | Lines:
    """Where results go, of the archive of `owner`; None: of the account's, if there is one."""
    whose = getattr(options, "jid", "") if owner is None else owner
    return Lines() if options.json else Terminal(whose)


def passphrase(options: argparse.Namespace) -> Source:
    """Where a private key's passphrase is from."""
    return Source(options.passphrase_file, PASSPHRASE, "--passphrase-file")


def public_keys(options: argparse.Namespace) -> list[tuple[Path, PublicKey]]:
    """The public halves of the keys given, each once; if none is, of those of the user's folder that are
    confirmed to be his.

    :raises Problem: one that was given cannot be read, no server would take it, or it is not confirmed; or
        there is none.
    """
    ask, confirmed = asker(options), trust.load(trust.default_path())
    if options.key:
        given = _once((path, keys.load_public(path, ask)) for path in options.key)
        _, unknown = trust.divide([key for _, key in given], confirmed)
        for path, key in given:
            if key in unknown:
                raise _unconfirmed(path)
        return given
    paths = keys.default_paths() or [keys.default_path()]
    found = _usable(paths, lambda path: (path, keys.load_public(keys.public_if_there(path), ask)))
    own = _once((path, key) for path, key in found if key.name in confirmed)
    if not own:
        raise _unconfirmed(found[0][0])
    return own


def private_keys(options: argparse.Namespace) -> list[PrivateKey]:
    """The keys given; if none is, all of the user's folder that can be read. There may be none: what is
    in clear can be read without.

    :raises Problem: one that was given cannot be read, or none of the folder's can.
    """
    if options.key:
        return [private_key(options, path) for path in options.key]
    paths = keys.default_paths()
    if not paths:
        note(
            f"There is no private key at {keys.default_path()}, so what is encrypted stays closed; see --key."
        )
    return _usable(paths, lambda path: private_key(options, path))


def opening_keys(options: argparse.Namespace) -> list[PrivateKey]:
    """The same of keys that are given to be sealed for: those of them that open something too. If none of
    those given does, all of the user's folder.

    :raises Problem: as `private_keys`.
    """
    private = [path for path in options.key or () if keys.is_private(path)]
    return private_keys(argparse.Namespace(**vars(options) | {"key": private or None}))


def private_key(options: argparse.Namespace, path: Path) -> PrivateKey:
    """The private key in a file.

    :raises Problem: it cannot be read.
    """
    if keys.is_open_to_others(path):
        note(f"{path} can be read by others on this computer: chmod 600 {path}")
    return keys.load_private(path, asker(options))


def _usable(paths: Sequence[Path], load: Callable[[Path], T]) -> list[T]:
    """What the files of the folder give; those that give nothing are named, and left out.

    :raises Problem: none of them gives anything.
    """
    found, problems = [], []
    for path in paths:
        try:
            found.append(load(path))
        except Problem as problem:
            problems.append(problem)
    if problems and not found:
        raise problems[0]
    for left_out in problems:
        note(f"{left_out} It is left out.")
    return found


def _unconfirmed(path: Path) -> Problem:
    return Problem(f"{path} is not confirmed to be yours: archive-reader keys confirm {path}")


def _once(found: Iterable[tuple[Path, PublicKey]]) -> list[tuple[Path, PublicKey]]:
    named: dict[str, tuple[Path, PublicKey]] = {}
    for path, key in found:
        named.setdefault(key.name, (path, key))
    return list(named.values())


#: What opens the OpenPGP messages in the archive of this owner.
Inner = Callable[[str], Callable[[Listed, Entry], Entry] | None]


def openpgp(options: argparse.Namespace) -> tuple[ExitStack, Inner]:
    """What opens OpenPGP messages with the keys given, if any, until the stack is left."""
    stack = ExitStack()
    if not options.openpgp_key:
        return stack, lambda owner: None
    source = Source(options.openpgp_passphrase_file, OPENPGP_PASSPHRASE, "--openpgp-passphrase-file")

    def ask() -> bytes:
        return source.get("Passphrase of the OpenPGP key").encode(errors="surrogateescape")

    keyring = stack.enter_context(Keyring(options.openpgp_key, ask))
    return stack, lambda owner: ox.Reader(owner, keyring).read


def fingerprint(options: argparse.Namespace, text: str) -> str:
    """That which the text is, or that of the key in the file which it names.

    :raises Problem: it is neither, or the file cannot be read.
    """
    path = Path(text)
    return keys.load_public(path, asker(options)).name if os.path.lexists(path) else trust.checked(text)


def asker(options: argparse.Namespace) -> keys.Asker:
    """Asks for the passphrase of a key file."""
    source = passphrase(options)

    def ask(path: Path) -> bytes:
        entry = str(path.absolute())
        return source.get(f"Passphrase of {path}", entry=entry).encode(errors="surrogateescape")

    return ask
