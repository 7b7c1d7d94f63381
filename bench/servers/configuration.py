"""The servers' configuration: that of tests/servers, without the archive of their own that it has for tests.

Each function gives what is to be in the place of the operators' file in contrib/, `operators`.
"""

from __future__ import annotations

from pathlib import Path

from bench.servers.database import Database
from tests.servers.kit import COMPONENT, DOMAINS, Edit, Ejabberd, Prosody, Server, Target

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
"""
_PROSODY_NO_MAM = """
modules_disabled = { "s2s", "mam" }
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


class _Ejabberd(Ejabberd):
    def _main_file(self) -> dict:
        main = super()._main_file()
        del main["modules"]["mod_mam"]
        return main


def start(target: Target, folder: Path, edit: Edit) -> Server:
    """As `kit.start_server` does, with no archive but what `edit` makes of the operators' file."""
    kinds = {"ejabberd": _Ejabberd, "prosody": Prosody}
    return kinds[target.name](target, folder, edit)


def beside(make: str, operators: str) -> str:
    """As operators have it."""
    return operators if make == "ejabberd" else _PROSODY_NO_MAM + operators


def alone(make: str, operators: str) -> str:
    """No archive."""
    return _without(operators) if make == "ejabberd" else _PROSODY_NO_MAM + _PROSODY


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
