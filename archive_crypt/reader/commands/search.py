"""``archive-reader search``: what was said, found in the mirror."""

from __future__ import annotations

import argparse

from archive_crypt.reader import given, mirrors, offline, usage, words
from archive_crypt.reader.failures import DONE, SUSPICIOUS, Problem
from archive_crypt.reader.offline import Wanted
from archive_crypt.reader.show import note
from archive_crypt.reader.usage import Command, Doing

_HELP = """\
examples:
  archive-reader search romeo@example.org nightingale
  archive-reader search romeo@example.org "sweet sorrow" --with juliet@example.org --context 2
  archive-reader search romeo@example.org moon sun* --since 2026-11-01 --until "2026-11-21 10:00" --json

Found are messages with all of the words, whatever their case and accents; words in one argument are a
phrase, and "sun*" is whatever begins so. The server is not asked, and cannot search: it is the mirror
that is searched, as the last archive-reader sync left it. OpenPGP messages are not searched.
Lines marked "!" tell what is suspicious, as read does; the exit code is 4 then.
"""


def _arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("jid", metavar="JID", help="your account, such as romeo@example.org")
    command.add_argument("words", metavar="WORD", nargs="+", help='a word, "a phrase", or "begin*"')
    usage.add_with(command)
    command.add_argument(
        "--since", type=usage.moment, metavar="TIME", help="only what was said then or later"
    )
    command.add_argument("--until", type=usage.moment, metavar="TIME", help="only what was said before")
    command.add_argument(
        "--context", type=usage.positive, default=0, metavar="N", help="show N messages before and after, too"
    )
    usage.add_keys(command, "open the mirror with this private key; may be given again")


def _begin(options: argparse.Namespace) -> Doing:
    account = given.account(options)
    match = words.match(options.words)
    if match is None:
        raise Problem("There is no word to search for in what you gave.")
    wanted = Wanted(match, options.with_, options.since, options.until, options.context)
    private_keys = given.private_keys(options)
    display = given.display(options)

    async def search() -> int:
        with mirrors.find(account.bare, private_keys) as mirror:
            hits, troubles = offline.search(mirror, wanted, display)
            note(offline.told_age(mirror, account.bare))
        if not hits:
            note("Nothing was found.")
        return SUSPICIOUS if troubles else DONE

    return search()


COMMAND = Command("search", "find what was said, in the copy that sync keeps", _HELP, _arguments, _begin)
