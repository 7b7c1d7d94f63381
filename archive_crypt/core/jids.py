"""XMPP addresses, normalised; one way to read them, which never raises."""

from __future__ import annotations

from functools import lru_cache

from twisted.words.protocols.jabber.jid import JID, InvalidFormat

#: Three parts of 1023 octets each, and what stands between them (RFC 7622 3.1).
_LONGEST = 3071


@lru_cache(maxsize=4096)
def read(text: str) -> JID | None:
    """The JID that `text` is, by stringprep as in RFC 6122; None if it is none.

    Remembers some, as preparing is slow; Twisted's own `internJID` would remember all for ever.
    """
    if not text or len(text) > _LONGEST:
        return None
    try:
        return JID(text)
    except (InvalidFormat, UnicodeError, IndexError):
        return None
