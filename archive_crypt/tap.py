"""Assembles the archive and its host into a Twisted service: for twistd, and for whoever starts
it in another way. Everything is made when the service starts, in the process that will use it:
key pages do not survive the fork of a daemon.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn
from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import CannotListenError
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.logger import Logger
from twisted.python import usage

from archive_crypt import hardening
from archive_crypt.archiver import Archiver
from archive_crypt.config import Component as Joined
from archive_crypt.config import Config, Host, load
from archive_crypt.core import published
from archive_crypt.core.dialect import stream_features
from archive_crypt.crypto import lockedmem
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.errors import ConfigurationError, LockedMemoryUnavailable
from archive_crypt.expiry import Expiry
from archive_crypt.hosts.component.host import Component
from archive_crypt.hosts.seam import ArchivePlug
from archive_crypt.hosts.tls import server_tls
from archive_crypt.owners import REQUIRED
from archive_crypt.store.migrate import pending
from archive_crypt.store.notices import Notices
from archive_crypt.store.pgsql import PgStorage
from archive_crypt.store.quota import quota_of
from archive_crypt.store.spoolthread import SpoolThread
from archive_crypt.store.writer import Writer
from archive_crypt.works import Works
from archive_crypt.xmpp.handler import ArchiveHandler, offered

#: Seconds that a database has to say which tables it has, before we start without knowing.
_CONNECT_TIMEOUT = 5


class CannotStart(ConfigurationError, SystemExit):
    """Ends twistd in one line. In the foreground that is SystemExit's doing, as `code` is a text; a
    daemon tells its parent what Exception it was."""

    def __init__(self, error: ConfigurationError) -> None:
        super().__init__(str(error))
        self.code = f"archive-crypt: {error}"


class Options(usage.Options):
    """What ``twistd archive-crypt`` takes; `configuration` is what is in the file."""

    optParameters = [["config", "c", None, "The configuration, a TOML file (docs/configuration.rst)"]]

    def postOptions(self) -> None:
        if self["config"] is None:
            raise usage.UsageError("Say which configuration: --config FILE")
        try:
            self.configuration = load(Path(self["config"]))
        except ConfigurationError as error:
            raise CannotStart(error) from None  # a UsageError would be told below a page of help


class ArchiveService(Service):
    """The archive and its host: the embedded XMPP server, or a component of another.

    `address` is where the embedded server listens, once started. `failure` is why the service had the
    `reactor` stopped, None while there is no reason.
    """

    log = Logger()

    def __init__(self, config: Config, reactor: Any) -> None:
        self.address: Any = None
        self.failure: ConfigurationError | None = None
        self._config = config
        self._reactor = reactor

    def startService(self) -> None:
        """Listen.

        :raises ConfigurationError: it cannot start, and nothing of it runs; the text says why.
        """
        config, reactor = self._config, self._reactor
        if config.hardening.require_locked_memory:
            _require_locked_memory()
        self._check_tables()
        database, quota = config.database, quota_of(config.archive)
        self._spool: SpoolThread | None = None
        if database.spool:
            self._spool = SpoolThread(database.spool, database.spool_octets, reactor)
        self._storage = PgStorage(database.dsn, reactor, database.readers, quota)
        spooling = self._spool.spooling if self._spool is not None else None
        writer = Writer(self._storage, reactor, database.waiting_octets, spooling)
        works = Works(self._storage, writer, KeyRing(), reactor, config.archive)
        self._archiver = Archiver(works, streams_outlive=config.component is not None)
        try:
            self._listen() if config.component is None else self._join(config.component)
        except BaseException:
            writer.abandon()
            self._close_storage()
            raise
        wishes = self._archiver.wishes
        self._notices = Notices(
            config.database.dsn, reactor, wishes.refresh, wishes.refresh_all, name_of(config)
        )
        self._notices.start()
        self._expiry = Expiry(works, self._archiver.now)
        self._expiry.start()
        super().startService()

    def _check_tables(self) -> None:
        """Refuse tables that are out of date; a database that is away may come back with the right ones."""
        try:
            dsn = make_dsn(self._config.database.dsn, connect_timeout=_CONNECT_TIMEOUT)
        except psycopg2.ProgrammingError:  # its text quotes the DSN, which may hold a password
            raise ConfigurationError("database.dsn: is not one that libpq understands") from None
        try:
            missing = pending(dsn)
        except psycopg2.Error as error:
            self.log.warn("the tables could not be checked: {kind}", kind=type(error).__name__)
            return
        if missing:
            raise ConfigurationError(
                f"{len(missing)} migration(s) missing in the database: archive-crypt migrate --config FILE"
            )

    def _plug(self, offered: Sequence[str]) -> ArchivePlug:
        settings = self._config.archive
        return ArchivePlug(
            self._archiver,
            partial(ArchiveHandler, self._archiver),
            offered,
            stream_features(settings.automatic in REQUIRED),
            published.watched(openpgp=settings.openpgp_keys),
        )

    def _join(self, joined: Joined) -> None:
        settings = self._config.archive
        self._server: Any = Component(
            self._reactor,
            endpoint(self._reactor, joined),
            joined.jid,
            joined.secret(),
            joined.domains,
            self._plug(offered(settings)),
            partial(offered, settings),
            self._refused,
            self._archiver.now,
            forgetful=self._config.hardening.memory,
        )
        self._server.start()

    def _refused(self, error: ConfigurationError) -> None:
        self.failure = error
        self.log.critical("{why}", why=str(error))
        self._reactor.stop()

    def _listen(self) -> None:
        # An extra: a component needs no server of its own.
        from archive_crypt.hosts.embedded import EmbeddedServer

        config, host = self._config, self._config.host
        plug = self._plug(offered(config.archive))
        tls = _tls(host)
        self._server = EmbeddedServer(
            self._reactor, host.domain, host.users, tls=tls, archive=plug, limits=host.limits
        )
        try:
            listening: Any = self._server.listen(host.port, host.interface)
        except (
            CannotListenError,
            ValueError,
        ) as error:  # ValueError: an interface that nothing can be called
            why = getattr(error, "socketError", error)
            raise ConfigurationError(
                f"host: cannot listen on {host.interface} port {host.port}: {why}"
            ) from None
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
        self._close_storage()

    def _close_storage(self) -> None:
        self._storage.close()
        if self._spool is not None:
            self._spool.close()


def _require_locked_memory() -> None:
    try:
        lockedmem.new_page().close()
    except LockedMemoryUnavailable:
        raise ConfigurationError(
            "hardening.require_locked_memory: nothing can be locked: raise LimitMEMLOCK (ulimit -l)"
        ) from None


class _UnderTwistd(ArchiveService):
    """The same, whose failure to start is one line of twistd's. Hardened, it tells what twistd was not begun
    with: it is not for us to begin that anew."""

    def startService(self) -> None:
        if self._config.hardening.memory:
            hardening.close()
            hardening.tell(self.log)
        try:
            super().startService()
        except ConfigurationError as error:
            raise CannotStart(error) from None


def name_of(config: Config) -> str:
    """What a running service calls itself in the database, so that `archive-crypt check` sees it."""
    return f"archive_crypt {config.component.jid}" if config.component is not None else "archive_crypt"


def endpoint(reactor: Any, joined: Joined) -> Any:
    """Where the component connects to.

    :raises ConfigurationError: the certificate authority cannot be read.
    """
    plain: Any = HostnameEndpoint(reactor, joined.server, joined.port)
    if not joined.tls:
        return plain
    authority = None
    if joined.certificate_authority:
        try:
            pem = Path(joined.certificate_authority).read_bytes()
            authority = trustRootFromCertificates([Certificate.loadPEM(pem)])
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        except Exception:  # noqa: BLE001 - OpenSSL's own, of many kinds
            why = "holds no certificate in PEM"
        if authority is None:
            raise ConfigurationError(f"component.certificate_authority: {joined.certificate_authority} {why}")
    return wrapClientTLS(optionsForClientTLS(joined.server, authority), plain)


def _tls(host: Host) -> Any:
    try:
        return server_tls(Path(host.data), host.domain)
    except OSError as error:
        raise ConfigurationError(
            f"host.data: no certificate can be kept in {host.data}: {error.strerror}"
        ) from None


def makeService(options: Options) -> Service:
    """The service that twistd runs."""
    from twisted.internet import reactor

    return _UnderTwistd(options.configuration, reactor)
