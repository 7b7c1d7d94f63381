"""``python -m tests.servers.install``: the XMPP servers that the tests of this folder need, by apt.

Debian's own ejabberd and Prosody are installed. Where those are of Debian 12, the versions of Debian 13 are
fetched besides, from Debian's backports, and unpacked in ``.servers/``: both are tested, only one can be installed.
Remove that folder to have them fetched anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import rmtree, which
from tempfile import TemporaryDirectory

from tests.servers.targets import UNPACKED, targets

#: The last two: what the servers' own archives need for PostgreSQL, to compare with in the bench.
PACKAGES = ["ejabberd", "prosody", "prosody-modules", "erlang-base", "erlang-p1-pgsql", "lua-dbi-postgresql"]
#: What Debian 13 has. An older one installed means that the newer has to be unpacked.
_NEWER = "24"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SAY_LITTLE = ["-qq", "-o", "Dpkg::Use-Pty=0"]


def main() -> None:
    """Install and fetch what is missing, and say which servers there are."""
    if not which("apt-get"):
        sys.exit(
            "Tests with real servers need Debian 12 or 13, in a container perhaps: there is no apt-get here."
        )
    missing = _not_installed()
    if missing:
        _install(missing)
    if _older_than(_version("ejabberd"), _NEWER) and not UNPACKED.exists():
        _unpack_newer()
    print("Servers to test with:", *targets())


def _not_installed() -> list[str]:
    return [name for name in PACKAGES if not _version(name)]


def _version(package: str) -> str:
    """As Debian has it; empty if it is not installed."""
    asked = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package]
    status, _, version = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.partition(
        " "
    )
    return version if status == "installed" else ""


def _older_than(version: str, limit: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", version, "lt", limit], check=False).returncode == 0


def _install(packages: list[str]) -> None:
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0:
        sys.exit(f"Tests with real servers need more packages. As root: {command}")
    if Path("/run/systemd/system").exists():
        # A package's installation starts its server: on a machine, that is for its owner to decide.
        sys.exit(
            f"Tests with real servers need more packages. Not stopped by the servers starting? {command}"
        )
    print("Installing", *packages, "...")
    _apt("update")
    _apt("install", "--yes", "--no-install-recommends", *packages)


def _unpack_newer() -> None:
    """Fetch what apt would install from backports, and unpack it: apt knows what it needs and is not installed."""
    print("Fetching the servers of Debian 13 ...")
    UNPACKED.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=UNPACKED.parent) as folder:
        work = Path(folder)
        options = _own_folders(work)
        _apt("update", options=options)
        suite = f"{_codename()}-backports"
        _apt(
            "install",
            "--yes",
            "--download-only",
            "--no-install-recommends",
            "-t",
            suite,
            *PACKAGES,
            options=options,
        )
        root = work / "root"
        for package in sorted((work / "cache/archives").glob("*.deb")):
            subprocess.run(["dpkg", "-x", package, root], check=True)
        rmtree(UNPACKED, ignore_errors=True)
        root.rename(UNPACKED)


def _own_folders(work: Path) -> list[str]:
    """apt's options to leave the machine's own lists and locks alone, and with them the need to be root."""
    for name in ("lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "sources.list").write_text(_sources())
    settings = {
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": work / "lists",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
    }
    return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]


def _sources() -> str:
    """Debian's release and its backports, from where this machine has its Debian."""
    codename = _codename()
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    asked = ["apt-get", "indextargets", "--no-release-info", "--format", form, "Created-By: Packages"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    mirror = next((line.split()[0] for line in lines if line.split()[1:] == [codename, "main"]), None)
    if mirror is None:
        sys.exit(
            f"apt's sources do not name {codename} main, so there is no telling where its backports are."
        )
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    return "".join(f"deb {signed}{mirror} {suite} main\n" for suite in (codename, f"{codename}-backports"))


def _codename() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    names = dict(line.split("=", 1) for line in lines if "=" in line)
    return names.get("VERSION_CODENAME", "").strip('"')


def _apt(command: str, *arguments: str, options: list[str] | None = None) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(
        ["apt-get", *_SAY_LITTLE, *(options or []), command, *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"apt-get {command} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
