"""The servers' configuration: that of tests/servers, which has no archive of their own.

Each function gives what is to be in the place of the operators' file in contrib/, `operators`.
"""

from __future__ import annotations

from bench.servers.database import Database
from tests.servers.kit import COMPONENT, DOMAINS

#: The kit waits for the component's port, and puts the secret in: so it stays, with nobody behind it.
_PROSODY = f"""
Component "{COMPONENT}"
	component_secret = "SECRET"
"""

#: Only the archive is in the database: with accounts and rosters there it would be half as fast.
_PROSODY_MAM = """
storage = {{ archive = "sql" }}
sql = {{
	driver = "PostgreSQL"; database = "{name}"; host = "{host}"; port = {port};
	username = "{user}"; password = "{password}";
}}
default_archive_policy = true
max_archive_query_results = 100 -- default 50

VirtualHost "{domain}"
	modules_enabled = {{ "mam" }}
"""

_EJABBERD_MAM = """
sql_type: pgsql
sql_server: "{host}"
sql_port: {port}
sql_database: "{name}"
sql_username: "{user}"
sql_password: "{password}"
append_host_config:
  {domain}:
    modules:
      mod_mam:
        db_type: sql
        default: always
"""


def alone(make: str, operators: str) -> str:
    """No archive."""
    return _without(operators) if make == "ejabberd" else _PROSODY


def with_mam(make: str, operators: str, database: Database, name: str) -> str:
    """The server's own archive, in the database of that name."""
    template = _EJABBERD_MAM if make == "ejabberd" else _PROSODY_MAM
    mam = template.format(
        host=database.host, port=database.port, user=database.user, password=database.password,
        name=name, domain=DOMAINS[0],
    )  # fmt: skip
    return mam + (_without(operators) if make == "ejabberd" else _PROSODY)


def _without(operators: str) -> str:
    """Only the listener of ejabberd's."""
    return operators[operators.index("\nlisten:") :]
