"""What ends a command: one class for each exit code. Each text is one line that says what happened
and what to do, and never holds a password, a passphrase or a key.
"""

from __future__ import annotations

DONE, SUSPICIOUS = 0, 4


class Failure(Exception):
    """The command cannot go on."""

    exit_code = 1


class Problem(Failure):
    """Wrong usage, or a file that cannot be used."""


class NoConnection(Failure):
    """The server cannot be reached, cannot be trusted, or does not let this user in."""

    exit_code = 2


class Refused(Failure):
    """The server answered with an error: `condition` of RFC 6120 8.3.3, and its own `text` or ''."""

    exit_code = 3

    def __init__(self, condition: str, text: str = "") -> None:
        self.condition = condition
        said = f"{text} ({condition})" if text else condition
        advice = _ADVICE.get(condition, "")
        super().__init__(f"The server refused: {said}{'. ' + advice if advice else ''}")


class NotOffered(Failure):
    """The server does not announce what this takes."""

    exit_code = 3


class NotUnderstood(Failure):
    """The server's answer makes no sense."""

    exit_code = 3


_ADVICE = {
    "not-acceptable": "Give a key it can use: archive-reader keygen makes one, --key FILE names it.",
    "feature-not-implemented": "It does not offer this, or cannot use the key: see --plain and --key.",
    "item-not-found": "See what is there: archive-reader list.",
    "forbidden": "An archive is open to its owner only.",
    "service-unavailable": "This server, or this account, has no archive.",
    "internal-server-error": "Try again later; if it stays so, its operator finds more in the log.",
    "resource-constraint": "It is busy: try again later.",
    "remote-server-timeout": "Try again later.",
}
