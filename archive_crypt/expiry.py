"""Removes what has expired (XEP-0136 3.2) and forgets old removals, now and then and in small parts, so
that nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.logger import Logger

from archive_crypt.core import preferences
from archive_crypt.errors import ArchiveError
from archive_crypt.model import SECOND, Micros, Preferences, Settings
from archive_crypt.store.interfaces import Expire
from archive_crypt.works import Works

#: Owners looked up at once; collections, or tombstones, that one transaction removes.
_OWNERS = 200
_SLICE = 100
#: Seconds between two of these: others' transactions come first.
_PAUSE = 0.05


class Expiry:
    """One round every `settings.expiry_every` seconds, on `works.clock`."""

    log = Logger()

    def __init__(self, works: Works, now: Callable[[], Micros]) -> None:
        self._works = works
        self._now = now
        self._call: Any = None
        self._stopped = False

    def start(self) -> None:
        """Go on with rounds until `stop`."""
        self._call = self._works.clock.callLater(self._works.settings.expiry_every, self._round)

    def stop(self) -> None:
        """No more rounds; one that runs ends after its present step."""
        self._stopped = True
        if self._call is not None and self._call.active():
            self._call.cancel()

    @inlineCallbacks
    def run(self) -> Generator[Deferred[Any], Any, int]:
        """One round; how many collections were removed."""
        settings = self._works.settings
        everyone = settings.expire is not None or settings.maximum_expire is not None
        removed, last = 0, ""
        while not self._stopped:
            owners = yield self._works.storage.expiring(last, _OWNERS, everyone)
            for owner, wishes in owners:
                removed += yield self._expire(owner, wishes)
            if len(owners) < _OWNERS:
                break
            last = owners[-1][0]
        yield self._forget()
        return removed

    @inlineCallbacks
    def _expire(self, owner: str, wishes: Preferences) -> Generator[Deferred[Any], Any, int]:
        settings, now = self._works.settings, self._now()
        times = [wishes.default, *(item.modes for item in wishes.items)]
        given = [modes.expire for modes in times if modes and modes.expire is not None]
        bounds = [settings.expire, settings.maximum_expire]
        shortest = min([*given, *(bound for bound in bounds if bound is not None)], default=None)
        if shortest is None:
            return 0
        # What was archived so lately may still be being recorded, here or by another process.
        silence = int(settings.silence)
        shortest = max(shortest, settings.minimum_expire or 0, silence)

        def expired(with_: str, archived: Micros) -> bool:
            seconds = effective(settings, wishes, with_)
            return seconds is not None and archived < now - max(seconds, silence) * SECOND

        removed = 0
        while not self._stopped:
            change = Expire(owner, now - shortest * SECOND, expired, _SLICE)
            part: int = yield self._works.writer.submit(change)
            removed += part
            if part < _SLICE:
                break
            yield deferLater(self._works.clock, _PAUSE)
        return removed

    @inlineCallbacks
    def _forget(self) -> Generator[Deferred[Any], Any, None]:
        seconds = self._works.settings.tombstones
        while seconds is not None and not self._stopped:
            before = self._now() - seconds * SECOND
            part = yield self._works.storage.forget_tombstones(before, _SLICE)
            if part < _SLICE:
                break
            yield deferLater(self._works.clock, _PAUSE)

    @inlineCallbacks
    def _round(self) -> Generator[Deferred[Any], Any, None]:
        try:
            removed = yield self.run()
            if removed:
                self.log.info("{removed} collection(s) expired", removed=removed)
        except ArchiveError as error:
            self.log.warn("expiry has to wait: {kind}", kind=type(error).__name__)
        if not self._stopped:
            self.start()


def effective(settings: Settings, wishes: Preferences, with_: str) -> int | None:
    """After how many seconds what was exchanged with `with_` expires: as its user prefers, else as the
    server does, within the operator's bounds; None: never."""
    seconds = preferences.expire(wishes, with_)
    if seconds is None:
        seconds = settings.expire
    if seconds is None:
        return settings.maximum_expire
    if settings.maximum_expire is not None:
        seconds = min(seconds, settings.maximum_expire)
    return max(seconds, settings.minimum_expire or 0)
