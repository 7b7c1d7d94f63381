"""What two agreed of the logging of a conversation, as far as its messages show; and whether it may be
archived then (XEP-0136 4, XEP-0155).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lxml import etree

from archive_crypt.core import jids
from archive_crypt.core.items import ReadItem
from archive_crypt.model import Micros, Otr
from archive_crypt.reader import otr, ssn
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.otr import Logging, Outcome
from archive_crypt.reader.protocol import Listed, parse
from archive_crypt.reader.ssn import Form

_FEATURE_NEG = "http://jabber.org/protocol/feature-neg"

#: What each side offered last.
_Offers = dict[str, tuple[Logging, ...]]
#: Whose answer an offer takes, as items have it.
_OTHER = {"to": "from", "from": "to"}


class OffTheRecord(Problem):
    """It must not be logged: so the two agreed, or so the user's preferences have it."""


async def check(
    archive: Archive, with_: str, thread: str | None, outcome: Outcome | None, *, force: bool = False
) -> None:
    """Nothing, if a conversation with somebody, in a thread, may be archived that was negotiated with this
    outcome; None: it was not. `force`: against the user's preferences, but never against what was agreed.

    :raises OffTheRecord: it must not be; the text says why, and what to do.
    """
    preference = Otr.CONCEDE if force else (await archive.plain.wanted_modes(with_, thread)).otr
    if otr.logging(preference, outcome) is Logging.MAY:
        return
    if outcome is Outcome.MUSTNOT:
        raise OffTheRecord(
            f"You and {with_} agreed to keep it off the record. That stays so; for what comes, "
            "archive-reader prefs contact --otr says what your clients agree to."
        )
    if outcome is Outcome.FAILED:
        raise OffTheRecord(
            f"You and {with_} could not agree whether it may be logged. That stays so; for what comes, "
            "archive-reader prefs contact --otr says what your clients agree to."
        )
    raise OffTheRecord(
        f"Your preferences have all with {with_} off the record (otr {preference.value}). Change them by "
        "archive-reader prefs contact --otr, or say that it is meant by --force."
    )


class Agreements:
    """What was agreed in the conversations that were read so far, in whatever order. It holds for as long as
    their threads go on: a negotiation, and what is said after it, can be in several collections."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], dict[tuple[Micros, str], list[Entry]]] = {}

    def outcome(self, collection: Listed, entries: Iterable[Entry]) -> Outcome | None:
        """How the negotiation came out by which these entries, of a collection, were said; None: there was
        none. What the collections of its thread told, this and those that began before, counts."""
        if collection.thread is None:  # it tells nothing of other conversations with the contact
            return outcome(entries)
        told = self._told.setdefault((jids.bare(collection.with_), collection.thread), {})
        here = collection.start, collection.with_
        told[here] = [entry for entry in entries if _negotiates(entry)]
        offers: _Offers = {}
        found, off = None, False
        for place in sorted(place for place in told if place <= here):
            found = _heard(told[place], offers)
            off = found is Outcome.MUSTNOT or (off and found is not Outcome.MAY)
        return Outcome.MUSTNOT if off else found


def outcome(entries: Iterable[Entry]) -> Outcome | None:
    """How the negotiation came out whose messages are among the entries; None: there is none. Where they
    agreed at any time to be off the record, that is of all of it."""
    return _heard(entries, {})


def _heard(entries: Iterable[Entry], offers: _Offers) -> Outcome | None:
    """The same, where `offers` stand already; those that are made are added."""
    found: Outcome | None = None
    for entry in entries:
        message = None if entry.item is None else _message(entry.item)
        form = None if message is None else ssn.read(message)
        if entry.item is None or message is None or form is None:
            continue
        came = _came(entry.item.kind, message, form, offers)
        # New terms that were not agreed to leave the old ones.
        if came is Outcome.MUSTNOT or found not in (Outcome.MAY, Outcome.MUSTNOT):
            found = came or found
    return found


def said(entries: Iterable[Entry]) -> list[Entry]:
    """The entries without the messages that negotiate, as none of them is to be stored anywhere (XEP-0136
    4.2). One that says something besides stays, without what it negotiates: anybody can add that to what he
    says."""
    found = []
    for entry in entries:
        message = None if entry.item is None else _message(entry.item)
        if entry.item is None or message is None or ssn.read(message) is None:
            found.append(entry)
        elif any(text for _, text in entry.item.bodies) or ssn.says_more(message):
            found.append(replace(entry, item=_without_form(entry.item)))
    return found


def _negotiates(entry: Entry) -> bool:
    message = None if entry.item is None else _message(entry.item)
    return message is not None and ssn.read(message) is not None


def _without_form(item: ReadItem) -> ReadItem:
    return replace(item, rest=tuple(text for text in item.rest if parse(text.encode()).tag != ssn.ELEMENT))


def _came(by: str, message: etree._Element, form: Form, offers: _Offers) -> Outcome | None:
    """What one message of a negotiation, from the side `by`, comes to; None: nothing new. An offer is added
    to `offers`. It takes both sides to agree, or to fail: one alone can say anything."""
    offered = offers.get(_OTHER.get(by, ""))
    if message.find("{*}error") is not None:
        no_way = offered is not None and message.find("{*}error/{*}not-acceptable") is not None
        return Outcome.FAILED if no_way else Outcome.UNANSWERED
    if form.kind == "cancel" or False in (form.accept, form.renegotiate):
        return Outcome.UNANSWERED
    if form.kind == "form":
        offers[by] = form.logging or ()
        return Outcome.PENDING
    if form.kind != "submit" or offered is None:
        return None  # it completes what was agreed, or answers nothing
    logging = form.logging
    if logging is None and (form.accept or form.renegotiate):
        logging = offered[:1] or (Logging.MAY,)  # who is silent about it accepts what is offered by default
    if logging is None:
        return None  # it ends what was agreed
    return Outcome.MUSTNOT if Logging.MUSTNOT in logging else Outcome.MAY


def _message(item: ReadItem) -> etree._Element | None:
    """The message that an item is of, if it may negotiate."""
    if not any(_FEATURE_NEG in child for child in item.rest):
        return None
    message = etree.Element("{jabber:client}message")
    for child in item.rest:  # each by itself, as the parser bounds the depth
        message.append(parse(child.encode()))
    return message
