"""Which archive namespace to speak with a server: by what it announces, by what it answers, and by what
it is known to understand, account by account.
"""

from __future__ import annotations

from collections.abc import Collection

from archive_crypt.core.dialect import Dialect, F, T, V

#: The newest first: it alone has settings that outlive a stream.
PREFERRED = (F, T, V)
#: Those that can mean one JID and nobody who matches it.
EXACT = tuple(dialect for dialect in PREFERRED if dialect.exactmatch)
PARTS = ("auto", "encrypt", "manage", "manual", "pref")


class Dialects:
    """What is known of one account's archive: the features that its server and it announce, and what
    was understood."""

    def __init__(self, announced: Collection[str]) -> None:
        self._announced = announced
        self._known: dict[tuple[str, ...], Dialect] = {}

    def announced(self) -> dict[str, tuple[str, ...]]:
        """The archive namespaces that are announced, best first, each with its parts."""
        found = {d.namespace: tuple(p for p in PARTS if d.feature(p) in self._announced) for d in PREFERRED}
        return {namespace: parts for namespace, parts in found.items() if parts}

    def learn(self, parts: tuple[str, ...], dialect: Dialect) -> None:
        """These parts were answered in this dialect."""
        self._known[parts] = dialect

    def candidates(self, parts: tuple[str, ...], among: Collection[Dialect] = PREFERRED) -> list[Dialect]:
        """The dialects `among` these to try for these parts (see PARTS), best first: the one that was
        understood before, or those that announce all of them.

        Where nothing at all is announced of an archive, every one, but for 'encrypt': who does not
        know that word would archive in clear.
        """
        known = self._known.get(parts)
        if known is not None and known in among:
            return [known]
        if self._is_announced():
            found = [d for d in PREFERRED if all(d.feature(part) in self._announced for part in parts)]
        else:
            found = [] if "encrypt" in parts else list(PREFERRED)
        return [dialect for dialect in found if dialect in among]

    def _is_announced(self) -> bool:
        return any(dialect.feature(part) in self._announced for dialect in PREFERRED for part in PARTS)
