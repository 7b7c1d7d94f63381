"""``archive-crypt``: what an operator does at the command line. Every failure is one line with its mend."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
from contextlib import closing
from pathlib import Path

import psycopg2

from archive_crypt import __version__, bundle, checks, hardening
from archive_crypt.config import load
from archive_crypt.core import jids
from archive_crypt.databasechecks import first_line
from archive_crypt.errors import ConfigurationError
from archive_crypt.store.migrate import migrate


class Unusable(ConfigurationError):
    """The service cannot run as it is configured."""


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code: 0 done, 1 it is not as it should be, 2 usage; of `serve`
    78 if no restart would help."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.do(options) or 0)
    except Unusable as error:
        print(f"archive-crypt: {error}", file=sys.stderr)
        return os.EX_CONFIG
    except ConfigurationError as error:
        print(f"archive-crypt: {error}", file=sys.stderr)
    except psycopg2.Error as error:
        print(f"archive-crypt: the database: {first_line(error)}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="archive-crypt",
        description="Message archives for XMPP that cannot read themselves.",
        epilog="The service also runs under twistd: twistd -n archive-crypt --config FILE",
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

    _add_export(commands)

    command = commands.add_parser("serve", help="run the service: a component of your server, or a server")
    command.add_argument("--config", type=Path, required=True, metavar="FILE")
    command.set_defaults(do=_serve)

    command = commands.add_parser("run", help="try it: the server with a PostgreSQL of its own")
    command.add_argument("--data", type=Path, default=Path(".data"), metavar="DIR", help="default: .data")
    command.add_argument("--port", type=_port, default=5222, help="default: 5222; 0: any that is free")
    command.add_argument("--json", action="store_true", help="say where it is as one line of JSON")
    command.set_defaults(do=_run)

    command = commands.add_parser(
        "audit-memory", help="prove what a server forgets, by looking into its memory"
    )
    command.add_argument("--runs", type=_count, default=12, metavar="N", help="default: 12")
    command.add_argument("--json", action="store_true", help="all that was found as JSON")
    command.set_defaults(do=_audit_memory)

    command = commands.add_parser("demo", help="watch it: two clients talk, and nobody else can read it")
    command.set_defaults(do=_demo)
    return parser


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "export", help="write a user's whole archive as a file; what is sealed stays so"
    )
    command.add_argument("jid", metavar="JID", help="the user, such as romeo@example.org")
    command.add_argument("--config", type=Path, required=True, metavar="FILE")
    command.add_argument("--out", type=Path, metavar="FILE", help="a new file; default: standard output")
    command.set_defaults(do=_export)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs: give 1 or more")
    return int(text)


def _migrate(options: argparse.Namespace) -> None:
    applied = migrate(load(options.config).database.dsn)
    for name in applied:
        print(f"applied {name}")
    if not applied:
        print("The tables are up to date.")


def _check(options: argparse.Namespace) -> int:
    findings = []
    for finding in checks.findings(options.config):
        findings.append(finding)
        if not options.json:  # as they come: some take seconds
            mark = ("warn" if finding.warning else "ok  ") if finding.ok else "BAD "
            print(f"{mark} {finding.what}: {finding.found}", flush=True)
    if options.json:
        print(json.dumps([finding._asdict() for finding in findings]))
    return 0 if all(finding.ok for finding in findings) else 1


def _export(options: argparse.Namespace) -> int:
    jid = jids.read(options.jid)
    if jid is None:
        raise ConfigurationError(f"{options.jid!r} is no JID such as romeo@example.org")
    owner = jid.userhost()
    with closing(psycopg2.connect(load(options.config).database.dsn, connect_timeout=5)) as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cursor:
            parts = bundle.written(cursor, owner, _tell_progress)
            first = next(parts, None)
            if first is None:
                raise ConfigurationError(f"{owner} has no archive here: nothing was written")
            try:
                bundle.put(itertools.chain((first,), parts), options.out)
            except BrokenPipeError:  # whoever reads our output has had enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 128 + signal.SIGPIPE
    return 0


def _tell_progress(done: int, count: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == count else ""
        print(f"\r{done:,} of {count:,} collections", end=end, file=sys.stderr, flush=True)


def _serve(options: argparse.Namespace) -> None:
    try:
        config = load(options.config)
        if config.hardening.memory:
            hardening.enter()
        from archive_crypt.serving import serve  # late: it chooses the reactor

        serve(config)
    except ConfigurationError as error:
        raise Unusable(str(error)) from None


def _run(options: argparse.Namespace) -> None:
    from archive_crypt.trial import run

    run(options.data, options.port, options.json)


def _audit_memory(options: argparse.Namespace) -> int:
    try:
        from archive_crypt.audit.command import main as audit  # late: it holds what opens
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"it takes {error.name}: install the extras embedded and reader") from None
    return audit(options.runs, options.json)


def _demo(options: argparse.Namespace) -> int:
    from archive_crypt.demo import main as tell

    return int(tell())


if __name__ == "__main__":
    sys.exit(main())
