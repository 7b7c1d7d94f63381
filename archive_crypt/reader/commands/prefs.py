"""``archive-reader prefs``: what is archived, of whom, for how long; which methods (XEP-0136 3)."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import replace

from archive_crypt.core import jids
from archive_crypt.model import Modes, Otr, SaveMode, Use
from archive_crypt.reader import given, preferring, usage
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.failures import DONE, Problem
from archive_crypt.reader.show import note
from archive_crypt.reader.usage import Command, Doing, Group
from archive_crypt.reader.xep_0136.preferences import Preferences

_HELP = """\
The server keeps preferences for all your clients. It obeys those that tell what it archives by
itself; the others tell your clients what you want.

Each of these has help of its own: archive-reader prefs contact --help.
"""

_SHOW = """\
examples:
  archive-reader prefs show romeo@example.org
"""

_MODES = """\
save:  false    nothing
       body     what was said
       message  all of each message
       stream   every stanza, where the server can
otr:   what you want of conversations that nobody keeps; your clients negotiate by it:
       require, prefer, approve, concede, oppose, forbid (require takes --save false)

What is not given stays as it is.
"""

_DEFAULT = f"""\
examples:
  archive-reader prefs default romeo@example.org --save body --expire 365d

{_MODES}"""

_CONTACT = f"""\
examples:
  archive-reader prefs contact romeo@example.org nurse@example.org --save false
  archive-reader prefs contact romeo@example.org capulet.example --save false
  archive-reader prefs contact romeo@example.org verona@rooms.example --expire 30d

A domain stands for everybody there, but for those who have preferences of their own.

{_MODES}"""

_FORGET = """\
examples:
  archive-reader prefs forget romeo@example.org nurse@example.org capulet.example
"""

_METHODS = """\
examples:
  archive-reader prefs methods romeo@example.org --auto prefer --local concede --manual forbid

auto:    the server archives what passes through it
local:   your clients keep it themselves
manual:  your clients upload it: what archive-reader save does
"""

_SAVE, _OTR, _USE = ([one.value for one in words] for words in (SaveMode, Otr, Use))
_WAYS = ("auto", "local", "manual")


def _show_arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)


def _default_arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    _add_modes(command)


def _contact_arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    command.add_argument("contact", metavar="CONTACT", type=usage.address, help="a user, a room, a domain")
    command.add_argument(
        "--exact",
        action="store_true",
        help="for this address alone: not a user's resources, not a domain's users",
    )
    _add_modes(command)


def _forget_arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    command.add_argument(
        "contacts", metavar="CONTACT", type=usage.address, nargs="+", help="as prefs show has it"
    )


def _methods_arguments(command: argparse.ArgumentParser) -> None:
    usage.add_account(command)
    for way in _WAYS:
        command.add_argument(f"--{way}", choices=_USE, help="what you think of this way")


def _add_modes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--save", choices=_SAVE, help="how much is saved")
    command.add_argument("--otr", choices=_OTR, help="what you want of conversations that nobody keeps")
    command.add_argument(
        "--expire",
        type=usage.expiry,
        metavar="TIME",
        default=argparse.SUPPRESS,
        help="when what was saved is removed: 3600, 12h, 30d, 4w; never",
    )


def _begin_show(options: argparse.Namespace) -> Doing:
    return _changed(options, _nothing)


def _begin_default(options: argparse.Namespace) -> Doing:
    _check_given(options)

    async def change(archive: Archive, now: Preferences) -> None:
        wanted = _modes(options, now.default)
        await archive.plain.set_default(wanted.save, wanted.otr, wanted.expire)

    return _changed(options, change)


def _begin_contact(options: argparse.Namespace) -> Doing:
    _check_given(options)

    contact = options.contact if options.exact else jids.bare(options.contact)
    if contact != options.contact:
        note(f"This is for {contact}, whichever client he uses; --exact is for one alone.")

    async def change(archive: Archive, now: Preferences) -> None:
        before = next((item.modes for item in now.items if item.jid == contact), now.default)
        wanted = _modes(options, before)
        await archive.plain.set_item(
            contact, wanted.save, wanted.otr, wanted.expire, full=options.exact, exact=options.exact
        )

    return _changed(options, change)


def _begin_forget(options: argparse.Namespace) -> Doing:
    async def change(archive: Archive, now: Preferences) -> None:
        await archive.plain.remove_items(*options.contacts)

    return _changed(options, change)


def _begin_methods(options: argparse.Namespace) -> Doing:
    uses = {way: getattr(options, way) for way in _WAYS}
    wanted = {way: Use(use) for way, use in uses.items() if use is not None}
    if not wanted:
        raise Problem("Say what you think of --auto, --local or --manual.")

    async def change(archive: Archive, now: Preferences) -> None:
        await archive.plain.set_methods(**{way: now.methods.get(way, Use.CONCEDE) for way in _WAYS} | wanted)

    return _changed(options, change)


def _changed(options: argparse.Namespace, change: Callable[[Archive, Preferences], Awaitable[None]]) -> Doing:
    """Makes a change, and shows the preferences as they are then."""
    connection = given.connection(options)

    async def prefs() -> int:
        async with connection:
            archive = Archive(connection)
            await change(archive, await archive.preferences())
            now = await archive.preferences()
        found = list(preferring.lines(replace(now, auto=None)))
        width = max((len(of) for of, _ in found), default=0)
        given.display(options).tell(*(f"{of:{width}}  {what}" for of, what in found), **preferring.facts(now))
        return DONE

    return prefs()


async def _nothing(archive: Archive, now: Preferences) -> None:
    pass


def _check_given(options: argparse.Namespace) -> None:
    if options.save is None and options.otr is None and "expire" not in options:
        raise Problem("Say what you prefer: --save, --otr or --expire.")


def _modes(options: argparse.Namespace, before: Modes | None) -> Modes:
    """What is wanted now: what was given, and the rest as it was.

    :raises Problem: the standard does not have that (0136-pref-determine-13).
    """
    was = before or Modes(SaveMode.BODY, Otr.CONCEDE)
    wanted = Modes(
        SaveMode(options.save) if options.save else was.save,
        Otr(options.otr) if options.otr else was.otr,
        options.expire if "expire" in options else was.expire,
    )
    if wanted.otr is Otr.REQUIRE and wanted.save is not SaveMode.FALSE:
        raise Problem(
            "Who requires that nobody keeps what is said cannot have it saved: "
            "--otr require takes --save false."
        )
    return wanted


_COMMANDS = (
    Command("show", "show your preferences", _SHOW, _show_arguments, _begin_show),
    Command("default", "set what holds for everybody else", _DEFAULT, _default_arguments, _begin_default),
    Command("contact", "set what holds for somebody", _CONTACT, _contact_arguments, _begin_contact),
    Command("forget", "let contacts be as everybody else", _FORGET, _forget_arguments, _begin_forget),
    Command("methods", "say which ways of archiving you want", _METHODS, _methods_arguments, _begin_methods),
)

COMMAND = Group("prefs", "show and set what is archived, of whom, for how long", _HELP, _COMMANDS)
