"""Assembles the archive and its host into a Twisted service: for twistd, and for whoever starts
it in another way. Everything is made when the service starts, in the process that will use it:
key pages do not survive the fork of a daemon.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from twisted.python import usage

from archive_crypt.archiver import Archiver
from archive_crypt.config import Config, load
from archive_crypt.core import published
from archive_crypt.core.dialect import stream_features
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.errors import ConfigurationError
from archive_crypt.expiry import Expiry
from archive_crypt.hosts.embedded import EmbeddedServer
from archive_crypt.hosts.seam import ArchivePlug
from archive_crypt.hosts.tls import server_tls
from archive_crypt.owners import REQUIRED
from archive_crypt.store.notices import Notices
from archive_crypt.store.pgsql import PgStorage
from archive_crypt.store.writer import Writer
from archive_crypt.works import Works
from archive_crypt.xmpp.handler import ArchiveHandler, offered


class Options(usage.Options):
    """What ``twistd archive-crypt`` takes."""

    optParameters = [["config", "c", None, "The configuration, a TOML file (docs/configuration.rst)"]]

    def postOptions(self) -> None:
        if self["config"] is None:
            raise usage.UsageError("Say which configuration: --config FILE")


class ArchiveService(Service):
    """The embedded XMPP server with its archive. `address` is where it listens, once started."""

    log = Logger()

    def __init__(self, config: Config, reactor: Any) -> None:
        self.address: Any = None
        self._config = config
        self._reactor = reactor

    def startService(self) -> None:
        """Listen.

        :raises ConfigurationError: the certificate or the domain cannot be used.
        :raises CannotListenError: the port is taken.
        """
        super().startService()
        config, reactor = self._config, self._reactor
        self._storage = PgStorage(config.database.dsn, reactor, config.database.readers)
        writer = Writer(self._storage, reactor)
        works = Works(self._storage, writer, KeyRing(), reactor, config.archive)
        self._archiver = Archiver(works)
        wishes = self._archiver.wishes
        self._notices = Notices(config.database.dsn, reactor, wishes.refresh, wishes.refresh_all)
        self._notices.start()
        self._expiry = Expiry(works, self._archiver.now)
        self._expiry.start()
        plug = ArchivePlug(
            self._archiver,
            partial(ArchiveHandler, self._archiver),
            offered(config.archive),
            stream_features(config.archive.automatic in REQUIRED),
            published.watched(openpgp=config.archive.openpgp_keys),
        )
        host = config.host
        tls = server_tls(Path(host.data), host.domain)
        self._server = EmbeddedServer(reactor, host.domain, host.users, tls=tls, archive=plug)
        listening: Any = self._server.listen(host.port, host.interface)
        self.address = listening.getHost()

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        """End all streams, write what is unwritten, destroy all data keys."""
        super().stopService()
        yield self._server.close()
        self._expiry.stop()
        self._notices.close()
        lost = yield self._archiver.close()
        if lost:
            self.log.error("{lost} change(s) could not be written before the end", lost=lost)
        self._storage.close()


def makeService(options: Options) -> Service:
    """The service that twistd runs.

    :raises usage.UsageError: the configuration is wrong; its text says what to mend.
    """
    from twisted.internet import reactor

    try:
        return ArchiveService(load(Path(options["config"])), reactor)
    except ConfigurationError as error:
        raise usage.UsageError(str(error)) from None
