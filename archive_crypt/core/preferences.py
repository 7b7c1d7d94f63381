"""What a user's archiving preferences come to: who an item is for, which of them wins, and what
differs between two states of them. No XML: that is `prefstanzas`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from archive_crypt.model import (
    SECOND,
    ContactModes,
    Micros,
    Modes,
    Otr,
    Preferences,
    SaveMode,
    SessionMode,
    Use,
)

#: The methods of archiving, each of which a full reply names (XEP-0136 3.2).
METHODS = ("auto", "local", "manual")

#: From nothing to all: a mode that is further on saves more.
ORDER = (SaveMode.FALSE, SaveMode.BODY, SaveMode.MESSAGE, SaveMode.STREAM)
_RANK = {mode: rank for rank, mode in enumerate(ORDER)}


@dataclass(frozen=True, slots=True)
class Changes:
    """What of preferences was set anew and what was removed, as subscribers are told.

    `default` None and `methods` empty: those did not change; else `methods` are all of them.
    """

    default: Modes | None = None
    items: tuple[ContactModes, ...] = ()
    sessions: tuple[SessionMode, ...] = ()
    methods: tuple[tuple[str, Use], ...] = ()
    removed_items: tuple[str, ...] = ()
    removed_sessions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Changes()


def matches(pattern: str, exact: bool, jid: str) -> bool:
    """Whether the normalised `jid` falls under `pattern` (XEP-0136 1.3.1, JID Matching)."""
    if pattern == jid:
        return True
    bare = jid.partition("/")[0]
    return not exact and pattern in (bare, bare.rpartition("@")[2])


def item_for(items: Sequence[ContactModes], jid: str) -> ContactModes | None:
    """The most specific item that matches: full JID before bare JID before domain."""
    if not items:
        return None
    found = [item for item in items if matches(item.jid, item.exact, jid)]
    return max(found, key=lambda item: ("/" in item.jid, "@" in item.jid, item.exact), default=None)


def save_mode(preferences: Preferences, jid: str, thread: str | None, default: SaveMode) -> SaveMode:
    """How much of a message exchanged with `jid` in `thread` is saved: as the session says, else the
    item, else the default (1.3.1, section 2.5), else `default`, the server's own.

    Lapsed sessions are not told from others here: see `without_lapsed`.
    """
    for session in preferences.sessions:
        if thread is not None and session.thread == thread:
            return session.save
    item = item_for(preferences.items, jid)
    if item is not None:
        return item.modes.save
    return preferences.default.save if preferences.default else default


def expire(preferences: Preferences, jid: str) -> int | None:
    """After how many seconds what was exchanged with `jid` expires; None if nobody says so."""
    item = item_for(preferences.items, jid)
    if item is not None and item.modes.expire is not None:
        return item.modes.expire
    return preferences.default.expire if preferences.default else None


def least(mode: SaveMode, other: SaveMode) -> SaveMode:
    """The one of two modes that saves less."""
    return min(mode, other, key=_RANK.__getitem__)


def most(mode: SaveMode, other: SaveMode) -> SaveMode:
    """The one of two modes that saves more."""
    return max(mode, other, key=_RANK.__getitem__)


def all_modes(preferences: Preferences) -> set[SaveMode]:
    """Every save mode that is set anywhere."""
    default = [preferences.default.save] if preferences.default else []
    items = [item.modes.save for item in preferences.items]
    return {*default, *items, *(session.save for session in preferences.sessions)}


def default_modes(preferences: Preferences, save: SaveMode, seconds: int | None) -> Modes:
    """The defaults that hold: the user's, else the server's own (`save`, expiring after `seconds`)."""
    return preferences.default or Modes(save, Otr.CONCEDE, seconds)


def effective(preferences: Preferences, jid: str, defaults: Modes) -> Modes:
    """The modes in effect for `jid`, sessions apart."""
    item = item_for(preferences.items, jid)
    return item.modes if item else preferences.default or defaults


def all_methods(preferences: Preferences) -> tuple[tuple[str, Use], ...]:
    """Every method with its use; those never set are conceded."""
    return tuple((kind, preferences.methods.get(kind, Use.CONCEDE)) for kind in METHODS)


def without_lapsed(preferences: Preferences, now: Micros) -> Preferences:
    """The same without the sessions whose time is over."""
    if not preferences.sessions or all(session.until > now for session in preferences.sessions):
        return preferences
    return replace(preferences, sessions=tuple(s for s in preferences.sessions if s.until > now))


def prolonged(preferences: Preferences, thread: str | None, now: Micros) -> Preferences:
    """The same after a message in `thread` at `now`: its session, unless it has lapsed, lasts
    `timeout` from now."""
    return replace(
        preferences,
        sessions=tuple(
            replace(session, until=max(session.until, now + session.timeout * SECOND))
            if session.thread == thread and session.until > now
            else session
            for session in preferences.sessions
        ),
    )


def not_sooner(new: Preferences, old: Preferences) -> Preferences:
    """`new`, in which no session ends sooner than it was known to in `old`."""
    known = {session.thread: session.until for session in old.sessions}
    if not known or not new.sessions:
        return new
    return replace(
        new,
        sessions=tuple(
            replace(session, until=max(session.until, known.get(session.thread, session.until)))
            for session in new.sessions
        ),
    )


def difference(old: Preferences, new: Preferences) -> Changes:
    """What came from `old` to `new`."""
    threads = {session.thread for session in new.sessions}
    jids = {item.jid for item in new.items}
    said = [_unclocked(session) for session in old.sessions]
    return Changes(
        default=new.default if new.default != old.default else None,
        items=tuple(_new(old.items, new.items)),
        sessions=tuple(session for session in new.sessions if _unclocked(session) not in said),
        methods=all_methods(new) if all_methods(old) != all_methods(new) else (),
        removed_items=tuple(item.jid for item in old.items if item.jid not in jids),
        removed_sessions=tuple(s.thread for s in old.sessions if s.thread not in threads),
    )


def merged(changes: Changes, old: Preferences, new: Preferences) -> Changes:
    """`changes`, which are told even if they changed nothing, and whatever else came from `old` to
    `new`. Of methods all are told, however few were set (1.3.1, section 2.4)."""
    rest = difference(old, new)
    jids = {item.jid for item in changes.items}
    threads = {session.thread for session in changes.sessions}
    return Changes(
        default=changes.default or rest.default,
        items=changes.items + tuple(item for item in rest.items if item.jid not in jids),
        sessions=changes.sessions + tuple(s for s in rest.sessions if s.thread not in threads),
        methods=all_methods(new) if changes.methods or rest.methods else (),
        removed_items=tuple(dict.fromkeys(changes.removed_items + rest.removed_items)),
        removed_sessions=tuple(dict.fromkeys(changes.removed_sessions + rest.removed_sessions)),
    )


def _new(old: Sequence[ContactModes], new: Sequence[ContactModes]) -> list[ContactModes]:
    known = set(old)
    return [item for item in new if item not in known]


def _unclocked(session: SessionMode) -> SessionMode:
    return replace(session, until=0)
