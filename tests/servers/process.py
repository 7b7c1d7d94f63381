"""A server's process: what it prints is kept, and can be waited for."""

from __future__ import annotations

import subprocess
from pathlib import Path
from threading import Condition, Thread
from time import monotonic

#: Seconds until what does not come is given up.
PATIENCE = 30


class Died(Exception):
    """The server ended, or did not print what was awaited; the text is the end of what it printed."""


class Process:
    """A running program. Its output goes to `lines`, which grows as it prints."""

    def __init__(self, command: list[str | Path], environment: dict[str, str], folder: Path) -> None:
        self.lines: list[str] = []
        self._printed = Condition()
        self._over = False
        # It does not outlive tests that are killed.
        bound = ["setpriv", "--pdeathsig", "KILL", *command]
        self._process = subprocess.Popen(
            bound, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, text: str, since: int = 0) -> str:
        """The first line from number `since` on with `text` in it. Blocks.

        :raises Died: it does not come.
        """
        deadline = monotonic() + PATIENCE
        with self._printed:
            while True:
                found = next((line for line in self.lines[since:] if text in line), None)
                if found is not None:
                    return found
                since = len(self.lines)
                if self._over or not self._printed.wait(deadline - monotonic()):
                    raise Died(f"waited for {text!r}:\n" + "\n".join(self.lines[-40:]))

    def stop(self) -> None:
        """End it as an operator does, by SIGTERM; by SIGKILL if that takes too long."""
        self._process.terminate()
        self._wait()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._wait()

    def _wait(self) -> None:
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        for line in self._process.stdout:
            with self._printed:
                self.lines.append(line.rstrip("\n"))
                self._printed.notify_all()
        with self._printed:
            self._over = True
            self._printed.notify_all()
