"""A spool with the thread that works for it: opened before anything is recorded, closed when nothing is any
more.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from archive_crypt.store.spool import Spool
from archive_crypt.store.spooling import Spooling


class SpoolThread:
    """The spool in the file `path`. `spooling`: what a writer has it for.

    :raises ConfigurationError: it cannot be had; the text says why, and what to do.
    """

    log = Logger()

    def __init__(self, path: str, most_octets: int, reactor: Any) -> None:
        self._spool = Spool(Path(path), most_octets)
        waiting = self._spool.open()
        self._pool = ThreadPool(1, 1, "spool")
        self._pool.start()
        run = partial(deferToThreadPool, reactor, self._pool)
        self.spooling = Spooling(self._spool, waiting, reactor, run)
        if self._spool.moved is not None:
            self.spooling.say_damaged("what waited")

    def close(self) -> None:
        """Wait for the thread, and let go of the file."""
        self._pool.stop()
        self._spool.close()
        if self.spooling.records:
            self.log.warn(
                "{n} change(s) wait in {path}, to be written at the next start",
                n=self.spooling.records,
                path=str(self._spool.path),
            )
