"""Stanza session negotiation (XEP-0155), as far as logging is concerned: its messages <-> values.

Pure. None of these messages is to be stored anywhere, and each asks for that (XEP-0136 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from archive_crypt.core import policy
from archive_crypt.core.dialect import DIALECTS
from archive_crypt.core.message import STANZA
from archive_crypt.model import Otr
from archive_crypt.reader import otr
from archive_crypt.reader.otr import Logging

#: What a client announces that can do this, and the FORM_TYPE of what it sends.
FEATURE = "urn:xmpp:ssn"

_FEATURE_NEG = "http://jabber.org/protocol/feature-neg"
#: The element of a message that negotiates.
ELEMENT = f"{{{_FEATURE_NEG}}}feature"

_DATA_FORM = "jabber:x:data"
_STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
_X = f"{{{_DATA_FORM}}}"
#: What may be beside it in a message that only negotiates, in archives as well: names, and namespaces.
_BESIDE = frozenset(
    etree.QName(namespace, name).text for namespace in (*STANZA, *DIALECTS) for name in ("thread", "error")
)
_SAYS_NOTHING = policy.ACCOMPANIES | {
    "urn:xmpp:hints",
    "http://www.xmpp.org/extensions/xep-0116.html#ns-init",  # it negotiates, too
}
#: The fields that are understood; and how much an error repeats of others.
_OURS = frozenset(("FORM_TYPE", "accept", "renegotiate", "logging", "otr"))
_MOST_NAMED, _LONGEST_NAME = 8, 64
_YES, _NO = ("1", "true"), ("0", "false")
_LABELS = {Logging.MAY: "Allow message logging", Logging.MUSTNOT: "Disallow all message logging"}


@dataclass(frozen=True, slots=True)
class Form:
    """What a message negotiates. `kind`: form (an offer), submit (an answer), result or cancel.

    `logging`: what is offered, the default first, or what is answered; None: it is not spoken of.
    """

    kind: str
    thread: str | None
    accept: bool | None = None
    renegotiate: bool | None = None
    terminate: bool = False
    logging: tuple[Logging, ...] | None = None


def read(message: etree._Element) -> Form | None:
    """What a ``<message/>`` negotiates; None: nothing, as one of type error does."""
    if message.get("type") in ("error", "groupchat"):
        return None
    form = _session_form(message)
    if form is None:
        return None
    fields = {field.get("var") or "": field for field in form.iterfind(f"{_X}field")}
    thread = next((child.text for child in message if etree.QName(child).localname == "thread"), None)
    return Form(
        kind=form.get("type") or "",
        thread=(thread or "").strip() or None,
        accept=_boolean(fields.get("accept")),
        renegotiate=_boolean(fields.get("renegotiate")),
        terminate=_boolean(fields.get("terminate")) is True,
        logging=_logging(fields),
    )


def says_more(message: etree._Element) -> bool:
    """Whether a ``<message/>`` that negotiates says something besides, as far as can be known: what is not
    known to say nothing, does."""
    texts = (message.text, *(child.tail for child in message))
    return any(text and text.strip() for text in texts) or not all(map(_says_nothing, message))


def is_refusal(error: etree._Element) -> bool:
    """Whether a ``<message/>`` of type error says that an offer cannot be met (not-acceptable); other errors
    say that nobody could answer it."""
    return error.find(f"{{*}}error/{{{_STANZAS}}}not-acceptable") is not None


def other_demands(message: etree._Element) -> tuple[str, ...]:
    """The fields beside logging that an offer requires an answer to, as one of an encrypted session does."""
    form = _session_form(message)
    fields = [] if form is None else form.findall(f"{_X}field")
    required = [field.get("var") or "" for field in fields if field.find(f"{_X}required") is not None]
    return tuple(name for name in required if name not in _OURS)


def write_offer(to: str, thread: str, offered: Sequence[Logging], *, renegotiate: bool = False) -> str:
    """The message that offers a session, or new terms for one that is open.

    :raises ValueError: there is nothing to offer; see `otr.offer`.
    """
    if not offered:
        raise ValueError("nothing can be offered")
    options = "".join(
        f"<option label='{_LABELS[logging]}'><value>{logging.value}</value></option>" for logging in offered
    )
    ask, label = ("renegotiate", "Renegotiate?") if renegotiate else ("accept", "Accept this session?")
    return _message(
        to,
        thread,
        _form(
            "form",
            f"<field var='{ask}' type='boolean' label='{label}'><value>true</value><required/></field>"
            f"<field var='logging' type='list-single' label='Message logging'>"
            f"<value>{offered[0].value}</value>{options}<required/></field>",
        ),
    )


def write_answer(to: str, offer: Form, preference: Otr, *, switchable: bool) -> str:
    """The message that answers an offer of `to`, as the user's preference has it.

    An offer that cannot be met is refused with an error that names the field; one that does not speak of
    logging, where it must be forbidden, is declined, so that another can follow.
    """
    chosen = otr.answer(preference, offer.logging, switchable=switchable)
    thread = offer.thread or ""
    word = "renegotiate" if offer.renegotiate else "accept"
    if chosen is not None:
        logging = _field("logging", chosen.value) if offer.logging is not None else ""
        return _message(to, thread, _form("submit", _field(word, "true") + logging))
    if offer.logging is None or offer.renegotiate:
        return _message(to, thread, _form("submit", _field(word, "false")))
    return _error(to, thread, "modify", "not-acceptable", ["logging"])


def write_unable(to: str, thread: str, fields: Sequence[str]) -> str:
    """The error that answers an offer which requires what this cannot do; it names a few of the fields."""
    named = [name[:_LONGEST_NAME] for name in fields[:_MOST_NAMED]]
    return _error(to, thread, "cancel", "feature-not-implemented", named)


def write_completion(to: str, thread: str) -> str:
    """The message with which whoever offered opens the session that was accepted."""
    return _message(to, thread, _form("result", _field("accept", "true")))


def write_cancel(to: str, thread: str) -> str:
    """The message with which whoever offered takes that back, though it was accepted."""
    return _message(to, thread, _form("result", _field("accept", "false")))


def write_end(to: str, thread: str) -> str:
    """The message that ends a session."""
    return _message(to, thread, _form("submit", _field("terminate", "true")))


def _error(to: str, thread: str, kind: str, condition: str, names: Sequence[str]) -> str:
    """An error that names fields, as XEP-0155 4.3 has it."""
    fields = "".join(f"<field xmlns='{_DATA_FORM}' var={quoteattr(name)}/>" for name in names)
    detail = f"<feature xmlns='{_FEATURE_NEG}'>{fields}</feature>"
    error = f"<error type='{kind}'><{condition} xmlns='{_STANZAS}'/>{detail}</error>"
    return _message(to, thread, _form("form", "") + error, "error")


def _message(to: str, thread: str, inner: str, kind: str = "normal") -> str:
    told = f"<thread>{escape(thread)}</thread>" if thread else ""
    hint = "<no-store xmlns='urn:xmpp:hints'/>"
    return f"<message xmlns='jabber:client' type='{kind}' to={quoteattr(to)}>{told}{inner}{hint}</message>"


def _form(kind: str, fields: str) -> str:
    form_type = f"<field var='FORM_TYPE' type='hidden'><value>{FEATURE}</value></field>"
    form = f"<x xmlns='{_DATA_FORM}' type='{kind}'>{form_type}{fields}</x>"
    return f"<feature xmlns='{_FEATURE_NEG}'>{form}</feature>"


def _field(name: str, value: str) -> str:
    return f"<field var='{name}'><value>{value}</value></field>"


def _says_nothing(child: etree._Element) -> bool:
    return child.tag == ELEMENT or child.tag in _BESIDE or etree.QName(child).namespace in _SAYS_NOTHING


def _session_form(message: etree._Element) -> etree._Element | None:
    return next(filter(_is_session, message.iterfind(f"{ELEMENT}/{_X}x")), None)


def _is_session(form: etree._Element) -> bool:
    fields = form.iterfind(f"{_X}field")
    return any(
        field.get("var") == "FORM_TYPE" and policy.NEGOTIATION.intersection(_values(field))
        for field in fields
    )


def _values(field: etree._Element) -> list[str]:
    """The values of a field itself, without those of its options and white space around them."""
    return [(value.text or "").strip() for value in field.iterfind(f"{_X}value")]


def _boolean(field: etree._Element | None) -> bool | None:
    value = next(iter(_values(field)), "") if field is not None else ""
    return True if value in _YES else False if value in _NO else None


def _logging(fields: Mapping[str, etree._Element]) -> tuple[Logging, ...] | None:
    """Its default and its options. Once the field was `otr`, which is true to forbid; of `logging` only
    "may" allows (A-ES-2)."""
    found = []
    for name, allows in (("logging", ("may",)), ("otr", _NO)):
        field = fields.get(name)
        if field is None:
            continue
        values = _values(field)
        for option in field.iterfind(f"{_X}option"):
            values += _values(option)
        found += [Logging.MAY if value in allows else Logging.MUSTNOT for value in values]
    return tuple(dict.fromkeys(found)) or None
