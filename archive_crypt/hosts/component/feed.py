"""What a server tells of the streams and messages of one virtual host (docs/feed.rst).

Believes no JID of another domain. What cannot be understood is counted and skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.words.protocols.jabber.jid import JID, InvalidFormat
from twisted.words.xish.domish import Element

from archive_crypt.core import times, tree
from archive_crypt.deferreds import kind
from archive_crypt.errors import ArchiveError, BadRequest
from archive_crypt.hosts.component.clients import Clients
from archive_crypt.hosts.component.complaints import Complaints
from archive_crypt.hosts.seam import DistantArchiver
from archive_crypt.hosts.wire import NS_CLIENT, address
from archive_crypt.model import Direction, Micros

#: All versions of the feed begin so; this is the one we know.
FEED = "urn:x-archive-crypt:feed:"
NS_FEED = f"{FEED}1"
NS_FORWARD = "urn:xmpp:forward:0"

_DIRECTIONS = {"in": Direction.FROM, "out": Direction.TO}


class Unreadable(Exception):
    """What came is not as docs/feed.rst has it; the text says why, and quotes nothing."""


class Feed:
    """The feed of the virtual host `domain`. `published(jid, node)` is called when a user, a bare JID,
    changed one of his nodes; `own(message)` says of a copy whether the archive itself sent it."""

    log = Logger()

    def __init__(
        self,
        domain: str,
        archiver: DistantArchiver,
        clients: Clients,
        now: Callable[[], Micros],
        complaints: Complaints,
        own: Callable[[Element], bool],
        published: Callable[[str, str], object],
    ) -> None:
        self.domain = domain
        #: Whether the server feeds us, since it connected; and the namespace of the privileged iqs that its
        #: module takes, or ''.
        self.present = False
        self.privilege = ""
        #: What the server calls itself.
        self.server = ""
        self._archiver = archiver
        self._clients = clients
        self._now = now
        self._complaints = complaints
        self._own = own
        self._published = published
        #: Streams that a snapshot has not named yet; None outside of one.
        self._unseen: set[JID] | None = None
        self._leaving: Deferred[None] | None = None
        self._readers: dict[str, Callable[[Element], None]] = {
            "copy": self._copy,
            "stream": self._stream,
            "snapshot": self._snapshot,
            "published": self._node,
            "left": self._left,
        }

    @property
    def telling(self) -> bool:
        """Whether a snapshot has begun, and not ended: with 50,000 streams that takes a while."""
        return self._unseen is not None

    def lost(self) -> None:
        """The server is gone. The streams may well go on: its next snapshot will tell."""
        self.present = False
        self.privilege = ""
        self._unseen = None
        self._left()

    def leave(self, say: Callable[[Element], object]) -> Deferred[None]:
        """Have the server hold what happens from now on; fires when nothing more comes. `say` sends it."""
        if not self.present:
            return succeed(None)
        leaving: Deferred[None] = Deferred()
        self._leaving = leaving
        message = Element((None, "message"))
        message["to"] = self.domain
        message.addElement((NS_FEED, "leave"))
        say(message)
        return leaving

    def _left(self, _: Element | None = None) -> None:
        leaving, self._leaving = self._leaving, None
        if leaving is not None and not leaving.called:
            leaving.callback(None)

    def receive(self, element: Element) -> None:
        """One of the feed's elements.

        :raises Unreadable: it is none.
        """
        if element.uri != NS_FEED:
            raise Unreadable("a feed of another version: mod_archive_feed and archive_crypt do not fit")
        reader = self._readers.get(element.name)
        if reader is not None:  # what later modules may add is ignored
            reader(element)

    def _copy(self, element: Element) -> None:
        jid = self._jid(element)
        direction = _DIRECTIONS.get(element.getAttribute("direction") or "")
        message = _forwarded(element)
        if direction is None or message is None:
            raise Unreadable("a copy without direction or message")
        when = self._now()
        held = element.getAttribute("held")
        if held is not None:
            when = min(when, _moment(held))
        self._clients.settle(jid)
        if not self._own(message):
            self._archiver.message(jid, direction, message, when).addErrback(self._unarchived)

    def _stream(self, element: Element) -> None:
        jid = self._jid(element)
        event = element.getAttribute("event")
        if event == "open":
            known = self._unseen is not None
            if self._unseen is not None:
                self._unseen.discard(jid)
            self._clients.open(jid, known=known)
        elif event == "resume":
            self._clients.resume(jid)
        elif event == "pending":
            self._clients.pending(jid)
        elif event == "close":
            self._clients.close(jid)
        else:
            raise Unreadable("a stream with an unknown event")

    def _snapshot(self, element: Element) -> None:
        if element.getAttribute("event") == "begin":
            self.present = True
            self.privilege = element.getAttribute("privilege") or ""
            self.server = (element.getAttribute("server") or "a server")[:100]
            self._unseen = set(self._clients.of(self.domain))
            self._tell_missed(element)
        elif self._unseen is not None:
            gone, self._unseen = self._unseen, None
            for jid in gone:
                self._clients.close(jid)
            self._archiver.switching.forget_streams(self.domain)

    def _tell_missed(self, element: Element) -> None:
        text = element.getAttribute("missed") or "0"
        missed = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
        self._complaints.counts["missed while away"] += missed
        self.log.info("{domain} is fed by {server}", domain=self.domain, server=self.server)
        if missed:
            self.log.warn(
                "{missed} message(s) of {domain} passed while nobody was there to archive them",
                missed=missed,
                domain=self.domain,
            )

    def _node(self, element: Element) -> None:
        jid, node = self._jid(element, full=False), element.getAttribute("node")
        if not node:
            raise Unreadable("a published node without name")
        self._published(jid.full(), node)

    def _jid(self, element: Element, *, full: bool = True) -> JID:
        try:
            jid = address(element.getAttribute("jid") or "")
        except InvalidFormat:
            raise Unreadable("a JID that is none") from None
        if jid.host != self.domain or not jid.user or bool(jid.resource) != full:
            raise Unreadable("a JID that is not of that virtual host's users")
        return jid

    def _unarchived(self, failure: Any) -> None:
        """Told and counted by the archiver, if it was the archive's fault."""
        if not failure.check(ArchiveError):
            self.log.error("a copy failed: {kind}", kind=kind(failure))


def _forwarded(element: Element) -> Element | None:
    forwarded = tree.child(element, NS_FORWARD, "forwarded")
    return tree.child(forwarded, NS_CLIENT, "message") if forwarded is not None else None


def _moment(text: str) -> Micros:
    try:
        return times.parse(text)
    except BadRequest:
        raise Unreadable("a time that is none") from None
