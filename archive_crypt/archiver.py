"""The archive as hosts and handlers see it: streams open and close, messages pass, requests come.

Does what the core decides. Knows no XML beyond the message, no SQL, and the owner only from
the stream's JID. What is kept is answered for by `management`, what users prefer by `wishes`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from twisted.internet.defer import Deferred, fail, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish import domish

from archive_crypt.copies import InFlight, Replays
from archive_crypt.core import conversation, items, policy, times
from archive_crypt.core.message import Message
from archive_crypt.deferreds import kind
from archive_crypt.errors import (
    ArchiveBusy,
    ArchiveError,
    CollectionGone,
    NotAcceptable,
    NoUsableKey,
    QuotaExceeded,
    StorageUnavailable,
    Withheld,
)
from archive_crypt.management import Management
from archive_crypt.model import (
    Automatic,
    AutoState,
    Direction,
    Micros,
    SaveMode,
)
from archive_crypt.owners import REQUIRED, Owner
from archive_crypt.recorder import MOST_SECONDS, Copy, Listener, Recorder
from archive_crypt.silence import Silence
from archive_crypt.store.interfaces import OwnerState, Prolong, Remove, SetAuto, SetPublished
from archive_crypt.switching import Switching
from archive_crypt.wishes import Wishes
from archive_crypt.works import Arrival, Conversation, Works

#: Seconds between tries to load a stream's setting while the database is away, growing: all streams may wait.
_PAUSES = (0.5, 1.0, 2.0, 4.0)

#: Streams whose setting is not loaded that are enough for now.
_MANY_LOADING = 2000

#: Seconds after which a client that has not asked for preferences is warned (XEP-0136 7.1).
_WARN_AFTER = 5.0
_WARNING = "WARNING: All messages that you send or receive will be recorded by the server."


class Archiver:
    """Records what passes, and answers for what is kept.

    `now` gives the time in microseconds since 1970; timers run on `works.clock`. `counts` says
    how many copies were archived or not, by reason. `streams_outlive`: streams live on in a server
    while this process is replaced, so what each asked for is kept; its host closes none of them when
    it stops.
    """

    log = Logger()

    def __init__(
        self,
        works: Works,
        now: Callable[[], Micros] = lambda: time.time_ns() // 1000,
        *,
        streams_outlive: bool = False,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.now = now
        self._works = works
        self._owners: dict[str, Owner] = {}
        self._replays = Replays()
        self._in_flight = InFlight()
        self._loading = 0
        self._silence: Silence[Conversation] = Silence(works.clock, works.settings.silence)
        self._rules = policy.Rules(
            required=works.settings.automatic in REQUIRED, forward_secret=works.settings.forward_secret
        )
        self.switching = Switching(works, self._owners, now, streams_outlive=streams_outlive)
        self.wishes = Wishes(works, self._owners, now)
        self.management = Management(works, self._owners, now)

    # What a host tells.

    @property
    def load(self) -> float:
        """How much waits to be written or loaded. From 1 on, a host that can should bring nothing more."""
        return max(self._works.writer.load, self._loading / _MANY_LOADING)

    def stream_opened(self, jid: JID, *, known: bool = False) -> Deferred[None]:
        """A client stream was bound to the full JID `jid`; fires when its setting is loaded, or late.

        `known`: it was open before this process knew of it: it goes on with the setting it had, and its
        user need not be warned again.
        """
        owner = self._owners.get(jid.userhost())
        if owner is None:
            owner = Owner(jid.userhost(), self._works, self._silence)
            self._owners[jid.userhost()] = owner
            self.switching.welcome(owner)
        recorder = Recorder(jid, self.now())
        recorder.asked = recorder.stored = known
        owner.recorders[jid.full()] = recorder
        if self._works.settings.automatic in REQUIRED:
            self._works.clock.callLater(_WARN_AFTER, self._warn, recorder)
        return self._load(owner, recorder, known=known)

    def has_streams(self, owner: str) -> bool:
        """Whether the user with this bare JID is here."""
        found = self._owners.get(owner)
        return found is not None and bool(found.recorders)

    def is_sealing(self, owner: str) -> bool:
        """Whether one of the streams of this user asked for encryption."""
        found = self._owners.get(owner)
        return found is not None and any(recorder.encrypting for recorder in found.recorders.values())

    def sealing(self) -> list[str]:
        """The users of whom one did."""
        return [owner for owner in self._owners if self.is_sealing(owner)]

    def stream_pending(self, jid: JID, *, pending: bool) -> None:
        """The stream's connection is lost, and its client may come back to it; or it did (XEP-0198 5)."""
        owner = self._owners.get(jid.userhost())
        recorder = owner.recorders.get(jid.full()) if owner else None
        if recorder is not None:
            recorder.pending = pending

    def stream_closed(self, jid: JID) -> None:
        """The stream is gone, and with it what it asked for."""
        owner = self._owners.get(jid.userhost())
        recorder = owner.recorders.pop(jid.full(), None) if owner else None
        if owner is None or recorder is None:
            return
        recorder.closed = True
        recorder.listener = None
        self._in_flight.closed(jid.full(), pending=recorder.pending)
        for _, done in recorder.give_up():
            done.errback(StorageUnavailable())
        recorder.tell()
        if recorder.stored:
            self._submit(SetAuto(owner.jid, streams={recorder.resource: None}))
        owner.adjust(self.now()).addErrback(self._log_failure)
        if not owner.recorders:
            for change in owner.unstored():
                self._submit(change)
            # Whoever comes back meanwhile has to wait for it, and so has a shutdown.
            owner.conversations.resealed().addErrback(self._log_failure).addCallback(self._leave, owner)

    def keys_published(self, jid: JID, nodes: Mapping[str, Sequence[domish.Element]]) -> Deferred[None]:
        """The user `jid` (bare) has published this in the nodes of `published.watched`; what was there
        before is gone. Fires when the keys in it are durable."""
        return self._submit(self.switching.publish(jid, nodes))

    def message(
        self, jid: JID, direction: Direction, element: domish.Element, when: Micros
    ) -> Deferred[bool]:
        """A user's own copy of a message on the stream `jid`, sent or delivered at `when`.

        Fires when it is durable: True, or False for what is not to be archived. Fails, with the
        user told once, if it should have been archived and could not be.
        """
        owner = self._owners.get(jid.userhost())
        recorder = owner.recorders.get(jid.full()) if owner else None
        if owner is None or recorder is None:
            return self._skip("no such stream")
        try:
            copy = Copy(direction, Message(element), when)
            return self._record(owner, recorder, copy) if recorder.ready else recorder.wait(copy)
        except ArchiveBusy as error:
            return self._refuse(recorder, error, "setting not loaded")
        except Exception as error:  # noqa: BLE001 - one message fails, and is counted
            self.log.error("a message failed: {kind}", kind=type(error).__name__)
            return self._refuse(recorder, ArchiveError(), "internal error")

    @inlineCallbacks
    def close(self, seconds: float = 10.0) -> Generator[Deferred[Any], Any, int]:
        """Close what is open, destroy all data keys, wait at most `seconds` for what is unwritten.

        Fires with the number of changes that could neither be written nor spooled.
        """
        for owner in self._owners.values():
            owner.conversations.stop()
        limit = self._works.clock.callLater(seconds, self._works.writer.abandon)
        for owner in list(self._owners.values()):
            yield (
                owner.conversations.resealed()
                .addTimeout(seconds, self._works.clock)
                .addErrback(self._log_failure)
            )
        yield self._works.writer.drained()
        if limit.active():
            limit.cancel()
        yield self._works.writer.abandon()  # there is nothing left to be given up
        self._works.keyring.close()
        return self._works.writer.lost

    # What a handler asks, for the owner of the stream it serves.

    def listen(self, jid: JID, listener: Listener) -> None:
        """Tell `listener` what the user of this stream should know without having asked."""
        self._owners[jid.userhost()].recorders[jid.full()].listener = listener

    # How it is done.

    @inlineCallbacks
    def _load(self, owner: Owner, recorder: Recorder, *, known: bool) -> Generator[Deferred[Any], Any, None]:
        late = self._works.clock.callLater(MOST_SECONDS, self._be_late, recorder)
        pauses = chain(_PAUSES, repeat(_PAUSES[-1]))
        self._loading += 1
        while not recorder.closed:
            try:
                yield self._works.writer.flushed(recorder.owner)  # what his last stream left behind
                state = yield self._works.storage.state(recorder.owner)
                if not known and recorder.resource in state.streams:  # of an earlier stream
                    yield self._works.writer.submit(SetAuto(owner.jid, streams={recorder.resource: None}))
            except (StorageUnavailable, ArchiveBusy):
                yield deferLater(self._works.clock, next(pauses))
            except ArchiveError as error:
                self.log.error("a setting could not be loaded: {kind}", kind=type(error).__name__)
                self._be_late(recorder)
                break
            else:
                self._start(owner, recorder, state, known=known)
                break
        self._loading -= 1
        if late.active():
            late.cancel()

    def _start(self, owner: Owner, recorder: Recorder, state: OwnerState, *, known: bool) -> None:
        if recorder.closed:
            return
        if not any(other.ready for other in owner.recorders.values()):
            owner.load(state)
        own = state.streams.get(recorder.resource) if known else None
        recorder.stored = own is not None
        auto, settings = own or state.auto, self._works.settings
        if settings.automatic is Automatic.OFF:
            auto = AutoState()
        elif settings.automatic in REQUIRED and not auto.save:
            auto = AutoState(save=True)
        waiting = recorder.start(auto, settings.minimum_bits, lasting=auto.save and auto is not own)
        if recorder.encrypting:
            self.switching.find(owner.jid, soon=True).addErrback(self._log_failure)
        if recorder.recording:
            owner.adjust(self.now()).addErrback(self._log_failure)
        for copy, done in waiting:
            maybeDeferred(self._record, owner, recorder, copy).chainDeferred(done)
        recorder.tell()

    def _be_late(self, recorder: Recorder) -> None:
        for _, done in recorder.give_up():
            self._refuse(recorder, StorageUnavailable(), "setting not loaded").chainDeferred(done)
        recorder.tell()

    def _record(self, owner: Owner, recorder: Recorder, copy: Copy) -> Deferred[bool]:
        now = self.now()
        peer = conversation.peer_of(copy.message, copy.direction, recorder.owner)
        if peer is None:
            return self._skip("no peer")
        if peer.thread is not None and owner.preferences.sessions:
            self._prolong(owner, peer.thread, now)
        if not self._rules.required and self._is_off_the_record(owner, copy, peer):
            return self._skip("off the record")
        if not recorder.recording:
            return self._skip("not asked for")
        mode, terms = owner.mode(peer, now)
        if mode is SaveMode.FALSE:
            return self._skip("not to be saved")
        may, reason = policy.judge(copy.message, copy.direction, mode, self._rules)
        if not may:
            return self._skip(reason)
        content = items.content(copy.message, copy.direction, mode, peer.name)
        if owner.full:
            return self._refuse(recorder, QuotaExceeded(), QuotaExceeded.__name__)
        if policy.is_too_large(content):
            return self._refuse(recorder, NotAcceptable("It is too large."), "too large")
        said, skip = self._judge_copy(owner, recorder, copy, peer, content)
        if skip is not None:
            return self._skip(skip)
        if owner.turned(now):
            owner.adjust(now).addErrback(self._log_failure)
        if owner.sealing is not None and not owner.sealing.keys:
            return self._refuse(recorder, NoUsableKey(), "no key")
        # Milliseconds are as much as clients keep, and three octets less in each sealed item.
        at = times.floor_to_millisecond(said)
        arrival = Arrival(peer, content, at, owner.sealing, terms, now)
        talk, done = owner.conversations.record(arrival)
        owner.off_the_record.recorded(peer)
        return done.addCallbacks(self._archived, self._unarchived, errbackArgs=(owner, recorder, talk))

    def _is_off_the_record(self, owner: Owner, copy: Copy, peer: conversation.Peer) -> bool:
        is_off, remove = owner.off_the_record.saw(copy.message, copy.direction, peer)
        if remove is not None:
            self._submit(remove)
        return is_off

    def _prolong(self, owner: Owner, thread: str, now: Micros) -> None:
        change = owner.prolong(thread, now)
        if change is not None:
            self._submit(change)

    def _judge_copy(
        self, owner: Owner, recorder: Recorder, copy: Copy, peer: conversation.Peer, content: str
    ) -> tuple[Micros, str | None]:
        """When it was said, and why it is not archived, if it was before."""
        id_, room = copy.message.attributes.get("id"), copy.message.type == "groupchat"
        said = items.said_at(copy.message, copy.when, (recorder.jid.host, peer.key if room else owner.jid))
        late = said < copy.when
        if room:
            if not self._replays.is_new(owner.jid, peer.key, said, copy.when, id_, peer.name, content):
                return said, "replay"
        elif said > recorder.opened:  # what was sent while it was open came at once, but to another stream
            said = copy.when
        to_self = peer.key == recorder.owner
        sender = recorder.owner if to_self else copy.message.attributes.get("from")
        if len(owner.recorders) > 1 or to_self:
            body = content.partition(">")[2].rpartition("<")[0]  # without <to> or <from>
            message = (sender, id_, peer.thread, body)
            stream = recorder.jid.full() + (copy.direction.value if to_self else "")
            if not owner.copies.is_new(stream, bool(id_), *message):
                return said, "copy"
        if copy.direction is Direction.FROM:
            # Delivered late it has a <delay/> more, which full content shows: so by its id, or its bodies.
            words = None if id_ else items.content(copy.message, copy.direction, SaveMode.BODY)
            digest = hash((owner.jid, sender, id_, peer.thread, words))
            if late and self._in_flight.is_again(digest):
                return said, "copy"
            self._in_flight.delivered(recorder.jid.full(), digest, pending=recorder.pending)
        return said, None

    def _archived(self, _: None) -> bool:
        self.counts["archived"] += 1
        return True

    def _unarchived(
        self, failure: Failure, owner: Owner, recorder: Recorder, talk: Conversation
    ) -> bool | Failure:
        error = failure.value
        if isinstance(error, CollectionGone):
            owner.conversations.gone(talk)
        if isinstance(error, QuotaExceeded) and not owner.full:
            owner.fill()
        if isinstance(error, Withheld):
            self.counts["not to be saved"] += 1
            return False
        self._tell(recorder, error if isinstance(error, ArchiveError) else ArchiveError(), kind(failure))
        return failure

    def _skip(self, reason: str) -> Deferred[bool]:
        self.counts[reason] += 1
        return succeed(False)

    def _refuse(self, recorder: Recorder, error: ArchiveError, reason: str) -> Deferred[bool]:
        self._tell(recorder, error, reason)
        return fail(error)

    def _tell(self, recorder: Recorder, error: ArchiveError, reason: str) -> None:
        """Count what was not archived, and tell the user, once for each reason."""
        self.counts[f"not archived: {reason}"] += 1
        if reason not in recorder.noticed and not recorder.closed:
            recorder.noticed.add(reason)
            self.log.warn("not archived: {reason}", reason=reason)
            if recorder.listener is not None:
                recorder.listener.onNotice(f"A message was not archived. {error}")

    def _warn(self, recorder: Recorder) -> None:
        """Whoever does not ask for preferences cannot know otherwise (XEP-0136 7.1)."""
        if recorder.listener is not None and not recorder.asked:
            recorder.listener.onNotice(_WARNING)

    def _submit(self, change: Prolong | SetAuto | SetPublished | Remove) -> Deferred[None]:
        """Store something that nobody waits for."""
        try:
            done: Deferred[None] = self._works.writer.submit(change)
        except ArchiveBusy as error:
            done = fail(error)
        return done.addErrback(self._log_failure)

    def _leave(self, _: object, owner: Owner) -> None:
        if not owner.recorders and not owner.conversations.busy and self._owners.get(owner.jid) is owner:
            del self._owners[owner.jid]

    def _log_failure(self, failure: Failure) -> None:
        self.log.error("recording could not be adjusted: {kind}", kind=kind(failure))
