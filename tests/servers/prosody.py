"""Prosody in tests: its own program, told where its files are."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.servers.base import CONTRIB, Edit, Server
from tests.servers.process import Process

_MAIN = """
run_as_root = true
daemonize = false
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
plugin_paths = {{ "{feed}", "{modules}" }}
certificates = "{folder}/certs"
admin_socket = "{folder}/prosody.sock"

interfaces = {{ "127.0.0.1" }}
local_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {plain_port} }}
c2s_direct_tls_ports = {{ }}
component_ports = {{ {component_port} }}
modules_disabled = {{ "s2s" }}

log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}

c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
storage = "internal"

modules_enabled = {{
	"disco"; "roster"; "saslauth"; "tls"; "blocklist"; "bookmarks"; "carbons"; "pep"; "private"; "smacks";
	"csi_simple"; "ping"; "version"; "offline"; "admin_shell";
}}

VirtualHost "localhost"
VirtualHost "capulet.lit"
VirtualHost "montague.lit"

Include "archive.cfg.lua"
"""


class Prosody(Server):
    """Prosody with the modules that Debian's configuration has, as far as they matter to messages."""

    def _configure(self, edit: Edit) -> None:
        self.tls_port = self.plain_port  # one setting for all ports; clients choose
        self.component_tls_port = self.api_port  # nothing else is there
        (self.folder / "data").mkdir()
        (self.folder / "archive.cfg.lua").write_text(self.operators("prosody/archive.cfg.lua", edit))
        ours = {
            "folder": self.folder,
            "feed": CONTRIB / "prosody",
            "modules": self._source / "modules",
            "plain_port": self.plain_port,
            "component_port": self.component_port,
        }
        (self.folder / "prosody.cfg.lua").write_text(_MAIN.format(**ours))
        for program in ("prosody", "prosodyctl"):
            self._copy_program(program)

    def _run(self) -> Process:
        return Process([*self._program("prosody"), "-F"], self._lua(), self.folder)

    def _wait_until_ready(self) -> None:
        for port in (self.plain_port, self.component_port):
            self.process.wait_for(f"[127.0.0.1]:{port}")

    def _register(self, user: str, domain: str, password: str) -> None:
        self._command("register", user, domain, password)

    def _restart_feed(self, domain: str) -> None:
        self._command("shell", f"module:reload('archive_feed', '{domain}')")

    def _command(self, *arguments: str) -> None:
        done = subprocess.run(
            [*self._program("prosodyctl"), *arguments],
            env=self._lua(), cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def _source(self) -> Path:
        return self.target.root / "usr/lib/prosody"

    def _copy_program(self, name: str) -> None:
        """The program has the place of its libraries written in it, which is not where they were unpacked."""
        text = (self.target.root / "usr/bin" / name).read_text()
        assert "'/usr/lib/prosody" in text
        (self.folder / name).write_text(text.replace("'/usr/lib/prosody", f"'{self._source}"))
        (self.folder / name).chmod(0o755)

    def _program(self, name: str) -> list[str]:
        return [str(self.folder / name), "--config", str(self.folder / "prosody.cfg.lua")]

    def _lua(self) -> dict[str, str]:
        """Lua's own libraries: what was unpacked goes first (;; is what Lua has anyway)."""
        share, library = self.target.root / "usr/share/lua/5.4", self.target.libraries / "lua/5.4"
        return self.environment(LUA_PATH=f"{share}/?.lua;{share}/?/init.lua;;", LUA_CPATH=f"{library}/?.so;;")
