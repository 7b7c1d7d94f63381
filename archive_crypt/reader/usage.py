"""How commands are put to the user: their arguments and their help. Nothing is done here.

What several commands take is here; what one takes is in its own module of `archive_crypt.reader.commands`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from lxml import etree

from archive_crypt import __version__
from archive_crypt.core import jids
from archive_crypt.model import Micros
from archive_crypt.reader import preferring

#: What there is to do, once the user was asked for all it takes; its result is the exit code. It is
#: asked for before: while asyncio runs, Ctrl-C would not interrupt a question.
Doing = Coroutine[Any, Any, int]

#: What files can be written.
FORMATS = ("xep", "jsonl", "mbox", "markdown", "html")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Command:
    """One command: a `summary` of a few words, `help` with examples; `arguments` adds those it takes
    to its parser, `begin` asks the user for what is missing and gives what is to be done."""

    name: str
    summary: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    begin: Callable[[argparse.Namespace], Doing]


@dataclass(frozen=True, slots=True)
class Group:
    """Commands of one kind, such as ``keys list``: a `summary` of a few words, and `help`."""

    name: str
    summary: str
    help: str
    commands: tuple[Command, ...]


class _Parser(argparse.ArgumentParser):
    """Wrong usage is exit code 1 here, as 2 means something else."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}. See {self.prog} --help.\n")


def parser(overview: str, epilog: str, commands: Iterable[Command | Group]) -> argparse.ArgumentParser:
    """What ``archive-reader`` takes; in its result `begin` is that of the command."""
    whole = _Parser(
        prog="archive-reader",
        description=overview,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"archive-reader {__version__}")
    _add_commands(whole, commands)
    return whole


def _add_commands(parent: argparse.ArgumentParser, commands: Iterable[Command | Group]) -> None:
    choices = parent.add_subparsers(required=True, metavar="COMMAND")
    for command in commands:
        child = choices.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=command.help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if isinstance(command, Group):
            _add_commands(child, command.commands)
            continue
        child.set_defaults(begin=command.begin)
        child.add_argument("--json", action="store_true", help="results as JSON on stdout, one object a line")
        command.arguments(child)


def add_account(command: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Whom to log in, and where."""
    command.add_argument(
        "jid",
        nargs="?" if optional else None,
        metavar="JID",
        help="your account, such as romeo@example.org",
    )
    command.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="else $ARCHIVE_READER_PASSWORD, else the desktop's keyring has it, else it is asked for",
    )
    command.add_argument("--host", help="where the server is, if not where SRV records say")
    command.add_argument("--port", type=port, help="default: 5222")
    command.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="trust the server's certificate by this one, instead of the system's",
    )


def add_with(command: argparse.ArgumentParser) -> None:
    """With whom."""
    command.add_argument(
        "--with", dest="with_", type=address, metavar="JID", help="only with this contact, room or domain"
    )


def add_filter(command: argparse.ArgumentParser) -> None:
    """Which collections: with whom, and since when."""
    add_with(command)
    command.add_argument("--start", type=moment, metavar="TIME", help="only what began then or later")


def add_end(command: argparse.ArgumentParser) -> None:
    """Until when."""
    command.add_argument("--end", type=moment, metavar="TIME", help="only what began before")


def add_offline(command: argparse.ArgumentParser) -> None:
    """Not from the server."""
    command.add_argument(
        "--offline", action="store_true", help="from the copy that archive-reader sync keeps here"
    )


def add_keys(command: argparse.ArgumentParser, what: str) -> None:
    """Key files, and where their passphrase is from; `what` they are for."""
    command.add_argument(
        "--key",
        type=Path,
        action="append",
        metavar="FILE",
        help=f"{what}; default: all *.pem in archive-reader/ in $XDG_CONFIG_HOME, or in ~/.config",
    )
    add_passphrase(command)


def add_force(command: argparse.ArgumentParser) -> None:
    """Against the user's own preferences."""
    command.add_argument(
        "--force", action="store_true", help="do it though your preferences on the server are against it"
    )


def add_passphrase(command: argparse.ArgumentParser) -> None:
    """Where the passphrase is from."""
    command.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="of the private key; else $ARCHIVE_READER_PASSPHRASE, else the desktop's keyring has it, "
        "else it is asked for",
    )


def add_openpgp(command: argparse.ArgumentParser) -> None:
    """OpenPGP keys, and where their passphrase is from."""
    command.add_argument(
        "--openpgp-key",
        type=Path,
        action="append",
        metavar="FILE",
        help="open OpenPGP messages with this key, or check with it who signed (by gpg); may be given again",
    )
    command.add_argument(
        "--openpgp-passphrase-file",
        type=Path,
        metavar="FILE",
        help="of the OpenPGP key; else $ARCHIVE_READER_OPENPGP_PASSPHRASE, else it is asked for",
    )


def moment(text: str) -> Micros:
    """The moment that a date, or a time, of ISO 8601 names: in the local zone, unless it says another.

    :raises argparse.ArgumentTypeError: it names none.
    """
    try:
        named = datetime.fromisoformat(text)
        return (named.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 2026-11-21 or 2026-11-21T10:00Z"
        ) from None


def expiry(text: str) -> int | None:
    """The seconds of a time span such as 30d; None for "never".

    :raises argparse.ArgumentTypeError: it is none.
    """
    try:
        return None if text == "never" else preferring.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, or never") from None


def address(text: str) -> str:
    """A JID, just as it was given.

    :raises argparse.ArgumentTypeError: it is none.
    """
    if jids.read(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no JID such as juliet@example.org or example.org")
    return text


def key_name(text: str) -> str:
    """What EncryptedKeys may call a public key.

    :raises argparse.ArgumentTypeError: nothing that XML can hold.
    """
    name = text.strip(" \t\r\n")  # which XML takes for nothing
    try:
        etree.Element("KeyName").text = name
    except ValueError:
        name = ""
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a key")
    return name


def port(text: str) -> int:
    """A TCP port.

    :raises argparse.ArgumentTypeError: it is none.
    """
    if positive(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def positive(text: str) -> int:
    """A number from 1 up.

    :raises argparse.ArgumentTypeError: it is none.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")
    return int(text)
