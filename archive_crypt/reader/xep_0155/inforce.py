"""What was negotiated is in force: at the server, for as long as the user wants it so, until it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, cast
from xml.etree import ElementTree

from slixmpp import JID, Message
from slixmpp.plugins import BasePlugin

from archive_crypt.model import SaveMode
from archive_crypt.reader import otr, ssn
from archive_crypt.reader.errors import NoAnswer, RequestFailed
from archive_crypt.reader.otr import Logging, Outcome
from archive_crypt.reader.xep_0136 import XEP_0136
from archive_crypt.reader.xep_0155.talks import Talk, Talks
from archive_crypt.reader.xep_0155.upkeep import Upkeep

#: Seconds after which the server is asked again, where it did not answer what is to be known, or done.
AGAIN = 10.0


class InForce(BasePlugin):
    """A plugin that holds what was negotiated. It is configured with `timeout`."""

    timeout: float

    def plugin_init(self) -> None:
        self._talks = Talks()
        self._upkeep = Upkeep(self._archive, self._talks, self._on_left_off)
        self._tasks = set[asyncio.Task[None]]()
        self._next_look: asyncio.Task[None] | None = None
        self._turning_on: asyncio.Task[None] | None = None

    async def _make_private(self, talk: Talk) -> bool:
        """Whether nothing of it is archived any more, from now on."""
        talk.chosen = Logging.MUSTNOT
        try:
            await self._upkeep.apply(talk, Logging.MUSTNOT)
            await self._upkeep.remove_negotiation(talk)
        except RequestFailed:
            talk.chosen = None
            with contextlib.suppress(RequestFailed):
                await self._upkeep.undo(talk)
            return False
        return True

    async def _agree(self, talk: Talk, agreed: Logging) -> None:
        """It is in force. What is private is so at the server already."""
        if talk.timer is not None:
            talk.timer.cancel()
        if agreed is Logging.MAY:
            await self._make_public(talk)
        else:
            talk.take_back(Outcome.MUSTNOT)
            self._start_keeping(talk)
        self._tell("otr_agreed", talk)

    async def _make_public(self, talk: Talk) -> None:
        """As before it was private, if it was; and recorded, if logging was spoken of. If the server does
        not do that, less is archived than may be: so it stays agreed."""
        if talk.agreed is not Logging.MAY:
            talk.take_back(None)
            with contextlib.suppress(RequestFailed):
                await self._upkeep.undo(talk)
            talk.outcome = Outcome.MAY
        with contextlib.suppress(RequestFailed):
            if talk.spoken:
                await self._upkeep.apply(talk, Logging.MAY)

    def _start_keeping(self, talk: Talk) -> None:
        if talk.keeper is not None:
            talk.keeper.cancel()
        talk.keeper = self._spawn(self._keep(talk))

    async def _keep(self, talk: Talk) -> None:
        """The rule for a private thread is renewed before it lapses (XEP-0136 1.3.1, section 2.6), and set
        again where it is gone."""
        renewed = True
        while talk.agreed is Logging.MUSTNOT and talk.ruled:
            pause = AGAIN
            with contextlib.suppress(RequestFailed):
                lasts = await self._upkeep.lasts(talk)
                if lasts is None:
                    return
                pause = max(lasts / 2, 1.0)
            await asyncio.sleep(pause if renewed else min(pause, AGAIN))
            renewed = await self._renewed(talk)

    async def _renewed(self, talk: Talk) -> bool:
        """Whether it was. Where the rule is gone, and the server will have none, it ends: what the server
        does not do is not promised."""
        try:
            await self._upkeep.renew(talk)
        except NoAnswer:
            return False
        except RequestFailed:
            with contextlib.suppress(RequestFailed):
                if await self._upkeep.lasts(talk) == 0 and talk.agreed is Logging.MUSTNOT:
                    self._close(talk, say=True)
            return False
        return True

    async def _fit_all(self) -> None:
        """What was agreed is looked at again, all of it, after the preferences were asked for once."""
        try:
            if any(talk.agreed for talk in self._talks):
                await self._archive.wishes()
        except RequestFailed:
            self._look_later()
            return
        for talk in self._talks:
            self._spawn(self._look(talk))

    async def _look(self, talk: Talk) -> None:
        try:
            await self._fit(talk)
        except RequestFailed:
            self._look_later()

    def _look_later(self) -> None:
        """It is not known whether what was agreed is so still: until it is, it is looked at again."""
        if self._next_look is None:
            self._next_look = self._spawn(self._look_again())

    async def _look_again(self) -> None:
        await asyncio.sleep(AGAIN)
        self._next_look = None
        await self._fit_all()

    async def _fit(self, talk: Talk) -> None:
        """The user's preferences may not go with what was agreed any more."""
        if talk.agreed is None or talk.anew or talk.busy is not None:
            return
        modes = await self._archive.wanted_modes(str(talk.jid), talk.thread)
        switchable = await self._upkeep.can_be_off()
        agreed = talk.agreed
        if agreed is None or talk.anew or talk.busy is not None:
            return
        offered = otr.offer_anew(modes.otr, agreed, switchable=switchable)
        if offered is None:
            if agreed is Logging.MUSTNOT and modes.save is not SaveMode.FALSE:
                await self._hold(talk)
        elif not offered or not await self._renegotiated(talk, offered):
            self._close(talk, say=True)

    async def _hold(self, talk: Talk) -> None:
        """The server archives again what must not be: it is told once more, or the conversation ends."""
        try:
            await self._upkeep.apply(talk, Logging.MUSTNOT)
        except RequestFailed:
            self._close(talk, say=True)
        else:
            self._start_keeping(talk)

    async def _renegotiated(self, talk: Talk, offered: tuple[Logging, ...]) -> bool:
        """Whether other terms were agreed, which the user can have."""
        talk.anew = offered
        talk.id = self._send(ssn.write_offer(str(talk.jid), talk.thread, offered, renegotiate=True))
        try:
            await self._wait(talk)
        finally:
            talk.anew = ()
        return talk.agreed in offered

    async def _wait(self, talk: Talk) -> None:
        """Until our offer came to something, or no answer came in time."""
        talk.settled = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(asyncio.shield(talk.settled), self.timeout)
        except TimeoutError:
            if talk.busy is not None:
                await asyncio.wait([talk.busy])

    def _close(self, talk: Talk, *, say: bool = False) -> None:
        """It is over."""
        if talk.agreed is None:
            return
        if say:
            self._tell_ended(talk.jid, talk.thread)
        talk.take_back(None)
        self._tell("otr_ended", talk)
        self._let_lapse(talk)

    def _fail(self, talk: Talk, outcome: Outcome) -> None:
        """It came to nothing."""
        is_news = talk.outcome is not outcome
        talk.take_back(outcome)
        if is_news:
            self._tell("otr_failed", talk)
        talk.settle()

    def _give_up(self, talk: Talk) -> None:
        """Nothing was opened."""
        talk.take_back(Outcome.UNANSWERED)
        self._tell("otr_failed", talk)
        self._let_lapse(talk)

    def _let_lapse(self, talk: Talk) -> None:
        """It is known until the server has no rule for the thread, so that of many the oldest can go."""
        talk.stop()
        self._spawn(self._finish(talk))

    async def _finish(self, talk: Talk) -> None:
        try:
            await self._upkeep.let_lapse(talk)
        finally:
            if talk.is_over and not talk.ruled:
                self._talks.remove(talk)

    def _forget(self, talk: Talk, *, say: bool = False) -> None:
        """It is known no more."""
        self._close(talk, say=say)
        talk.stop()
        talk.chosen = None
        self._talks.remove(talk)
        self._spawn(self._upkeep.undo(talk))

    def _on_left_off(self) -> None:
        """Automatic archiving is off, as we tried that: it is turned on again as soon as that can be."""
        if self.xmpp.is_connected():  # else the next stream begins as the user has it
            self.xmpp.event("otr_left_off")
            self._turning_on = self._spawn(self._turn_on())

    async def _turn_on(self) -> None:
        while True:
            await asyncio.sleep(AGAIN)
            with contextlib.suppress(RequestFailed):
                await self._upkeep.turn_on()
                return

    def _forget_stream(self) -> None:
        """There is another: what was so on the last one is not known of it."""
        self._upkeep.forget_stream()
        if self._turning_on is not None:
            self._turning_on.cancel()

    # The same for all

    @property
    def _archive(self) -> XEP_0136:
        return cast(XEP_0136, self.xmpp.plugin.get("xep_0136", None))

    def _yields_to(self, sender: JID) -> bool:
        """Whose offer counts, of two that crossed: both sides know."""
        return str(self.xmpp.boundjid) > str(sender)

    def _tell_ended(self, jid: JID, thread: str) -> None:
        self._send(ssn.write_end(str(jid), thread))

    def _tell(self, event: str, talk: Talk) -> None:
        self.xmpp.event(event, talk.told)

    def _send(self, text: str) -> str:
        """The id of the message that is sent."""
        message = Message(stream=self.xmpp, xml=ElementTree.fromstring(text))  # noqa: S314 - it is our own
        message["id"] = self.xmpp.new_id()
        message.send()
        return cast(str, message["id"])

    def _work(self, talk: Talk, coroutine: Coroutine[Any, Any, None]) -> None:
        """Acts upon the contact's message; until that is done, no other of his in this conversation counts,
        but one that ends it."""

        async def work() -> None:
            try:
                await coroutine
            finally:
                if talk.busy is asyncio.current_task():
                    talk.busy = None
                if talk.outcome is not Outcome.PENDING:
                    talk.settle()
            await self._look(talk)

        talk.busy = self._spawn(work())

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not isinstance(error, RequestFailed):
            self.xmpp.exception(error)  # type: ignore[no-untyped-call]  # slixmpp's
