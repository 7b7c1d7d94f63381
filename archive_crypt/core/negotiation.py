"""Which threads two people agreed to keep off the record, read from the sessions that they
negotiate in passing (XEP-0155). Clients may obey by themselves; this is the net below them.
"""

from __future__ import annotations

import enum
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from twisted.words.xish import domish

from archive_crypt.core import conversation, policy
from archive_crypt.core.message import Message
from archive_crypt.model import Direction

#: Threads of one user that are remembered as off the record, and as many that are merely offered to be.
MOST_THREADS = 256

_LONGEST_THREAD = 256  # characters; a thread is some UUID, but nobody stops a peer
_DATA_FORM = "jabber:x:data"
_OTHER = {Direction.TO: Direction.FROM, Direction.FROM: Direction.TO}
_YES, _NO = ("1", "true"), ("0", "false")

_Key = tuple[str, str | None]


class Verdict(enum.Enum):
    """What one message means for the record of its thread."""

    NOTHING = "nothing"
    OFFERED = "a session is offered: what is recorded from here on may have to be dropped"
    AGREED = "off the record: drop what was recorded of this thread since OFFERED, record no more"
    OFF = "it belongs to a thread that is off the record"
    ON = "the thread is on the record again, from the next message on"


@dataclass(frozen=True, slots=True)
class _Form:
    """A form that negotiates a session: its `kind` is form, submit, result or cancel."""

    kind: str
    fields: Mapping[str, list[str]]

    def says(self, name: str) -> bool | None:
        """The value of a boolean field; None without the field, or if its value is no boolean."""
        value = (self.fields.get(name) or [""])[0]
        return True if value in _YES else False if value in _NO else None

    def forbids_logging(self) -> bool | None:
        """Whether it says that nothing may be logged; None if it says nothing about that.

        Once the field was `otr`, which is true to forbid. Of `logging` only "may" allows: XEP-0116
        renamed the field, but not its values, so that "true" forbids there.
        """
        said = [value == "may" for value in self.fields.get("logging", [])]
        said += [value in _NO for value in self.fields.get("otr", [])]
        return not all(said) if said else None


@dataclass(slots=True)
class _Offer:
    """A session or new terms for one, offered by one side.

    `forbids`: what the other side chose, or before that what is offered by default; None if that
    says nothing about logging.
    """

    renegotiates: bool
    forbids: bool | None
    accepted: bool = False


@dataclass(slots=True)
class _Session:
    """What is known of one thread: whether it is off the record, and what each side offers."""

    off: bool = False
    offers: dict[Direction, _Offer] = field(default_factory=dict)

    def take(self, form: _Form, by: Direction) -> None:
        """A form came by, from the side `by`. What answers no offer changes nothing."""
        if form.kind == "form":
            self._offer(form, by)
        elif form.kind == "cancel":
            self._cancel()
        elif form.says("terminate"):
            self._end()
        elif form.kind == "submit":
            self._answer(form, by)
        elif form.kind == "result":
            self._complete(form, by)

    def _offer(self, form: _Form, by: Direction) -> None:
        renegotiates = form.says("renegotiate") is True
        offer = self.offers.get(by)
        if offer and offer.accepted and offer.forbids and not renegotiates:
            return  # another copy of it: what was accepted in private stays so
        # Who is silent about logging accepts what is offered; but on the record only who says so.
        self.offers[by] = _Offer(renegotiates, form.forbids_logging() or None)

    def _answer(self, form: _Form, by: Direction) -> None:
        offer = self.offers.get(_OTHER[by])
        if offer is None:
            return
        accepts = form.says("renegotiate" if offer.renegotiates else "accept")
        if accepts is False:
            del self.offers[_OTHER[by]]
        elif accepts:
            offer.forbids = _chosen(form, offer)
            offer.accepted = True
            if offer.renegotiates:  # needs no completion (XEP-0155 5)
                self._settle(offer)

    def _complete(self, form: _Form, by: Direction) -> None:
        offer, accepts = self.offers.get(by), form.says("accept")
        if offer is None:
            return
        if accepts is False:
            del self.offers[by]
        elif accepts and offer.accepted:
            self._settle(offer)

    def _settle(self, offer: _Offer) -> None:
        if offer.forbids is not None:
            self.off = offer.forbids
        self.offers.clear()  # an older one, completed later, must not undo this

    def _cancel(self) -> None:
        if self.offers:
            self.offers.clear()
        else:
            self._end()

    def _end(self) -> None:
        self.off = False
        self.offers.clear()


class Negotiations:
    """The sessions that one user negotiates with all others, in either role.

    Bounded: of more than `most` threads off the record that which was silent the longest is
    forgotten, so that it is recorded again; and of more than `most` merely offered ones likewise.
    """

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._most = most
        # Apart, so that no number of offers, which anybody can make, pushes out what was agreed.
        self._agreed: OrderedDict[_Key, _Session] = OrderedDict()
        self._offered: OrderedDict[_Key, _Session] = OrderedDict()

    def saw(self, message: Message, direction: Direction, peer_key: str) -> Verdict:
        """What a message, sent or received by the user, means for the record of its thread.

        `peer_key` is `conversation.Peer.key`. Errors and what is said in rooms negotiate nothing:
        an error has the offer it refuses in it, and another of the peer's clients may accept.
        """
        key = _key(peer_key, conversation.thread_of(message)[0])
        session = self._agreed.get(key) or self._offered.get(key)
        form = None if message.type in ("error", "groupchat") else _form(message)
        if session is None:
            if form is None or form.kind != "form":
                return Verdict.NOTHING
            session = _Session()
        was_off, was_offered = session.off, bool(session.offers)
        if form is not None:
            session.take(form, direction)
        self._keep(key, session)
        if session.off:
            return Verdict.OFF if was_off else Verdict.AGREED
        if was_off:
            return Verdict.ON
        return Verdict.OFFERED if session.offers and not was_offered else Verdict.NOTHING

    @property
    def idle(self) -> bool:
        """Whether nothing is negotiated or agreed, so that only a form can mean anything."""
        return not self._agreed and not self._offered

    def forbids(self, peer_key: str, thread: str | None) -> bool:
        """Whether a thread is off the record; None is that of all messages without thread."""
        return _key(peer_key, thread) in self._agreed

    def _keep(self, key: _Key, session: _Session) -> None:
        """Remember a session as the one that spoke last, if there is anything to remember."""
        self._agreed.pop(key, None)
        self._offered.pop(key, None)
        if not session.off and not session.offers:
            return
        sessions = self._agreed if session.off else self._offered
        if len(sessions) >= self._most:
            sessions.popitem(last=False)
        sessions[key] = session


def _chosen(form: _Form, offer: _Offer) -> bool | None:
    """What an answer makes of logging: an earlier answer that forbade it, of another of the same
    side's clients, stays in force."""
    said = form.forbids_logging()
    return offer.forbids if said is None or (offer.accepted and offer.forbids) else said


def _key(peer_key: str, thread: str | None) -> _Key:
    if thread is not None and len(thread) > _LONGEST_THREAD:
        thread = hashlib.sha256(thread.encode()).hexdigest()
    return peer_key, thread


def _form(message: Message) -> _Form | None:
    for child in message.rest:
        form = policy.session_form(child)
        if form is not None:
            return _Form(form.getAttribute("type") or "", _fields(form))
    return None


def _fields(form: domish.Element) -> dict[str, list[str]]:
    """The fields with their values; in an offer these are what it proposes.

    An answer's field without value has the value "": it was not left out.
    """
    fields: dict[str, list[str]] = {}
    for one in form.elements(_DATA_FORM, "field"):
        values = policy.values(one)
        if not values and form.getAttribute("type") != "form":
            values = [""]
        fields.setdefault(one.getAttribute("var") or "", []).extend(values)
    return fields
