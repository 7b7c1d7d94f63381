"""Users' own pubsub nodes: XEP-0163 without its events, the subset of XEP-0060 with which keys are
published and found. In memory; what an item holds is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_hex

from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from archive_crypt.hosts.limits import Limits
from archive_crypt.hosts.sasl import Accounts
from archive_crypt.hosts.wire import NS_PUBSUB, bare, parsed, result

NS_OWNER = f"{NS_PUBSUB}#owner"
_NS_ERRORS = f"{NS_PUBSUB}#errors"
_NS_DATA = "jabber:x:data"

#: For disco#info of an account.
IDENTITY = ("pubsub", "pep")
FEATURES = tuple(
    f"{NS_PUBSUB}#{name}"
    for name in (
        "auto-create", "create-and-configure", "create-nodes", "delete-nodes", "item-ids",
        "persistent-items", "publish", "publish-options", "retract-items", "retrieve-items",
    )
)  # fmt: skip

#: access_model -> whether only the owner reads. Here everybody sees everybody's presence, so that
#: 'presence', XEP-0163's default, is as good as 'open'.
_PRIVATE = {"open": False, "presence": False, "whitelist": True}
#: Nodes that only their owner reads, whatever their publisher said (XEP-0373 5).
_ALWAYS_PRIVATE = ("urn:xmpp:openpgp:0:secret-key",)
_LONGEST = 1023  # bytes of a node's name, and of an item's id


@dataclass(slots=True)
class _Node:
    """A node: `items` are id -> payload as XML, '' where there is none, in the order of publication."""

    private: bool
    items: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Request:
    """`element` says what to do; `own`: it comes from the account's own user."""

    iq: Element
    element: Element
    account: JID
    own: bool


class Pep:
    """The nodes of all users, and the answers to requests for them."""

    def __init__(self, accounts: Accounts, limits: Limits, changed: Callable[[JID, str], None]) -> None:
        """`changed`: called with a user's bare JID and one of his nodes, after items came or went."""
        self._accounts = accounts
        self._limits = limits
        self._changed = changed
        self._of: dict[str, dict[str, _Node]] = {}
        self._actions: dict[tuple[str, str, str], Callable[[_Request], Element]] = {
            ("get", NS_PUBSUB, "items"): self._retrieve,
            ("set", NS_PUBSUB, "publish"): self._publish,
            ("set", NS_PUBSUB, "retract"): self._retract,
            ("set", NS_PUBSUB, "create"): self._create,
            ("set", NS_OWNER, "delete"): self._delete,
        }

    def answer(self, asker: JID, iq: Element, account: JID) -> Element:
        """The answer to a ``<pubsub/>`` request of `asker` to the bare JID `account`.

        :raises StanzaError: what to answer instead.
        """
        if account.user not in self._accounts:
            raise StanzaError("service-unavailable")
        own = account == bare(asker)
        for element in next(iq.elements()).elements():
            action = self._actions.get((iq["type"], element.uri, element.name))
            if action is not None:
                if iq["type"] == "set" and not own:
                    raise StanzaError("forbidden")
                return action(_Request(iq, element, account, own))
        raise StanzaError("feature-not-implemented")

    def names(self, user: JID) -> tuple[str, ...]:
        """The names of the user's nodes."""
        return tuple(self._nodes(user))

    def payloads(self, user: JID, wanted: Callable[[str], bool]) -> dict[str, tuple[Element, ...]]:
        """The payloads in the user's nodes of `wanted` names, in the order of publication."""
        return {
            name: tuple(parsed(payload) for payload in node.items.values() if payload)
            for name, node in self._nodes(user).items()
            if wanted(name)
        }

    # nodes

    def _create(self, request: _Request) -> Element:
        name = request.element.getAttribute("node")
        if not name:
            raise _refused("not-acceptable", "nodeid-required")
        if name in self._nodes(request.account):
            raise StanzaError("conflict")
        self._add(request.account, name, _private(name, request.iq, "configure"))
        return result(request.iq)

    def _delete(self, request: _Request) -> Element:
        name, _ = self._node(request)
        del self._nodes(request.account)[name]
        self._changed(request.account, name)
        return result(request.iq)

    def _nodes(self, account: JID) -> dict[str, _Node]:
        return self._of.setdefault(account.user or "", {})

    def _node(self, request: _Request) -> tuple[str, _Node]:
        """The node that the request names, and its name."""
        name = _name(request.element)
        node = self._nodes(request.account).get(name)
        if node is None:
            raise StanzaError("item-not-found")
        return name, node

    def _add(self, account: JID, name: str, private: bool | None) -> _Node:
        nodes = self._nodes(account)
        if len(nodes) >= self._limits.pep_nodes:
            raise _refused("resource-constraint", "max-nodes-exceeded")
        node = nodes[_short(name)] = _Node(bool(private))
        return node

    # items

    def _publish(self, request: _Request) -> Element:
        name = _name(request.element)
        item, payload = self._item(request.element)
        private = _private(name, request.iq, "publish-options")
        node = self._nodes(request.account).get(name) or self._add(request.account, name, private)
        if private not in (None, node.private):
            raise _refused("conflict", "precondition-not-met")
        if item not in node.items and len(node.items) >= self._limits.pep_items:
            raise _refused("resource-constraint", "node-full")
        node.items.pop(item, None)  # to be the last, even if it replaces one
        node.items[item] = payload
        self._changed(request.account, name)
        answer = result(request.iq)
        published = answer.addElement((NS_PUBSUB, "pubsub")).addElement("publish")
        published["node"] = name
        published.addElement("item")["id"] = item
        return answer

    def _item(self, publish: Element) -> tuple[str, str]:
        """Id and payload of what is to be published: one item, with at most one element in it."""
        items = list(publish.elements(NS_PUBSUB, "item"))
        if not items:
            raise _refused("bad-request", "item-required")
        payloads = list(items[0].elements())
        if len(items) > 1 or len(payloads) > 1 or not all(payload.uri for payload in payloads):
            raise _refused("bad-request", "invalid-payload")
        xml = "".join(payload.toXml() for payload in payloads)
        if len(xml.encode()) > self._limits.pep_item:
            raise _refused("not-acceptable", "payload-too-big")
        return _short(items[0].getAttribute("id") or token_hex(8)), xml

    def _retract(self, request: _Request) -> Element:
        name, node = self._node(request)
        ids = _ids(request.element)
        if not ids or "" in ids:
            raise _refused("bad-request", "item-required")
        if not ids <= node.items.keys():
            raise StanzaError("item-not-found")
        for item in ids:
            del node.items[item]
        self._changed(request.account, name)
        return result(request.iq)

    def _retrieve(self, request: _Request) -> Element:
        name, node = self._node(request)
        if node.private and not request.own:
            raise _refused("not-allowed", "closed-node")
        ids = _ids(request.element) or node.items.keys()
        found = [(item, payload) for item, payload in node.items.items() if item in ids]
        answer = result(request.iq)
        items = answer.addElement((NS_PUBSUB, "pubsub")).addElement("items")
        items["node"] = name
        for item, payload in found[-_most(request.element) :]:
            element = items.addElement("item")
            element["id"] = item
            element.addRawXml(payload)
        return answer


def _name(element: Element) -> str:
    """The node that an element names."""
    name = element.getAttribute("node")
    if not name:
        raise _refused("bad-request", "nodeid-required")
    return str(name)


def _ids(element: Element) -> set[str]:
    """The items that an element names; '' for one without id."""
    return {item.getAttribute("id") or "" for item in element.elements(NS_PUBSUB, "item")}


def _most(items: Element) -> int:
    """How many of the most recent items are asked for; 0: all."""
    text = items.getAttribute("max_items")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text)):
        raise StanzaError("bad-request")
    return int(text)


def _private(node: str, iq: Element, where: str) -> bool | None:
    """What the form in ``<publish-options/>`` or ``<configure/>`` makes of the node; None: it does
    not say. Every other option is without meaning here."""
    if node in _ALWAYS_PRIVATE:
        return True
    for options in next(iq.elements()).elements(NS_PUBSUB, where):
        for form in options.elements(_NS_DATA, "x"):
            for option in form.elements(_NS_DATA, "field"):
                if option.getAttribute("var") == "pubsub#access_model":
                    return _access(option)
    return None


def _access(option: Element) -> bool | None:
    values = [str(value).strip() for value in option.elements(_NS_DATA, "value")]
    if not values:
        return None
    if values[0] not in _PRIVATE:
        raise _refused("not-acceptable", "unsupported-access-model")
    return _PRIVATE[values[0]]


def _short(text: str) -> str:
    if len(text.encode()) > _LONGEST:
        raise StanzaError("not-acceptable")
    return text


def _refused(condition: str, detail: str) -> StanzaError:
    """An error with a condition of pubsub's own beside it."""
    return StanzaError(condition, appCondition=Element((_NS_ERRORS, detail)))
