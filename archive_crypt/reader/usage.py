"""The arguments of ``archive-reader``, and its help. Nothing is done here."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from archive_crypt import __version__
from archive_crypt.core import jids
from archive_crypt.model import Micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: What files can be written.
FORMATS = ("xep", "jsonl", "mbox", "markdown", "html")

_OVERVIEW = """\
Reads an archive of XMPP messages that the server keeps and cannot read (XEP-0136, XEP-0241).
The private key is on this computer only: whoever has the server has ciphertext.
"""

_EPILOG = """\
first steps:
  archive-reader keygen                          make a key pair
  archive-reader enable romeo@example.org        have everything archived, encrypted for it
  archive-reader list romeo@example.org          what is there
  archive-reader read romeo@example.org --with juliet@example.org --last 20
  archive-reader export romeo@example.org --format html --out letters.html

Options common to several commands are told by archive-reader COMMAND --help.

exit codes:
  0  done
  1  wrong usage, or a file that cannot be used
  2  cannot connect or log in
  3  the server refused
  4  something could not be opened, or is suspicious
  more than 128: interrupted
"""

_KEYGEN = """\
examples:
  archive-reader keygen
  archive-reader keygen --out phone.pem --bits 4096

Two files are made: FILE, the private key, and FILE.pub, its public half. Existing files are
never overwritten. Copy the private key to a safe place: what was encrypted for a lost key is lost.
"""

_ENABLE = """\
examples:
  archive-reader enable romeo@example.org
  archive-reader enable romeo@example.org --key laptop.pem --key phone.pem.pub
  archive-reader enable romeo@example.org --plain

A key may be given by either of its files; the public one needs no passphrase. Only public halves
are sent. What is archived can be read with each one of the keys.
"""

_LIST = """\
examples:
  archive-reader list romeo@example.org --with juliet@example.org
  archive-reader list romeo@example.org --start 2026-11-01 --end 2026-12-01 --json

Times are local unless they say otherwise: 2026-11-21, "2026-11-21 10:00", 2026-11-21T10:00:00Z.
"""

_READ = """\
examples:
  archive-reader read romeo@example.org --last 50
  archive-reader read romeo@example.org --with juliet@example.org --start 2026-11-21
  archive-reader read romeo@example.org --key old.pem --key new.pem --json

Lines marked "!" tell what could not be opened, was moved or repeated, or is missing; the exit code
is 4 then. --with and --start together may name one collection exactly, as list shows them.
What the checks cannot show: who encrypted a message, as anybody can who has the public key, and
whether the last messages of a collection are missing.
"""

_EXPORT = """\
examples:
  archive-reader export romeo@example.org --format html --out letters.html
  archive-reader export romeo@example.org --format jsonl --out all.jsonl --key old.pem --key new.pem
  archive-reader export romeo@example.org --format xep --encrypted --out backup

xep is XEP-0136's own file format, one file a contact: --out names a new folder. The others are one
file: jsonl (JSON Lines) loses nothing, mbox is for mail programs, markdown and html are to be read. What
could not be opened, or is suspicious, is marked in each; the exit code is 4 then. Existing files
are never overwritten, and a file is there whole or not at all.
"""

_OPEN = """\
examples:
  archive-reader open romeo.xml
  archive-reader open romeo.xml --key old.pem --format html --out letters.html

FILE is what the operator of a server gives you with archive-crypt export, or a file of
export --format xep. It is opened here, without any server.
"""


class _Parser(argparse.ArgumentParser):
    """Wrong usage is exit code 1 here, as 2 means something else."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}. See {self.prog} --help.\n")


def parser() -> argparse.ArgumentParser:
    """What ``archive-reader`` takes; `command` in its result names the command."""
    whole = _Parser(
        prog="archive-reader",
        description=_OVERVIEW,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"archive-reader {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_keygen(_command(commands, "keygen", "make a key pair", _KEYGEN))
    _add_enable(_command(commands, "enable", "have your messages archived, encrypted", _ENABLE))
    _add_list(_command(commands, "list", "show which collections there are", _LIST))
    _add_read(_command(commands, "read", "show conversations, opened and checked", _READ))
    _add_export(_command(commands, "export", "write conversations into files", _EXPORT))
    _add_open(_command(commands, "open", "show a file of an archive, or write it into another", _OPEN))
    return whole


def _command(
    commands: argparse._SubParsersAction[_Parser], name: str, summary: str, epilog: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--json", action="store_true", help="results as JSON on stdout, one object a line")
    return command


def _add_keygen(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="default: archive-reader/key.pem in $XDG_CONFIG_HOME, or in ~/.config",
    )
    command.add_argument("--bits", type=int, default=3072, help="of the RSA key, 2048 to 8192; default: 3072")
    command.add_argument("--no-passphrase", action="store_true", help="leave the private key in clear")
    _add_passphrase(command)


def _add_enable(command: argparse.ArgumentParser) -> None:
    _add_account(command)
    _add_keys(command, "encrypt for this key; may be given again")
    _add_passphrase(command)
    command.add_argument("--plain", action="store_true", help="archive in clear, for the server to read")
    command.add_argument(
        "--scope",
        choices=("global", "stream"),
        default="global",
        help="whether the setting is for all later connections (default), or this one, to try it",
    )


def _add_list(command: argparse.ArgumentParser) -> None:
    _add_account(command)
    _add_filter(command)
    command.add_argument("--end", type=moment, metavar="TIME", help="only what began before")
    command.add_argument("--limit", type=positive, metavar="N", help="at most N, the oldest first")


def _add_read(command: argparse.ArgumentParser) -> None:
    _add_account(command)
    _add_filter(command)
    _add_keys(command, "open with this private key; may be given again")
    _add_passphrase(command)
    _add_openpgp(command)
    command.add_argument("--last", type=positive, metavar="N", help="only the last N messages")


def _add_export(command: argparse.ArgumentParser) -> None:
    _add_account(command)
    _add_filter(command)
    command.add_argument("--end", type=moment, metavar="TIME", help="only what began before")
    _add_keys(command, "open with this private key; may be given again")
    _add_passphrase(command)
    _add_openpgp(command)
    command.add_argument("--format", choices=FORMATS, required=True, help="of the file")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file; xep: a folder")
    command.add_argument(
        "--encrypted", action="store_true", help="xep only: leave sealed what is sealed; takes no key"
    )


def _add_open(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, nargs="+", metavar="FILE", help="XEP-0136's own file format")
    _add_keys(command, "open with this private key; may be given again")
    _add_passphrase(command)
    _add_openpgp(command)
    command.add_argument("--format", choices=FORMATS, help="write it so, instead of showing it")
    command.add_argument("--out", type=Path, metavar="FILE", help="a new file; xep: a folder")


def _add_account(command: argparse.ArgumentParser) -> None:
    command.add_argument("jid", metavar="JID", help="your account, such as romeo@example.org")
    command.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="else $ARCHIVE_READER_PASSWORD, else it is asked for",
    )
    command.add_argument("--host", help="where the server is, if not where SRV records say")
    command.add_argument("--port", type=port, help="default: 5222")
    command.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="trust the server's certificate by this one, instead of the system's",
    )


def _add_filter(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--with", dest="with_", type=address, metavar="JID", help="only with this contact, room or domain"
    )
    command.add_argument("--start", type=moment, metavar="TIME", help="only what began then or later")


def _add_keys(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--key", type=Path, action="append", metavar="FILE", help=f"{what}; default: as keygen's"
    )


def _add_passphrase(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="of the private key; else $ARCHIVE_READER_PASSPHRASE, else it is asked for",
    )


def _add_openpgp(command: argparse.ArgumentParser) -> None:
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


def address(text: str) -> str:
    """A JID, just as it was given.

    :raises argparse.ArgumentTypeError: it is none.
    """
    if jids.read(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no JID such as juliet@example.org or example.org")
    return text


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
