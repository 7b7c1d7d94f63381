"""``archive-reader``: the owner's program at the command line. The only place that assembles it.

A failure is one line on stderr that says what happened and what to do, and an exit code.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from io import TextIOWrapper

from archive_crypt.reader.commands import COMMANDS
from archive_crypt.reader.failures import DONE, Failure
from archive_crypt.reader.failures import failure as failure_of
from archive_crypt.reader.given import PASSPHRASE, PASSWORD
from archive_crypt.reader.show import note
from archive_crypt.reader.usage import Doing, parser

__all__ = ["PASSPHRASE", "PASSWORD", "main", "run"]

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


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code, as --help tells them."""
    # Libraries' logs would put tracebacks before the user, and stanzas with passwords into files.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a letter is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    _end_in_order()
    outcome = _Outcome()
    try:
        with outcome:
            outcome.code = asyncio.run(_begin(arguments))
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return outcome.code


async def run(arguments: list[str] | None = None) -> int:
    """`main` for those who have a running loop of asyncio's; what is asked at the terminal blocks it."""
    outcome = _Outcome()
    with outcome:
        outcome.code = await _begin(arguments)
    return outcome.code


def _end_in_order() -> None:
    """A terminal that is closed, or a kill, is as Ctrl-C: else half an export, and the OpenPGP keys that
    were lent to gpg, would be left lying."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))


class _Outcome:
    """The exit code. As a context, it makes of what ends a command one line and that code."""

    code = DONE

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        failure = failure_of(error)
        if failure is not None:
            note(str(failure))
            self.code = failure.exit_code
            return True
        if not isinstance(error, Exception) or isinstance(error, BrokenPipeError):
            return False
        # Its text, and a traceback, might hold anything.
        note(f"A fault of this program ({type(error).__name__}); please report it with what you did.")
        self.code = Failure.exit_code
        return True


def _begin(arguments: list[str] | None) -> Doing:
    options = parser(_OVERVIEW, _EPILOG, COMMANDS).parse_args(arguments)
    doing: Doing = options.begin(options)
    return doing


if __name__ == "__main__":
    sys.exit(main())
