"""How commands that read conversations end: what they tell of what could not be read, and their exit code."""

from __future__ import annotations

import argparse

from archive_crypt.reader import given
from archive_crypt.reader.exporting import Summary
from archive_crypt.reader.failures import DONE, SUSPICIOUS
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.show import note


def report(collection: Listed, why: str) -> None:
    """Of a collection that could not be read, or not to its end."""
    note(f"{collection.with_}, {collection.told}: {why}")


def ended(troubles: int) -> int:
    """The exit code, where so many places could not be read or are suspicious."""
    if troubles:
        note(f"{troubles} place(s) could not be read, or are suspicious; each says so where it stands.")
    return SUSPICIOUS if troubles else DONE


def exported(options: argparse.Namespace, done: Summary) -> int:
    """The exit code, when files were written."""
    number = f"{done.messages:,} message(s) of {done.collections:,} collection(s)"
    given.display(options, "").tell(
        f"{options.out}: {number}, as {options.format}",
        out=str(options.out),
        format=options.format,
        collections=done.collections,
        messages=done.messages,
        suspicious=done.troubles,
    )
    return ended(done.troubles)
