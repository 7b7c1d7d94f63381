"""The public keys that an account publishes in its own nodes (XEP-0189 over XEP-0163): read in every form it
ever had, and of XEP-0373; written in that of 0.14.

What is published is encrypted for by the server; that it is there does not make a key the user's own:
see `trust`. What requests can raise is in `archive_crypt.reader.errors`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

from lxml import etree
from slixmpp import ClientXMPP, Iq

from archive_crypt.core import published, times
from archive_crypt.core.published import NODES, OPENPGP_NODE, REVOCATION_NODE
from archive_crypt.crypto import publickeys
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import UnusableKey
from archive_crypt.model import Micros
from archive_crypt.reader import exchange
from archive_crypt.reader.errors import (
    CannotAsk,
    Conflict,
    FeatureNotImplemented,
    NotFound,
    NotOffered,
    NotUnderstood,
    Refused,
    ServiceUnavailable,
)

NODE = NODES[0]

_PUBKEY = "urn:xmpp:pubkey:2"
_ITEM = "{http://jabber.org/protocol/pubsub}items/{http://jabber.org/protocol/pubsub}item"
_NODES_OF = "http://jabber.org/protocol/disco#items"
_LISTED = f"{{{_NODES_OF}}}item"
_METADATA = "{urn:xmpp:openpgp:0}pubkey-metadata"
#: Nodes of OpenPGP keys that are asked for: each costs a request.
_MOST_OPENPGP = 100
_CONFIGURATION = "http://jabber.org/protocol/pubsub#node_config"
#: As XEP-0222 has public data; and for several keys, as a node of XEP-0163 has room for one only.
_FIELDS = (
    ("pubsub#persist_items", "true"),
    ("pubsub#access_model", "open"),
    ("pubsub#max_items", "max"),
)
#: The XEP wants both; a key that ends by itself would end its owner's archive without a word.
_CLOCKS_DIFFER = timedelta(days=1)
_NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Seconds until an answer is waited for no longer.
_PATIENCE = 30
#: Any key that a server could use, weak ones of old times included.
_FEWEST_BITS = 1024


@dataclass(frozen=True, slots=True)
class Item:
    """A published key: where it stands, when it may be used (None: no bound), whether that was revoked.
    `key` is called as it is published, which is how EncryptedKeys call it too."""

    node: str
    id: str
    key: PublicKey
    begin: Micros | None
    end: Micros | None
    revoked: bool

    @property
    def fingerprint(self) -> str:
        """That of the key itself, whatever it is called."""
        return publickeys.fingerprint(self.key.der)

    @property
    def openpgp(self) -> bool:
        """Whether it is one for OpenPGP (XEP-0373): a server encrypts for those if its operator says so."""
        return self.node.startswith(f"{OPENPGP_NODE}:")

    @property
    def usable(self) -> bool:
        """Whether a server encrypts for it now."""
        begun = self.begin is None or self.begin <= _micros(datetime.now(UTC))
        return begun and not self.ended

    @property
    def ended(self) -> bool:
        """Whether no server encrypts for it any more."""
        return self.revoked or (self.end is not None and self.end <= _micros(datetime.now(UTC)))


#: Told what is published.
Seen = Callable[[Sequence[Item]], None]


class Publisher:
    """The nodes of the user who is logged in. `seen` is told what is there whenever that was fetched, before
    anything is done about it: what is retracted tells its name to nobody any more."""

    def __init__(self, client: ClientXMPP, seen: Seen = lambda items: None) -> None:
        client.register_plugin("xep_0060")
        self._client = client
        self._seen = seen

    async def fetch(self) -> list[Item]:
        """All that can be used as keys, in the order in which a server takes them.

        :raises NotOffered: the server has no nodes for its users.
        :raises NotUnderstood: there are too many OpenPGP keys to look at.
        """
        revocations = await self._items(REVOCATION_NODE)
        found: list[Item] = []
        for node in (*NODES, *await self._openpgp_nodes()):
            for element in await self._items(node):
                found += _read(self._client.boundjid.bare, node, element, revocations)
        self._seen(found)
        return found

    async def publish(self, key: PublicKey) -> bool:
        """Publish a key that is known to be the user's own; whether it was not yet. What is published
        already stays.

        :raises NotOffered: the server has no nodes for its users.
        :raises NotUnderstood: the server does not have it afterwards, or no other one any more.
        :raises CannotAsk: it is revoked.
        """
        name = publickeys.fingerprint(key.der)
        before = await self.fetch()
        same = [item for item in before if item.fingerprint == name]
        if any(item.revoked for item in same):
            raise CannotAsk("This key is revoked: make another, archive-reader keygen.")
        if name in usable(same):
            return False
        await self._publish(name, _write(self._client.boundjid.bare, key, name))
        after = usable(await self.fetch())
        lost = usable(before) - after
        if name not in after:
            raise NotUnderstood("The server took the key, but does not publish it.")
        if lost:
            raise NotUnderstood(
                f"The server has no room for so many keys: {', '.join(sorted(lost))} is gone."
            )
        return True

    async def retract(self, fingerprint: str) -> list[Item]:
        """Publish a key no more, wherever and by whatever name it was; what is gone.

        :raises NotOffered: the server has no nodes for its users.
        """
        items = [item for item in await self.fetch() if item.fingerprint == fingerprint]
        for node, id_ in dict.fromkeys((item.node, item.id) for item in items):
            iq = self._client.make_iq_set()
            iq["pubsub"]["retract"]["node"] = node
            iq["pubsub"]["retract"]["notify"] = "true"  # so that everybody hears of it
            iq["pubsub"]["retract"]["item"]["id"] = id_
            await self._ask(iq)
        return items

    async def _publish(self, name: str, payload: ElementTree.Element) -> None:
        # Not by publish-options: ejabberd 23.01 knows no max_items there.
        with contextlib.suppress(Refused, NotOffered):  # then it is as the server has it
            await self._set_up()
        iq = self._client.make_iq_set()
        iq["pubsub"]["publish"]["node"] = NODE
        iq["pubsub"]["publish"]["item"]["id"] = name
        iq["pubsub"]["publish"]["item"]["payload"] = payload
        await self._ask(iq)

    async def _set_up(self) -> None:
        """Have a node with room for several keys."""
        iq = self._client.make_iq_set()
        iq["pubsub"]["create"]["node"] = NODE
        iq["pubsub"]["configure"].append(self._form())
        try:
            await self._ask(iq)
        except Conflict:  # it is there, and set up for one key only, perhaps
            iq = self._client.make_iq_set()
            iq["pubsub_owner"]["configure"]["node"] = NODE
            iq["pubsub_owner"]["configure"].append(self._form())
            await self._ask(iq)

    def _form(self) -> Any:
        form = self._client.plugin["xep_0004"].make_form("submit")
        form.add_field("FORM_TYPE", "hidden", value=_CONFIGURATION)
        for name, value in _FIELDS:
            form.add_field(name, value=value)
        return form

    async def _items(self, node: str) -> list[etree._Element]:
        iq = self._client.make_iq_get()
        iq["pubsub"]["items"]["node"] = node
        try:
            answer = await self._ask(iq)
        except NotFound:
            return []
        return [] if answer is None else answer.findall(_ITEM)

    async def _openpgp_nodes(self) -> tuple[str, ...]:
        """Those of OpenPGP keys: which the account lists as such, and which are there all the same, as some
        servers take whatever is there."""
        lists = await self._items(OPENPGP_NODE)
        prints = (one.get("v4-fingerprint") for list_ in lists for one in list_.iter(_METADATA))
        nodes = dict.fromkeys(f"{OPENPGP_NODE}:{one}" for one in prints if one)
        nodes |= dict.fromkeys(node for node in await self._nodes() if node.startswith(f"{OPENPGP_NODE}:"))
        if len(nodes) > _MOST_OPENPGP:
            raise NotUnderstood(
                f"{len(nodes)} OpenPGP keys are published: too many. Remove them with another client."
            )
        return tuple(nodes)

    async def _nodes(self) -> list[str]:
        """All nodes, as far as the server tells."""
        try:
            answer = await self._ask(self._client.make_iq_get(_NODES_OF, self._client.boundjid.bare))
        except (Refused, NotOffered):
            return []
        return [] if answer is None else [item.get("node", "") for item in answer.findall(_LISTED)]

    async def _ask(self, iq: Iq) -> etree._Element | None:
        try:
            return await exchange.ask(self._client, iq, _PATIENCE)
        except (ServiceUnavailable, FeatureNotImplemented):
            raise NotOffered(
                f"{self._client.boundjid.domain} has no place where users publish keys (XEP-0163)."
            ) from None


def usable(items: Iterable[Item]) -> set[str]:
    """The fingerprints of the keys that any server encrypts for now: those of OpenPGP are not among them."""
    return {item.fingerprint for item in items if item.usable and not item.openpgp}


def _read(
    owner: str, node: str, element: etree._Element, revocations: Sequence[etree._Element]
) -> Iterator[Item]:
    """What an item of a node publishes, as far as it can be used as a key."""
    left = published.read(owner, {node: [element], REVOCATION_NODE: revocations}, openpgp=True)
    for one in published.read(owner, {node: [element]}, openpgp=True):
        value, bits = one.key, _FEWEST_BITS
        try:
            key = publickeys.from_numbers(value.modulus, value.exponent, value.name, minimum_bits=bits)
        except UnusableKey:
            continue
        yield Item(node, element.get("id", ""), key, one.begin, one.end, revoked=one not in left)


def _write(owner: str, key: PublicKey, name: str) -> ElementTree.Element:
    """The payload of XEP-0189 0.14. Its print is what EncryptedKeys will call the key: so it is the
    fingerprint by which the key is known everywhere else. (The XEP would hash dates and address along.)"""
    numbers = key.rsa.public_numbers()
    pubkey = ElementTree.Element(f"{{{_PUBKEY}}}pubkey")
    begin = datetime.now(UTC) - _CLOCKS_DIFFER
    rsakey = ElementTree.Element(f"{{{_PUBKEY}}}rsakey")
    for parent, tag, text in (
        (pubkey, "begin", times.render(_micros(begin.replace(microsecond=0)))),
        (pubkey, "end", times.render(_micros(_NEVER))),
        (pubkey, "jid", owner),
        (rsakey, "modulus", str(numbers.n)),
        (rsakey, "publicExponent", str(numbers.e)),
        (rsakey, "print", name),
    ):
        ElementTree.SubElement(parent, f"{{{_PUBKEY}}}{tag}").text = text
    rsakey[-1].set("algo", "sha-256")
    pubkey.append(rsakey)
    return pubkey


def _micros(moment: datetime) -> Micros:
    return (moment - _EPOCH) // timedelta(microseconds=1)
