"""What a command's options give: a connection, keys, a display. What is missing is asked for here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.reader import keys, ox
from archive_crypt.reader.asking import Source
from archive_crypt.reader.connection import Account, Connection
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.openpgp import Keyring
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.show import Lines, Terminal, note

# Names of variables.
PASSWORD, PASSPHRASE = "ARCHIVE_READER_PASSWORD", "ARCHIVE_READER_PASSPHRASE"  # noqa: S105
OPENPGP_PASSPHRASE = "ARCHIVE_READER_OPENPGP_PASSPHRASE"  # noqa: S105


def connection(options: argparse.Namespace) -> Connection:
    """The stream to be, of the user and to the server that `usage.add_account` is about.

    :raises Problem: it is no user's JID, or there is no password, or it is none.
    """
    account = Account(options.jid, options.host, options.port, options.ca)
    source = Source(options.password_file, PASSWORD, "--password-file")
    return Connection(account, source.get(f"Password of {account.bare}"))


def display(options: argparse.Namespace, owner: str | None = None) -> Terminal | Lines:
    """Where results go, of the archive of `owner`; None: of the account's, if there is one."""
    whose = getattr(options, "jid", "") if owner is None else owner
    return Lines() if options.json else Terminal(whose)


def passphrase(options: argparse.Namespace) -> Source:
    """Where a private key's passphrase is from."""
    return Source(options.passphrase_file, PASSPHRASE, "--passphrase-file")


def public_keys(options: argparse.Namespace) -> list[tuple[Path, PublicKey]]:
    """The public halves of the keys given, each once; of the default one, if none is.

    :raises Problem: one cannot be read, or no server would take it.
    """
    named: dict[str, tuple[Path, PublicKey]] = {}
    for path in options.key or [keys.default_path()]:
        key = keys.load_public(path, _asker(options))
        named.setdefault(key.name, (path, key))
    return list(named.values())


def private_keys(options: argparse.Namespace) -> list[PrivateKey]:
    """The keys given, or the default one if there is any: what is in clear can be read without.

    :raises Problem: one cannot be read.
    """
    paths = options.key or [keys.default_path()]
    if not options.key and not os.path.exists(paths[0]):
        note(f"There is no private key at {paths[0]}, so what is encrypted stays closed; see --key.")
        return []
    for path in paths:
        if keys.is_open_to_others(path):
            note(f"{path} can be read by others on this computer: chmod 600 {path}")
    return [keys.load_private(path, _asker(options)) for path in paths]


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


def _asker(options: argparse.Namespace) -> keys.Asker:
    source = passphrase(options)
    return lambda path: source.get(f"Passphrase of {path}").encode(errors="surrogateescape")
