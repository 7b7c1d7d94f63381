"""Runs the service in the foreground until it is told to stop, with an exit code that says how it ended.

Knows the reactor, as it starts and stops it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger, globalLogBeginner, textFileLogObserver

from archive_crypt import hardening
from archive_crypt.config import Config
from archive_crypt.errors import ConfigurationError
from archive_crypt.tap import ArchiveService

_log = Logger()


def serve(config: Config) -> None:
    """Run until SIGINT or SIGTERM, logging to the standard error.

    :raises ConfigurationError: it cannot start, or the server beside which it runs will not have it.
    """
    observer: Any = textFileLogObserver(sys.stderr)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    if config.hardening.memory:
        hardening.tell(_log)
    run(config, lambda _: None)


def run(config: Config, started: Callable[[ArchiveService], None]) -> None:
    """The same, without a log of its own; `started` is called once it runs.

    :raises ConfigurationError: as above.
    """
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    service = ArchiveService(config, reactor)
    failures: list[ConfigurationError] = []

    def start() -> None:
        try:
            service.startService()
        except Exception as error:  # noqa: BLE001 - whatever it is, there is nothing to wait for
            if not isinstance(error, ConfigurationError):
                _log.failure("cannot start")
                error = ConfigurationError(f"cannot start: {type(error).__name__}, see the log")
            failures.append(error)
            reactor.stop()
            return
        reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
        started(service)

    reactor.callWhenRunning(start)
    reactor.run()
    if service.failure is not None:
        failures.append(service.failure)
    if failures:
        raise failures[0]
