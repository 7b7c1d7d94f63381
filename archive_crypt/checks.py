"""What `archive-crypt check` looks at before a start: file, database, memory, and the host."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2

from archive_crypt import hardening
from archive_crypt.config import Component, Config, Host, load, place
from archive_crypt.databasechecks import database_findings, spool_finding
from archive_crypt.errors import ConfigurationError
from archive_crypt.finding import Finding
from archive_crypt.hosts.component.probe import Probe
from archive_crypt.hosts.tls import certificate_path, server_tls
from archive_crypt.tap import endpoint, name_of
from archive_crypt.xmpp.handler import offered


def findings(path: Path) -> Iterator[Finding]:
    """All there is to find, one by one; later ones may take seconds."""
    try:
        config = load(path)
    except ConfigurationError as error:
        yield Finding(False, "configuration", str(error))
        return
    yield Finding(True, "configuration", str(path))
    yield from database_findings(path, config)
    if config.database.spool:
        yield spool_finding(path, config.database)
    yield from _memory_findings(path, config)
    if config.component is None:
        yield from _host_findings(path, config.host)
    else:
        yield from _component_findings(path, config, config.component)


def _memory_findings(path: Path, config: Config) -> Iterator[Finding]:
    if not config.hardening.memory:
        protection = hardening.key_memory()
        yield Finding(protection.holds, protection.what, protection.found)
        yield Finding(True, "hardening", f"off; see {place(path, 'hardening', 'memory')}")
        return
    for protection in hardening.foretold():
        # What its unit does for the server, this process cannot tell.
        yield Finding(protection.holds or not protection.ours, protection.what, protection.found)


def _host_findings(path: Path, host: Host) -> Iterator[Finding]:
    try:
        from archive_crypt.hosts.embedded import EmbeddedServer  # an extra: there may be none

        EmbeddedServer(None, host.domain, host.users)
    except ImportError as error:
        yield Finding(
            False, "host", f"{error.name} is missing: install archive_crypt with its extra 'embedded'"
        )
        return
    except ConfigurationError as error:
        yield Finding(False, "host", f"{error}; see [host] in {path}")
        return
    if host.users:
        yield Finding(True, "users", f"{len(host.users)} on {host.domain}")
    else:
        yield Finding(False, "users", f"there are none: add [host.users] to {path}")
    yield _certificate_finding(path, host)
    yield _listening_finding(path, host)


def _component_findings(path: Path, config: Config, component: Component) -> Iterator[Finding]:
    where = partial(place, path, "component")
    try:
        secret = component.secret()
    except ConfigurationError as error:
        yield Finding(False, "secret", f"{error}; see {where('secret_file')}")
        return
    if _is_running(config):
        yield Finding(
            True, "component", f"{component.jid} runs: stop it to have the server checked, or see its log"
        )
        return
    for ok, what, found in _probe(config, component, secret):
        hint = f"; see {where('port')}" if not ok and what == "component" else ""
        yield Finding(ok, what, f"{found}{hint}")


def _is_running(config: Config) -> bool:
    """Whether a service is there already: two would share what the server sends to one."""
    try:
        with (
            closing(psycopg2.connect(config.database.dsn, connect_timeout=5)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(
                "SELECT 1 FROM pg_stat_activity WHERE application_name = %s", (name_of(config)[:63],)
            )
            return cursor.fetchone() is not None
    except psycopg2.Error:
        return False


def _probe(config: Config, component: Component, secret: str) -> list[tuple[bool, str, str]]:
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    results: list[tuple[bool, str, str]] = []

    def start() -> None:
        announced = partial(offered, config.archive)
        there = endpoint(reactor, component)
        probe = Probe(reactor, there, component.jid, secret, component.domains, announced)
        probe.run().addCallback(results.extend).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    return results or [(False, "component", "the check itself failed: this is a bug")]


def _certificate_finding(path: Path, host: Host) -> Finding:
    """Makes none: it would belong to whoever checks, who need not be whom the server runs as."""
    folder = Path(host.data).absolute()
    certificate = certificate_path(folder, host.domain)
    try:
        if certificate.exists() and (folder / f"{host.domain}.key").exists():
            server_tls(folder, host.domain)
            return Finding(True, "certificate", str(certificate))
        there = next(place for place in (folder, *folder.parents) if place.exists())
    except ConfigurationError as error:
        return Finding(False, "certificate", f"{error}; see [host] data in {path}")
    except OSError as error:
        return Finding(False, "certificate", f"{certificate}: {error.strerror}; see [host] data in {path}")
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(False, "certificate", f"none can be kept in {folder}; see [host] data in {path}")
    return Finding(True, "certificate", f"{certificate} will be made")


def _listening_finding(path: Path, host: Host) -> Finding:
    where = f"{host.interface or 'all interfaces'} port {host.port}"
    family = socket.AF_INET6 if ":" in host.interface else socket.AF_INET
    try:
        with socket.socket(family) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as twisted does
            listening.bind((host.interface, host.port))
            listening.listen()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return Finding(False, "listening", f"{where}: {why}; see [host] interface and port in {path}")
    return Finding(True, "listening", where)
