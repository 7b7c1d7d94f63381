"""``archive-reader``: the owner's program at the command line. The only place that assembles it.

A failure is one line on stderr that says what happened and what to do, and an exit code.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.reader import keys, reading
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.asking import Source
from archive_crypt.reader.connection import Account, Connection
from archive_crypt.reader.failures import DONE, SUSPICIOUS, Failure, Problem
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.show import Lines, Terminal, note
from archive_crypt.reader.usage import parser

PASSWORD, PASSPHRASE = "ARCHIVE_READER_PASSWORD", "ARCHIVE_READER_PASSPHRASE"  # noqa: S105 - names of variables


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code, as --help tells them."""
    # Libraries' logs would put tracebacks before the user, and stanzas with passwords into files.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that lacks a letter is no reason to fail
    try:
        return asyncio.run(run(arguments))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


async def run(arguments: list[str] | None = None) -> int:
    """`main` for those who have a running loop of asyncio's; may be interrupted."""
    options = parser().parse_args(arguments)
    try:
        return await _COMMANDS[options.command](options)
    except Failure as failure:
        note(str(failure))
        return failure.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - its text, and a traceback, might hold anything
        note(f"A fault of this program ({type(error).__name__}); please report it with what you did.")
        return Failure.exit_code


async def _keygen(options: argparse.Namespace) -> int:
    path = options.out or keys.default_path()
    keys.check_free(path)
    passphrase = None
    if not options.no_passphrase:
        passphrase = _passphrase(options).get(f"New passphrase for {path}", twice=True).encode()
    _display(options).key_made(keys.create(path, options.bits, passphrase), passphrase is not None)
    return DONE


async def _enable(options: argparse.Namespace) -> int:
    if options.plain and options.key:
        raise Problem("--plain archives in clear and takes no --key.")
    connection = _connection(options)
    public = [] if options.plain else _public_keys(options)
    async with connection:
        archive = await Archive.find(connection, *(("auto",) if options.plain else ("auto", "encrypt")))
        lasts = await archive.set_auto(
            [key for _, key in public], encrypt=bool(public), lasting=options.scope == "global"
        )
    _display(options).enabled(public, lasts)
    return DONE


async def _list(options: argparse.Namespace) -> int:
    found: list[Listed] = []
    async with _connection(options) as connection:
        archive = await Archive.find(connection, "manage")
        async for collection in archive.collections(Query(options.with_, options.start, options.end)):
            found.append(collection)
            if len(found) == options.limit:
                break
    _display(options).collections(found)
    return DONE


async def _read(options: argparse.Namespace) -> int:
    display = _display(options)
    connection = _connection(options)
    book = Book(_private_keys(options))
    async with connection:
        archive = await Archive.find(connection, "manage")
        chosen = await reading.choose(archive, Query(options.with_, options.start))
        if options.last is None:
            troubles = await reading.read(archive, chosen, book, display)
        else:
            troubles = await reading.read_last(archive, chosen, book, display, options.last)
    if not chosen:
        note("No collection matches.")
    if troubles:
        note(f"{troubles} place(s) could not be read, or are suspicious; each says so where it stands.")
    return SUSPICIOUS if troubles else DONE


def _connection(options: argparse.Namespace) -> Connection:
    account = Account(options.jid, options.host, options.port, options.ca)
    source = Source(options.password_file, PASSWORD, "--password-file")
    return Connection(account, source.get(f"Password of {account.bare}"))


def _display(options: argparse.Namespace) -> Terminal | Lines:
    return Lines() if options.json else Terminal(getattr(options, "jid", ""))


def _passphrase(options: argparse.Namespace) -> Source:
    return Source(options.passphrase_file, PASSPHRASE, "--passphrase-file")


def _public_keys(options: argparse.Namespace) -> list[tuple[Path, PublicKey]]:
    """The public halves of the keys given, each once."""
    named: dict[str, tuple[Path, PublicKey]] = {}
    for path in options.key or [keys.default_path()]:
        key = keys.load_public(path, _asker(options))
        named.setdefault(key.name, (path, key))
    return list(named.values())


def _private_keys(options: argparse.Namespace) -> list[PrivateKey]:
    """The keys given, or the default one if there is any: what is in clear can be read without."""
    paths = options.key or [keys.default_path()]
    if not options.key and not paths[0].exists():
        note(f"There is no private key at {paths[0]}, so what is encrypted stays closed; see --key.")
        return []
    for path in paths:
        if path.exists() and not keys.is_private_to_its_owner(path):
            note(f"{path} can be read by others on this computer: chmod 600 {path}")
    return [keys.load_private(path, _asker(options)) for path in paths]


def _asker(options: argparse.Namespace) -> keys.Asker:
    source = _passphrase(options)
    return lambda path: source.get(f"Passphrase of {path}").encode()


_COMMANDS = {"keygen": _keygen, "enable": _enable, "list": _list, "read": _read}

if __name__ == "__main__":
    sys.exit(main())
