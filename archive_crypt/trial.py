"""``archive-crypt run``: the whole thing on one machine, with a PostgreSQL of its own, for trying.

An operator's server is started by `serve`, or by twistd.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.logger import globalLogBeginner, textFileLogObserver

from archive_crypt import serving
from archive_crypt.config import Config, Database, Host
from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.postgres import EmbeddedPostgres
from archive_crypt.hosts.tls import certificate_path
from archive_crypt.store.migrate import migrate

DOMAIN = "localhost"
USERS = ("romeo", "juliet", "nurse")


def postgres_folder(data: Path) -> Path:
    """Where `run` keeps its PostgreSQL."""
    return data / "postgres"


def run(data: Path, port: int, as_json: bool) -> None:
    """Serve until SIGINT or SIGTERM; `data` holds the database, the certificate and the log.

    :raises ConfigurationError: it cannot start; the text says why.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        log = (data / "archive.log").open("a")
    except OSError as error:
        raise ConfigurationError(f"--data: {data} cannot be a folder for data: {error.strerror}") from None
    with log:
        observer: Any = textFileLogObserver(log)
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        with EmbeddedPostgres(postgres_folder(data), _say) as dsn:
            migrate(dsn)
            host = Host(DOMAIN, port=port, data=str(data / "tls"), users={user: user for user in USERS})
            _serve(Config(Database(dsn), host=host), as_json)


def _say(text: str) -> None:
    print(f"archive-crypt: {text}", file=sys.stderr)


def _serve(config: Config, as_json: bool) -> None:
    serving.run(config, lambda service: _announce(config, service.address.port, as_json))
    if not as_json:
        print("Stopped: collections closed, keys destroyed.")


def _announce(config: Config, port: int, as_json: bool) -> None:
    facts = {
        "host": config.host.interface,
        "port": port,
        "domain": config.host.domain,
        "users": list(config.host.users),
        "certificate": str(certificate_path(Path(config.host.data), config.host.domain).absolute()),
        "pid": os.getpid(),
        "dsn": config.database.dsn,
    }
    if as_json:
        print(json.dumps(facts), flush=True)
        return
    print(
        f"""archive_crypt is running.

  XMPP         {facts["host"]} port {port}, domain {facts["domain"]}, STARTTLS
  certificate  {facts["certificate"]}
  users        {", ".join(config.host.users)}: each one's password is the name
  database     {facts["dsn"]}
  process      {facts["pid"]}

Stop it with Ctrl-C, or: kill {facts["pid"]}""",
        flush=True,
    )
