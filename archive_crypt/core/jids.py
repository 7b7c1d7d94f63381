"""XMPP addresses, normalised; one way to read them, which never raises."""

from __future__ import annotations

from twisted.words.protocols.jabber.jid import JID, InvalidFormat, internJID


def read(text: str) -> JID | None:
    """The JID that `text` is (RFC 7622, by its forerunner's stringprep); None if it is none."""
    if not text:
        return None
    try:
        jid: JID = internJID(text)
    except (InvalidFormat, UnicodeError, IndexError):
        return None
    return jid
