"""Looks at how many copies are durable, from a thread, while others send."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from threading import Thread


class NotDurable(Exception):
    """Copies did not come to be durable."""


class Watch:
    """Runs from when it is made until `done` says so, looking every `pause` seconds.

    :param limit: seconds after which it gives up
    """

    def __init__(self, done: Callable[[], bool], pause: float, limit: float) -> None:
        self._done, self._pause, self._deadline = done, pause, time.monotonic() + limit
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def ended(self) -> float:
        """When it was done; waits for that.

        :raises NotDurable: it was not in time.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._at

    def _run(self) -> None:
        try:
            while not self._done():
                if time.monotonic() > self._deadline:
                    raise NotDurable("copies are missing in the database")
                time.sleep(self._pause)
            self._at = time.monotonic()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error


class Growth:
    """What `rows` counted at which time, until there are `target`; to be given to a Watch."""

    def __init__(self, rows: Callable[[], int], target: int) -> None:
        self._rows, self._target = rows, target
        self._times: list[float] = []
        self._counts: list[int] = []

    def done(self) -> bool:
        """Look once more; whether all are there."""
        count = self._rows()
        if not self._counts or count > self._counts[-1]:
            self._times.append(time.monotonic())
            self._counts.append(count)
        return count >= self._target

    def since(self, count: int) -> float:
        """When there were first seen to be so many."""
        return self._times[bisect_left(self._counts, count)]

    def first_after(self, moment: float) -> float:
        """When there were first seen to be more than at that moment."""
        return self._times[bisect_left(self._times, moment)]
