"""All that tests of real servers need, in one place to import from."""

from __future__ import annotations

from pathlib import Path

from tests.servers.base import COMPONENT, CONTRIB, DOMAINS, SECRET, USERS, Edit, Server
from tests.servers.client import Client, awaited, new_client
from tests.servers.component import Component, connect_component
from tests.servers.ejabberd import Ejabberd
from tests.servers.inbox import Inbox
from tests.servers.process import PATIENCE, Died, Process
from tests.servers.prosody import Prosody
from tests.servers.targets import Target, targets

__all__ = [
    "COMPONENT",
    "CONTRIB",
    "Client",
    "Component",
    "DOMAINS",
    "Died",
    "Edit",
    "Ejabberd",
    "Inbox",
    "PATIENCE",
    "Process",
    "Prosody",
    "SECRET",
    "Server",
    "Target",
    "USERS",
    "awaited",
    "connect_component",
    "new_client",
    "start_server",
    "targets",
    "unchanged",
]


def unchanged(text: str) -> str:
    """The operator's configuration as it is."""
    return text


def start_server(target: Target, folder: Path, edit: Edit = unchanged) -> Server:
    """A running server of that make and version, with its accounts.

    :param folder: its own, for configuration and data
    :param edit: what to change in contrib/ejabberd/archive.yml, or contrib/prosody/archive.cfg.lua
    """
    kinds = {"ejabberd": Ejabberd, "prosody": Prosody}
    return kinds[target.name](target, folder, edit)
