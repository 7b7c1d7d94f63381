"""The server that is audited: ``archive-crypt serve`` as an operator starts it, in a process of its own, that
can be stopped in the middle of things to be looked at.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from archive_crypt import hardening
from archive_crypt.audit import launcher
from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.tls import certificate_path

DOMAIN = "localhost"
USERS = ("romeo", "juliet", "nurse")

#: The component's name, where the auditor is the server beside it.
COMPONENT = "archive.localhost"
#: Seconds that any one step may take.
PATIENCE = 60

_LISTENS = re.compile(r"starting on (\d+)$")


@dataclass(frozen=True, slots=True)
class Variant:
    """How a server is run. `secret`: with the kernel's memfd_secret(2), or as where there is none;
    `component`: beside another server."""

    hardened: bool
    secret: bool
    component: bool = False

    @property
    def name(self) -> str:
        return ", ".join(
            (
                "hardened" if self.hardened else "normal",
                "component" if self.component else "embedded",
                "memfd_secret" if self.secret else "mlock",
            )
        )


class Server:
    """A running server, for as long as the ``with`` lasts. `folder` holds what it needs, and may be used
    for the next.

    It is the embedded one, and each of the `users` has his name for a password; or, with a variant that
    says so, the component of whoever listens at the port `beside`.
    """

    def __init__(
        self, folder: Path, dsn: str, variant: Variant, users: Iterable[str] = USERS, beside: int = 0
    ) -> None:
        self.certificate = certificate_path(folder, DOMAIN)
        self.pid = self.port = 0
        self._variant = variant
        self._folder = folder
        self._file = folder / "archive.toml"
        host = _beside(folder, beside) if variant.component else _embedded(folder, users)
        self._file.write_text(_configuration(dsn, host, hardened=variant.hardened))

    def __enter__(self) -> Server:
        """:raises ConfigurationError: it did not start."""
        options = [] if self._variant.secret else [launcher.NO_MEMFD_SECRET]
        if self._variant.hardened and os.geteuid() != 0:
            options.append(launcher.OWN_USERS)
        launch = [sys.executable, "-P", "-m", "archive_crypt.audit.launcher", *options, "--"]
        serve = [sys.executable, "-P", "-m", "archive_crypt.cli", "serve", "--config", str(self._file)]
        self._process = subprocess.Popen(  # noqa: S603 - our own
            [*launch, *serve], env=_environment(), stderr=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        if not self._variant.component:
            try:
                self.port = self._listens()
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=PATIENCE)
        finally:
            self._process.kill()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Nothing moves in it meanwhile."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def core(self) -> Path | None:
        """A core dump as gcore(1) makes it, to be deleted; None where there is no gcore."""
        gcore = shutil.which("gcore")
        if gcore is None:
            return None
        prefix = self._folder / "core"
        subprocess.run(  # noqa: S603 - its path was looked up
            [gcore, "-o", str(prefix), str(self.pid)], capture_output=True, check=True, timeout=PATIENCE
        )
        return Path(f"{prefix}.{self.pid}")

    def _listens(self) -> int:
        """The port, once it listens."""
        assert self._process.stderr is not None, "it is a pipe"
        said = []
        for line in self._process.stderr:
            said.append(line)
            if found := _LISTENS.search(line.rstrip()):
                return int(found[1])
        raise ConfigurationError(f"the server did not start: {''.join(said[-1:]).strip()}")


def _embedded(folder: Path, users: Iterable[str]) -> str:
    passwords = "\n".join(f"{user} = {json.dumps(user)}" for user in users)
    return f"""
[host]
domain = {json.dumps(DOMAIN)}
port = 0
data = {json.dumps(str(folder))}
[host.users]
{passwords}
"""


def _beside(folder: Path, port: int) -> str:
    secret = folder / "secret"
    secret.write_text("no secret")
    return f"""
[component]
jid = {json.dumps(COMPONENT)}
domains = [{json.dumps(DOMAIN)}]
port = {port}
secret_file = {json.dumps(str(secret))}
"""


def _configuration(dsn: str, host: str, *, hardened: bool) -> str:
    return f"""
[database]
dsn = {json.dumps(dsn)}
{host}
[hardening]
memory = {json.dumps(hardened)}
require_locked_memory = true
"""


def _environment() -> dict[str, str]:
    """Ours, but for what would harden it."""
    return {name: value for name, value in os.environ.items() if name not in hardening.environment({})}
