"""Preferences (XEP-0136 3) as words for people, and as objects for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archive_crypt.core.prefstanzas import AutoShown
from archive_crypt.model import ContactModes, Modes
from archive_crypt.reader.xep_0136.preferences import Preferences, SessionModes

_UNITS = {"w": 7 * 24 * 3600, "d": 24 * 3600, "h": 3600, "m": 60, "s": 1}


def lines(wishes: Preferences) -> Iterator[tuple[str, str]]:
    """Each preference there is: what it is of, and what is preferred."""
    if wishes.auto is not None:
        yield "archiving", auto(wishes.auto)
    if wishes.default is not None:
        yield "default", modes(wishes.default) + (", as the server has it" if wishes.unset else "")
    for item in wishes.items:
        yield f"with {item.jid}", modes(item.modes) + (", nobody else who matches" if item.exact else "")
    for session in wishes.sessions:
        yield f"thread {session.thread}", _session(session)
    for jid in wishes.removed_items:
        yield f"with {jid}", "as for everybody again"
    for thread in wishes.removed_sessions:
        yield f"thread {thread}", "as for everything else again"
    if wishes.methods:
        yield "methods", ", ".join(f"{name} {use.value}" for name, use in wishes.methods.items())


def facts(wishes: Preferences) -> dict[str, Any]:
    """All of them, for JSON; times in seconds."""
    default = None if wishes.default is None else _modes(wishes.default) | {"unset": wishes.unset}
    return {
        "auto": None if wishes.auto is None else _auto(wishes.auto),
        "default": default,
        "items": [_item(item) for item in wishes.items],
        "sessions": [
            {
                "thread": session.thread,
                "save": session.save.value,
                "otr": session.otr.value if session.otr else None,
                "timeout": session.timeout,
            }
            for session in wishes.sessions
        ],
        "methods": {name: use.value for name, use in wishes.methods.items()},
        "removed_items": list(wishes.removed_items),
        "removed_sessions": list(wishes.removed_sessions),
    }


def auto(setting: AutoShown) -> str:
    """An ``<auto/>`` setting."""
    if not setting.save:
        return "off"
    how = "on, encrypted" if setting.encrypt else "on, IN CLEAR"
    return how + (", for every connection" if setting.lasting else ", for one connection only")


def modes(wanted: Modes) -> str:
    """What is saved, and for how long."""
    expires = "kept" if wanted.expire is None else f"removed after {duration(wanted.expire)}"
    return f"save {wanted.save.value}, otr {wanted.otr.value}, {expires}"


def duration(seconds: int) -> str:
    """A time span in the largest unit that says it exactly, as `seconds` reads it."""
    unit, size = next((unit, size) for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // size}{unit}"


def seconds(text: str) -> int:
    """The seconds of a time span such as 30d.

    :raises ValueError: it is none.
    """
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "s")
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{text!r} is no time span such as 30d, 12h or 3600")
    return int(number) * _UNITS[unit]


def _session(session: SessionModes) -> str:
    otr = f", otr {session.otr.value}" if session.otr else ""
    until = "" if session.timeout is None else f", until it is silent for {duration(session.timeout)}"
    return f"save {session.save.value}{otr}{until}"


def _auto(setting: AutoShown) -> dict[str, bool]:
    return {"save": setting.save, "encrypt": setting.encrypt, "lasting": setting.lasting}


def _modes(wanted: Modes) -> dict[str, Any]:
    return {"save": wanted.save.value, "otr": wanted.otr.value, "expire": wanted.expire}


def _item(item: ContactModes) -> dict[str, Any]:
    return {"jid": item.jid} | _modes(item.modes) | {"exact": item.exact}
