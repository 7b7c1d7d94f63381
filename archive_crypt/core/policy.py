"""May this stanza be archived at all: a flat list of rules, each with its reason.

Preferences (what the user wants saved) are not here; this is what no preference can ask for.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.words.xish import domish

from archive_crypt.core import tree
from archive_crypt.core.message import STANZA, Message
from archive_crypt.model import Direction, SaveMode

_HINTS = "urn:xmpp:hints"
_CARBONS = "urn:xmpp:carbons:2"
_FORWARD = "urn:xmpp:forward:0"
_MUC_USER = "http://jabber.org/protocol/muc#user"
_OPENPGP = "urn:xmpp:openpgp:0"
_EME = "urn:xmpp:eme:0"
_SHIM = "http://jabber.org/protocol/shim"
_FEATURE_NEG = "http://jabber.org/protocol/feature-neg"
_DATA_FORM = "jabber:x:data"
_ESESSION = frozenset(
    (
        ("c", "http://www.xmpp.org/extensions/xep-0200.html#ns"),
        ("init", "http://www.xmpp.org/extensions/xep-0116.html#ns-init"),
    )
)
#: Session negotiation has had four FORM_TYPEs since 2005 (XEP-0155).
NEGOTIATION = frozenset(
    (
        "urn:xmpp:ssn",
        "urn:xmpp:chatneg",
        "http://jabber.org/protocol/chatneg",
        "http://www.xmpp.org/extensions/xep-0155.html#ns",
    )
)
_OMEMO = frozenset(("eu.siacs.conversations.axolotl", "urn:xmpp:omemo:1", "urn:xmpp:omemo:2"))
_FORWARD_SECRET = _OMEMO | {"urn:xmpp:otr:0"}
_NEVER_TYPES = {"error": "error", "headline": "headline"}
#: What accompanies or reports on messages.
ACCOMPANIES = frozenset(
    (
        "http://jabber.org/protocol/amp",
        "http://jabber.org/protocol/chatstates",
        "jabber:x:delay",
        "urn:xmpp:chat-markers:0",
        "urn:xmpp:delay",
        "urn:xmpp:receipts",
        "urn:xmpp:sid:0",
    )
)
#: The same, and what announces a publication: no rule asks for it, and most messages have some of it.
_PASSED_OVER = ACCOMPANIES | {"http://jabber.org/protocol/pubsub#event"}
#: What says nothing itself.
_SAYS_NOTHING = _PASSED_OVER | {_HINTS, _EME, _SHIM}

#: Ceiling of what is archived of one message: more could end a component's stream when it is
#: read back (octets of the archived element).
MOST_CONTENT = 192 * 1024


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator decides about what may be archived.

    `required`: logging is compulsory (XEP-0136 7.1), so that no sender's wish counts.
    `forward_secret`: OTR and OMEMO are kept, though nobody can read them later.
    """

    required: bool = False
    forward_secret: bool = False


def judge(message: Message, direction: Direction, mode: SaveMode, rules: Rules) -> tuple[bool, str]:
    """Whether a message is conversation that may be archived, and the reason, for the log.

    Wrappers of other messages, what is sent to a room, and messages with nothing in them never
    may. Under compulsory logging nothing else is refused; and with SaveMode.MESSAGE, where there
    is room for it, each child element is content but thread, error, an empty subject, and what
    merely accompanies or reports on messages: hints, headers, receipts, chat states, delays.

    >>> judge(carbon, Direction.FROM, SaveMode.BODY, Rules())    # the original was archived
    (False, 'carbon')
    """
    kind = message.type
    if kind in _NEVER_TYPES and not rules.required:
        return False, _NEVER_TYPES[kind]
    if kind == "groupchat" and direction is Direction.TO:
        return False, "sent to a room"  # the room delivers it back to its sender (XEP-0136 5.6)
    has_content = has_store_hint = False
    for _, text in message.bodies:
        if text.startswith("?OTR") and not (rules.forward_secret or rules.required):
            return False, "forward secret"
        has_content = has_content or bool(text)
    for child, uri in zip(message.rest, message.namespaces, strict=True):
        if uri in _PASSED_OVER:
            continue
        reason = _never(child) or (None if rules.required else _forbids(child, rules))
        if reason is not None:
            return False, reason
        has_content = has_content or _is_content(child, mode, rules)
        has_store_hint = has_store_hint or (uri == _HINTS and child.name == "store")
    if has_content:
        return True, "content"
    if has_store_hint and mode is SaveMode.MESSAGE:
        return True, "store hint"
    return False, "no body"


def is_too_large(content: str) -> bool:
    """Whether what would be archived of a message has more than MOST_CONTENT octets."""
    if len(content) * 4 <= MOST_CONTENT:  # UTF-8 takes four octets at most: no need to count
        return False
    return len(content.encode()) > MOST_CONTENT


def is_room_private(message: Message) -> bool:
    """Whether a message, no groupchat, is a private one through a room: its resource is the person."""
    if _MUC_USER not in message.namespaces:
        return False
    return any(child.uri == _MUC_USER and child.name == "x" for child in message.rest)


def may_negotiate(message: Message) -> bool:
    """Whether a message can be one that negotiates a session: quickly told, of every message."""
    return _FEATURE_NEG in message.namespaces


def session_form(child: domish.Element) -> domish.Element | None:
    """The data form of a message's `child` that negotiates a session (XEP-0155); None for others."""
    if child.uri != _FEATURE_NEG or child.name != "feature":
        return None
    for form in child.elements(_DATA_FORM, "x"):
        for field in form.elements(_DATA_FORM, "field"):
            if field.getAttribute("var") == "FORM_TYPE" and NEGOTIATION.intersection(values(field)):
                found: domish.Element = form
                return found
    return None


def values(field: domish.Element) -> list[str]:
    """The values of a data form's field, without white space around them (XEP-0004 3.2)."""
    return [tree.text(value).strip() for value in field.elements(_DATA_FORM, "value")]


def _never(child: domish.Element) -> str | None:
    """What is wrong with it whoever asks: it is another message, which was or will be judged itself."""
    name, uri = child.name, child.uri
    if uri == _CARBONS and name in ("sent", "received"):
        return "carbon"
    if uri == _FORWARD and name == "forwarded":
        return "forwarded"
    if name == "result" and str(uri).startswith("urn:xmpp:mam:"):
        return "archive result"
    return None


def _forbids(child: domish.Element, rules: Rules) -> str | None:
    name, uri = child.name, child.uri
    if uri == _HINTS and name in ("no-store", "no-permanent-store", "no-permanent-storage"):
        return "hint"
    if uri == _SHIM and name == "headers" and _denies_storing(child):
        return "Store header"
    if (name, uri) in _ESESSION:
        return "ESession"  # its keys are short-lived: nobody could read it later (XEP-0136 7.1)
    if session_form(child) is not None:
        return "session negotiation"
    if not rules.forward_secret and _is_forward_secret(child):
        return "forward secret"
    return None


def _denies_storing(headers: domish.Element) -> bool:
    """Whether a Store header says anything but true: what is not understood denies (XEP-0131 5.4)."""
    return any(
        (header.getAttribute("name") or "").strip().lower() == "store"
        and tree.text(header).strip().lower() != "true"
        for header in headers.elements(_SHIM, "header")
    )


def _is_forward_secret(child: domish.Element) -> bool:
    if child.name == "encryption":
        return child.uri == _EME and child.getAttribute("namespace") in _FORWARD_SECRET
    return child.name == "encrypted" and child.uri in _OMEMO


def _is_content(child: domish.Element, mode: SaveMode, rules: Rules) -> bool:
    if child.uri == _OPENPGP and child.name == "openpgp":
        return True
    if mode is not SaveMode.MESSAGE:
        return False
    if child.name == "encrypted" and child.uri in _OMEMO:
        return any(part.name == "payload" for part in tree.children(child)) or rules.required
    return rules.required and _says_something(child)


def _says_something(child: domish.Element) -> bool:
    if child.uri in STANZA:
        return child.name not in ("thread", "error") and bool(child.children)
    if child.uri == _MUC_USER and not child.children:
        return False  # only a mark (XEP-0045 7.5)
    return child.uri not in _SAYS_NOTHING
