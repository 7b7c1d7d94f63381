"""What the servers of both makes have in common: ports, folders, accounts, starting and stopping."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from socket import socket

from tests.servers.certificates import make_certificate
from tests.servers.process import Process
from tests.servers.targets import PROJECT, Target

DOMAINS = ("capulet.lit", "montague.lit")
COMPONENT = "archive.capulet.lit"
SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
#: Who has an account on every server; each one's password is his name.
USERS = ("juliet@capulet.lit", "nurse@capulet.lit", "romeo@montague.lit")

CONTRIB = PROJECT / "contrib"

Edit = Callable[[str], str]


class Server(ABC):
    """A server that runs, or may be started again: accounts, data and ports stay.

    `start`, `stop` and `kill` block, for a second or two. Both ports take clients: at `tls_port` they must use
    STARTTLS, at `plain_port` they need not.
    """

    def __init__(self, target: Target, folder: Path, edit: Edit) -> None:
        """:param folder: of its own; need not exist
        :param edit: what to change in the configuration that operators are given
        """
        self.target, self.folder = target, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.plain_port, self.tls_port, self.component_port, self.api_port = _free_ports(4)
        #: Where components speak TLS, if `edit` has them do so.
        self.component_tls_port = self.component_port
        self.certificate = make_certificate(folder / "certs", [*DOMAINS, COMPONENT, "localhost"])
        self._configure(edit)
        self.start()
        for jid in USERS:
            self.register(jid)

    def start(self) -> None:
        """Start it; it takes connections when this returns."""
        self.process = self._run()
        self._wait_until_ready()

    def stop(self) -> None:
        """End it as an operator does."""
        self.process.stop()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.process.kill()

    def wait_for(self, text: str) -> str:
        """The first line with `text` in it that it prints, or has printed since its start. Blocks."""
        return self.process.wait_for(text)

    def register(self, jid: str, password: str | None = None) -> None:
        """Make an account. Without `password` it is the name before the @."""
        user, domain = jid.split("@")
        self._register(user, domain, password or user)

    def restart_feed(self, domain: str) -> None:
        """Take our module out of that virtual host and put it in again, as an operator who has a newer one."""
        self._restart_feed(domain)

    def operators(self, name: str, edit: Edit) -> str:
        """The file of contrib/ that operators are given, with this server's ports, secret and certificate."""
        text = edit((CONTRIB / name).read_text())
        assert text.count("SECRET") == 1
        ours = {
            "SECRET": SECRET,
            "5347": str(self.component_port),
            "5348": str(self.component_tls_port),
            "/etc/ejabberd/ejabberd.pem": str(self.certificate.with_suffix(".pem")),
        }
        for theirs, own in ours.items():
            text = text.replace(theirs, own)
        return text

    def environment(self, **variables: str | Path) -> dict[str, str]:
        """This process's, without what would reach into the server."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
        return kept | {"HOME": str(self.folder)} | {name: str(value) for name, value in variables.items()}

    @abstractmethod
    def _configure(self, edit: Edit) -> None:
        """Write its files."""

    @abstractmethod
    def _run(self) -> Process:
        """Start the program."""

    @abstractmethod
    def _wait_until_ready(self) -> None:
        """Until all its ports are open."""

    @abstractmethod
    def _register(self, user: str, domain: str, password: str) -> None: ...

    @abstractmethod
    def _restart_feed(self, domain: str) -> None: ...


def _free_ports(count: int) -> list[int]:
    with ExitStack() as all_bound:
        sockets = [all_bound.enter_context(socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
