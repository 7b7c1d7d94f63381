"""``archive-reader``: the owner's program at the command line. The only place that assembles it.

A failure is one line on stderr that says what happened and what to do, and an exit code.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.reader import exporting, keys, ox, reading
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.asking import Source
from archive_crypt.reader.connection import Account, Connection
from archive_crypt.reader.failures import DONE, SUSPICIOUS, Failure, Problem
from archive_crypt.reader.failures import failure as failure_of
from archive_crypt.reader.formats import files
from archive_crypt.reader.formats.xepfile import ArchiveFile
from archive_crypt.reader.opening import Book, Entry
from archive_crypt.reader.openpgp import Keyring
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.show import Lines, Terminal, bar, note
from archive_crypt.reader.usage import parser

# Names of variables.
PASSWORD, PASSPHRASE = "ARCHIVE_READER_PASSWORD", "ARCHIVE_READER_PASSPHRASE"  # noqa: S105
OPENPGP_PASSPHRASE = "ARCHIVE_READER_OPENPGP_PASSPHRASE"  # noqa: S105


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code, as --help tells them."""
    # Libraries' logs would put tracebacks before the user, and stanzas with passwords into files.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a letter is no reason to fail
            stream.reconfigure(errors="backslashreplace")
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


# Each command asks the user for what it needs at once, and gives what is to be done then: while
# asyncio runs, Ctrl-C would not interrupt a question.

Doing = Coroutine[Any, Any, int]


def _begin(arguments: list[str] | None) -> Doing:
    options = parser().parse_args(arguments)
    return _COMMANDS[options.command](options)


def _keygen(options: argparse.Namespace) -> Doing:
    path = options.out or keys.default_path()
    keys.check_free(path)
    passphrase = None
    if not options.no_passphrase:
        passphrase = (
            _passphrase(options)
            .get(f"New passphrase for {path}", twice=True)
            .encode(errors="surrogateescape")
        )

    async def keygen() -> int:
        _display(options).key_made(keys.create(path, options.bits, passphrase), passphrase is not None)
        return DONE

    return keygen()


def _enable(options: argparse.Namespace) -> Doing:
    if options.plain and options.key:
        raise Problem("--plain archives in clear and takes no --key.")
    connection = _connection(options)
    public = [] if options.plain else _public_keys(options)
    lasting = options.scope == "global"

    async def enable() -> int:
        async with connection:
            archive = Archive(connection)
            given = [key for _, key in public]
            lasts = await archive.set_auto(given, encrypt=bool(given), lasting=lasting)
        _display(options, options.jid).enabled(public, lasts)
        return DONE

    return enable()


def _list(options: argparse.Namespace) -> Doing:
    connection = _connection(options)
    query = Query(options.with_, options.start, options.end)

    async def list_() -> int:
        async with connection:
            archive = Archive(connection)
            found = await reading.listed(archive, query, options.limit)
        _display(options).collections(found)
        return DONE

    return list_()


def _read(options: argparse.Namespace) -> Doing:
    connection = _connection(options)
    private, display = _private_keys(options), _display(options, options.jid)
    query = Query(options.with_, options.start)
    stack, keyring = _openpgp(options)

    async def read() -> int:
        with stack:
            async with connection:
                archive = Archive(connection)
                chosen = await reading.choose(archive, query)
                book = Book(private, inner=_inner(keyring, options.jid))
                troubles = await reading.read(archive, chosen, book, display, _report, options.last)
        if not chosen:
            note("No collection matches.")
        return _ended(troubles)

    return read()


def _export(options: argparse.Namespace) -> Doing:
    if options.encrypted and (options.format != "xep" or options.key or options.openpgp_key):
        raise Problem("--encrypted goes with --format xep, and takes no key.")
    files.check_free(options.out)
    connection = _connection(options)
    private = [] if options.encrypted else _private_keys(options)
    query = Query(options.with_, options.start, options.end)
    stack, keyring = _openpgp(options)

    async def export() -> int:
        with stack:
            async with connection:
                archive = Archive(connection)
                chosen = await reading.choose(archive, query)
                if not chosen:
                    note("No collection matches: nothing was written.")
                    return DONE
                book = Book(private, inner=_inner(keyring, options.jid))
                done = await _written(options, archive, chosen, book)
        return _exported(options, done)

    return export()


async def _written(
    options: argparse.Namespace, archive: Archive, chosen: Sequence[Listed], book: Book
) -> exporting.Summary:
    with _progress(len(chosen)) as progress:
        if options.encrypted:
            with files.folder(options.out, options.jid, encrypted=True) as folder:
                return await exporting.export_encrypted(archive, chosen, folder, progress, _report)
        with files.new(options.out, options.format, options.jid) as writer:
            return await exporting.export(archive, chosen, book, writer, progress, _report)


def _open(options: argparse.Namespace) -> Doing:
    if bool(options.format) is not bool(options.out):
        raise Problem("--format and --out go together: what to write, and where to.")
    found = [ArchiveFile(path) for path in options.file]
    owner = next((file.owner for file in found if file.owner), "")
    private = _private_keys(options)
    stack, keyring = _openpgp(options)
    for file in found:
        stack.callback(file.close)

    async def open_() -> int:
        transcripts = (
            transcript
            for file in found
            for transcript in file.transcripts(Book(private, inner=_inner(keyring, owner)), trusted=False)
        )
        with stack, _progress(None) as progress:
            if not options.format:
                done = exporting.show(transcripts, _display(options, owner or "me"), lambda _: None)
                return _ended(done.troubles)
            with files.new(options.out, options.format, owner) as writer:
                done = exporting.rewrite(transcripts, writer, progress)
        return _exported(options, done)

    return open_()


def _ended(troubles: int) -> int:
    if troubles:
        note(f"{troubles} place(s) could not be read, or are suspicious; each says so where it stands.")
    return SUSPICIOUS if troubles else DONE


def _exported(options: argparse.Namespace, done: exporting.Summary) -> int:
    _display(options, "").exported(
        options.out, options.format, done.collections, done.messages, done.troubles
    )
    return _ended(done.troubles)


@contextmanager
def _progress(total: int | None) -> Iterator[exporting.Progress]:
    with bar(total) as tell:
        yield lambda summary: tell(summary.collections, summary.messages)


def _openpgp(options: argparse.Namespace) -> tuple[ExitStack, Keyring | None]:
    """The OpenPGP keys given, if any, which go when the stack is left."""
    stack = ExitStack()
    if not options.openpgp_key:
        return stack, None
    source = Source(options.openpgp_passphrase_file, OPENPGP_PASSPHRASE, "--openpgp-passphrase-file")

    def ask() -> bytes:
        return source.get("Passphrase of the OpenPGP key").encode(errors="surrogateescape")

    return stack, stack.enter_context(Keyring(options.openpgp_key, ask))


def _inner(keyring: Keyring | None, owner: str) -> Callable[[Listed, Entry], Entry] | None:
    return None if keyring is None else ox.Reader(owner, keyring).read


def _report(collection: Listed, why: str) -> None:
    note(f"{collection.with_}, {collection.told}: {why}")


def _connection(options: argparse.Namespace) -> Connection:
    account = Account(options.jid, options.host, options.port, options.ca)
    source = Source(options.password_file, PASSWORD, "--password-file")
    return Connection(account, source.get(f"Password of {account.bare}"))


def _display(options: argparse.Namespace, owner: str = "") -> Terminal | Lines:
    return Lines() if options.json else Terminal(owner)


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
    if not options.key and not os.path.exists(paths[0]):
        note(f"There is no private key at {paths[0]}, so what is encrypted stays closed; see --key.")
        return []
    for path in paths:
        if keys.is_open_to_others(path):
            note(f"{path} can be read by others on this computer: chmod 600 {path}")
    return [keys.load_private(path, _asker(options)) for path in paths]


def _asker(options: argparse.Namespace) -> keys.Asker:
    source = _passphrase(options)
    return lambda path: source.get(f"Passphrase of {path}").encode(errors="surrogateescape")


_COMMANDS: dict[str, Callable[[argparse.Namespace], Doing]] = {
    "keygen": _keygen,
    "enable": _enable,
    "list": _list,
    "read": _read,
    "export": _export,
    "open": _open,
}

if __name__ == "__main__":
    sys.exit(main())
