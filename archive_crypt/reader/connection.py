"""A client's stream to its server: over verified TLS, logged in by SCRAM. Knows nothing of archives.

There is no way to do without either: what asks for a password in clear is not the user's server.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from lxml import etree
from slixmpp import JID, ClientXMPP, InvalidJID
from slixmpp.util.sasl.client import saslprep

from archive_crypt.reader import exchange
from archive_crypt.reader.errors import NoAnswer
from archive_crypt.reader.failures import NoConnection, Problem

#: Seconds until a login, or an answer, is waited for no longer.
_PATIENCE = 30
#: Seconds that the server has to end its side of the stream.
_FAREWELL = 1

#: Login without showing the password, not even to the server; -PLUS binds it to the TLS channel too.
_MECHANISMS = {f"SCRAM-{hash_}{plus}" for hash_ in ("SHA-512", "SHA-256", "SHA-1") for plus in ("-PLUS", "")}

_Kind = Literal["get", "set"]


@dataclass(frozen=True, slots=True)
class Account:
    """Whom to log in, and where: `host` and `port` None: where SRV records say. `ca` is a file of
    certificates to trust instead of the system's."""

    jid: str
    host: str | None = None
    port: int | None = None
    ca: Path | None = None

    def __post_init__(self) -> None:
        """:raises Problem: `jid` is no JID of a user."""
        try:
            valid = bool(JID(self.jid).user)
        except InvalidJID:
            valid = False
        if not valid:
            raise Problem(f"{self.jid!r} is not the JID of a user, such as romeo@example.org.")

    @property
    def bare(self) -> str:
        """The account's own address."""
        return str(JID(self.jid).bare)

    @property
    def domain(self) -> str:
        """The server's address."""
        return str(JID(self.jid).domain)


class Connection:
    """A stream that is logged in for as long as the ``async with`` lasts, or until `ask` fails."""

    def __init__(self, account: Account, password: str) -> None:
        """:raises Problem: the file of certificates, or the password, cannot be used."""
        self.account = account
        self._password = _checked(password)
        self._trust = _trust(account.ca)
        self._reason = ""

    async def __aenter__(self) -> Connection:
        """:raises NoConnection: it cannot be had; the text says why."""
        loop = asyncio.get_running_loop()
        #: What ended the login: None, or what went wrong. And what ended the stream.
        self._login: asyncio.Future[str | None] = loop.create_future()
        self._end: asyncio.Future[str] = loop.create_future()
        #: What slixmpp's plugins are added to.
        self.client = self._make_client()
        account = self.account
        host = account.host or (account.domain if account.port else None)
        self.client.connect(host, account.port or 5222)
        try:
            await asyncio.wait((self._login,), timeout=_PATIENCE)
            _settle(self._login, f"{self._where()} did not complete the login within {_PATIENCE} s.")
            failure = self._login.result()
            if failure is not None:
                raise NoConnection(failure)
        except BaseException:  # cancelled by Ctrl-C too
            self.client.cancel_connection_attempt()
            self.client.abort()
            self._stop_sending()
            raise
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """:raises NoConnection: a plugin got no answer; the text says why."""
        why = self._why(error)
        if self.client.is_connected():
            await self.client.disconnect(_FAREWELL, ignore_send_queue=True)
        self._stop_sending()
        if isinstance(error, NoAnswer):
            raise NoConnection(why) from None

    async def ask(self, kind: _Kind, request: str, to: str | None = None) -> etree._Element | None:
        """The child of the answer to an iq of type `kind` ('get', 'set') with `request` in it; None
        if it has none. Without `to` the user's account is asked.

        :raises Refused: the answer is an error.
        :raises NoConnection: the stream ended, or there is no answer.
        :raises NotUnderstood: the answer is nested too deeply.
        """
        iq = self.client.make_iq(itype=kind, ito=to)
        iq.xml.append(ElementTree.fromstring(request))  # noqa: S314 - it is our own
        try:
            return await exchange.ask(self.client, iq, _PATIENCE)
        except NoAnswer as error:
            raise NoConnection(self._why(error)) from None

    def _why(self, error: object) -> str:
        """Why there is no answer: where the stream ended, why it did."""
        return self._end.result() if self._end.done() else str(error)

    def _make_client(self) -> ClientXMPP:
        client = ClientXMPP(
            self.account.jid,
            self._password,
            plugin_config={"feature_mechanisms": {"use_mechs": set(_MECHANISMS)}},
            ssl_context=self._trust,
        )
        client.enable_direct_tls = False
        for event, handler in (
            ("session_start", self._on_session),
            ("connection_failed", self._on_connection_failed),
            ("reconnect_delay", self._on_no_address_left),
            ("ssl_invalid_chain", self._on_distrust),
            ("failed_auth", self._on_failed_auth),
            ("no_auth", self._on_no_login),
            ("stream_error", self._on_stream_error),
            ("disconnected", self._on_disconnected),
        ):
            client.add_event_handler(event, handler)
        return client

    def _stop_sending(self) -> None:
        """slixmpp's task that sends outlives the stream, until the client is collected as garbage."""
        sending = getattr(self.client, "_run_out_filters", None)
        if sending is not None:
            sending.cancel()

    # What slixmpp tells.

    def _on_session(self, _: Any) -> None:
        # A server that skips TLS or the login itself, or binds no address, must not pass for ours.
        secure = isinstance(self.client.socket, ssl.SSLObject | ssl.SSLSocket)
        if not (secure and self.client.authenticated and self.client.boundjid.resource):
            self._fail("The server skipped a step of the login, so it is not trusted.")
        else:
            _settle(self._login, None)

    def _on_connection_failed(self, error: Any) -> None:
        # There may be more addresses to try: `reconnect_delay` comes after the last.
        # asyncio's own words for it would repeat the address.
        known = isinstance(error, OSError) and (error.errno or 0) > 0
        self._reason = os.strerror(error.errno) if known else str(getattr(error, "strerror", None) or error)

    def _on_no_address_left(self, _: Any) -> None:
        why = (self._reason or "it has no usable address").rstrip(".")
        self._fail(f"Cannot reach {self._where()}: {why}. Is the server running? See --host and --port.")

    def _on_disconnected(self, reason: Any) -> None:
        if isinstance(reason, ssl.SSLError):  # comes before `ssl_invalid_chain`
            self._on_distrust(reason)
        because = f": {self._reason}" if self._reason else ""
        self._fail(f"The server ended the connection{because}.")

    def _on_distrust(self, error: ssl.SSLError) -> None:
        if not isinstance(error, ssl.SSLCertVerificationError):
            self._fail(f"TLS with {self._where()} failed: {error.reason}.")
            return
        why = error.verify_message.rstrip(".")
        self._fail(
            f"The certificate of {self.account.domain} is not trusted: {why}. "
            "If it is a server of your own, give its certificate with --ca FILE."
        )

    def _on_failed_auth(self, failure: Any) -> None:
        # At the first no: to try the other mechanisms would be counted as more wrong passwords.
        self._fail(
            f"The server does not let {self.account.bare} in: {failure['condition']}. Check the password."
        )

    def _on_no_login(self, _: Any) -> None:
        secure = isinstance(self.client.socket, ssl.SSLObject | ssl.SSLSocket)
        lacks = "login by SCRAM" if secure else "TLS"
        self._fail(f"{self._where()} offers no {lacks}, and the password is sent in no other way.")

    def _on_stream_error(self, error: Any) -> None:
        self._reason = f"{error['text']} ({error['condition']})" if error["text"] else str(error["condition"])

    def _fail(self, text: str) -> None:
        _settle(self._login, text)
        _settle(self._end, text)

    def _where(self) -> str:
        account = self.account
        named = account.host or account.port
        return f"{account.host or account.domain} port {account.port or 5222}" if named else account.domain


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _trust(ca: Path | None) -> ssl.SSLContext:
    """Verifies the server's certificate and name, by `ca` alone if it is given."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise Problem(f"--ca {ca}: {why}. Give the server's certificate, in PEM form.") from None


def _checked(password: str) -> str:
    try:
        saslprep(password)
    except UnicodeError:
        raise Problem("The password has characters that no password can have (RFC 4013).") from None
    return password
