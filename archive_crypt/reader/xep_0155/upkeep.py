"""What a negotiation asks of the user's own server: that nothing is archived, or something, and that it
stays so (XEP-0136 4.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lxml import etree

from archive_crypt.model import ContactModes, Modes, PageRequest, SaveMode
from archive_crypt.reader import otr, ssn
from archive_crypt.reader.errors import (
    FeatureNotImplemented,
    NoAnswer,
    NotFound,
    NotOffered,
    RequestFailed,
    ServiceUnavailable,
)
from archive_crypt.reader.otr import Logging
from archive_crypt.reader.protocol import ChatPage, Listed, Query
from archive_crypt.reader.xep_0136 import XEP_0136, preferences
from archive_crypt.reader.xep_0136.preferences import Preferences, SessionModes
from archive_crypt.reader.xep_0155.talks import Talk, Talks

#: Of more messages it is not asked whether they negotiate only: a contact decides how many there are.
_MOST_MESSAGES = 100


class Upkeep:
    """What is in force at the server for the conversations that were negotiated.

    `warned`: whether the server said that automatic archiving is on by itself; None: we were not there.
    `left_off` is called when that was turned off, and could not be turned on again.
    """

    def __init__(self, archive: XEP_0136, talks: Talks, left_off: Callable[[], None]) -> None:
        self._archive = archive
        self._talks = talks
        self._left_off = left_off
        self.warned: bool | None = None
        self._off_accepted: bool | None = None
        self._one_at_a_time = asyncio.Lock()
        #: Contacts whose item was changed so that nothing is saved, where there are no rules for threads: to
        #: what it is to be set back; None: there was none.
        self._changed: dict[str, tuple[ContactModes | None, Modes]] = {}

    def forget_stream(self) -> None:
        """There is another stream: what it does about automatic archiving is not known."""
        self._off_accepted = None

    async def can_be_off(self) -> bool:
        """Whether automatic archiving can be off. Where it is off, it can. Where it is on, and the server
        warned of that, turning it off is tried, and it is put back; not if it is encrypted, as for
        which keys is not told: then it is taken for compulsory."""
        if self._off_accepted is None and self.warned is not False:
            self._off_accepted = await self._try_off()
        return otr.can_switch_off(warned=self.warned is not False, off_accepted=self._off_accepted)

    async def _try_off(self) -> bool:
        if await self._is_absent():
            return True
        auto = (await self._now()).auto
        if auto is not None and not auto.save:
            return True
        if auto.encrypt if auto is not None else not self.warned:
            return False
        # Also where nobody waits for it any more it is not left off.
        return await asyncio.shield(asyncio.ensure_future(self._off_and_on()))

    async def _off_and_on(self) -> bool:
        try:
            accepted = await self._archive.can_stop_auto()
        except NoAnswer:  # it may have been done
            await self._on_again()
            raise
        if accepted:
            await self._on_again()
        return accepted

    async def _on_again(self) -> None:
        try:
            await self.turn_on()
        except RequestFailed:
            self._left_off()

    async def turn_on(self) -> None:
        """Automatic archiving is on again on this stream, in clear, as it was.

        :raises RequestFailed: it is not known to be.
        """
        await self._archive.set_auto(True, force=True)

    async def apply(self, talk: Talk, agreed: Logging) -> None:
        """Has the server do as was agreed. It is looked at then, as a more special rule may be stronger
        than ours.

        :raises RequestFailed: it does not do so.
        """
        # What was begun at the server is brought to its end, so that it is known what is to be set back.
        await asyncio.shield(asyncio.ensure_future(self._apply(talk, agreed)))

    async def _apply(self, talk: Talk, agreed: Logging) -> None:
        async with self._one_at_a_time:
            modes = await self._archive.wanted_modes(str(talk.jid), talk.thread)
            save = otr.saving(agreed, modes.save, threads=True)
            if save is not None and not await self._set_thread(talk, save):
                save = otr.saving(agreed, modes.save, threads=False)
                if save is not None:
                    await self._set_contact(talk, save, modes)
            if agreed is Logging.MUSTNOT:
                await self._check_private(talk)

    async def _check_private(self, talk: Talk) -> None:
        now = preferences.save_mode(await self._now(), str(talk.jid), talk.thread)
        if now is not SaveMode.FALSE and not await self._is_absent():
            raise NotOffered(
                f"The server goes on archiving what is exchanged with {talk.jid}: look for a more special "
                "preference of yours."
            )

    async def remove_negotiation(self, talk: Talk) -> None:
        """What the server recorded of the negotiation goes (4.2), where that began the newest collection with
        the contact and nothing else came into it. To be called when nothing is saved any more. All else
        stays: no offer may cost the user what his archive holds, and what is being recorded with a
        contact may be other threads. What comes of those between the last look and the removal goes too,
        where the server keeps them in one collection: nothing can be removed on a condition.

        :raises RequestFailed: it is not known to be gone.
        """
        try:
            newest, _ = await self._archive.newest(Query(str(talk.jid)))
            if (
                newest is not None
                and newest.thread in (None, talk.thread)
                and await self._only_negotiates(newest)
            ):
                await self._archive.remove(newest)
        except NotFound:
            pass  # another client was quicker
        except (NotOffered, ServiceUnavailable):
            if not await self._is_absent():
                raise

    async def _only_negotiates(self, collection: Listed) -> bool:
        """Whether it holds messages, and each of them negotiates, and does nothing else. It is looked at
        again in the end, briefly: a contact decides how long it takes to read, and what he says meanwhile."""
        found, last = 0, None
        async for page in self._archive.pages(collection):
            found, last = found + len(page), page if len(page) else last
            if found > _MOST_MESSAGES or not all(map(_negotiates, page.parts)):
                return False
        if last is None:
            return False
        now = await self._archive.page(collection, PageRequest(before="", max=1))
        return _state(now) == _state(last) and all(map(_negotiates, now.parts))

    async def undo(self, talk: Talk) -> None:
        """What was set for a conversation is set back, unless it is private still."""
        async with self._one_at_a_time:
            await self._restore()
            if not talk.ruled or talk.is_private:
                return
            if talk.before is not None:
                await self._archive.set_session(talk.thread, talk.before.save, talk.before.otr)
            else:
                await self._archive.remove_sessions(talk.thread)
            talk.ruled, talk.before = False, None

    async def let_lapse(self, talk: Talk) -> None:
        """The same; but a rule for the thread stays until it lapses: something may be on its way still, or
        another client of the user's may have agreed what this one did not. Not so where he had one of his
        own, or where it would never lapse."""
        if talk.before is not None or (talk.ruled and await self.lasts(talk) is None):
            await self.undo(talk)
        else:
            await self.restore()

    async def restore(self) -> None:
        """The items of contacts with whom nothing is private any more are as they were; but not if
        the user has changed them since."""
        async with self._one_at_a_time:
            await self._restore()

    async def _restore(self) -> None:
        for bare, (before, modes) in list(self._changed.items()):
            if any(talk.is_private for talk in self._talks.of(bare)):
                continue
            item = _own_item(await self._archive.wishes(), bare)
            if item is not None and item.modes.save is SaveMode.FALSE:
                await self._set_back(bare, before, modes)
            del self._changed[bare]

    async def renew(self, talk: Talk) -> None:
        """The rule for a private thread lasts longer, or is there again, where it is needed still."""
        rule = _rule(await self._archive.wishes(), talk)
        if rule is not None:
            await self._archive.set_session(talk.thread, SaveMode.FALSE, rule.otr)
            return
        await self.apply(talk, Logging.MUSTNOT)
        talk.ruled = _rule(await self._archive.wishes(), talk) is not None

    async def lasts(self, talk: Talk) -> float | None:
        """For how many seconds of silence the rule for a thread lasts: 0, if it is gone; None: for good."""
        rule = _rule(await self._archive.wishes(), talk)
        return 0.0 if rule is None else rule.timeout

    async def _set_thread(self, talk: Talk, save: SaveMode) -> bool:
        """Whether the server has rules for threads, so that there is one for this now."""
        before = talk.before if talk.ruled else _rule(await self._archive.wishes(), talk)
        try:
            await self._archive.set_session(talk.thread, save)
        except (NotOffered, ServiceUnavailable, FeatureNotImplemented):
            return False
        talk.ruled, talk.before = True, before
        return True

    async def _set_contact(self, talk: Talk, save: SaveMode, modes: Modes) -> None:
        """It is known then what is to be set back one day."""
        bare = talk.jid.bare
        item = _own_item(await self._archive.wishes(), bare)
        try:
            await self._archive.set_item(bare, save, modes.otr, modes.expire)
        except (NotOffered, ServiceUnavailable):
            if not await self._is_absent():
                raise
            return
        changed_since = item is not None and item.modes.save is not SaveMode.FALSE
        if changed_since or bare not in self._changed:
            self._changed[bare] = item, modes

    async def _set_back(self, bare: str, before: ContactModes | None, modes: Modes) -> None:
        if before is None:
            try:
                await self._archive.remove_items(bare)
            except NotOffered:  # 0.13 removes none
                before = ContactModes(bare, modes)
        if before is not None:
            was = before.modes
            await self._archive.set_item(bare, was.save, was.otr, was.expire, exact=before.exact)

    async def _now(self) -> Preferences:
        """The preferences, asked for anew."""
        self._archive.forget()
        return await self._archive.wishes()

    async def _is_absent(self) -> bool:
        """Whether the server announces nothing that archives by itself."""
        return not any("auto" in parts for parts in (await self._archive.announced()).values())


def _state(page: ChatPage) -> tuple[object, ...]:
    """What is another when something came to a collection, as far as the dialect and the server tell it."""
    return page.collection.version, page.info and (page.info.count, page.info.last)


def _negotiates(part: etree._Element) -> bool:
    """Whether a part of a collection is a message that negotiates, and says nothing; what is sealed is not
    known to."""
    return ssn.read(part) is not None and not ssn.says_more(part)


def _rule(wishes: Preferences, talk: Talk) -> SessionModes | None:
    return next((session for session in wishes.sessions if session.thread == talk.thread), None)


def _own_item(wishes: Preferences, bare: str) -> ContactModes | None:
    return next((item for item in wishes.items if item.jid == bare), None)
