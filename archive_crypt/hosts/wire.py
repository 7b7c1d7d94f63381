"""Namespaces, addresses and answers: what every part of the embedded host says on the wire.

No state and no routing here.
"""

from __future__ import annotations

from functools import lru_cache

from twisted.words.protocols.jabber.error import STANZA_CONDITIONS, StanzaError
from twisted.words.protocols.jabber.jid import JID, InvalidFormat
from twisted.words.protocols.jabber.xmlstream import toResponse
from twisted.words.xish import domish
from twisted.words.xish.domish import Element

NS_CLIENT = "jabber:client"
NS_STREAMS = "http://etherx.jabber.org/streams"
NS_TLS = "urn:ietf:params:xml:ns:xmpp-tls"
NS_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
NS_BIND = "urn:ietf:params:xml:ns:xmpp-bind"
NS_SESSION = "urn:ietf:params:xml:ns:xmpp-session"
NS_STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
NS_ROSTER = "jabber:iq:roster"
NS_DISCO_INFO = "http://jabber.org/protocol/disco#info"
NS_DISCO_ITEMS = "http://jabber.org/protocol/disco#items"
NS_PING = "urn:xmpp:ping"
NS_TIME = "urn:xmpp:time"
NS_DELAY = "urn:xmpp:delay"
NS_CHAT_STATES = "http://jabber.org/protocol/chatstates"
NS_HINTS = "urn:xmpp:hints"
NS_PUBSUB = "http://jabber.org/protocol/pubsub"

_ERROR_TYPES = {condition: StanzaError(condition).type for condition in STANZA_CONDITIONS}
_LONGEST_PART = 1023  # bytes, of each part of an address (RFC 7622 3)
_LONGEST = 3 * _LONGEST_PART + len("@/")


@lru_cache(maxsize=4096)  # bounded, unlike jid.internJID, which strangers could fill
def address(text: str) -> JID:
    """The JID that `text` names, its parts prepared.

    :raises InvalidFormat: it names none.
    """
    account, slash, resource = text.partition("/")
    if account.startswith("@") or (slash and not resource):
        raise InvalidFormat("an empty part")  # which twisted takes for none
    if len(text) > _LONGEST:
        raise InvalidFormat("too long")  # to prepare 256 KiB would take a second
    try:
        jid = JID(text)
    except (UnicodeError, RuntimeError, IndexError) as e:  # an empty string, an empty label of a domain
        raise InvalidFormat("not a JID") from e
    if any(part and len(part.encode()) > _LONGEST_PART for part in (jid.user, jid.host, jid.resource)):
        raise InvalidFormat("a part is too long")
    return jid


def bare(jid: JID) -> JID:
    """The JID without its resource (twisted's `userhostJID` remembers each for ever)."""
    return address(jid.userhost()) if jid.resource else jid


def render(element: Element) -> bytes:
    """A child of the stream's root, as it goes over the wire."""
    in_scope = {"prefixes": {NS_STREAMS: "stream"}, "prefixesInScope": ["stream"]}
    xml: str = element.toXml(defaultUri=NS_CLIENT, **in_scope)
    return xml.encode()


def parsed(xml: str) -> Element:
    """The element that `xml`, which we have rendered, is."""
    found: list[Element] = []
    stream = domish.elementStream()
    stream.DocumentStartEvent = lambda _: None
    stream.ElementEvent = found.append
    stream.DocumentEndEvent = lambda: None
    stream.parse(f"<root>{xml}</root>".encode())
    return found[0]


def result(iq: Element) -> Element:
    """The empty answer to an iq."""
    answer: Element = toResponse(iq, "result")
    return answer


def refusal(stanza: Element, condition: str, detail: Element | None = None) -> Element | None:
    """The error that answers a stanza; None for what must not be answered (RFC 6120 8.3.1).

    `detail`: a condition of a protocol's own, beside that of XMPP.
    """
    if stanza.getAttribute("type") in ("error", "result"):
        return None
    answer: Element = toResponse(stanza, "error")
    error = answer.addElement("error")
    error["type"] = _ERROR_TYPES[condition]
    error.addElement((NS_STANZAS, condition))
    if detail is not None:
        error.addChild(detail)
    return answer


def copied(stanza: Element, to: JID | None = None) -> Element:
    """The same stanza to change at will, with another 'to' if one is given; its children are
    shared with the original, so they may not be changed."""
    copy = Element((stanza.uri, stanza.name), stanza.defaultUri, dict(stanza.attributes))
    copy.children = list(stanza.children)
    if to is not None:
        copy["to"] = to.full()
    return copy


def has_child(stanza: Element, uri: str, name: str) -> bool:
    """Whether a direct child has this qualified name."""
    return any(True for _ in stanza.elements(uri, name))
