"""What users prefer (XEP-0136 3): asked for, set and removed, and every change told to the streams that
asked, whichever process made it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.core import preferences
from archive_crypt.core.preferences import Changes
from archive_crypt.core.prefstanzas import (
    MOST_RULES,
    AutoShown,
    PreferencesGet,
    PreferencesRemove,
    PreferencesSet,
)
from archive_crypt.deferreds import follow
from archive_crypt.errors import (
    ArchiveBusy,
    ArchiveError,
    BelowRequired,
    NotAcceptable,
    NotImplementedHere,
    StorageUnavailable,
)
from archive_crypt.model import SECOND, Micros, Modes, Otr, Preferences, SaveMode, SessionMode, Settings
from archive_crypt.owners import REQUIRED, Owner
from archive_crypt.recorder import Recorder
from archive_crypt.store.interfaces import SetPreferences
from archive_crypt.works import Works


def unsupported(settings: Settings) -> set[SaveMode]:
    """The save modes that can be preferred, but not recorded."""
    return {SaveMode.STREAM} if settings.full_content else {SaveMode.STREAM, SaveMode.MESSAGE}


class Wishes:
    """The preferences of all users who are here; `owners` by bare JID."""

    log = Logger()

    def __init__(self, works: Works, owners: Mapping[str, Owner], now: Callable[[], Micros]) -> None:
        self._works = works
        self._owners = owners
        self._now = now
        #: How many changes of an owner's preferences are under way, and which revision was heard of since.
        self._setting: Counter[str] = Counter()
        self._heard: dict[str, int] = {}
        settings = works.settings
        #: The modes of those who set none.
        self.defaults = Modes(settings.save, Otr.CONCEDE, settings.expire)
        level = REQUIRED.get(settings.automatic)
        if level is not None:
            self.defaults = Modes(preferences.most(settings.save, level), Otr.CONCEDE, settings.expire)

    @inlineCallbacks
    def get(
        self, jid: JID, request: PreferencesGet
    ) -> Generator[Deferred[Any], Any, tuple[Preferences, AutoShown]]:
        """All preferences, and how the stream `jid` archives; from now on it is told of changes.

        :raises ArchiveBusy: too many streams of the user are told.
        """
        owner, recorder = self._find(jid)
        recorder.asked = True
        yield self._known(recorder)
        told = sum(len(one.subscribed) for one in owner.recorders.values() if one is not recorder)
        told += len(recorder.subscribed.keys() | {request.dialect})
        if told > self._works.settings.limits.subscriptions:
            raise ArchiveBusy("Too many of your streams are told of preferences: close some.")
        recorder.subscribed.setdefault(request.dialect)
        auto = recorder.auto
        shown = AutoShown(auto.save, auto.save and auto.encrypt, recorder.lasting)
        return preferences.without_lapsed(owner.preferences, self._now()), shown

    def check(self, jid: JID, request: PreferencesSet, *, recording: bool = False) -> None:
        """Whether the preferences in a request can be had; `recording`: it turns that on as well.

        :raises NotImplementedHere: a mode that cannot be recorded, while a stream is recording.
        :raises BelowRequired: the operator requires that more is saved.
        :raises NotAcceptable: there would be too many of them.
        """
        owner, _ = self._find(jid)
        settings = self._works.settings
        modes = {item.modes.save for item in request.items} | {rule.save for rule in request.sessions}
        modes |= {request.default.save} if request.default else set()
        level = REQUIRED.get(settings.automatic)
        if level is not None and any(preferences.least(mode, level) is not level for mode in modes):
            raise BelowRequired
        recording = recording or any(recorder.recording for recorder in owner.recorders.values())
        if recording and modes & unsupported(settings):
            raise NotImplementedHere("The archive cannot record so much of a message.")
        known = owner.preferences
        new = len(request.items) + len(request.sessions)
        if len(known.items) + len(known.sessions) + new > 2 * MOST_RULES:
            raise NotAcceptable("There are too many preferences; remove some first.")

    @inlineCallbacks
    def set(self, jid: JID, request: PreferencesSet) -> Generator[Deferred[Any], Any, Changes]:
        """Set preferences; what changed by it, to be told when the client has its answer.

        Fails as `check` does.
        """
        owner, recorder = self._find(jid)
        yield self._known(recorder)
        self.check(jid, request)
        now, timeout = self._now(), self._works.settings.session_timeout
        changes = Changes(
            default=request.default,
            items=request.items,
            sessions=tuple(
                SessionMode(rule.thread, rule.save, timeout, now + timeout * SECOND, rule.otr)
                for rule in request.sessions
            ),
            methods=request.methods,
        )
        if not changes:
            return changes  # there was only an <auto/>
        change = SetPreferences(
            owner=owner.jid,
            default=changes.default,
            items=changes.items,
            sessions=changes.sessions,
            methods=dict(changes.methods),
            remove_sessions=tuple(s.thread for s in owner.preferences.sessions if s.until <= now),
        )
        merged: Changes = yield self._apply(owner, change, changes)
        return merged

    @inlineCallbacks
    def remove(self, jid: JID, request: PreferencesRemove) -> Generator[Deferred[Any], Any, Changes]:
        """Remove items or sessions; those that were there, to be told. None of it is an error."""
        owner, recorder = self._find(jid)
        yield self._known(recorder)
        items = {item.jid for item in owner.preferences.items}
        threads = {session.thread for session in owner.preferences.sessions}
        change = SetPreferences(owner.jid, remove_items=request.items, remove_sessions=request.sessions)
        changes = Changes(
            removed_items=tuple(item for item in request.items if item in items),
            removed_sessions=tuple(thread for thread in request.sessions if thread in threads),
        )
        merged: Changes = yield self._apply(owner, change, changes)
        return merged

    def publish(self, bare: str, changes: Changes) -> None:
        """Tell the user's streams that asked, each in the dialects it asked in (XEP-0136 3.2)."""
        owner = self._owners.get(bare)
        if owner is None or not changes:
            return
        for recorder in list(owner.recorders.values()):
            if recorder.listener is not None:
                for dialect in recorder.subscribed:
                    recorder.listener.onPush(dialect, changes, owner.preferences)

    @inlineCallbacks
    def refresh(self, bare: str, revision: int | None = None) -> Generator[Deferred[Any], Any, None]:
        """Another process may have changed a user's preferences, up to `revision`: take them over."""
        owner = self._owners.get(bare)
        if owner is None or (revision is not None and owner.preferences.revision >= revision):
            return
        if self._setting[bare]:  # it may be our own, whose client is told first
            self._heard[bare] = max(revision or 0, self._heard.get(bare, 0))
            return
        try:
            state = yield self._works.storage.state(bare)
        except ArchiveError as error:
            self.log.warn("preferences could not be refreshed: {kind}", kind=type(error).__name__)
            return
        before = owner.preferences
        if state.preferences.revision > before.revision:
            owner.prefer(state.preferences)
            self.publish(bare, preferences.difference(before, state.preferences))

    @inlineCallbacks
    def refresh_all(self) -> Generator[Deferred[Any], Any, None]:
        """Notices may have been missed: look after everybody who is here."""
        for bare in list(self._owners):
            yield self.refresh(bare)

    def _find(self, jid: JID) -> tuple[Owner, Recorder]:
        owner = self._owners[jid.userhost()]
        return owner, owner.recorders[jid.full()]

    @inlineCallbacks
    def _known(self, recorder: Recorder) -> Generator[Deferred[Any], Any, None]:
        yield follow(recorder.known)
        if not recorder.ready or self._works.writer.unavailable:
            raise StorageUnavailable

    @inlineCallbacks
    def _apply(
        self, owner: Owner, change: SetPreferences, changes: Changes
    ) -> Generator[Deferred[Any], Any, Changes]:
        """Have `change` made; what its makers' streams are to be told: `changes`, and what came
        with it from another process."""
        self._setting[owner.jid] += 1
        try:
            wishes = yield self._works.writer.submit(change)
        finally:
            self._setting[owner.jid] -= 1
        before = owner.preferences
        owner.prefer(wishes)
        heard = 0
        if not self._setting[owner.jid]:
            del self._setting[owner.jid]
            heard = self._heard.pop(owner.jid, 0)
        if heard > owner.preferences.revision:
            self.refresh(owner.jid, heard)
        return preferences.merged(changes, before, wishes)
