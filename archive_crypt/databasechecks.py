"""What `archive-crypt check` looks at in the database: its version, its tables, what the role we run as may
do, and whether another could pretend to be it. Changes nothing.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from archive_crypt.config import Config, Database
from archive_crypt.errors import ConfigurationError
from archive_crypt.finding import Finding
from archive_crypt.store.migrate import pending
from archive_crypt.store.spoolfile import Seen, SpoolDamaged, look

#: PostgreSQL from this version on is what the tests run against.
_OLDEST_POSTGRESQL = 150000

_ROLES = "sql/roles.sql makes a role that may do that and no more (docs/component.rst)"

#: Of the tables of an archive, what the role cannot do, as "SELECT item".
_LACKS = """
    SELECT privilege || ' ' || t.relname FROM pg_class t, unnest(%s::text[]) AS privilege
    WHERE t.relnamespace = 'public'::regnamespace AND t.relkind = 'r' AND t.relname NOT LIKE '%%yoyo%%'
    AND NOT has_table_privilege(t.oid, privilege) ORDER BY 1
"""
_NEEDED = ["SELECT", "INSERT", "UPDATE", "DELETE"]

#: What it can do that it need not, in words.
_EXCEEDS = """
    SELECT 'is a superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper
    UNION ALL SELECT 'can make databases' FROM pg_roles WHERE rolname = current_user AND rolcreatedb
    UNION ALL SELECT 'can make roles' FROM pg_roles WHERE rolname = current_user AND rolcreaterole
    UNION ALL SELECT 'can replicate' FROM pg_roles WHERE rolname = current_user AND rolreplication
    UNION ALL SELECT 'is a member of ' || g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
        JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = current_user
    UNION ALL SELECT 'can make schemas' WHERE has_database_privilege(current_database(), 'CREATE')
    UNION ALL SELECT 'can make temporary tables' WHERE has_database_privilege(current_database(), 'TEMPORARY')
    UNION ALL SELECT 'can make tables' WHERE has_schema_privilege('public', 'CREATE')
    UNION ALL (SELECT 'can drop tables' FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND pg_has_role(relowner, 'USAGE') LIMIT 1)
    UNION ALL SELECT 'can use the schema ' || nspname FROM pg_namespace
        WHERE nspname NOT IN ('public', 'information_schema') AND nspname !~ '^pg_'
        AND has_schema_privilege(oid, 'USAGE')
"""


def database_findings(path: Path, config: Config) -> Iterator[Finding]:
    """All there is to find of the database that the configuration at `path` names."""
    dsn = config.database.dsn
    try:
        with closing(psycopg2.connect(dsn, connect_timeout=5)) as connection:
            version = connection.server_version
            missing = pending(dsn)
            yield _version(version)
            yield _tables(path, missing)
            if not missing:
                yield _rights(connection)
            yield from _link(path, connection)
    except psycopg2.Error as error:
        yield Finding(False, "database", f"{first_line(error)}; see [database] dsn in {path}")


def spool_finding(path: Path, database: Database) -> Finding:
    """Whether the spool that the configuration at `path` names can be one; makes none."""
    spool = Path(database.spool).absolute()
    seen = Seen(0, 0, None)
    try:
        if not os.access(spool.parent, os.W_OK | os.X_OK):
            why = "no such directory" if not spool.parent.is_dir() else "this user may not write there"
            return Finding(False, "spool", f"none can be kept in {spool.parent}: {why}; see {path}")
        if spool.exists() and spool.stat().st_size:
            seen = look(spool)
    except ConfigurationError as error:
        return Finding(False, "spool", str(error))
    except (OSError, SpoolDamaged) as error:
        why = getattr(error, "strerror", None) or "is damaged: the service will move it aside"
        return Finding(False, "spool", f"{spool}: {why}")
    room = shutil.disk_usage(spool.parent).free + (spool.stat().st_size if spool.exists() else 0)
    if room < database.spool_octets:
        return Finding(
            False,
            "spool",
            f"{spool}: its disk has room for {room >> 20} MiB, database.spool_octets are"
            f" {database.spool_octets >> 20}: make room, or lower that in {path}",
        )
    if seen.refused:
        return Finding(
            False, "spool", f"{spool}: the database refused {seen.refused} record(s): see the service's log"
        )
    holder = f", in use by process {seen.holder}" if seen.holder else ""
    return Finding(True, "spool", f"{spool}: {seen.waiting} record(s) wait{holder}")


def first_line(error: psycopg2.Error) -> str:
    """What the driver says, without the lines that could quote a statement."""
    text = str(error).strip().partition("\n")[0]
    if text.startswith("invalid "):  # it quotes the DSN, which may hold a password
        return "its DSN is not one that libpq understands"
    return text or type(error).__name__


def _version(version: int) -> Finding:
    name = f"PostgreSQL {version // 10000}"
    if version < _OLDEST_POSTGRESQL:
        return Finding(False, "database", f"{name} is older than {_OLDEST_POSTGRESQL // 10000}: upgrade it")
    return Finding(True, "database", name)


def _tables(path: Path, missing: list[str]) -> Finding:
    if missing:
        return Finding(
            False, "tables", f"{len(missing)} migration(s) missing: archive-crypt migrate --config {path}"
        )
    return Finding(True, "tables", "up to date")


def _rights(connection: Any) -> Finding:
    """What the role may do: too little does not work, too much is dangerous if somebody takes us over."""
    role = connection.info.user
    with connection, connection.cursor() as cursor:
        cursor.execute(_LACKS, (_NEEDED,))
        lacks = [text for (text,) in cursor.fetchall()]
        cursor.execute(_EXCEEDS)
        exceeds = [text for (text,) in cursor.fetchall()]
        vacuums = connection.server_version >= 170000
        if vacuums:
            cursor.execute("SELECT has_table_privilege('item', 'MAINTAIN')")
            (vacuums,) = cursor.fetchone()
    if lacks:
        return Finding(False, "rights", f"{role} may not {', '.join(lacks)}: run sql/roles.sql again")
    if exceeds:
        what = "is a superuser" if "is a superuser" in exceeds else ", ".join(exceeds)
        return Finding(True, "rights", f"{role} {what}; {_ROLES}", warning=True)
    if not vacuums:
        why = "rows that were sealed anew wait for autovacuum (from PostgreSQL 17 on they need not)"
        return Finding(True, "rights", f"{role} may do no more than it must; {why}")
    return Finding(True, "rights", f"{role} may do no more than it must")


def _link(path: Path, connection: Any) -> Iterator[Finding]:
    """A database that is elsewhere has to prove who it is, or anybody on the way could be it."""
    parameters = connection.info.dsn_parameters
    mode, hosts = parameters.get("sslmode", "prefer"), parameters.get("host", "").split(",")
    away = [host for host in hosts if host and not _is_here(host)]
    if mode == "verify-full":
        yield Finding(True, "database link", f"{hosts[0]} proves who it is, by TLS")
    elif away:
        mend = f"add sslmode=verify-full and sslrootcert to [database] dsn in {path}"
        why = f"{away[0]} need not prove who it is (sslmode={mode}): {mend}"
        yield Finding(True, "database link", why, warning=True)


def _is_here(host: str) -> bool:
    if host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
