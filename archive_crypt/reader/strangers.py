"""Keys that an account publishes, and that its owner never confirmed. The server encrypts for them all the
same (XEP-0241 2), and whoever was in the account could have published his own.
"""

from __future__ import annotations

from archive_crypt.reader import trust
from archive_crypt.reader.errors import NotOffered
from archive_crypt.reader.publishing import Publisher


async def published(publisher: Publisher) -> list[str]:
    """Their fingerprints, each once; also of those that are for later times, not of those that ended."""
    try:
        items = await publisher.fetch()
    except NotOffered:  # where nobody can publish a key, none is encrypted for
        return []
    confirmed = trust.load(trust.default_path())
    found = (item.fingerprint for item in items if not item.ended and item.fingerprint not in confirmed)
    return list(dict.fromkeys(found))
