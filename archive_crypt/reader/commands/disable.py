"""``archive-reader disable``: have messages archived no more."""

from __future__ import annotations

import argparse

from archive_crypt.reader import given, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.failures import DONE
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader disable romeo@example.org

What is archived already stays: see archive-reader remove. To leave out some contacts only, see
archive-reader prefs contact.
"""


def _begin(options: argparse.Namespace) -> Doing:
    connection = given.connection(options)

    async def disable() -> int:
        async with connection:
            lasts = await Archive(connection).plain.set_auto(False, lasting=True)
        lines = [f"From each client's next login on, the messages of {options.jid} are not archived."]
        if not lasts:
            lines = [
                "The server archives nothing of this connection, which ends now. Here each client says",
                "for itself whether it is archived.",
            ]
        given.display(options).tell(*lines, save=False, lasts=lasts)
        return DONE

    return disable()


COMMAND = Command("disable", "have your messages archived no more", _HELP, usage.add_account, _begin)
