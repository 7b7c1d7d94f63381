"""The operator's file: TOML -> frozen values. Whatever is wrong in it is said in one line, with
the file, the line and the mend. Nothing is opened or started here.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from twisted.words.protocols.jabber.jid import InvalidFormat

from archive_crypt.core.stanzas import MOST_KEYS
from archive_crypt.crypto.envelope import SEAL_ALGORITHMS, WRAP_ALGORITHMS
from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.limits import Limits
from archive_crypt.hosts.wire import address
from archive_crypt.model import Automatic, SaveMode, Settings, UserLimits, WhenFull
from archive_crypt.store.shares import MOST_WAITING


@dataclass(frozen=True, slots=True)
class Database:
    """``[database]``: `dsn` as libpq has it (empty: its environment variables), `readers` connections;
    `waiting_octets` of changes wait for it in memory at most; `spool`: the file where sealed ones wait while
    it is away (empty: none), of at most `spool_octets`."""

    dsn: str = ""
    readers: int = 4
    waiting_octets: int = MOST_WAITING
    spool: str = ""
    spool_octets: int = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Host:
    """``[host]``: the in-process XMPP server. `data`: where its certificate is kept; `users`:
    ``[host.users]``, name and password; `limits`: ``[host.limits]``."""

    domain: str = "localhost"
    interface: str = "127.0.0.1"
    port: int = 5222
    data: str = ".data"
    users: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Component:
    """``[component]``: beside a server as its component `jid`, for its virtual hosts `domains`. The secret is
    in `secret_file`, or in the environment."""

    jid: str = ""
    domains: tuple[str, ...] = ()
    server: str = "127.0.0.1"
    port: int = 5347
    secret_file: str = ""
    tls: bool = False
    certificate_authority: str = ""

    def secret(self) -> str:
        """What both sides know.

        :raises ConfigurationError: there is none; the text says what to do.
        """
        found = os.environ.get(SECRET)
        if found is None:
            found = _secret_in(self.secret_file)
        if not found:
            raise ConfigurationError(
                f"component.secret_file: {self.secret_file} is empty: write the secret in it"
            )
        return found


@dataclass(frozen=True, slots=True)
class Hardening:
    """``[hardening]``: `memory`: whether `archive-crypt serve` has freed memory overwritten, and nobody look
    in; `require_locked_memory`: whether the service refuses to start where no memory can be locked."""

    memory: bool = False
    require_locked_memory: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """All that an operator decides: with `component`, `host` is not used."""

    database: Database = Database()
    archive: Settings = Settings()
    host: Host = Host()
    component: Component | None = None
    hardening: Hardening = Hardening()


#: The variable of the environment that may hold the component's secret.
SECRET = "ARCHIVE_CRYPT_SECRET"  # noqa: S105 - its name

#: Fields of Settings that have another name in [archive]. Algorithms go by the end of their URI.
_RENAMED = {
    "minimum_bits": "minimum_key_bits",
    "seal_algorithm": "seal",
    "wrap_algorithm": "wrap",
    "most_collections": "collections_a_page",
    "most_items": "items_a_page",
}
#: setting of [archive] -> the field of Settings it is.
_ARCHIVE = {_RENAMED.get(f.name, f.name): f.name for f in fields(Settings)}

#: Seconds that removals are remembered at least: a client that comes after holidays must hear of them.
_YEAR = 365 * 24 * 3600
#: The largest number that any setting can be: 68 years, 2 GiB; but a user's archive may be larger.
_MOST = 2**31 - 1
#: Each EncryptedKey is on every page.
_MOST_OF = {"octets": 2**53, "keys": MOST_KEYS, "keys_supplied": MOST_KEYS}
#: Octets of changes that must have room to wait: a large upload, or one stanza after the other is refused.
_LEAST_WAITING = 1024 * 1024
#: Octets of a stanza that every server takes.
_LEAST_STANZA = 10_000


class _Wrong(Exception):
    """A setting cannot be so: its path in the file, and the mend."""

    def __init__(self, path: tuple[str, ...], mend: str) -> None:
        self.path = path
        self.mend = mend


def load(path: Path) -> Config:
    """What the file says.

    :raises ConfigurationError: it cannot be read, is not TOML, or a setting is unknown or ill-typed.
    """
    try:
        text = path.read_text()
        said = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from None
    try:
        return _config(said)
    except _Wrong as wrong:
        line = _line_of(text, wrong.path)
        raise ConfigurationError(f"{path}:{line}: {'.'.join(wrong.path)}: {wrong.mend}") from None


def place(path: Path, *setting: str) -> str:
    """Where a setting stands, as ``FILE:LINE: TABLE.SETTING``; or where it would have to."""
    return f"{path}:{_line_of(path.read_text(), setting)}: {'.'.join(setting)}"


def _config(said: dict[str, Any]) -> Config:
    _refuse_unknown((), said, ("database", "archive", "host", "component", "hardening"))
    if "component" in said and "host" in said:
        raise _Wrong(("host",), "leave it out: with [component] the server is another")
    database = _table(said, "database")
    archive = _table(said, "archive")
    host = _table(said, "host")
    _refuse_unknown(("archive",), archive, tuple(_ARCHIVE))
    settings = Settings(**{_ARCHIVE[name]: _archive(name, value) for name, value in archive.items()})
    _fit_together(settings)
    filled = _filled(("host",), Host, host)
    _domain(filled.domain, "host", "domain")
    _limits(filled.limits)
    component = None
    if "component" in said:
        component = _component(_filled(("component",), Component, _table(said, "component")))
    hardening = _filled(("hardening",), Hardening, _table(said, "hardening"))
    stored = _filled(("database",), Database, database)
    if stored.waiting_octets < _LEAST_WAITING:
        raise _Wrong(("database", "waiting_octets"), f"write {_LEAST_WAITING} or more")
    return Config(stored, settings, filled, component, hardening)


def _component(said: Component) -> Component:
    jid = _domain(said.jid, "component", "jid")
    if not said.domains:
        raise _Wrong(("component", "domains"), "write the server's domains, such as ['example.org']")
    domains = tuple(_domain(text, "component", "domains") for text in said.domains)
    if jid in domains:
        raise _Wrong(("component", "jid"), "write a name of its own, such as 'archive.example.org'")
    if not said.tls and not _is_loopback(said.server):
        raise _Wrong(("component", "tls"), "write true, as the server is not on this machine")
    return replace(said, jid=jid, domains=domains)


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server).is_loopback
    except ValueError:
        return server == "localhost"


def _secret_in(file: str) -> str:
    if not file:
        raise ConfigurationError(f"component.secret_file: name a file with the secret, or set {SECRET}")
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"component.secret_file: {file} cannot be read: {why}") from None


def _domain(text: str, *path: str) -> str:
    """The domain that `text` is, prepared."""
    try:
        jid = address(text)
    except InvalidFormat:
        jid = None
    if jid is None or jid.user or jid.resource:
        raise _Wrong(path, "write a domain, such as 'example.org'")
    return str(jid.host)


def _fit_together(settings: Settings) -> None:
    least, most = settings.minimum_expire, settings.maximum_expire
    if least is not None and most is not None and least > most:
        raise _Wrong(("archive", "minimum_expire"), "write no more than maximum_expire")
    if settings.automatic is Automatic.REQUIRED_MESSAGE and not settings.full_content:
        raise _Wrong(("archive", "full_content"), "write true, as automatic is 'required-message'")


def _limits(limits: Limits) -> None:
    path = ("host", "limits")
    for name in ("stanza", "stanza_before_login"):
        if getattr(limits, name) < _LEAST_STANZA:
            raise _Wrong((*path, name), f"write {_LEAST_STANZA} or more (RFC 6120, 13.12)")
    for name in ("stanza", "offline_bytes"):
        if getattr(limits, name) > limits.unsent:
            raise _Wrong((*path, name), f"write no more than unsent, {limits.unsent}")


def _table(said: dict[str, Any], name: str) -> dict[str, Any]:
    table = said.get(name, {})
    if not isinstance(table, dict):
        raise _Wrong((name,), f"write it as a table, [{name}]")
    return table


def _refuse_unknown(path: tuple[str, ...], said: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in said:
        if name not in known:
            raise _Wrong((*path, name), f"is unknown; known here are {', '.join(known)}")


def _filled(path: tuple[str, ...], kind: type[Any], said: dict[str, Any]) -> Any:
    _refuse_unknown(path, said, tuple(f.name for f in fields(kind)))
    default = kind()
    return kind(**{name: _value((*path, name), getattr(default, name), said[name]) for name in said})


def _value(path: tuple[str, ...], default: Any, value: Any) -> Any:
    if isinstance(default, float):
        return float(_positive(path, value))
    if isinstance(default, Limits):
        if not isinstance(value, dict):
            raise _Wrong(path, f"write it as a table, [{'.'.join(path)}]")
        return _filled(path, Limits, value)
    if isinstance(default, tuple):
        return _list(path, value)
    _CHECKS[int if default is None else type(default)](path, value)
    return value


def _archive(name: str, value: Any) -> Any:
    path = ("archive", name)
    if name == "save":
        modes = {mode.value: mode.value for mode in SaveMode if mode is not SaveMode.STREAM}
        return SaveMode(_one_of(path, value, modes))
    if name == "limits":
        return _user_limits(path, value)
    if name == "automatic":
        return Automatic(_one_of(path, value, {mode.value: mode.value for mode in Automatic}))
    if name in ("seal", "wrap"):
        known = SEAL_ALGORITHMS if name == "seal" else WRAP_ALGORITHMS
        return _one_of(path, value, {uri.partition("#")[2]: uri for uri in known})
    value = _value(path, getattr(Settings(), _ARCHIVE[name]), value)
    if name == "minimum_key_bits" and value < 1024:
        raise _Wrong(path, "write 1024 or more; 2048 is the least that is safe")
    if name == "tombstones" and value < _YEAR:
        raise _Wrong(path, f"write {_YEAR} (a year) or more, or leave it out: for ever")
    return value


def _user_limits(path: tuple[str, ...], said: Any) -> UserLimits:
    if not isinstance(said, dict):
        raise _Wrong(path, f"write it as a table, [{'.'.join(path)}]")
    known = {f.name: f.default for f in fields(UserLimits)}
    _refuse_unknown(path, said, tuple(known))
    found: dict[str, Any] = {}
    for name, value in said.items():
        where = (*path, name)
        if name == "when_full":
            found[name] = WhenFull(_one_of(where, value, {one.value: one.value for one in WhenFull}))
        elif name in _MOST_OF:
            found[name] = _whole(where, value, _MOST_OF[name])
        else:
            found[name] = _value(where, known[name], value)
    return UserLimits(**found)


def _one_of(path: tuple[str, ...], value: Any, known: Mapping[str, str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise _Wrong(path, f"write one of {', '.join(map(repr, known))}")
    return known[value]


def _boolean(path: tuple[str, ...], value: Any) -> None:
    if not isinstance(value, bool):
        raise _Wrong(path, "write true or false")


def _positive(path: tuple[str, ...], value: Any) -> Any:
    # TOML has nan, which is in no order, and inf: neither is a time to wait.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MOST:
        raise _Wrong(path, f"write a number above 0, and at most {_MOST}")
    return value


def _whole(path: tuple[str, ...], value: Any, most: int = _MOST) -> int:
    least, most = (0, 65535) if path[-1] == "port" else (1, most)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _Wrong(path, f"write a whole number from {least} to {most}")
    return value


def _string(path: tuple[str, ...], value: Any) -> None:
    if not isinstance(value, str):
        raise _Wrong(path, "write a text in quotation marks")


def _strings(path: tuple[str, ...], value: Any) -> None:
    if not isinstance(value, dict):
        raise _Wrong(path, f"write it as a table, [{'.'.join(path)}]")
    for name, text in value.items():
        _string((*path, name), text)


def _list(path: tuple[str, ...], value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _Wrong(path, "write a list of texts, such as ['example.org']")
    return tuple(value)


_CHECKS: dict[type, Callable[[tuple[str, ...], Any], object]] = {
    bool: _boolean,
    int: _whole,
    str: _string,
    dict: _strings,
}


def _line_of(text: str, path: tuple[str, ...]) -> int:
    """The line where a setting stands, or at least its table: tomllib tells only of syntax."""
    table: tuple[str, ...] = ()
    found = 1
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)
        key = re.match(r"\s*([\w.\"'-]+)\s*=", line)
        if header:
            table = tuple(part.strip(" \"'") for part in header[1].split("."))
            here = table
        elif key:
            here = (*table, *(part.strip(" \"'") for part in key[1].split(".")))
        else:
            continue
        if here == path:
            return number
        if here == path[: len(here)]:
            found = number
    return found
