"""Proves what a server lets the component do, one thing after the other, for `archive-crypt check`.

Archives nothing, and answers nobody: it must not run beside a running service.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import deferLater
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish.domish import Element

from archive_crypt.core.published import NODES
from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.component.host import Component, Lack
from archive_crypt.hosts.seam import ArchivePlug
from archive_crypt.hosts.wire import NS_PUBSUB

#: Seconds to connect, and seconds that the server has to say what it does for us.
_CONNECT, _SETTLE = 8.0, 5.0
_LOOK = 0.05

#: How each is had from either server.
_MENDS = {
    Lack.FEED: (
        "in ejabberd.yml, under modules, add mod_archive_feed: {{component: {jid}}}",
        'in prosody.cfg.lua, under VirtualHost "{domain}", add "archive_feed" to modules_enabled',
    ),
    Lack.DELEGATION: (
        "in ejabberd.yml, under modules, have mod_delegation name all three archive namespaces",
        'in prosody.cfg.lua, add "delegation" to modules_enabled of VirtualHost "{domain}" and of Component'
        ' "{jid}", and give the host a table of delegations of its own',
    ),
    Lack.PRIVILEGE: (
        "in ejabberd.yml, mod_archive_feed grants them: install the one of this version",
        'in prosody.cfg.lua, add "privilege" to modules_enabled of VirtualHost "{domain}" and of Component'
        ' "{jid}", and privileged_entities to the host',
    ),
}
_WORKS = {Lack.FEED: "feed", Lack.DELEGATION: "delegation", Lack.PRIVILEGE: "privilege"}


class Nobody:
    """An archiver that archives nothing, and a handler that answers nothing."""

    load = 0.0

    def __init__(self) -> None:
        self.switching: Any = self
        self.finder: Any = None

    def stream_opened(self, jid: Any, *, known: bool = False) -> Deferred[None]:
        return succeed(None)

    def forget_streams(self, domain: str) -> None: ...

    def stream_pending(self, jid: Any, *, pending: bool) -> None: ...

    def stream_closed(self, jid: Any) -> None: ...

    def listen(self, jid: Any, listener: Any) -> None: ...

    def has_streams(self, owner: str) -> bool:
        return False

    def is_sealing(self, owner: str) -> bool:
        return False

    def sealing(self) -> list[str]:
        return []

    def keys_published(self, jid: Any, nodes: Any) -> None: ...

    def message(self, jid: Any, direction: Any, element: Any, when: Any) -> Deferred[bool]:
        return succeed(False)


class Probe:
    """One try, as the component `jid`, for the virtual hosts `domains`. `offered` is what the service would
    announce: Prosody asks the first that connects, and announces what that one said until it is restarted."""

    def __init__(
        self,
        reactor: Any,
        endpoint: Any,
        jid: str,
        secret: str,
        domains: Sequence[str],
        offered: Callable[[bool], Sequence[str]],
    ) -> None:
        self._reactor = reactor
        self._jid = jid
        self._domains = domains
        self._refusal: ConfigurationError | None = None
        plug = ArchivePlug(Nobody(), lambda _: _Silent())
        self._component = Component(
            reactor, endpoint, jid, secret, domains, plug, offered, self._refused, lambda: 0
        )

    @inlineCallbacks
    def run(self) -> Generator[Deferred[Any], Any, list[tuple[bool, str, str]]]:
        """What was found: whether it is well, what, and how to mend it."""
        self._component.start()
        try:
            connected = yield self._until(lambda: self._component.connected or bool(self._refusal), _CONNECT)
            if self._refusal is not None or not connected:
                why = self._refusal or "no server there takes components: see its log, and server and port"
                return [(False, "component", str(why))]
            telling, well = True, False
            while telling and not well:
                telling = self._component.telling
                well = yield self._until(
                    lambda: not any(map(self._component.lacking, self._domains)), _SETTLE
                )
            found = [(True, "component", f"connected as {self._jid}")]
            for domain in self._domains:
                found += yield self._look_at(domain)
            for domain in sorted(self._component.strangers - set(self._domains)):
                found.append(
                    (False, domain, "feeds us, but is not in [component] domains: add it, if it is yours")
                )
            return found
        finally:
            yield self._component.close()

    @inlineCallbacks
    def _look_at(self, domain: str) -> Generator[Deferred[Any], Any, list[tuple[bool, str, str]]]:
        server = self._component.server(domain)
        lacking = set(self._component.lacking(domain))
        found = []
        for lack, name in _WORKS.items():
            if lack in lacking:
                found.append((False, f"{domain} {name}", f"{lack.value}; {self._mend(lack, domain, server)}"))
            elif lack is not Lack.PRIVILEGE:
                found.append(
                    (True, f"{domain} {name}", server if lack is Lack.FEED else "all three namespaces")
                )
        if Lack.PRIVILEGE not in lacking:
            found.append((yield self._try_privilege(domain)))
        return found

    @inlineCallbacks
    def _try_privilege(self, domain: str) -> Generator[Deferred[Any], Any, tuple[bool, str, str]]:
        """Ask for a node of a user who need not exist: any answer of his account's will do."""
        pubsub = Element((NS_PUBSUB, "pubsub"))
        pubsub.addElement("items")["node"] = NODES[0]
        what = f"{domain} privilege"
        try:
            yield self._component.ask(f"archive-crypt-check@{domain}", pubsub)
        except StanzaError as error:
            # Prosody's mod_privilege, having announced it, refuses this for who has no account.
            if error.condition != "forbidden" or self._component.server(domain).startswith("ejabberd"):
                return False, what, f"an iq on behalf of a user was refused: {error.condition}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it does not work
            return False, what, f"an iq on behalf of a user was not answered: {type(error).__name__}"
        return True, what, "iqs on behalf of users"

    def _mend(self, lack: Lack, domain: str, server: str) -> str:
        ejabberd, prosody = (mend.format(jid=self._jid, domain=domain) for mend in _MENDS[lack])
        if server.startswith("ejabberd"):
            return f"{ejabberd} (docs/ejabberd.rst)"
        if server.startswith("Prosody"):
            return f"{prosody} (docs/prosody.rst)"
        return f"{ejabberd} (docs/ejabberd.rst); or {prosody} (docs/prosody.rst)"

    def _refused(self, error: ConfigurationError) -> None:
        self._refusal = error

    @inlineCallbacks
    def _until(self, true: Any, seconds: float) -> Generator[Deferred[Any], Any, bool]:
        end = self._reactor.seconds() + seconds
        while not true() and self._reactor.seconds() < end:
            yield deferLater(self._reactor, _LOOK)
        return bool(true())


class _Silent:
    """Leaves whoever asks without an answer: who does so during a check gets a timeout from the server."""

    def setHandlerParent(self, parent: Any) -> None: ...

    def onRequest(self, iq: Any) -> None: ...

    def onNotice(self, text: str) -> None: ...

    def onPush(self, *args: Any) -> None: ...
