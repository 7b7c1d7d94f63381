"""May this stanza be archived at all: a flat list of rules, each with its reason.

Preferences (what the user wants saved) are not here; this is what no preference can ask for.
"""

from __future__ import annotations

from twisted.words.xish import domish

from archive_crypt.core import tree
from archive_crypt.model import Direction, SaveMode

_HINTS = "urn:xmpp:hints"
_CARBONS = "urn:xmpp:carbons:2"
_FORWARD = "urn:xmpp:forward:0"
_MUC_USER = "http://jabber.org/protocol/muc#user"
_OPENPGP = "urn:xmpp:openpgp:0"
_FEATURE_NEG = "http://jabber.org/protocol/feature-neg"
_DATA_FORM = "jabber:x:data"
_ESESSION = frozenset(
    (
        ("c", "http://www.xmpp.org/extensions/xep-0200.html#ns"),
        ("init", "http://www.xmpp.org/extensions/xep-0116.html#ns-init"),
    )
)
#: Session negotiation has had four FORM_TYPEs since 2005 (XEP-0155).
_NEGOTIATION = frozenset(
    (
        "urn:xmpp:ssn",
        "urn:xmpp:chatneg",
        "http://jabber.org/protocol/chatneg",
        "http://www.xmpp.org/extensions/xep-0155.html#ns",
    )
)
_NEVER_TYPES = {"error": "error", "headline": "headline"}

#: Ceiling of what is archived of one message: more could end a component's stream when it is
#: read back (octets of the archived element).
MOST_CONTENT = 192 * 1024


def judge(message: domish.Element, direction: Direction, mode: SaveMode) -> tuple[bool, str]:
    """Whether a message is conversation that may be archived, and the reason, for the log.

    >>> judge(carbon, Direction.FROM, SaveMode.BODY)    # a wrapper: the original was archived
    (False, 'carbon')
    """
    kind = message.getAttribute("type")
    if kind in _NEVER_TYPES:
        return False, _NEVER_TYPES[kind]
    if kind == "groupchat" and direction is Direction.TO:
        return False, "sent to a room"  # the room delivers it back to its sender (XEP-0136 5.6)
    has_content = has_store_hint = False
    for child in tree.children(message):
        if child.name == "body":
            has_content = has_content or bool(tree.text(child))
            continue
        reason = _forbids(child)
        if reason is not None:
            return False, reason
        has_content = has_content or (child.uri == _OPENPGP and child.name == "openpgp")
        has_store_hint = has_store_hint or (child.uri == _HINTS and child.name == "store")
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


def is_room_private(message: domish.Element) -> bool:
    """Whether a message, no groupchat, is a private one through a room: its resource is the person."""
    return any(child.uri == _MUC_USER and child.name == "x" for child in tree.children(message))


def _forbids(child: domish.Element) -> str | None:
    name, uri = child.name, child.uri
    if uri == _CARBONS and name in ("sent", "received"):
        return "carbon"
    if uri == _FORWARD and name == "forwarded":
        return "forwarded"
    if name == "result" and str(uri).startswith("urn:xmpp:mam:"):
        return "archive result"
    if uri == _HINTS and name in ("no-store", "no-permanent-store", "no-permanent-storage"):
        return "hint"
    if (name, uri) in _ESESSION:
        return "ESession"  # its keys are short-lived: nobody could read it later (XEP-0136 7.1)
    if uri == _FEATURE_NEG and name == "feature" and _negotiates(child):
        return "session negotiation"
    return None


def _negotiates(feature: domish.Element) -> bool:
    return any(
        tree.text(value) in _NEGOTIATION
        for form in feature.elements(_DATA_FORM, "x")
        for field in form.elements(_DATA_FORM, "field")
        if field.getAttribute("var") == "FORM_TYPE"
        for value in field.elements(_DATA_FORM, "value")
    )
