"""Keys that an account publishes, and that its owner never confirmed. The server encrypts for them all the
same (XEP-0241 2), and whoever was in the account could have published his own.
"""

from __future__ import annotations

from archive_crypt.reader import trust
from archive_crypt.reader.errors import NotOffered
from archive_crypt.reader.publishing import Item, Publisher


async def published(publisher: Publisher) -> dict[str, Item]:
    """By their fingerprints, where each was found first; also those that are for later times, not those that
    ended."""
    try:
        items = await publisher.fetch()
    except NotOffered:  # where nobody can publish a key, none is encrypted for
        return {}
    confirmed = trust.load(trust.default_path())
    found = dict[str, Item]()
    for item in items:
        if not item.ended and item.fingerprint not in confirmed:
            found.setdefault(item.fingerprint, item)
    return found


def told(item: Item) -> str:
    """Which key it is, as its owner knows it."""
    return f"{item.fingerprint} (OpenPGP {item.key.name})" if item.openpgp else item.fingerprint
