"""``archive-reader enable``: have messages archived, encrypted."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.reader import failures, given, strangers, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import FeatureNotImplemented, NotAcceptable
from archive_crypt.reader.failures import DONE, Problem, Suspicious
from archive_crypt.reader.publishing import Item
from archive_crypt.reader.show import Lines, Terminal
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader enable romeo@example.org
  archive-reader enable romeo@example.org --key laptop.pem --key phone.pem.pub
  archive-reader enable romeo@example.org --plain

A key may be given by either of its files; the public one needs no passphrase. Without --key those of
your folder are taken that are confirmed to be yours; those that are given have to be, too: see
archive-reader keys. Only public halves are sent. What is archived can be read with each one of the keys.

The server encrypts for published keys, too; for RSA keys of OpenPGP if its operator says so, which nobody
else knows. If one of them is not confirmed to be yours, nothing is changed, and the exit code is 4.
"""

_ADVICE = "Give a key it can use: archive-reader keygen makes one, --key FILE names it."


def _arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    usage.add_keys(command, "encrypt for this key; may be given again")
    usage.add_force(command)
    command.add_argument(
        "--yes", action="store_true", help="do it though keys are published that you never confirmed"
    )
    command.add_argument("--plain", action="store_true", help="archive in clear, for the server to read")
    command.add_argument(
        "--scope",
        choices=("global", "stream"),
        default="global",
        help="whether the setting is for all later connections (default), or this one, to try it",
    )


def _begin(options: argparse.Namespace) -> Doing:
    if options.plain and options.key:
        raise Problem("--plain archives in clear and takes no --key.")
    connection = given.connection(options)
    public = [] if options.plain else given.public_keys(options)
    lasting = options.scope == "global"

    async def enable() -> int:
        async with connection:
            archive = Archive(connection)
            keys = [key for _, key in public]
            unconfirmed = await strangers.published(given.publisher(connection)) if keys else {}
            if unconfirmed and not options.yes:
                raise _unconfirmed(options.jid, unconfirmed)
            try:
                lasts = await archive.set_auto(keys, encrypt=bool(keys), lasting=lasting, force=options.force)
            except (NotAcceptable, FeatureNotImplemented) as error:
                raise failures.refusal(error, _ADVICE if keys else "") from None
        _tell(given.display(options), options.jid, public, unconfirmed, lasts)
        return DONE

    return enable()


def _unconfirmed(owner: str, found: Mapping[str, Item]) -> Suspicious:
    named = " ".join(found)
    told = ", ".join(strangers.told(item) for item in found.values())
    return Suspicious(
        "Nothing was changed: the server would encrypt for published keys, too, and these were never "
        f"confirmed to be yours: {told}. If they are: archive-reader keys confirm {named}. If not, somebody "
        "was in your account: change its password, then archive-reader keys retire "
        f"{owner} {next(iter(found))}. Or give --yes."
    )


def _tell(
    display: Terminal | Lines,
    owner: str,
    keys: Sequence[tuple[Path, PublicKey]],
    unconfirmed: Mapping[str, Item],
    lasts: bool,
) -> None:
    how = "encrypted for these keys:" if keys else "IN CLEAR: whoever has the server can read them."
    lines = [f"From each client's next login on, the messages of {owner} are archived, {how}"]
    lines += [f"    {key.name}  {path}" for path, key in keys]
    lines += [
        f"  ! {strangers.told(one)}  published, NOT confirmed to be yours" for one in unconfirmed.values()
    ]
    lines += ["Only their private halves open them. Keep copies in a safe place."] if keys else []
    if not lasts:
        lines = [
            "The server takes it, but for this connection only, which ends now: it archives nothing.",
            "To last it would take scope global, which older servers do not have.",
        ]
    named = [{"fingerprint": key.name, "file": str(path)} for path, key in keys]
    display.tell(*lines, encrypted=bool(keys), lasts=lasts, keys=named, unconfirmed=list(unconfirmed))


COMMAND = Command("enable", "have your messages archived, encrypted", _HELP, _arguments, _begin)
