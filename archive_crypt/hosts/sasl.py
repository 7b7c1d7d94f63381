"""Who may log in, and how it is proven: SCRAM-SHA-256 and PLAIN (RFC 6120 6, RFC 5802).

Bytes in, bytes out: the stream and its XML are negotiation.py's. No password is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from scramp import ScramException, ScramMechanism
from twisted.words.protocols.jabber.jid import InvalidFormat

from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.wire import address

SCRAM = "SCRAM-SHA-256"
PLAIN = "PLAIN"
ITERATIONS = 10_000  # of PBKDF2: 3 ms for us at start and for each PLAIN login
_SALT_BYTES = 16
_LONGEST = 4096  # bytes of one SASL message; real ones have about 100


class SaslFailure(Exception):
    """The login failed; `condition` is RFC 6120 6.5's name for it."""

    def __init__(self, condition: str) -> None:
        super().__init__(condition)
        self.condition = condition


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the client must answer next."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Success:
    """`node` has proven itself; `data` is the proof of our own, None where there is none."""

    node: str
    data: bytes | None = None


class Mechanism(Protocol):
    """One login in progress."""

    def step(self, message: bytes) -> Challenge | Success:
        """Take the client's next message.

        :raises SaslFailure: the login is over.
        """


@dataclass(frozen=True, slots=True)
class Credentials:
    """What remains of a password (RFC 5802 3): enough to check it, not to log in elsewhere."""

    salt: bytes
    stored_key: bytes
    server_key: bytes

    @classmethod
    def derive(cls, password: str, salt: bytes | None = None) -> Credentials:
        """:raises ScramException: SASLprep does not allow the password."""
        salt = salt or secrets.token_bytes(_SALT_BYTES)
        _, stored, server, _ = ScramMechanism(SCRAM).make_auth_info(password, ITERATIONS, salt)
        return cls(salt, stored, server)

    def match(self, password: str) -> bool:
        """Whether this is the password; costs the same whatever the answer."""
        try:
            derived = Credentials.derive(password, self.salt)
        except ScramException:
            return False
        return hmac.compare_digest(derived.stored_key, self.stored_key)


class Accounts:
    """The users of one domain."""

    def __init__(self, domain: str, users: Mapping[str, str]) -> None:
        """`users`: node -> password.

        :raises ConfigurationError: a name or password that XMPP cannot have.
        """
        self.domain = domain
        self._secret = secrets.token_bytes(32)
        self._known: dict[str, Credentials] = {}
        for name, password in users.items():
            node = self._node(name)
            if node is None:
                raise ConfigurationError(f"users: {name!r} cannot be the name of an XMPP user")
            if node in self._known:
                raise ConfigurationError(f"users: {name!r} is there twice")
            if not password:
                raise ConfigurationError(f"users: {name!r} has no password")
            try:
                self._known[node] = Credentials.derive(password)
            except ScramException:
                raise ConfigurationError(
                    f"users: the password of {name!r} has a character that SASL does not allow"
                ) from None

    def __contains__(self, node: str | None) -> bool:
        return node in self._known

    @property
    def nodes(self) -> list[str]:
        """All users, in the order given."""
        return list(self._known)

    def look_up(self, name: str) -> tuple[str | None, Credentials]:
        """The user's node and credentials; for a stranger, None and credentials that nothing
        matches, always the same ones: so the answers do not tell who has an account."""
        node = self._node(name)
        salt, stored, server = (self._invent(use, node or name) for use in ("salt", "stored", "server"))
        if node in self._known:  # only now, so that both take the same time
            return node, self._known[node]
        return None, Credentials(salt[:_SALT_BYTES], stored, server)

    def _node(self, name: str) -> str | None:
        if "@" in name or "/" in name:
            return None
        try:
            return address(f"{name}@{self.domain}").user
        except InvalidFormat:
            return None

    def _invent(self, use: str, name: str) -> bytes:
        return hmac.digest(self._secret, f"{use}\0{name}".encode("utf-8", "surrogatepass"), hashlib.sha256)


class Plain:
    """PLAIN (RFC 4616), checked against the same credentials as SCRAM."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def step(self, message: bytes) -> Success:
        try:
            authzid, name, password = _text(message).split("\0")
        except ValueError:
            raise SaslFailure("malformed-request") from None
        node, credentials = self._accounts.look_up(name)
        matches = credentials.match(password)
        if node is None or not matches:
            raise SaslFailure("not-authorized")
        if authzid and authzid != f"{node}@{self._accounts.domain}":
            raise SaslFailure("invalid-authzid")
        return Success(node)


class Scram:
    """SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677)."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._node: str | None = None
        self._server = ScramMechanism(SCRAM).make_server(self._credentials)
        self._first = True

    def step(self, message: bytes) -> Challenge | Success:
        text = _text(message)
        try:
            return self._client_first(text) if self._first else self._client_final(text)
        except ScramException as e:
            wrong_proof = e.server_error is not None and e.server_error.value == "invalid-proof"
            raise SaslFailure("not-authorized" if wrong_proof else "malformed-request") from None

    def _client_first(self, text: str) -> Challenge:
        self._first = False
        if text.count(",") >= 2 and text.split(",")[1]:
            raise SaslFailure("invalid-authzid")  # nobody acts for another here
        self._server.set_client_first(text)
        return Challenge(self._server.get_server_first().encode())

    def _client_final(self, text: str) -> Success:
        self._server.set_client_final(text)
        if self._node is None:
            raise SaslFailure("not-authorized")
        return Success(self._node, self._server.get_server_final().encode())

    def _credentials(self, name: str) -> tuple[bytes, bytes, bytes, int]:
        self._node, found = self._accounts.look_up(name)
        return found.salt, found.stored_key, found.server_key, ITERATIONS


_MECHANISMS: dict[str, type[Plain] | type[Scram]] = {SCRAM: Scram, PLAIN: Plain}


def offer(*, secure: bool, loopback: bool, tls: bool) -> tuple[str, ...]:
    """The mechanisms a peer may use now, best first.

    `tls`: whether STARTTLS could be had. A password in clear never crosses a network: without
    TLS, PLAIN is for this machine's own clients, and where TLS could be had nothing is offered
    to others before it.
    """
    if secure or loopback:
        return (SCRAM, PLAIN)
    return () if tls else (SCRAM,)


def begin(name: str, accounts: Accounts) -> Mechanism:
    """A new login by the mechanism of this name."""
    return _MECHANISMS[name](accounts)


def _text(message: bytes) -> str:
    if len(message) > _LONGEST:
        raise SaslFailure("malformed-request")
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise SaslFailure("malformed-request") from None
