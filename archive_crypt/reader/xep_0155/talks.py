"""What is known of each conversation that is negotiated, by full JID and thread. Bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from slixmpp import JID

from archive_crypt.reader.errors import CannotAsk
from archive_crypt.reader.otr import Logging, Outcome
from archive_crypt.reader.xep_0136.preferences import SessionModes

#: Conversations with one contact that are known at once. What he offers beyond that costs him his oldest.
MOST_TALKS = 8
#: Characters of a thread; it is some UUID, but nobody stops a contact.
LONGEST_THREAD = 256


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What came of a negotiation, as programs are told. `outcome` None: it is over, as if nothing had been
    negotiated."""

    jid: JID
    thread: str
    outcome: Outcome | None


@dataclass(slots=True, eq=False)
class Talk:
    """A conversation. `offered`: what we offered, the default first; (): the contact did.

    `chosen`: what was accepted, while the conversation is not open yet. `anew`: what we offer in a
    renegotiation under way. `id`: that of the message with our offer. `settled`: done when our offer, or the
    renegotiation, came to something. `busy`: the contact's message is being acted upon; `timer`: until
    what he began is given up; `keeper`: keeps the server's rule from lapsing.
    """

    jid: JID
    thread: str
    offered: tuple[Logging, ...] = ()
    outcome: Outcome | None = Outcome.PENDING
    chosen: Logging | None = None
    spoken: bool = True  # of logging, in the contact's offer
    anew: tuple[Logging, ...] = ()
    id: str = ""
    settled: asyncio.Future[None] | None = None
    busy: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    keeper: asyncio.Task[None] | None = None
    #: Whether a rule of ours for the thread is at the server, and what was there before.
    ruled: bool = False
    before: SessionModes | None = None

    @property
    def told(self) -> Negotiated:
        return Negotiated(self.jid, self.thread, self.outcome)

    @property
    def agreed(self) -> Logging | None:
        """What was agreed; None: nothing is in force."""
        if self.outcome in (Outcome.MAY, Outcome.MUSTNOT):
            return Logging(self.outcome.name.lower())
        return None

    @property
    def is_private(self) -> bool:
        """Whether nothing of it may be logged: as was agreed, or accepted."""
        return Logging.MUSTNOT in (self.agreed, self.chosen)

    @property
    def is_over(self) -> bool:
        """Whether it ended, or came to nothing."""
        return self.outcome in (None, Outcome.UNANSWERED) and self.busy is None

    @property
    def awaits_answer(self) -> bool:
        """Whether an answer to an offer of ours would be heard; one that comes late, too."""
        if self.busy is not None:
            return False
        waits = bool(self.offered) and self.outcome in (Outcome.PENDING, Outcome.UNANSWERED)
        return waits or bool(self.anew)

    def take_back(self, outcome: Outcome | None) -> None:
        """What was offered or in force is no more."""
        self.outcome, self.chosen, self.anew = outcome, None, ()

    def settle(self) -> None:
        """Whoever waits for the answer goes on."""
        if self.settled is not None and not self.settled.done():
            self.settled.set_result(None)

    def stop(self) -> None:
        """Nothing more happens by itself."""
        for running in (self.timer, self.keeper, self.busy):
            if running is not None and running is not asyncio.current_task():
                running.cancel()
        self.timer = self.keeper = self.busy = None
        self.settle()


@dataclass(slots=True)
class Talks:
    """All conversations, the oldest first."""

    _all: dict[tuple[str, str], Talk] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Talk]:
        return iter(list(self._all.values()))

    def __contains__(self, talk: Talk) -> bool:
        return self._all.get(_key(talk.jid, talk.thread)) is talk

    def get(self, jid: JID, thread: str | None) -> Talk | None:
        """That with somebody in a thread."""
        return self._all.get(_key(jid, thread or ""))

    def find(self, jid: JID, thread: str | None) -> Talk | None:
        """The same; else one that was offered to the contact, whichever client of his will answer; for a
        bare JID also one with a client of his, a private one first."""
        exact = self.get(jid, thread) or self.get(JID(jid.bare), thread)
        if exact is not None or jid.resource:
            return exact
        found = [talk for talk in self.of(jid.bare) if talk.thread == thread]
        return max(found, key=lambda talk: talk.is_private, default=None)

    def of(self, bare: str) -> list[Talk]:
        """Those with a contact."""
        return [talk for talk in self if talk.jid.bare == bare]

    def is_taken(self, jid: JID, thread: str) -> bool:
        """Whether a thread belongs to a conversation with another: servers know threads only, so that
        this one would decide over that."""
        return any(
            talk.thread == thread and talk.jid != jid and (talk.agreed or talk.outcome is Outcome.PENDING)
            for talk in self
        )

    def room(self, bare: str) -> Talk | None:
        """Whom another conversation with a contact would cost: the oldest that is not being negotiated;
        None: there is room.

        :raises CannotAsk: too many are being negotiated.
        """
        known = self.of(bare)
        if len(known) < MOST_TALKS:
            return None
        for talk in sorted(known, key=lambda talk: talk.agreed is not None):  # sorting keeps the order
            if talk.outcome is not Outcome.PENDING:
                return talk
        raise CannotAsk(f"Too much is being negotiated with {bare}: wait for it to end.")

    def add(self, talk: Talk) -> None:
        """A conversation begins, or begins anew."""
        self._all.pop(_key(talk.jid, talk.thread), None)
        self._all[_key(talk.jid, talk.thread)] = talk

    def remove(self, talk: Talk) -> None:
        """It is known no more."""
        if talk in self:
            del self._all[_key(talk.jid, talk.thread)]

    def bind(self, talk: Talk, jid: JID) -> None:
        """It was offered to a contact, and this client of his answered."""
        self.remove(talk)
        talk.jid = jid
        self.add(talk)


def _key(jid: JID, thread: str) -> tuple[str, str]:
    return str(jid), thread
