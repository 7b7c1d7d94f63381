"""Passwords and passphrases: from a file, from the environment, from the desktop's keyring, or asked for
at the terminal. Nothing here prints, logs or keeps one.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from archive_crypt.reader.failures import Problem

#: What secrets are filed under in a keyring: ``keyring set archive-reader romeo@example.org``.
SERVICE = "archive-reader"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a secret comes from: the first of `file`, the environment's `variable` and the keyring that
    has it, else the terminal. `option` is what the user is told to give instead."""

    file: Path | None
    variable: str
    option: str

    def get(self, prompt: str, *, entry: str = "", twice: bool = False) -> str:
        """The secret, never empty. `entry`: the user name that a keyring may have it under; '': none has.
        `twice`: at the terminal it is asked for again, and compared.

        :raises Problem: it is empty or cannot be had.
        """
        secret = self._given()
        if secret is None and entry:
            secret = _kept(entry)
        if secret is None:
            secret = self._asked(prompt)
            if twice and secret != self._asked(f"{prompt}, again"):
                raise Problem("The two are not the same. Nothing was done.")
        if not secret:
            raise Problem(f"{prompt}: it is empty.")
        return secret

    def _given(self) -> str | None:
        if self.file is None:
            return os.environ.get(self.variable)
        try:
            return self.file.read_text("utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise Problem(f"{self.file}: {_reason(error)}") from None

    def _asked(self, prompt: str) -> str:
        with warnings.catch_warnings():
            # Without a terminal getpass would warn, and then read and show it in clear.
            warnings.simplefilter("error", getpass.GetPassWarning)
            try:
                return getpass.getpass(f"{prompt}: ")
            except (getpass.GetPassWarning, EOFError):
                where = f"{self.option} FILE or {self.variable}"
                raise Problem(f"{prompt}: there is no terminal to ask at; give {where}.") from None


async def confirm(question: str, option: str) -> bool:
    """Whether the user says yes at the terminal. Ctrl-C ends the waiting, as `input` would not in asyncio.

    :raises Problem: there is no terminal; `option` is what to give instead.
    """
    if not sys.stdin.isatty():
        raise Problem(f"{question} There is no terminal to ask at; give {option} if it is meant.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    loop.add_reader(sys.stdin, answered.set)
    try:
        await answered.wait()
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    finally:
        loop.remove_reader(sys.stdin)


def _kept(entry: str) -> str | None:
    """What the desktop's keyring has under this user name; None: nothing, or there is no keyring."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:  # it is not needed to read an archive
        return None
    try:
        return keyring.get_password(SERVICE, entry)
    except KeyringError:  # there is none, it is locked, the user said no: then he is asked here
        return None


def _reason(error: Exception) -> str:
    return (error.strerror or "unreadable") if isinstance(error, OSError) else "it is not a text"
