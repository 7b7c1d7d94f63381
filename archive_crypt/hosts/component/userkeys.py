"""The public keys that a component's users publish: read from their accounts on their behalf when they are
needed, kept for a while, and read again when they change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from archive_crypt.core.published import OPENPGP_NODE
from archive_crypt.deferreds import Shared
from archive_crypt.hosts.component.privilege import Privilege, condition
from archive_crypt.hosts.seam import DistantArchiver
from archive_crypt.hosts.wire import NS_PUBSUB

#: Seconds until they are read again, in case nobody told of a change.
LIFETIME = 3600.0
#: Users whose keys are read at once while nobody waits for them: there may be 100,000 when a server is
#: connected to.
_AT_ONCE = 8
#: Users whose keys are known to be fresh; and OpenPGP keys of one that are read.
_MOST_USERS = 20_000
_MOST_KEYS = 8

#: What says that there is no such node. Any other error says nothing of it, and keys must not vanish by it.
_ABSENT = ("item-not-found", "feature-not-implemented", "service-unavailable")

_NS_OPENPGP = "urn:xmpp:openpgp:0"


class UserKeys:
    """Tells `archiver` what users publish in `nodes` (those of `ArchivePlug.nodes`)."""

    log = Logger()

    def __init__(
        self, archiver: DistantArchiver, privilege: Privilege, nodes: Sequence[str], clock: Any
    ) -> None:
        self._archiver = archiver
        self._privilege = privilege
        self._nodes = nodes
        self._clock = clock
        self._read: OrderedDict[str, float] = OrderedDict()
        self._reading: dict[str, Shared] = {}
        self._changed: set[str] = set()
        self._soon: dict[str, None] = {}
        self._working = 0
        self._renewal = LoopingCall(self._renew)
        self._renewal.clock = clock

    def start(self) -> None:
        """The server is there: read anew what is in use, now and then."""
        self._renewal.start(LIFETIME).addErrback(self._failed)

    def stop(self) -> None:
        """The server is gone: nobody tells of changes, so nothing is fresh any more."""
        if self._renewal.running:
            self._renewal.stop()
        self._read.clear()
        self._soon.clear()

    def find(self, user: str, *, soon: bool = False, anew: bool = False) -> Deferred[None]:
        """Have what `user`, a bare JID, publishes told if it is not fresh; fires then, or when it
        cannot be had. What was known before holds on in that case.

        `soon`: when others have been asked for; fires at once. `anew`: fresh or not.
        """
        if anew:
            self._read.pop(user, None)
        if self._clock.seconds() - self._read.get(user, -LIFETIME) < LIFETIME:
            return succeed(None)
        if not soon:
            return self._again(user)
        self._soon[user] = None
        if self._working < _AT_ONCE:
            self._work()
        return succeed(None)

    def changed(self, user: str, node: str) -> None:
        """He changed one of his nodes. Nobody who never needed his keys needs them now."""
        if not any(node == name or node.startswith(f"{name}:") for name in self._nodes):
            return
        self._read.pop(user, None)
        if user in self._reading:
            self._changed.add(user)
        elif self._archiver.is_sealing(user):
            self._again(user)

    def _again(self, user: str) -> Deferred[None]:
        if user not in self._reading:
            self._reading[user] = Shared(self._fetch(user).addErrback(self._failed))
            if self._reading[user].over:
                return self._reading.pop(user).wait()
        return self._reading[user].wait()

    @inlineCallbacks
    def _fetch(self, user: str) -> Generator[Deferred[Any], Any, None]:
        try:
            while True:
                self._changed.discard(user)
                nodes = yield self._all_nodes(user)
                if user not in self._changed:
                    break
            if nodes is not None and self._archiver.has_streams(user):
                self._read[user] = self._clock.seconds()
                if len(self._read) > _MOST_USERS:
                    self._read.popitem(last=False)
                self._archiver.keys_published(JID(user), nodes)
        finally:
            self._reading.pop(user, None)

    @inlineCallbacks
    def _all_nodes(self, user: str) -> Generator[Deferred[Any], Any, dict[str, list[Element]] | None]:
        """What is in all nodes that there are; None if it cannot be said."""
        found: dict[str, list[Element]] = {}
        if not (yield self._gather(user, self._nodes, found)):
            return None
        prints = [
            key.getAttribute("v4-fingerprint") or ""
            for listing in found.get(OPENPGP_NODE, [])
            for key in listing.elements(_NS_OPENPGP, "pubkey-metadata")
        ]
        keys = [f"{OPENPGP_NODE}:{print_}" for print_ in prints if print_][:_MOST_KEYS]
        if not (yield self._gather(user, keys, found)):
            return None
        return found

    @inlineCallbacks
    def _gather(
        self, user: str, nodes: Sequence[str], found: dict[str, list[Element]]
    ) -> Generator[Deferred[Any], Any, bool]:
        answers = yield DeferredList(
            [self._privilege.ask(user, _items(node)) for node in nodes], consumeErrors=True
        )
        for node, (answered, iq) in zip(nodes, answers, strict=True):
            there = iq.getAttribute("type") == "result" if answered else False
            if not there and (not answered or condition(iq) not in _ABSENT):
                return False
            if there:
                found[node] = _payloads(iq)
        return True

    def _renew(self) -> None:
        self._read.clear()
        for user in self._archiver.sealing():
            self.find(user, soon=True)

    @inlineCallbacks
    def _work(self) -> Generator[Deferred[Any], Any, None]:
        """One user after the other, as long as there are any."""
        self._working += 1
        while self._soon:
            # Where nothing may be asked, all of them would be one turn of the reactor.
            yield deferLater(self._clock, 0)
            user = next(iter(self._soon), None)
            if user is not None:
                del self._soon[user]
                if self._archiver.is_sealing(user):
                    yield self.find(user)
        self._working -= 1

    def _failed(self, failure: Any) -> None:
        self.log.error("published keys could not be read: {kind}", kind=failure.type.__name__)


def _items(node: str) -> Element:
    pubsub = Element((NS_PUBSUB, "pubsub"))
    pubsub.addElement("items")["node"] = node
    return pubsub


def _payloads(iq: Element) -> list[Element]:
    return [
        payload
        for pubsub in iq.elements(NS_PUBSUB, "pubsub")
        for items in pubsub.elements(NS_PUBSUB, "items")
        for item in items.elements(NS_PUBSUB, "item")
        for payload in item.elements()
    ]
