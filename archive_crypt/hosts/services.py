"""The iqs that the embedded host answers itself: disco, ping, time, roster, the session of old, and
users' nodes, which are pep.py's.

It offers no more on purpose; the archive's iqs are its handler's (embedded.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from archive_crypt.core import times
from archive_crypt.hosts.pep import FEATURES, IDENTITY, NS_OWNER, Pep
from archive_crypt.hosts.sasl import Accounts
from archive_crypt.hosts.wire import (
    NS_BIND,
    NS_DISCO_INFO,
    NS_DISCO_ITEMS,
    NS_PING,
    NS_PUBSUB,
    NS_ROSTER,
    NS_SESSION,
    NS_TIME,
    address,
    bare,
    result,
)
from archive_crypt.model import Micros

_Answer = Callable[[JID, Element, JID | None], Element]
_NODES = ((NS_PUBSUB, "pubsub"), (NS_OWNER, "pubsub"))
_OF_SERVER = (NS_DISCO_INFO, NS_DISCO_ITEMS, NS_PING, NS_TIME, "msgoffline")
_OF_ACCOUNT = (NS_DISCO_INFO, NS_DISCO_ITEMS, NS_PING, NS_TIME, *FEATURES)


class Services:
    """Answers requests to the server, or to it on behalf of the asking user; of nodes, of any user."""

    def __init__(
        self, accounts: Accounts, features: Sequence[str], clock: Callable[[], Micros], pep: Pep
    ) -> None:
        """`features`: announced beside our own, of the server and of each user's bare JID."""
        self._accounts = accounts
        self._domain = address(accounts.domain)
        self._features = tuple(features)
        self._clock = clock
        self._pep = pep
        self._answers: dict[tuple[str, str, str], _Answer] = {
            ("get", NS_DISCO_INFO, "query"): self._info,
            ("get", NS_DISCO_ITEMS, "query"): self._items,
            ("get", NS_PING, "ping"): self._done,
            ("get", NS_TIME, "time"): self._time,
            ("set", NS_SESSION, "session"): self._done,  # RFC 3921 3: nothing is left to do
            ("get", NS_ROSTER, "query"): self._roster,
            ("set", NS_ROSTER, "query"): self._not_allowed,
            ("set", NS_BIND, "bind"): self._not_allowed,  # one resource a stream
        }

    def answer(self, owner: JID, iq: Element, to: JID | None) -> Element:
        """The answer to a get or set of the user `owner` (a full JID).

        :raises StanzaError: what to answer instead.
        """
        request = next(iq.elements())
        if (request.uri, request.name) in _NODES and to != self._domain:
            return self._pep.answer(owner, iq, bare(to or owner))
        answer = self._answers.get((iq["type"], request.uri, request.name))
        if answer is None or to not in (None, bare(owner), self._domain):
            raise StanzaError("service-unavailable")
        return answer(owner, iq, to)

    def _done(self, owner: JID, iq: Element, to: JID | None) -> Element:
        return result(iq)

    def _not_allowed(self, owner: JID, iq: Element, to: JID | None) -> Element:
        raise StanzaError("not-allowed")

    def _time(self, owner: JID, iq: Element, to: JID | None) -> Element:
        """XEP-0202: by this clock the archive dates what it records."""
        answer = result(iq)
        time = answer.addElement((NS_TIME, "time"))
        time.addElement("tzo", content="+00:00")
        time.addElement("utc", content=times.render(self._clock()))
        return answer

    def _info(self, owner: JID, iq: Element, to: JID | None) -> Element:
        answer, query = _query(iq, NS_DISCO_INFO)
        of_server = to == self._domain
        for category, kind in [("server", "im")] if of_server else [("account", "registered"), IDENTITY]:
            identity = query.addElement("identity")
            identity["category"], identity["type"] = category, kind
        for var in (*(_OF_SERVER if of_server else _OF_ACCOUNT), *self._features):
            query.addElement("feature")["var"] = var
        return answer

    def _items(self, owner: JID, iq: Element, to: JID | None) -> Element:
        """Of the account: its nodes (XEP-0060 5.2), which nobody else is told."""
        answer, query = _query(iq, NS_DISCO_ITEMS)
        for name in () if to == self._domain else self._pep.names(bare(owner)):
            item = query.addElement("item")
            item["jid"], item["node"] = bare(owner).full(), name
        return answer

    def _roster(self, owner: JID, iq: Element, to: JID | None) -> Element:
        if to == self._domain:
            raise StanzaError("service-unavailable")
        answer = result(iq)
        query = answer.addElement((NS_ROSTER, "query"))
        for node in self._accounts.nodes:
            if node != owner.user:
                item = query.addElement("item")
                item["jid"], item["name"], item["subscription"] = f"{node}@{owner.host}", node, "both"
        return answer


def _query(iq: Element, namespace: str) -> tuple[Element, Element]:
    """A disco answer and its query element; no node of ours has a name (XEP-0030 3.2)."""
    if next(iq.elements()).getAttribute("node"):
        raise StanzaError("item-not-found")
    answer = result(iq)
    return answer, answer.addElement((namespace, "query"))
