"""``archive-reader keys print`` and ``restore``: a private key on paper, and back."""

from __future__ import annotations

import argparse
from pathlib import Path

from archive_crypt.crypto import opening
from archive_crypt.reader import files, given, keys, recovery, trust, usage
from archive_crypt.reader.failures import DONE, Problem
from archive_crypt.reader.show import note
from archive_crypt.reader.usage import Command, Doing

_PRINT_HELP = """\
examples:
  archive-reader keys print | lpr
  archive-reader keys print --key old.pem --out old.txt

The text holds the private key under its passphrase, in numbered lines that are each checked when they are
typed again. It tells by itself how. Keep the passphrase elsewhere: without it the paper is of no use.
"""

_RESTORE_HELP = """\
examples:
  archive-reader keys restore typed.txt
  archive-reader keys restore typed.txt --out old.pem

FILE holds what is on the paper, typed or scanned; lines that are missing or wrong are told by their
numbers. The key is kept as keygen's are, under the passphrase that it had.
"""


def _print_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--key", type=Path, metavar="FILE", help="the private key; default: as keygen's")
    command.add_argument("--out", type=Path, metavar="FILE", help="a new file; default: standard output")
    command.add_argument(
        "--no-passphrase", action="store_true", help="the key in clear: who has the paper has the key"
    )
    usage.add_passphrase(command)


def _begin_print(options: argparse.Namespace) -> Doing:
    path = options.key or keys.default_path()
    asker, secret = given.asker(options), None

    def ask(path: Path) -> bytes:
        nonlocal secret
        secret = asker(path)
        return secret

    key = keys.load_private(path, ask)
    if options.no_passphrase:
        secret = None
    elif secret is None:  # the file has none
        told = given.passphrase(options).get("New passphrase for the paper", twice=True)
        secret = told.encode(errors="surrogateescape")

    async def print_() -> int:
        paper = recovery.write(opening.dump(key, secret), key.fingerprint)
        if options.out is None:
            given.display(options).tell(*paper.splitlines(), fingerprint=key.fingerprint, paper=paper)
        else:
            files.create(options.out, paper.encode(), 0o600)
            given.display(options).tell(
                f"{options.out}: print it, and remove it", fingerprint=key.fingerprint, out=str(options.out)
            )
        return DONE

    return print_()


def _restore_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, metavar="FILE", help="what is on the paper")
    command.add_argument("--out", type=Path, metavar="FILE", help="the new key file; default: as keygen's")
    usage.add_passphrase(command)


def _begin_restore(options: argparse.Namespace) -> Doing:
    out, trusted = options.out or keys.default_path(), trust.default_path()
    keys.check_free(out)
    trust.load(trusted)  # what is wrong with it is said before there is a key
    try:
        restored = recovery.read(options.file.read_text("utf-8", "replace"))
    except OSError as error:
        raise Problem(f"{options.file}: {error.strerror}") from None
    except recovery.CannotRestore as error:
        raise Problem(f"{options.file}: {error}") from None
    key = keys.open_private(options.file, restored.pem, given.asker(options))
    if restored.fingerprint not in (None, key.fingerprint):
        note(f"The fingerprint on the paper is another one: {restored.fingerprint}. Compare the two.")

    async def restore() -> int:
        pair = keys.store(out, restored.pem, key)
        trust.confirm(trusted, [pair.fingerprint])
        given.display(options).tell(
            f"private key  {pair.private}",
            f"public key   {pair.public}",
            f"fingerprint  {pair.fingerprint}",
            private=str(pair.private),
            public=str(pair.public),
            fingerprint=pair.fingerprint,
        )
        return DONE

    return restore()


COMMANDS = (
    Command("print", "print a private key, to be kept on paper", _PRINT_HELP, _print_arguments, _begin_print),
    Command("restore", "get a private key back", _RESTORE_HELP, _restore_arguments, _begin_restore),
)
