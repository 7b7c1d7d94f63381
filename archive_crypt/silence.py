"""Tells when something has been silent for long enough: one timer, however many are listened to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Silence(Generic[T]):
    """Listens for `seconds` of silence. `clock` is an IReactorTime, so that set clocks do not matter."""

    def __init__(self, clock: Any, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        #: In the order in which their silence ends: who was heard last stands last.
        self._heard: OrderedDict[T, tuple[float, Callable[[T], object]]] = OrderedDict()
        self._call: Any = None

    def __len__(self) -> int:
        """How many are listened to."""
        return len(self._heard)

    def end_one(self) -> None:
        """Do as if whichever was silent for longest had been so for long enough."""
        one, (_, over) = next(iter(self._heard.items()))
        self.forget(one)
        over(one)

    def heard(self, one: T, over: Callable[[T], object]) -> None:
        """It was not silent just now; call `over` with it once it has been for long enough."""
        self._heard[one] = (self._clock.seconds() + self._seconds, over)
        self._heard.move_to_end(one)
        if self._call is None:
            self._call = self._clock.callLater(self._seconds, self._look)

    def forget(self, one: T) -> None:
        """Do not listen to it any more."""
        self._heard.pop(one, None)
        if not self._heard and self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = None
        now = self._clock.seconds()
        while self._heard:
            one, (end, over) = next(iter(self._heard.items()))
            if end > now:
                self._call = self._clock.callLater(end - now, self._look)
                return
            del self._heard[one]
            over(one)
