"""What ends a command: one class for each exit code. Each text is one line that says what happened
and what to do, and never holds a password, a passphrase or a key.
"""

from __future__ import annotations

from archive_crypt.reader.errors import CannotAsk, NoAnswer, NotWanted, Refused, RequestFailed

DONE, SUSPICIOUS = 0, 4


class Failure(Exception):
    """The command cannot go on."""

    exit_code = 1


class Problem(Failure):
    """Wrong usage, or a file that cannot be used."""


class NoConnection(Failure):
    """The server cannot be reached, cannot be trusted, or does not let this user in."""

    exit_code = 2


class Unserved(Failure):
    """The server answered, but did not do what was asked: see `archive_crypt.reader.errors`."""

    exit_code = 3


class Suspicious(Failure):
    """Something is not as it should be, so that nothing was done."""

    exit_code = SUSPICIOUS


def failure(error: BaseException | None) -> Failure | None:
    """What ends the command if this does; None: a fault of this program."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, NotWanted):
        return Problem(f"{error} See archive-reader prefs, and --force.")
    if isinstance(error, CannotAsk):
        return Problem(str(error))
    if isinstance(error, NoAnswer):
        return NoConnection(str(error))
    if isinstance(error, Refused):
        return refusal(error, _ADVICE.get(error.condition, ""))
    return Unserved(str(error)) if isinstance(error, RequestFailed) else None


def refusal(error: Refused, advice: str) -> Unserved:
    """The server refused; what the user can do about it."""
    return Unserved(f"The server refused: {error}{'. ' + advice if advice else ''}")


_ADVICE = {
    "feature-not-implemented": "It does not offer this.",
    "item-not-found": "See what is there: archive-reader list.",
    "not-allowed": "Its operator decided that; ask him.",
    "forbidden": "An archive is open to its owner only.",
    "service-unavailable": "This server, or this account, has no archive.",
    "internal-server-error": "Try again later; if it stays so, its operator finds more in the log.",
    "resource-constraint": "It is busy: try again later.",
    "remote-server-timeout": "Try again later.",
}
