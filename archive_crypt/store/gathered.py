"""Questions about single owners, asked of the storage many at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.python.failure import Failure

from archive_crypt.store.interfaces import OwnerState

#: Owners asked for in one transaction, at most.
_MOST = 500


class States:
    """What outlives the streams of owners. While one transaction reads, the next gathers: 50,000 streams open
    at once when a server is connected to.

    `read`: given bare JIDs it gives the states that there are.
    """

    def __init__(self, read: Callable[[Sequence[str]], Deferred[Mapping[str, OwnerState]]]) -> None:
        self._read = read
        self._waiting: list[tuple[str, Deferred[OwnerState]]] = []
        self._running = False

    def get(self, owner: str) -> Deferred[OwnerState]:
        """As it is after this was called."""
        state: Deferred[OwnerState] = Deferred()
        self._waiting.append((owner, state))
        if not self._running:
            self._run()
        return state

    @inlineCallbacks
    def _run(self) -> Generator[Deferred[Any], Any, None]:
        self._running = True
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            try:
                found = yield self._read([owner for owner, _ in batch])
            except Exception:  # noqa: BLE001 - whatever it is, they are told
                failure = Failure()  # type: ignore[no-untyped-call]
                for _, state in batch:
                    state.errback(failure)
            else:
                for owner, state in batch:
                    state.callback(found.get(owner, OwnerState()))
        self._running = False
