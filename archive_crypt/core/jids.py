"""XMPP addresses, normalised; one way to read them, which never raises."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from twisted.words.protocols.jabber.jid import JID, InvalidFormat

#: Octets. RFC 7622 allows three parts of 1023, but an index of PostgreSQL takes no more than 2704 with
#: all that stands beside it; nobody's JID is that long.
_LONGEST = 2048


class Address(NamedTuple):
    """A JID in the forms that recording needs."""

    bare: str
    full: str
    resource: str | None


def read(text: str) -> JID | None:
    """The JID that `text` is, by stringprep as in RFC 6122; None if it is none."""
    return _read(text)[0] if len(text) <= _LONGEST else None


def bare(text: str) -> str:
    """The JID without its resource, whether it is a valid one or not."""
    jid = read(text)
    return text.partition("/")[0] if jid is None else str(jid.userhost())


def address(text: str) -> Address | None:
    """The same, taken apart."""
    return _read(text)[1] if len(text) <= _LONGEST else None


@lru_cache(maxsize=4096)  # preparing is slow; Twisted's own `internJID` would remember all for ever
def _read(text: str) -> tuple[JID, Address] | tuple[None, None]:
    if not text or len(text.encode(errors="replace")) > _LONGEST:
        return None, None
    try:
        jid = JID(text)
    except (InvalidFormat, UnicodeError, IndexError):
        return None, None
    return jid, Address(jid.userhost(), jid.full(), jid.resource)
