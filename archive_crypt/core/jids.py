"""XMPP addresses, normalised; one way to read them, which never raises."""

from __future__ import annotations

from functools import lru_cache

from twisted.words.protocols.jabber.jid import JID, InvalidFormat

#: Octets. RFC 7622 allows three parts of 1023, but an index of PostgreSQL takes no more than 2704 with
#: all that stands beside it; nobody's JID is that long.
_LONGEST = 2048


@lru_cache(maxsize=4096)
def read(text: str) -> JID | None:
    """The JID that `text` is, by stringprep as in RFC 6122; None if it is none.

    Remembers some, as preparing is slow; Twisted's own `internJID` would remember all for ever.
    """
    if not text or len(text.encode(errors="replace")) > _LONGEST:
        return None
    try:
        return JID(text)
    except (InvalidFormat, UnicodeError, IndexError):
        return None
