"""``<pref/>``, ``<itemremove/>`` and ``<sessionremove/>`` <-> values (XEP-0136 3; 1.3.1, section 2): what
clients ask and set, what they are told, and what subscribers are pushed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from xml.sax.saxutils import quoteattr

from lxml import etree

from archive_crypt.core import attributes, preferences
from archive_crypt.core.conversation import LONGEST_THREAD
from archive_crypt.core.dialect import Dialect, F, V
from archive_crypt.core.preferences import METHODS, Changes
from archive_crypt.errors import BadRequest, NotAcceptable, NotImplementedHere
from archive_crypt.model import ContactModes, Modes, Otr, Preferences, SaveMode, Use

E = TypeVar("E", bound=enum.Enum)

#: Items and sessions of one request or user: every message is compared with them.
MOST_RULES = 1000


@dataclass(frozen=True, slots=True)
class PreferencesGet:
    """``<pref/>`` in a get: all preferences, and every later change of them."""

    dialect: Dialect


@dataclass(frozen=True, slots=True)
class SessionRule:
    """A ``<session/>`` as a client sets it: how long it lasts is the server's to say."""

    thread: str
    save: SaveMode
    otr: Otr | None


@dataclass(frozen=True, slots=True)
class PreferencesSet:
    """``<pref/>`` in a set; `auto` is an ``<auto/>`` in it (A-PREF-10), unread."""

    dialect: Dialect
    default: Modes | None = None
    items: tuple[ContactModes, ...] = ()
    sessions: tuple[SessionRule, ...] = ()
    methods: tuple[tuple[str, Use], ...] = ()
    auto: etree._Element | None = None


@dataclass(frozen=True, slots=True)
class PreferencesRemove:
    """``<itemremove/>`` or ``<sessionremove/>``: JIDs and threads whose rules go."""

    dialect: Dialect
    items: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AutoShown:
    """The auto-archiving of a stream as its client is told."""

    save: bool
    encrypt: bool
    lasting: bool


def read_set(dialect: Dialect, element: etree._Element) -> PreferencesSet:
    """What ``<pref/>`` sets.

    :raises BadRequest: a part is malformed or unknown; then nothing of it holds.
    :raises NotAcceptable: otr='require' with anything being saved.
    """
    found: dict[str, list[etree._Element]] = {}
    for child in element.findall("*"):
        qname = etree.QName(child)
        known = ("default", "item", "method", "auto", *(("session",) if dialect.scoped else ()))
        if qname.namespace != dialect.namespace or qname.localname not in known:
            raise BadRequest(f"<pref/> cannot hold <{qname.localname}/>.")
        if len(child) and qname.localname != "auto":
            raise BadRequest(f"<{qname.localname}/> is empty.")
        found.setdefault(qname.localname, []).append(child)
    if not found:
        raise BadRequest("<pref/> sets nothing.")
    if any(len(found.get(name, ())) > 1 for name in ("default", "auto")):
        raise BadRequest("<pref/> holds at most one <default/> and one <auto/>.")
    if sum(map(len, found.values())) > MOST_RULES:
        raise NotAcceptable(f"At most {MOST_RULES} preferences can be set at once.")
    items = {item.jid: item for item in (_read_item(dialect, child) for child in found.get("item", ()))}
    sessions = {rule.thread: rule for rule in map(_read_session, found.get("session", ()))}
    return PreferencesSet(
        dialect=dialect,
        default=next((_read_modes(child) for child in found.get("default", ())), None),
        items=tuple(items.values()),
        sessions=tuple(sessions.values()),
        methods=tuple(dict(map(_read_method, found.get("method", ()))).items()),
        auto=next(iter(found.get("auto", ())), None),
    )


def read_remove(dialect: Dialect, element: etree._Element) -> PreferencesRemove:
    """What ``<itemremove/>`` or ``<sessionremove/>`` removes.

    :raises BadRequest: it names nothing, or something else.
    :raises NotImplementedHere: this dialect has no such request.
    """
    name = etree.QName(element).localname
    kind, read, known = _REMOVES[name]
    if not known(dialect):
        raise NotImplementedHere(f"This namespace has no <{name}/>.")
    children = element.findall("*")
    if not children or any(child.tag != f"{{{dialect.namespace}}}{kind}" for child in children):
        raise BadRequest(f"<{name}/> holds <{kind}/> elements.")
    named = tuple(dict.fromkeys(read(child) for child in children))
    if kind == "item":
        return PreferencesRemove(dialect, items=named)
    return PreferencesRemove(dialect, sessions=named)


def answer(dialect: Dialect, wishes: Preferences, auto: AutoShown, defaults: Modes) -> str:
    """``<pref/>`` with all there is: `defaults` are the server's own, for those who set none."""
    said = preferences.default_modes(wishes, defaults.save, defaults.expire)
    parts = [
        _auto(dialect, auto),
        _default(said, unset=wishes.default is None),
        *_rules(dialect, wishes_of(wishes)),
        *(_method(kind, use) for kind, use in preferences.all_methods(wishes)),
    ]
    return f"<pref xmlns='{dialect.namespace}'>{''.join(parts)}</pref>"


def wishes_of(wishes: Preferences) -> Changes:
    """All items and sessions there are, as if all were new."""
    return Changes(items=wishes.items, sessions=wishes.sessions)


def pushes(dialect: Dialect, changes: Changes, wishes: Preferences, defaults: Modes) -> tuple[str, ...]:
    """The payloads that tell a subscriber of `changes`, after which all is as `wishes` says.

    No version gives a form for removals: they are pushed as they were asked for, and in 0.13,
    which knows none, as the modes now in effect (A-PREF-7).
    """
    parts = [_default(changes.default)] if changes.default else []
    parts += _rules(dialect, changes)
    if dialect is V:
        parts += [
            _item(V, ContactModes(jid, preferences.effective(wishes, jid, defaults)))
            for jid in changes.removed_items
        ]
    parts += [_method(kind, use) for kind, use in changes.methods]
    found = [f"<pref xmlns='{dialect.namespace}'>{''.join(parts)}</pref>"] if parts else []
    if dialect is not V and changes.removed_items:
        inner = "".join(f"<item jid={quoteattr(jid)}/>" for jid in changes.removed_items)
        found.append(f"<itemremove xmlns='{dialect.namespace}'>{inner}</itemremove>")
    if dialect is F and changes.removed_sessions:
        inner = "".join(f"<session thread={quoteattr(thread)}/>" for thread in changes.removed_sessions)
        found.append(f"<sessionremove xmlns='{dialect.namespace}'>{inner}</sessionremove>")
    return tuple(found)


def _read_modes(element: etree._Element) -> Modes:
    modes = Modes(
        _enum(element, "save", SaveMode), _enum(element, "otr", Otr), attributes.natural(element, "expire")
    )
    if modes.otr is Otr.REQUIRE and modes.save is not SaveMode.FALSE:
        raise NotAcceptable("otr='require' goes with save='false' only.")
    return modes


def _read_item(dialect: Dialect, element: etree._Element) -> ContactModes:
    exact = dialect.exactmatch and bool(attributes.boolean(element, "exactmatch"))
    return ContactModes(_named_jid(element), _read_modes(element), exact)


def _read_session(element: etree._Element) -> SessionRule:
    otr = None if element.get("otr") is None else _enum(element, "otr", Otr)
    return SessionRule(_named_thread(element), _enum(element, "save", SaveMode), otr)


def _read_method(element: etree._Element) -> tuple[str, Use]:
    kind = element.get("type")
    if kind not in METHODS:
        raise BadRequest(f"The type of a <method/> is one of {', '.join(METHODS)}.")
    return kind, _enum(element, "use", Use)


def _named_jid(element: etree._Element) -> str:
    jid = attributes.jid(element, "jid")
    if jid is None:
        raise BadRequest("<item/> needs the attribute jid.")
    return jid


def _named_thread(element: etree._Element) -> str:
    thread = (element.get("thread") or "").strip(" \t\r\n")
    if not thread:
        raise BadRequest("<session/> needs the attribute thread.")
    if len(thread.encode()) > LONGEST_THREAD:
        raise NotAcceptable(f"A thread has at most {LONGEST_THREAD} octets.")
    return thread


#: Request -> (what it holds, what reads that, which dialects have it).
_REMOVES: dict[str, tuple[str, Callable[[etree._Element], str], Callable[[Dialect], bool]]] = {
    "itemremove": ("item", _named_jid, lambda dialect: dialect is not V),
    "sessionremove": ("session", _named_thread, lambda dialect: dialect is F),
}


def _enum(element: etree._Element, name: str, kind: type[E]) -> E:
    try:
        return kind(element.get(name))
    except ValueError:
        values = ", ".join(str(one.value) for one in kind)
        raise BadRequest(f"The attribute {name} is one of {values}.") from None


def _rules(dialect: Dialect, rules: Changes) -> list[str]:
    """Items and sessions, as far as the dialect can say them."""
    parts = [_item(dialect, item) for item in rules.items if dialect.exactmatch or not item.exact]
    if dialect.scoped:
        for session in rules.sessions:
            otr = f" otr='{session.otr.value}'" if session.otr else ""
            parts.append(
                f"<session thread={quoteattr(session.thread)} save='{session.save.value}'{otr}"
                f" timeout='{session.timeout}'/>"
            )
    return parts


def _auto(dialect: Dialect, auto: AutoShown) -> str:
    encrypt = " encrypt='true'" if auto.encrypt else ""
    scope = f" scope='{'global' if auto.lasting else 'stream'}'" if dialect.scoped else ""
    return f"<auto save='{'true' if auto.save else 'false'}'{encrypt}{scope}/>"


def _default(modes: Modes, *, unset: bool = False) -> str:
    return f"<default{_modes(modes)}{' unset=' + repr('true') if unset else ''}/>"


def _item(dialect: Dialect, item: ContactModes) -> str:
    exact = " exactmatch='true'" if item.exact and dialect.exactmatch else ""
    return f"<item jid={quoteattr(item.jid)}{exact}{_modes(item.modes)}/>"


def _method(kind: str, use: Use) -> str:
    return f"<method type='{kind}' use='{use.value}'/>"


def _modes(modes: Modes) -> str:
    expire = f" expire='{modes.expire}'" if modes.expire is not None else ""
    return f" save='{modes.save.value}' otr='{modes.otr.value}'{expire}"
