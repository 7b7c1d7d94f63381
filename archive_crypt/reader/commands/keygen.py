"""``archive-reader keygen``: make a key pair."""

from __future__ import annotations

import argparse
from pathlib import Path

from archive_crypt.reader import given, keys, trust, usage
from archive_crypt.reader.failures import DONE
from archive_crypt.reader.keys import KeyPair
from archive_crypt.reader.show import Lines, Terminal
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader keygen
  archive-reader keygen --out phone.pem --bits 4096

Two files are made: FILE, the private key, and FILE.pub, its public half. Existing files are
never overwritten. The key counts as confirmed to be yours, see archive-reader keys confirm.
Copy the private key to a safe place: what was encrypted for a lost key is lost.
"""


def _arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="default: archive-reader/key.pem in $XDG_CONFIG_HOME, or in ~/.config",
    )
    command.add_argument("--bits", type=int, default=3072, help="of the RSA key, 2048 to 8192; default: 3072")
    command.add_argument("--no-passphrase", action="store_true", help="leave the private key in clear")
    usage.add_passphrase(command)


def _begin(options: argparse.Namespace) -> Doing:
    path = options.out or keys.default_path()
    keys.check_free(path)
    trusted = trust.default_path()
    trust.load(trusted)  # what is wrong with it is said before there is a key
    passphrase = None
    if not options.no_passphrase:
        secret = given.passphrase(options).get(f"New passphrase for {path}", twice=True)
        passphrase = secret.encode(errors="surrogateescape")

    async def keygen() -> int:
        pair = keys.create(path, options.bits, passphrase)
        trust.confirm(trusted, [pair.fingerprint])
        _tell(given.display(options), pair, passphrase is not None)
        return DONE

    return keygen()


def _tell(display: Terminal | Lines, pair: KeyPair, encrypted: bool) -> None:
    guarded = "under your passphrase" if encrypted else "NOT under a passphrase: keep it from others"
    display.tell(
        f"private key  {pair.private} ({guarded})",
        f"public key   {pair.public}",
        f"fingerprint  {pair.fingerprint}",
        "",
        "Keep a copy of the private key in a safe place: without it nobody can read the archive.",
        "Next: archive-reader enable YOUR@JID",
        private=str(pair.private),
        public=str(pair.public),
        fingerprint=pair.fingerprint,
        passphrase=encrypted,
    )


COMMAND = Command("keygen", "make a key pair", _HELP, _arguments, _begin)
