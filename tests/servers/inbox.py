"""Stanzas that arrived, for tests to wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from tests.servers.process import PATIENCE

Wanted = Callable[[Any], bool]


class Inbox:
    """What arrived and nobody took yet, in order."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Wanted, Deferred[Any]]] = []
        self.stanzas: list[Any] = []

    def put(self, stanza: Any) -> None:
        """Give it to the first that waits for such a one, or keep it."""
        for entry in self._waiting:
            if entry[0](stanza):
                self._waiting.remove(entry)
                entry[1].callback(stanza)
                return
        self.stanzas.append(stanza)

    def take(self, wanted: Wanted) -> Deferred[Any]:
        """The first that is wanted: of what is here, or else when it comes. Others stay.

        Fires with TimeoutError if none comes.
        """
        from twisted.internet import reactor

        here = next((stanza for stanza in self.stanzas if wanted(stanza)), None)
        waiting: Deferred[Any] = Deferred()
        if here is None:
            entry = (wanted, waiting)
            self._waiting.append(entry)
            waiting.addTimeout(PATIENCE, reactor)
            return waiting.addErrback(self._forget, entry)
        self.stanzas.remove(here)
        waiting.callback(here)
        return waiting

    def _forget(self, failure: Any, entry: Any) -> Any:
        if entry in self._waiting:
            self._waiting.remove(entry)
        return failure
