"""ejabberd in tests, without ejabberdctl: that insists on its own user, and starts epmd on a well-known port."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from urllib.request import Request, urlopen

from tests.servers.base import CONTRIB, DOMAINS, Edit, Server
from tests.servers.process import PATIENCE, Process
from tests.servers.targets import UNPACKED, Target

#: Names are looked up in no file and at no name server: nothing may leave this machine.
_NO_NAMES = '{lookup, [file]}.\n{hosts_file, ""}.\n{resolv_conf, ""}.\n{nameserver, {127,0,0,1}}.\n'


class Ejabberd(Server):
    """ejabberd with the modules that Debian's configuration has, as far as they matter to messages."""

    def _configure(self, edit: Edit) -> None:
        (self.folder / "archive.yml").write_text(self.operators("ejabberd/archive.yml", edit))
        (self.folder / "ejabberd.yml").write_text(json.dumps(self._main_file()))  # JSON is YAML
        (self.folder / "inetrc").write_text(_NO_NAMES)
        (self.folder / "database").mkdir()

    def _run(self) -> Process:
        environment = self.environment(
            ERL_LIBS=_libraries(self.target),
            ERL_INETRC=self.folder / "inetrc",
            EJABBERD_CONFIG_PATH=self.folder / "ejabberd.yml",
            EJABBERD_LOG_PATH=self.folder / "ejabberd.log",
        )
        database = ["-mnesia", "dir", f'"{self.folder / "database"}"']
        # No node name, so no port for other nodes.
        command = ["erl", "-noinput", "-pa", compiled(self.target), *database, "-s", "ejabberd"]
        return Process(command, environment, self.folder)

    def _wait_until_ready(self) -> None:
        for port in (self.plain_port, self.tls_port, self.component_port, self.api_port):
            self.process.wait_for(f"connections at 127.0.0.1:{port} ")

    def _register(self, user: str, domain: str, password: str) -> None:
        self._command("register", user=user, host=domain, password=password)

    def _restart_feed(self, domain: str) -> None:
        self._command("restart_module", host=domain, module="mod_archive_feed")

    def _command(self, name: str, **arguments: str) -> None:
        body = json.dumps(arguments).encode()
        with urlopen(Request(f"http://127.0.0.1:{self.api_port}/api/{name}", body), timeout=PATIENCE):
            pass

    def _main_file(self) -> dict:
        """What an operator has already, without limits of speed."""
        loopback = {"ip": "127.0.0.1"}
        clients = loopback | {"module": "ejabberd_c2s", "max_stanza_size": 262144}
        api = loopback | {
            "port": self.api_port,
            "module": "ejabberd_http",
            "request_handlers": {"/api": "mod_http_api"},
        }
        return {
            "hosts": list(DOMAINS),
            "loglevel": "info",
            "certfiles": [str(self.certificate.with_suffix(".pem"))],
            "include_config_file": [str(self.folder / "archive.yml")],
            "listen": [
                clients | {"port": self.plain_port, "starttls": False},
                clients | {"port": self.tls_port, "starttls_required": True},
                api,
            ],
            "api_permissions": {"tests": {"from": "mod_http_api", "who": loopback, "what": "*"}},
            "disable_sasl_mechanisms": ["digest-md5", "X-OAUTH2"],
            "auth_password_format": "plain",
            "shaper_rules": {"max_user_sessions": 100, "max_user_offline_messages": 1000},
            "modules": {name: {} for name in _MODULES}
            | {"mod_offline": {"access_max_user_messages": "max_user_offline_messages"}}
            | {"mod_stream_mgmt": {"resend_on_timeout": "if_offline"}}
            | {"mod_pubsub": {"plugins": ["flat", "pep"]}},
        }


_MODULES = [
    "mod_adhoc",
    "mod_admin_extra",
    "mod_blocking",
    "mod_caps",
    "mod_carboncopy",
    "mod_client_state",
    "mod_disco",
    "mod_http_api",
    "mod_last",
    "mod_ping",
    "mod_privacy",
    "mod_private",
    "mod_roster",
    "mod_version",
]


@cache
def compiled(target: Target) -> Path:
    """A folder with our module, compiled against that version. Not in a folder called ejabberd: Erlang would
    take that for the server's own."""
    folder = UNPACKED.parent / f"feed-{target}"
    folder.mkdir(parents=True, exist_ok=True)
    interface = target.libraries / f"ejabberd-{target.version}" / "ebin"
    source = CONTRIB / "ejabberd" / "mod_archive_feed.erl"
    command = ["erlc", "-Werror", "-pa", interface, "-o", folder, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _libraries(target: Target) -> str:
    """Where Erlang looks first; the system's own come after these."""
    return f"{target.libraries}:{target.root / 'usr/lib/erlang/lib'}"
