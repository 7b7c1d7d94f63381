"""``archive-crypt``: what an operator does at the command line. Every failure is one line with its mend."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2

from archive_crypt import __version__
from archive_crypt.config import Config, Host, load
from archive_crypt.crypto import lockedmem
from archive_crypt.errors import ConfigurationError, LockedMemoryUnavailable
from archive_crypt.hosts.tls import certificate_path, server_tls
from archive_crypt.store.migrate import migrate, pending

#: PostgreSQL from this version on is what the tests run against.
_OLDEST_POSTGRESQL = 150000


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code: 0 done, 1 it is not as it should be, 2 usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.do(options) or 0)
    except ConfigurationError as error:
        print(f"archive-crypt: {error}", file=sys.stderr)
    except psycopg2.Error as error:
        print(f"archive-crypt: the database: {_first_line(error)}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="archive-crypt",
        description="Message archives for XMPP that cannot read themselves.",
        epilog="The server itself runs under twistd: twistd -n archive-crypt --config FILE",
    )
    parser.add_argument("--version", action="version", version=f"archive-crypt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("migrate", help="bring the database's tables up to date")
    command.add_argument("--config", type=Path, required=True, metavar="FILE")
    command.set_defaults(do=_migrate)

    command = commands.add_parser("check", help="say what is wrong before a start")
    command.add_argument("--config", type=Path, required=True, metavar="FILE")
    command.add_argument("--json", action="store_true", help="the findings as JSON, for scripts")
    command.set_defaults(do=_check)

    command = commands.add_parser("run", help="try it: the server with a PostgreSQL of its own")
    command.add_argument("--data", type=Path, default=Path(".data"), metavar="DIR", help="default: .data")
    command.add_argument("--port", type=_port, default=5222, help="default: 5222; 0: any that is free")
    command.add_argument("--json", action="store_true", help="say where it is as one line of JSON")
    command.set_defaults(do=_run)

    command = commands.add_parser("demo", help="watch it: two clients talk, and nobody else can read it")
    command.set_defaults(do=_demo)
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give 0 to 65535")
    return int(text)


def _migrate(options: argparse.Namespace) -> None:
    applied = migrate(load(options.config).database.dsn)
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("The tables are up to date.")


def _check(options: argparse.Namespace) -> int:
    findings = list(_findings(options.config))
    if options.json:
        print(json.dumps([{"ok": ok, "what": what, "found": found} for ok, what, found in findings]))
    else:
        for ok, what, found in findings:
            print(f"{'ok ' if ok else 'BAD'}  {what}: {found}")
    return 0 if all(ok for ok, _, _ in findings) else 1


def _findings(path: Path) -> Iterator[tuple[bool, str, str]]:
    try:
        config = load(path)
    except ConfigurationError as error:
        yield False, "configuration", str(error)
        return
    yield True, "configuration", str(path)
    yield from _database_findings(path, config)
    yield _memory_finding()
    yield from _host_findings(path, config.host)


def _database_findings(path: Path, config: Config) -> Iterator[tuple[bool, str, str]]:
    try:
        with closing(psycopg2.connect(config.database.dsn, connect_timeout=5)) as connection:
            version = connection.server_version
        missing = pending(config.database.dsn)
    except psycopg2.Error as error:
        yield False, "database", f"{_first_line(error)}; see [database] dsn in {path}"
        return
    name = f"PostgreSQL {version // 10000}"
    if version < _OLDEST_POSTGRESQL:
        yield False, "database", f"{name} is older than {_OLDEST_POSTGRESQL // 10000}: upgrade it"
    else:
        yield True, "database", name
    if missing:
        yield False, "tables", f"{len(missing)} migration(s) missing: archive-crypt migrate --config {path}"
    else:
        yield True, "tables", "up to date"


def _memory_finding() -> tuple[bool, str, str]:
    try:
        page = lockedmem.new_page()
    except LockedMemoryUnavailable:
        return False, "key memory", "nothing can be locked: raise LimitMEMLOCK (ulimit -l) to 1 MiB or more"
    kind = page.kind
    page.close()
    if kind == lockedmem.LOCKED:
        return True, "key memory", "locked, but readable to root (this kernel gives no memfd_secret)"
    return True, "key memory", "secret even from root (memfd_secret)"


def _host_findings(path: Path, host: Host) -> Iterator[tuple[bool, str, str]]:
    try:
        from archive_crypt.hosts.embedded import EmbeddedServer  # an extra: there may be none

        EmbeddedServer(None, host.domain, host.users)
    except ImportError as error:
        yield False, "host", f"{error.name} is missing: install archive_crypt with its extra 'embedded'"
        return
    except ConfigurationError as error:
        yield False, "host", f"{error}; see [host] in {path}"
        return
    if host.users:
        yield True, "users", f"{len(host.users)} on {host.domain}"
    else:
        yield False, "users", f"there are none: add [host.users] to {path}"
    yield _certificate_finding(path, host)
    yield _listening_finding(path, host)


def _certificate_finding(path: Path, host: Host) -> tuple[bool, str, str]:
    """Makes none: it would belong to whoever checks, who need not be whom the server runs as."""
    folder = Path(host.data).absolute()
    certificate = certificate_path(folder, host.domain)
    try:
        if certificate.exists() and (folder / f"{host.domain}.key").exists():
            server_tls(folder, host.domain)
            return True, "certificate", str(certificate)
        there = next(place for place in (folder, *folder.parents) if place.exists())
    except ConfigurationError as error:
        return False, "certificate", f"{error}; see [host] data in {path}"
    except OSError as error:
        return False, "certificate", f"{certificate}: {error.strerror}; see [host] data in {path}"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return False, "certificate", f"none can be kept in {folder}; see [host] data in {path}"
    return True, "certificate", f"{certificate} will be made"


def _listening_finding(path: Path, host: Host) -> tuple[bool, str, str]:
    where = f"{host.interface or 'all interfaces'} port {host.port}"
    family = socket.AF_INET6 if ":" in host.interface else socket.AF_INET
    try:
        with socket.socket(family) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as twisted does
            listening.bind((host.interface, host.port))
            listening.listen()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return False, "listening", f"{where}: {why}; see [host] interface and port in {path}"
    return True, "listening", where


def _run(options: argparse.Namespace) -> None:
    from archive_crypt.trial import run

    run(options.data, options.port, options.json)


def _demo(options: argparse.Namespace) -> int:
    from archive_crypt.demo import main as tell

    return int(tell())


def _first_line(error: psycopg2.Error) -> str:
    """What the driver says, without the lines that could quote a statement."""
    text = str(error).strip().partition("\n")[0]
    if text.startswith("invalid "):  # it quotes the DSN, which may hold a password
        return "its DSN is not one that libpq understands"
    return text or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
