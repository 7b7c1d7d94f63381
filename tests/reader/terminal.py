"""The program as a human has it: in a process of its own, at a terminal."""

import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class AtTerminal:
    """``archive-reader`` in a process of its own, with a terminal to be asked at."""

    def __init__(self, *arguments, **variables):
        self.user, terminal = pty.openpty()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVE_")}
        # Whatever runs the tests may ignore Ctrl-C, as a shell has what it runs in the background do.
        program = ["env", "--default-signal=INT", sys.executable, "-m", "archive_crypt.reader.cli"]
        self.process = subprocess.Popen(
            [*program, *map(str, arguments)],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=ROOT,
            env=environment | variables,
        )
        os.close(terminal)
        self.shown = b""

    def types(self, line, after):
        """Wait for a prompt, then type; getpass throws away what was typed before."""
        self.sees(after)
        os.write(self.user, line + b"\n")

    def sees(self, prompt):
        while not self.shown.endswith(prompt):
            said = os.read(self.process.stderr.fileno(), 1000)
            assert said, self.shown  # it ended
            self.shown += said

    def ends(self):
        out, err = self.process.communicate(timeout=60)
        os.close(self.user)
        return self.process.returncode, out, self.shown + err
