"""Off the record: what a client offers, answers and does about the logging of a conversation (XEP-0136 4).

Decisions only, no stanza; how the two talk is `ssn`'s.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from archive_crypt.model import Otr, SaveMode


class Logging(enum.Enum):
    """Whether messages may be logged, as the field 'logging' has it (XEP-0155)."""

    MAY = "may"
    MUSTNOT = "mustnot"


class Outcome(enum.Enum):
    """How far a negotiation has come."""

    PENDING = "it was offered, and no answer came yet"
    UNANSWERED = "there was no successful answer, and none will come"
    FAILED = "what both want cannot be had together"
    MAY = "messages may be logged"
    MUSTNOT = "messages must not be logged"


_MAY, _NOT = Logging.MAY, Logging.MUSTNOT

#: What is offered, by the user's own preference; the first is the default.
OFFERS: Mapping[Otr, tuple[Logging, ...]] = {
    Otr.REQUIRE: (_NOT,),
    Otr.PREFER: (_NOT, _MAY),
    Otr.APPROVE: (_NOT, _MAY),
    Otr.CONCEDE: (_MAY, _NOT),
    Otr.OPPOSE: (_MAY, _NOT),
    Otr.FORBID: (_MAY,),
}

_COLUMNS = ((_NOT,), (_NOT, _MAY), (_MAY, _NOT), (_MAY,))
_ANSWERS: Mapping[Otr, tuple[Logging | None, ...]] = {
    #             mustnot  mustnot,may  may,mustnot  may
    Otr.REQUIRE: (_NOT, _NOT, _NOT, None),
    Otr.PREFER: (_NOT, _NOT, _NOT, _MAY),
    Otr.APPROVE: (_NOT, _NOT, _MAY, _MAY),
    Otr.CONCEDE: (_NOT, _NOT, _MAY, _MAY),
    Otr.OPPOSE: (_NOT, _MAY, _MAY, _MAY),
    Otr.FORBID: (None, _MAY, _MAY, _MAY),
}
#: What is answered, by the user's own preference and what is offered; None: the negotiation fails.
ANSWERS: Mapping[Otr, Mapping[tuple[Logging, ...], Logging | None]] = {
    otr: dict(zip(_COLUMNS, row, strict=True)) for otr, row in _ANSWERS.items()
}


def can_switch_off(*, warned: bool, off_accepted: bool | None = None) -> bool:
    """Whether automatic archiving can be off (1.3.1, section 4.1): the server did not warn at the login
    that it is on, or accepted ``<auto save='false'/>``; `off_accepted` None: it was not asked."""
    return not warned or off_accepted is True


def offer(otr: Otr, *, switchable: bool) -> tuple[Logging, ...]:
    """What to offer, the default first; (): nothing can be, so that nothing may be sent.

    `switchable`: automatic archiving can be off. Off the record is not offered without.
    """
    return tuple(logging for logging in OFFERS[otr] if switchable or logging is _MAY)


def answer(otr: Otr, offered: tuple[Logging, ...] | None, *, switchable: bool) -> Logging | None:
    """What to answer; None: refuse. `offered`: the default first; None: the offer says nothing of
    logging, which is like an offer to log."""
    if offered is None:
        return None if otr is Otr.REQUIRE else _MAY
    options = tuple(dict.fromkeys(offered))
    chosen = ANSWERS[otr].get(options)
    if chosen is _NOT and not switchable:
        return _MAY if _MAY in options and otr is not Otr.REQUIRE else None
    return chosen


def negotiates_first(otr: Otr) -> bool:
    """Whether a conversation begins with a negotiation. The others may wait for the contact to begin one."""
    return otr in (Otr.REQUIRE, Otr.PREFER, Otr.APPROVE)


def may_send(otr: Otr, outcome: Outcome | None) -> bool:
    """Whether messages may be sent now; `outcome` None: nothing was negotiated."""
    if outcome is Outcome.FAILED:
        return False  # the other side may begin anew
    return logging(otr, outcome) is not None


def logging(otr: Otr, outcome: Outcome | None) -> Logging | None:
    """How messages are to be taken that are sent and received now; None: there must be none."""
    if outcome in (Outcome.MAY, Outcome.MUSTNOT):
        agreed = Logging(outcome.name.lower())
        return agreed if fits(otr, agreed) else None
    if outcome is Outcome.FAILED or otr is Otr.REQUIRE:
        return None
    return _MAY


def fits(otr: Otr, agreed: Logging) -> bool:
    """Whether what was agreed can stay under a preference that was changed since."""
    return agreed in ANSWERS[otr].values()


def offer_anew(otr: Otr, agreed: Logging, *, switchable: bool) -> tuple[Logging, ...] | None:
    """What to offer at once in a renegotiation, when the preference has changed; None: all can stay as
    it is; (): nothing can be offered, so end the session."""
    return None if fits(otr, agreed) else offer(otr, switchable=switchable)


def saving(agreed: Logging, save: SaveMode, *, threads: bool) -> SaveMode | None:
    """How much the server is to save of the conversation then; None: as much as it does, which is `save`.

    `threads`: it has settings for them. Where that of the contact would have to be changed, for all that is
    said with him, this is done to forbid only: no agreement of one thread has more saved of the others.
    """
    if agreed is _NOT:
        return None if save is SaveMode.FALSE else SaveMode.FALSE
    return SaveMode.BODY if save is SaveMode.FALSE and threads else None
