"""What contacts offer is answered, and what they answer is settled (XEP-0155), as XEP-0136 4 has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from slixmpp import JID

from archive_crypt.model import Otr
from archive_crypt.reader import otr, ssn
from archive_crypt.reader.errors import CannotAsk, RequestFailed
from archive_crypt.reader.otr import Logging, Outcome
from archive_crypt.reader.ssn import Form
from archive_crypt.reader.xep_0155.inforce import InForce
from archive_crypt.reader.xep_0155.talks import Talk

#: Asks the human, of somebody and a thread, whether it may be off the record.
Approve = Callable[[JID, str], Awaitable[bool]]


class Answering(InForce):
    """A plugin that takes part in negotiations. It is configured with `timeout`, as
    `InForce` is, and `approve`."""

    approve: Approve | None

    def _take(self, sender: JID, thread: str, form: Form) -> None:
        """What somebody who is known says of a conversation."""
        talk = self._talks.get(sender, thread)
        if form.kind == "form" and form.renegotiate:
            self._on_new_terms(sender, thread, talk, form)
        elif form.kind == "form":
            self._on_offer(sender, thread, talk, form)
        elif form.kind == "cancel" or (form.kind == "submit" and form.terminate):
            self._on_end(talk)
        elif form.kind == "submit":
            self._on_answer(sender, thread, talk, form)
        elif form.kind == "result" and form.accept is not None:
            self._on_completion(sender, thread, talk, accepted=form.accept)

    # He offers

    def _on_offer(self, sender: JID, thread: str, talk: Talk | None, form: Form) -> None:
        known = talk or self._talks.get(JID(sender.bare), thread)
        talk = self._begin(sender, thread) if known is None else known
        if talk is None or talk.agreed or talk.chosen or talk.busy is not None:
            return  # an offer that came twice, or takes back in passing what was accepted
        if talk.offered and talk.outcome is Outcome.PENDING and not self._yields_to(sender):
            return
        self._talks.bind(talk, sender)
        talk.take_back(Outcome.PENDING)
        talk.offered, talk.spoken = (), form.logging is not None
        self._work(talk, self._answer(talk, form))

    def _begin(self, sender: JID, thread: str) -> Talk | None:
        """A conversation that a contact wants; None: it is not entered into."""
        if self._talks.is_taken(sender, thread):
            return None
        try:
            self._make_room(sender.bare)
        except CannotAsk:
            return None
        return Talk(sender, thread)

    def _make_room(self, bare: str) -> None:
        """:raises CannotAsk: there is none."""
        oldest = self._talks.room(bare)
        if oldest is not None:
            self._forget(oldest, say=True)

    async def _answer(self, talk: Talk, form: Form) -> None:
        try:
            mode, switchable = await self._decide(talk, form)
        except RequestFailed:  # our own server does not tell what the user wants: no answer
            self._fail(talk, Outcome.UNANSWERED)
            return
        chosen = otr.answer(mode, form.logging, switchable=switchable)
        self._send(ssn.write_answer(str(talk.jid), form, mode, switchable=switchable))
        if chosen is None:
            self._fail(talk, Outcome.FAILED)
            return
        talk.chosen = chosen
        talk.timer = asyncio.get_running_loop().call_later(self.timeout, self._give_up, talk)

    async def _decide(self, talk: Talk, form: Form) -> tuple[Otr, bool]:
        """What the user prefers, and whether it can and may be off the record; if so, it is. That comes
        before the answer: what was promised must not depend on a server that may refuse it then."""
        mode = (await self._archive.wanted_modes(str(talk.jid), talk.thread)).otr
        switchable = await self._upkeep.can_be_off()
        if otr.answer(mode, form.logging, switchable=switchable) is Logging.MUSTNOT:
            switchable = mode is not Otr.APPROVE or await self._is_approved(talk)
            switchable = switchable and await self._make_private(talk)
        return mode, switchable

    async def _is_approved(self, talk: Talk) -> bool:
        if self.approve is None:
            return False
        try:
            return await self.approve(talk.jid, talk.thread)
        except Exception as error:  # noqa: BLE001 - the program's own; who does not say yes says no
            self.xmpp.exception(error)  # type: ignore[no-untyped-call]  # slixmpp's
            return False

    def _on_completion(self, sender: JID, thread: str, talk: Talk | None, *, accepted: bool) -> None:
        if talk is None or talk.is_over:
            if accepted:
                self._tell_ended(sender, thread)
        elif talk.offered or talk.busy is not None or talk.chosen is None:
            pass
        elif accepted:
            self._work(talk, self._agree(talk, talk.chosen))
        else:
            self._give_up(talk)

    def _on_new_terms(self, sender: JID, thread: str, talk: Talk | None, form: Form) -> None:
        if talk is None or talk.agreed is None:
            self._tell_ended(sender, thread)
        elif talk.busy is None and (not talk.anew or self._yields_to(sender)):
            talk.anew = ()
            self._work(talk, self._answer_new_terms(talk, form))

    async def _answer_new_terms(self, talk: Talk, form: Form) -> None:
        try:
            mode, switchable = await self._decide(talk, form)
        except RequestFailed:
            return
        chosen = otr.answer(mode, form.logging, switchable=switchable)
        self._send(ssn.write_answer(str(talk.jid), form, mode, switchable=switchable))
        if chosen is not None and form.logging is not None:
            talk.spoken = True
            await self._agree(talk, chosen)

    # He answers

    def _on_answer(self, sender: JID, thread: str, talk: Talk | None, form: Form) -> None:
        if talk is None:
            talk = self._talks.get(JID(sender.bare), thread)
        if talk is None or not talk.awaits_answer:
            elsewhere = any(one.thread == thread and one.jid != sender for one in self._talks.of(sender.bare))
            if form.accept and elsewhere:  # another client of his was first
                self._send(ssn.write_cancel(str(sender), thread))
        elif talk.anew:
            if form.renegotiate is not None:
                self._work(talk, self._settle_new_terms(talk, form))
        elif form.accept:
            self._talks.bind(talk, sender)
            self._work(talk, self._settle(talk, form))
        elif form.accept is False:
            self._fail(talk, Outcome.UNANSWERED)

    async def _settle(self, talk: Talk, form: Form) -> None:
        """He accepted what we offered: it is opened, if all is as it should be."""
        chosen = _chosen(form, talk.offered)
        why = Outcome.FAILED if chosen is Logging.MUSTNOT else Outcome.UNANSWERED
        if chosen in talk.offered and await self._can_have(talk, chosen):
            self._send(ssn.write_completion(str(talk.jid), talk.thread))
            await self._agree(talk, chosen)
            return
        self._send(ssn.write_cancel(str(talk.jid), talk.thread))
        self._fail(talk, why)
        await self._upkeep.undo(talk)

    async def _can_have(self, talk: Talk, chosen: Logging) -> bool:
        """Whether the server does as is agreed, and the user wants it still."""
        if chosen is Logging.MUSTNOT and not await self._make_private(talk):
            return False
        try:
            return otr.fits((await self._archive.wanted_modes(str(talk.jid), talk.thread)).otr, chosen)
        except RequestFailed:
            return False

    async def _settle_new_terms(self, talk: Talk, form: Form) -> None:
        offered, talk.anew = talk.anew, ()
        if not form.renegotiate:
            return  # all stays as it was
        chosen = _chosen(form, offered)
        if chosen in offered and await self._can_have(talk, chosen):
            await self._agree(talk, chosen)
        else:
            self._close(talk, say=True)  # he believes what is not so

    def _on_refusal(self, talk: Talk, *, refused: bool) -> None:
        """An error came for our offer; `refused`: it cannot be met."""
        if talk.anew:
            talk.anew = ()
            talk.settle()
        else:
            self._fail(talk, Outcome.FAILED if refused else Outcome.UNANSWERED)

    def _on_end(self, talk: Talk | None) -> None:
        if talk is None:
            return
        was_busy = talk.busy is not None
        talk.stop()
        if talk.agreed is not None:
            self._close(talk)
        elif was_busy or talk.outcome is Outcome.PENDING:
            self._give_up(talk)


def _chosen(form: Form, offered: tuple[Logging, ...]) -> Logging:
    """What an answer accepts: who is silent about logging takes the default; who says both, the stricter."""
    if form.logging is None:
        return offered[0]
    return Logging.MUSTNOT if Logging.MUSTNOT in form.logging else Logging.MAY
