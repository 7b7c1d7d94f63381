"""The archive as a component (XEP-0114) of a server: takes its feed and what it delegates, and speaks for
its users. What is said of a virtual host is believed from that virtual host only.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.xish.domish import Element

from archive_crypt.core import tree
from archive_crypt.core.dialect import DIALECTS
from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.component.clients import Client, Clients
from archive_crypt.hosts.component.complaints import Complaints
from archive_crypt.hosts.component.delegation import NS_DELEGATIONS, Delegation, nested
from archive_crypt.hosts.component.feed import FEED, Feed, Unreadable
from archive_crypt.hosts.component.link import Link
from archive_crypt.hosts.component.privilege import NS_PRIVILEGES, Privilege, is_notice
from archive_crypt.hosts.component.userkeys import UserKeys
from archive_crypt.hosts.seam import ArchivePlug, DistantArchiver
from archive_crypt.hosts.wire import NS_DISCO_INFO, NS_PUBSUB, refusal, result
from archive_crypt.model import Micros

#: How full the archive is, from empty 0 to 1, when reading stops and when it goes on; seconds between
#: looks; and the longest that the server is made to keep what we do not read: then we read on and count
#: what is lost.
_FULL, _EMPTY = 1.0, 0.5
_LOOK = 0.02
_LONGEST_PAUSE = 30.0

#: Domains that are remembered for an operator who forgot them in his file.
_MOST_STRANGERS = 100

#: Seconds that a server has, once connected, to begin its feed and to delegate.
_SETTLED = 5.0


class Lack(enum.Enum):
    """What a virtual host may not have set up, with what that costs."""

    FEED = "no feed (mod_archive_feed): nothing is archived automatically"
    DELEGATION = "not all archive namespaces are delegated (XEP-0355): users cannot reach their archive"
    PRIVILEGE = "no privileged iqs (XEP-0356): no pushes, and published keys are not read"


class Component:
    """The component `jid` on the server at `endpoint`, for the virtual hosts `domains`.

    `offered(recording)`: the features to announce, where messages reach us and where they do not.
    `refused` is called once if the server will never have us. `now`: microseconds since 1970. `forgetful`:
    whether nothing of a stanza stays in the parser, at the cost of some speed.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        endpoint: Any,
        jid: str,
        secret: str,
        domains: Sequence[str],
        plug: ArchivePlug,
        offered: Callable[[bool], Sequence[str]],
        refused: Callable[[ConfigurationError], None],
        now: Callable[[], Micros],
        *,
        forgetful: bool = False,
    ) -> None:
        self._reactor = reactor
        self._archiver = archiver = cast(DistantArchiver, plug.archiver)
        self._jid = jid
        self._offered = offered
        self._on_refused = refused
        self._complaints = Complaints(reactor.seconds)
        self.counts = self._complaints.counts
        self._link = Link(reactor, endpoint, jid, secret, self, forgetful=forgetful)
        self._clients = Clients(archiver, plug.handler_for, self._post, reactor)
        self._delegation = Delegation(self._clients, self._link.send)
        self._privilege = Privilege(jid, self._link.send, reactor)
        self._keys = UserKeys(archiver, self._privilege, plug.nodes, reactor)
        self._feeds = {
            domain: Feed(
                domain, archiver, self._clients, now, self._complaints, is_notice, self._keys.changed
            )
            for domain in domains
        }
        self.connected = False
        #: Domains that fed us and are not ours.
        self.strangers: set[str] = set()
        self._delegated: dict[str, set[str]] = {}
        self._paused_until: float | None = None
        self._settling: Any = None

    def start(self) -> None:
        """Connect, and stay connected."""
        self._archiver.switching.finder = self._keys.find
        self._link.start()

    def close(self) -> Deferred[None]:
        """Leave the server; fires when nothing more comes from it."""
        self._delegation.leave()
        return self._link.close(self._leave)

    def _leave(self) -> Deferred[Any]:
        return DeferredList([feed.leave(self._say) for feed in self._feeds.values()], consumeErrors=True)

    # the link

    def linked(self) -> None:
        self.connected = True
        self.log.info("connected as {jid}", jid=self._jid)
        self._settling = self._reactor.callLater(_SETTLED, self._settled)

    def unlinked(self) -> None:
        self.connected = False
        self.log.warn("the connection to the server is lost; what passes meanwhile is not archived")
        self._delegation.lost()
        self._keys.stop()
        self._privilege.lost()
        self._delegated.clear()
        for feed in self._feeds.values():
            feed.lost()
        if self._settling is not None and self._settling.active():
            self._settling.cancel()

    def refused(self, error: ConfigurationError) -> None:
        self._on_refused(error)

    def too_long(self, stanza: Element) -> None:
        self._complaints.about("an answer too long for the server", stanza.getAttribute("to"))

    def taken(self, cut: int) -> None:
        """Stop reading while the archive has enough to do: what it does not read the server keeps."""
        for _ in range(cut):
            self._complaints.about("too many elements", None)
        if self._archiver.load >= _FULL and not self._link.paused and self._paused_until is None:
            self._link.pause()
            self._paused_until = self._reactor.seconds() + _LONGEST_PAUSE
            self._reactor.callLater(_LOOK, self._look)

    def _look(self) -> None:
        assert self._paused_until is not None, "looked only while paused"
        relieved = self._archiver.load < _EMPTY
        if relieved or self._reactor.seconds() > self._paused_until:
            self._link.resume()
        if relieved:
            self._paused_until = None
        else:
            self._reactor.callLater(_LOOK, self._look)

    # stanzas

    def receive(self, stanza: Element) -> None:
        """A stanza from the server. Whatever it is, it costs at most itself."""
        try:
            self._receive(stanza, stanza.getAttribute("from"))
        except Unreadable as error:
            self._complaints.about(str(error), stanza.getAttribute("from"))
        except StanzaError as error:
            self._refuse(stanza, error.condition)
        except Exception as error:  # noqa: BLE001 - and no text, which could quote a message
            self.log.error("a stanza failed: {kind}", kind=type(error).__name__)
            self._complaints.counts["failed"] += 1
            self._refuse(stanza, "internal-server-error")

    def _receive(self, stanza: Element, sender: str | None) -> None:
        child = next(iter(tree.children(stanza)), None)
        uri = (child.uri or "") if child is not None else ""
        if stanza.name == "iq" and stanza.getAttribute("type") in ("result", "error"):
            if not self._privilege.answered(stanza):
                self._complaints.counts["answer to nothing"] += 1
        elif uri.startswith(FEED) or uri in NS_DELEGATIONS or uri in NS_PRIVILEGES:
            self._from_host(stanza, sender, child, uri)
        elif stanza.name == "iq":
            self._asked(stanza, sender, uri)
        elif stanza.name == "message":
            self._complaints.counts["message to the component"] += 1

    def _from_host(self, stanza: Element, sender: str | None, child: Any, uri: str) -> None:
        """What only a virtual host of ours may say."""
        feed = self._feeds.get(sender or "")
        if feed is None:
            self._stranger(sender or "", uri)
            raise StanzaError("forbidden")
        if stanza.name == "message" and uri.startswith(FEED):
            feed.receive(child)
            if feed.privilege:
                self._privilege.of(feed.domain).given(feed.privilege)
        elif stanza.name == "message" and uri in NS_DELEGATIONS:
            names = {one.getAttribute("namespace") or "" for one in child.elements(uri, "delegated")}
            self._delegated.setdefault(feed.domain, set()).update(names)
        elif stanza.name == "message":
            self._privilege.of(feed.domain).announced(child)
        elif uri in NS_DELEGATIONS and stanza.getAttribute("type") == "set":
            self._delegation.receive(feed.domain, stanza, recording=feed.present)
        else:
            raise StanzaError("bad-request")

    def _stranger(self, sender: str, uri: str) -> None:
        forged = "@" in sender or "/" in sender or not sender
        if not forged and len(self.strangers) < _MOST_STRANGERS:
            self.strangers.add(sender)
        why = "forged" if forged else "from a domain that is not in [component] domains"
        what = "feed" if uri.startswith(FEED) else "delegation" if uri in NS_DELEGATIONS else "privilege"
        self._complaints.about(f"{what} {why}", sender)  # the whole uri would be the sender's own words

    def _asked(self, iq: Element, sender: str | None, uri: str) -> None:
        if uri != NS_DISCO_INFO or iq.getAttribute("type") != "get":
            raise StanzaError("service-unavailable")
        feed = self._feeds.get(sender or "")
        answer = None
        if next(iq.elements()).getAttribute("node"):
            answer = nested(iq, self._offered(feed.present)) if feed is not None else None
            if answer is None:
                raise StanzaError("item-not-found")
        else:
            answer = result(iq)
            query = answer.addElement((NS_DISCO_INFO, "query"))
            identity = query.addElement("identity")
            identity["category"], identity["type"], identity["name"] = "component", "archive", "archive_crypt"
            query.addElement("feature")["var"] = NS_DISCO_INFO
        self._link.send(answer)

    def _say(self, stanza: Element) -> None:
        stanza["from"] = self._jid
        self._link.send(stanza)

    def _refuse(self, stanza: Element, condition: str) -> None:
        """Only iqs are answered: an error to a message could travel in circles."""
        answer = refusal(stanza, condition) if stanza.name == "iq" else None
        if answer is not None:
            self._link.send(answer)

    def _post(self, client: Client, stanza: Element) -> None:
        """What the archive sends to a user's stream."""
        if stanza.name == "message":
            self._privilege.notice(client.jid, stanza)
        elif stanza.getAttribute("type") in ("result", "error"):
            self._delegation.answer(stanza)
        elif not self._privilege.push(client.jid, stanza):
            self.counts["push not sent"] += 1

    @property
    def telling(self) -> bool:
        """Whether a virtual host is still naming its streams: what it does for us it says after that."""
        return any(feed.telling for feed in self._feeds.values())

    def lacking(self, domain: str) -> list[Lack]:
        """What a virtual host has not set up, since it connected."""
        lacks = {
            Lack.FEED: not self._feeds[domain].present,
            Lack.DELEGATION: not set(DIALECTS) <= self._delegated.get(domain, set()),
            Lack.PRIVILEGE: not {*DIALECTS, NS_PUBSUB} <= self._privilege.of(domain).iqs,
        }
        return [lack for lack, lacking in lacks.items() if lacking]

    def server(self, domain: str) -> str:
        """What the server of this virtual host calls itself; '' if it did not say."""
        return self._feeds[domain].server

    def ask(self, user: str, payload: Element) -> Deferred[Element]:
        """See `Privilege.ask`."""
        return self._privilege.ask(user, payload)

    def _settled(self) -> None:
        """Say what does not work, now that the server had its time to say what does; and use it."""
        if self.telling:
            self._settling = self._reactor.callLater(_SETTLED, self._settled)
            return
        self._keys.start()
        for domain in self._feeds:
            for lack in self.lacking(domain):
                self.log.warn(
                    "{domain}: {what}; archive-crypt check says more", domain=domain, what=lack.value
                )
