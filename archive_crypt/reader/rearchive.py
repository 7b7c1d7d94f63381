"""What ``rearchive`` does: what was encrypted between two people is put into the archive anew, sealed with
the archive's own keys. What is uploaded of it, and what keeps from it, is `rearchiving`'s.

What keeps everything readable: a collection is removed only after all of it was read back, opened, from the
one that takes its place. What is done is in the archive itself, and nowhere else: stopped at any moment, it
goes on when it is begun again.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from xml.etree import ElementTree

from archive_crypt.core import times
from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.model import MILLISECOND, SECOND, Micros, PageRequest, SaveMode
from archive_crypt.reader import agreed, importing, rearchiving, rewrapping
from archive_crypt.reader.agreed import Agreements, OffTheRecord
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import CannotAsk, NotFound, NotUnderstood, NotWanted, Refused
from archive_crypt.reader.formats.transcript import NO_EXTRAS, Extras, Transcript, extras_of, settled
from archive_crypt.reader.opening import Book, Entry
from archive_crypt.reader.otr import Logging, Outcome
from archive_crypt.reader.protocol import ChatPage, Listed, is_sealed, parse
from archive_crypt.reader.rearchiving import NothingThere, Plan, Session
from archive_crypt.reader.xep_0136.uploads import How
from archive_crypt.reader.xep_0241.encryption import Wanted

#: Milliseconds that the start of what is uploaded is moved on at most, where there is something else already.
_PLACES = 9

#: For so long after its last message a conversation is recorded in the same collection.
_SILENCE = 600 * SECOND

_SUBJECT = "Its subject is left out, as the server could read it: keep the file, if you want to keep that."

#: What opens the OpenPGP messages in a collection.
Inner = Callable[[Listed, Entry], Entry]


class Why(enum.Enum):
    """Why something is not as it should be: a word for programs, and a text."""

    NOTHING = ("nothing", "there is nothing to upload")
    LEFT_OUT = ("left-out", "not all of it could be opened, believed or uploaded")
    UNSIGNED = (
        "unsigned",
        "who signed some of it could not be checked, and only the old one can show it; give the senders' "
        "public keys with --openpgp-key",
    )
    NO_PLACE = ("no-place", "nothing was uploaded, as the archive has other collections at that very time")
    NOT_VERIFIED = ("not-verified", "what was uploaded could not be opened, or is not the same")
    RECENT = (
        "recent",
        "its last message is younger than ten minutes, so that more may come; give the same command again "
        "later",
    )
    CHANGED = ("changed", "it changed meanwhile; give the same command again")
    OTHER_KEYS = (
        "other-keys",
        "an earlier run uploaded more of it, sealed for other keys; give the keys of that run, or all that "
        "opens as much as then",
    )
    UNWANTED = ("unwanted", "nothing was uploaded")
    REFUSED = ("refused", "the server refused, or makes no sense")

    def __init__(self, word: str, text: str) -> None:
        self.word = word
        self.text = text


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a collection, or of a transcript: how many of its messages are there sealed anew, and how
    many are `left_out`; `why` it is not as it should be, None if it is; `detail`: more of that."""

    collection: Listed
    messages: int = 0
    left_out: int = 0
    why: Why | None = None
    detail: str = ""


class _Stays(Exception):  # noqa: N818 - no error, but what a collection comes to
    def __init__(self, why: Why) -> None:
        self.why = why


@dataclass(frozen=True, slots=True)
class _Read:
    """A collection as it was read: its last page, None if it is not there. `lost`: so much of it was not
    given, or could not be opened, besides its entries. `recipients`: the public keys that each part of it
    is sealed for, of those whose EncryptedKeys were wanted."""

    page: ChatPage | None = None
    entries: list[Entry] = field(default_factory=list)
    extras: Extras = NO_EXTRAS
    lost: int = 0
    recipients: frozenset[str] = frozenset()

    @property
    def subject(self) -> str | None:
        return None if self.page is None else self.page.collection.subject

    def is_copy(self, old: _Read) -> bool:
        """Whether it can be an upload of ours of the old one, whole or not."""
        sealed = self.page is not None and self.page.collection.crypt
        return sealed and not self.lost and self._besides() == old._besides()

    def _besides(self) -> tuple[object, ...]:
        """What there is besides entries; of two forms that differ in prefixes only, the same."""
        form = self.extras.form
        if form is not None:
            form = ElementTree.canonicalize(form, rewrite_prefixes=True)
        return self.subject, self.extras.links, form


class _AllKeys:
    """Wants all EncryptedKeys, also those that open nothing here."""

    key_names = ()

    def lacks_keys(self, page: ChatPage) -> bool:
        return False


class Rearchive:
    """Into this archive, sealed for these public keys, and read back with the private ones. `force`: against
    the user's preferences, but not against what he agreed to with a contact; `agreements`: what is known of
    that already."""

    def __init__(
        self,
        archive: Archive,
        keys: Sequence[PublicKey],
        private: Sequence[PrivateKey],
        *,
        force: bool,
        agreements: Agreements | None = None,
    ) -> None:
        self._archive = archive
        self._keys = keys
        self._private = private
        self._force = force
        self._agreements = agreements or Agreements()
        self._offset: Micros | None = None

    async def replace(self, collection: Listed, inner: Inner | None) -> Done:
        """Put a collection with OpenPGP messages, which `inner` opens, into the archive anew, and remove it
        if all of it is there."""
        return await _told(collection, self._replace(collection, inner))

    async def add(
        self, transcript: Transcript, logging: Logging | None, consent: Callable[[], Awaitable[bool]]
    ) -> Done:
        """Put the transcript of an encrypted session into the archive. `logging`: as it was negotiated, if
        that is known besides. The user is asked for his `consent` before anything is uploaded.

        :raises ConsentNeeded: he did not give it.
        """
        return await _told(transcript.collection, self._add(transcript, logging, consent))

    async def _replace(self, collection: Listed, inner: Inner | None) -> Done:
        old = await self._read(collection, inner)
        if old.page is None:
            raise _Stays(Why.CHANGED)
        await self._check(collection, self._agreements.outcome(collection, old.entries))
        lacking = _lacking(old.entries)
        try:
            plan = rearchiving.plan_openpgp(collection, old.entries, self._keys)
        except NothingThere as error:
            return Done(collection, 0, len(old.entries), Why.NOTHING, f"{error} {lacking}".strip())
        if old.lost:
            plan = replace(plan, left_out=plan.left_out + old.lost, replaces=None)
        if await self._is_recent(old):
            raise _Stays(Why.RECENT)
        stays = await self._remove_older(await self._upload(plan, old))
        done = Done(collection, len(plan.items), plan.left_out)
        if plan.left_out:
            return replace(done, why=Why.LEFT_OUT, detail=lacking)
        if plan.replaces is None:
            return replace(done, why=Why.UNSIGNED)
        if stays or not await self._is_same(collection, old, inner):
            return replace(done, why=stays or Why.CHANGED)
        await self._remove(collection)
        return done

    async def _add(
        self, transcript: Transcript, logging: Logging | None, consent: Callable[[], Awaitable[bool]]
    ) -> Done:
        told = transcript.collection
        outcome = self._agreements.outcome(told, transcript.entries)
        mode = await self._check(told, _with_said(outcome, logging))
        said = agreed.said(transcript.entries)
        good = [settled(entry) for entry in said if not entry.suspicious and entry.at is not None]
        items = tuple(entry.item for entry in good if entry.item is not None)
        extras = _readable(transcript.extras)
        unopened = extras != transcript.extras
        lost = len(said) - len(items) + transcript.missing + transcript.withheld + unopened
        session = Session(told.with_, told.thread, logging, items)
        agrees = not items or await consent()
        try:
            plan = rearchiving.plan_session(session, self._keys, consent=agrees, forced=self._force)
            plan = rearchiving.lessened(plan, mode)
        except NothingThere as error:
            return Done(told, 0, len(said), Why.NOTHING, str(error))
        stays = await self._remove_older(await self._upload(plan, _Read(extras=extras)))
        why = Why.LEFT_OUT if lost else stays
        return Done(told, len(plan.items), plan.left_out + lost, why, _SUBJECT if told.subject else "")

    async def _check(self, collection: Listed, outcome: Outcome | None) -> SaveMode:
        """How much of it may be archived, and is wanted.

        :raises OffTheRecord: nothing may be.
        :raises NotWanted: nothing is.
        """
        with_, thread = collection.with_, collection.thread
        await agreed.check(self._archive, with_, thread, outcome, force=self._force)
        return SaveMode.MESSAGE if self._force else await self._archive.plain.check_saving(with_, thread)

    async def _upload(self, plan: Plan, old: _Read) -> list[tuple[Listed, _Read]]:
        """Have all that is planned in the archive, and verify it. What an earlier run brought there is gone
        on with; those collections are returned, as they were read, that hold less of the same."""
        older: list[tuple[Listed, _Read]] = []
        for number in range(_PLACES):
            place = _moved(plan.collection, number)
            there = await self._read(place, wanted=_AllKeys())
            known = 0 if there.page is None else self._known(plan, there, old)
            if known is None:
                if there.is_copy(old) and rearchiving.is_older(plan, there.entries):
                    older.append((place, there))
                continue
            if known < len(plan.items):
                await self._save(plan, place, known, old)
                there = await self._read(place, wanted=_AllKeys())
                copied = there.is_copy(old) and rearchiving.is_there(plan, there.entries)
                if not copied or not self._is_for_all(there):
                    raise _Stays(Why.NOT_VERIFIED)
            return older
        raise _Stays(Why.NO_PLACE)

    def _known(self, plan: Plan, there: _Read, old: _Read) -> int | None:
        """With how many of the planned items in place what is there can be gone on with; None: not at all, as
        it is something else, holds less, or is sealed for other keys.

        :raises _Stays: uploaded again it would be no better.
        """
        if there.lost or not rearchiving.is_sound(there.entries):
            if self._is_other(plan, there):
                return None
            raise _Stays(Why.NOT_VERIFIED)
        if not there.is_copy(old):
            return None
        if rearchiving.is_newer(plan, there.entries):
            if self._is_for_all(there):
                return len(plan.items)
            if not rearchiving.is_older(plan, there.entries):
                raise _Stays(Why.OTHER_KEYS)
        return rearchiving.begun(plan, there.entries) if self._is_for_all(there) else None

    def _is_for_all(self, there: _Read) -> bool:
        """Whether each key that was given opens all of it, as its EncryptedKeys tell."""
        return there.recipients.issuperset(key.name for key in self._keys)

    def _is_other(self, plan: Plan, there: _Read) -> bool:
        """Whether what is there, and cannot be opened or believed, is no upload of what was planned."""
        if there.page is None or not there.page.collection.crypt:
            return True
        closed = all(entry.item is None for entry in there.entries)
        for_others = there.recipients and there.recipients.isdisjoint(key.name for key in self._keys)
        return rearchiving.is_other(plan, there.entries) or bool(closed and for_others)

    async def _save(self, plan: Plan, place: Listed, known: int, old: _Read) -> None:
        """Upload what is planned, but for the first so many items, which are there."""
        how = How(since=plan.items[known - 1].at) if known else importing.besides(old.subject, old.extras)
        how["force"] = True  # what is not wanted is left out already
        await self._archive.save(
            place,
            plan.items[known:],
            plan.keys,
            confirm=lambda _: True,  # the server has it in clear already
            **how,
        )

    async def _read(
        self, collection: Listed, inner: Inner | None = None, wanted: Wanted | None = None
    ) -> _Read:
        book = Book(self._private, inner=inner)
        book.begin(collection)
        entries, extras, lost, last, count = [], NO_EXTRAS, 0, None, None
        recipients: list[frozenset[str]] = []
        try:
            async for page in self._archive.pages(collection, wanted or book):
                if last is None:
                    form = book.form(page)
                    lost = int(page.form is not None and form is None)
                    extras = Extras(page.links) if lost else extras_of(page, form)
                entries += book.read(page)
                recipients += [found] if (found := rewrapping.recipients(page)) is not None else []
                last, count = page, page.info.count if page.info else None
        except NotFound:
            return _Read()
        finally:
            missing = book.end(count)
        for_all = frozenset.intersection(*recipients) if recipients else frozenset[str]()
        return _Read(last, entries, extras, lost + missing, for_all)

    async def _is_recent(self, old: _Read) -> bool:
        """Whether it may still be recorded, by the server's clock: what came between the last look at it and
        its removal would be lost."""
        if self._offset is None:
            self._offset = await self._archive.plain.clock_offset()
        now = time.time_ns() // 1000 + self._offset
        return any(abs(now - entry.at) < _SILENCE for entry in old.entries if entry.at is not None)

    async def _is_same(
        self, collection: Listed, old: _Read, inner: Inner | None = None, wanted: Wanted | None = None
    ) -> bool:
        """Whether it is now as it was when it was read, with the same `inner` and `wanted`."""
        if old.page is None:
            return False
        if _state(old.page)[:2] == (None, None):
            again = await self._read(collection, inner, wanted)  # nothing less would tell
            return replace(again, page=old.page) == old and again.subject == old.subject
        try:
            now = await self._archive.plain.page(collection, PageRequest(max=1))
        except NotFound:
            return False
        return _state(now) == _state(old.page)

    async def _remove_older(self, older: Sequence[tuple[Listed, _Read]]) -> Why | None:
        """What holds less of what is there whole now goes; why not, where it may hold more by now."""
        why = None
        for place, there in older:
            if await self._is_recent(there):
                why = Why.RECENT
            elif await self._is_same(place, there, wanted=_AllKeys()):
                await self._remove(place)
            else:
                why = Why.CHANGED
        return why

    async def _remove(self, collection: Listed) -> None:
        with suppress(NotFound):  # somebody else did
            await self._archive.remove(collection)


async def _told(collection: Listed, doing: Awaitable[Done]) -> Done:
    try:
        return await doing
    except _Stays as stays:
        return Done(collection, why=stays.why)
    except (OffTheRecord, NotWanted) as error:
        return Done(collection, why=Why.UNWANTED, detail=str(error))
    except (Refused, NotUnderstood, CannotAsk) as error:
        return Done(collection, why=Why.REFUSED, detail=str(error))


def _with_said(outcome: Outcome | None, logging: Logging | None) -> Outcome | None:
    """How a negotiation came out, if the user says how besides: to forbid, either is enough."""
    if logging is Logging.MUSTNOT:
        return Outcome.MUSTNOT
    if logging is Logging.MAY and outcome not in (Outcome.MUSTNOT, Outcome.FAILED):
        return Outcome.MAY
    return outcome


def _readable(extras: Extras) -> Extras:
    """The same without a form that could not be opened."""
    if extras.form is None or not any(map(is_sealed, parse(extras.form.encode()))):
        return extras
    return replace(extras, form=None)


def _lacking(entries: Sequence[Entry]) -> str:
    """Which OpenPGP keys would open more, if any is known."""
    ids = dict.fromkeys(key for entry in entries for key in entry.openpgp_keys)
    return f"Keys that open more have the ids {', '.join(ids)}: see --openpgp-key." if ids else ""


def _state(page: ChatPage) -> tuple[object, ...]:
    """What is another when a collection is changed: its version, where the dialect has one; how many items it
    has, and what it has besides."""
    count = page.info.count if page.info else None
    # What is in a form is not compared: how its keys are named can be another on each page.
    return page.collection.version, count, page.collection.subject, page.links, page.form is None


def _moved(collection: Listed, number: int) -> Listed:
    start = collection.start + number * MILLISECOND
    return replace(collection, start=start, told=times.render(start))
