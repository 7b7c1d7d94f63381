"""The archive as hosts and handlers see it: streams open and close, messages pass, requests come.

Does what the core decides. Knows no XML beyond the message, no SQL, and the owner only from
the stream's JID. What is kept is answered for by `management`, what users prefer by `wishes`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from lxml import etree
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish import domish

from archive_crypt.conversations import Arrival, Conversation, Works
from archive_crypt.core import conversation, items, policy, preferences, published, times
from archive_crypt.core.stanzas import AutoRequest
from archive_crypt.crypto import publickeys
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.deferreds import follow, kind
from archive_crypt.errors import (
    ArchiveBusy,
    ArchiveError,
    LoggingRequired,
    NotAcceptable,
    NotImplementedHere,
    NoUsableKey,
    StorageUnavailable,
    UnusableKey,
    Withheld,
)
from archive_crypt.management import Management
from archive_crypt.model import (
    AutoState,
    Automatic,
    Direction,
    Micros,
    PublishedKey,
    SaveMode,
    SuppliedKey,
)
from archive_crypt.owners import REQUIRED, Owner
from archive_crypt.recorder import MOST_SECONDS, Copy, Listener, Recorder
from archive_crypt.silence import Silence
from archive_crypt.store.interfaces import OwnerState, SetAuto, SetPublished
from archive_crypt.wishes import Wishes, unsupported

#: Seconds between tries to load a stream's setting while the database is away.
_PAUSE = 0.5

#: Seconds after which a client that has not asked for preferences is warned (XEP-0136 7.1).
_WARN_AFTER = 5.0
_WARNING = "WARNING: All messages that you send or receive will be recorded by the server."


class Archiver:
    """Records what passes, and answers for what is kept.

    `now` gives the time in microseconds since 1970; timers run on `works.clock`. `counts` says
    how many copies were archived or not, by reason.
    """

    log = Logger()

    def __init__(self, works: Works, now: Callable[[], Micros] = lambda: time.time_ns() // 1000) -> None:
        self.counts: Counter[str] = Counter()
        self._listeners: dict[str, Callable[[str], object]] = {}
        self.now = now
        self._works = works
        self._owners: dict[str, _Owner] = {}
        self._silence: Silence[Conversation] = Silence(works.clock, works.settings.silence)

    # What a host tells.

    def stream_opened(self, jid: JID) -> Deferred[None]:
        """A client stream was bound to the full JID `jid`; fires when its setting is loaded, or late."""
        owner = self._owners.get(jid.userhost())
        if owner is None:
            owner = _Owner(jid.userhost(), self._works, self._silence)
            self._owners[jid.userhost()] = owner
        recorder = Recorder(jid)
        owner.recorders[jid.full()] = recorder
        return self._load(owner, recorder)

    def stream_closed(self, jid: JID) -> None:
        """The stream is gone, and with it what it asked for."""
        self._listeners.pop(jid.full(), None)
        owner = self._owners.get(jid.userhost())
        recorder = owner.recorders.pop(jid.full(), None) if owner else None
        if owner is None or recorder is None:
            return
        recorder.closed = True
        for _, done in recorder.give_up():
            done.errback(StorageUnavailable())
        recorder.tell()
        owner.adjust().addErrback(self._log_failure)
        if not owner.recorders:
            del self._owners[jid.userhost()]

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
        copy = Copy(direction, element, when)
        if recorder.ready:
            return self._record(owner, recorder, copy)
        try:
            return recorder.wait(copy)
        except ArchiveBusy as error:
            return self._refuse(recorder, error, "setting not loaded")

    @inlineCallbacks
    def close(self, seconds: float = 10.0) -> Generator[Deferred[Any], Any, int]:
        """Close what is open, destroy all data keys, wait at most `seconds` for what is unwritten.

        Fires with the number of changes that could not be written.
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
        self._works.keyring.close()
        return self._works.writer.lost

    # What a handler asks, for the owner of the stream it serves.

    def listen(self, jid: JID, listener: Callable[[str], object]) -> None:
        """Call `listener` with what the user of this stream should be told: once per cause."""
        self._listeners[jid.full()] = listener

    def set_auto(self, jid: JID, request: AutoRequest) -> Deferred[None]:
        """Do as ``<auto/>`` says on this stream; fires when it holds and is durable.

        :raises NotImplementedHere: encryption is not offered.
        :raises NoUsableKey: there is no key to encrypt for, or one that cannot be used.
        """
        owner = self._owners[jid.userhost()]
        recorder = owner.recorders[jid.full()]
        return recorder.lock.run(self._set_auto, owner, recorder, request)

    @inlineCallbacks
    def list(self, owner: str, request: ListRequest) -> Generator[Deferred[Any], Any, Page[Collection]]:
        """One page of the owner's collections (XEP-0136 8.1)."""
        window = rsm.window(request.page, stanzas.read_position(2), self._works.settings.most_collections)
        yield self._written(owner)
        which = ListFilter(request.with_, request.exact, request.start, request.end)
        page: Page[Collection] = yield self._works.storage.collections(owner, which, window)
        return page

    @inlineCallbacks
    def retrieve(self, owner: str, request: RetrieveRequest) -> Generator[Deferred[Any], Any, CollectionPage]:
        """One page of a collection (XEP-0136 8.2), with the keys that open it (XEP-0241 5)."""
        window = rsm.window(request.page, stanzas.read_position(1), self._works.settings.most_items)
        yield self._written(owner)
        page: CollectionPage = yield self._works.storage.page(
            owner, request.with_, request.start, window, request.key_names
        )
        return page

    # How it is done.

    @inlineCallbacks
    def _load(self, owner: _Owner, recorder: Recorder) -> Generator[Deferred[Any], Any, None]:
        late = self._works.clock.callLater(MOST_SECONDS, self._be_late, recorder)
        while not recorder.closed:
            try:
                auto = yield self._works.storage.auto(recorder.owner)
            except StorageUnavailable:
                yield deferLater(self._works.clock, _PAUSE)
            except ArchiveError as error:
                self.log.error("a setting could not be loaded: {kind}", kind=type(error).__name__)
                self._be_late(recorder)
                break
            else:
                self._start(owner, recorder, auto)
                break
        if late.active():
            late.cancel()

    def _start(self, owner: _Owner, recorder: Recorder, auto: AutoState) -> None:
        if recorder.closed:
            return
        waiting = recorder.start(auto, self._works.settings.minimum_bits)
        if recorder.recording:
            owner.adjust().addErrback(self._log_failure)
        for copy, done in waiting:
            self._record(owner, recorder, copy).chainDeferred(done)
        recorder.tell()

    def _be_late(self, recorder: Recorder) -> None:
        for _, done in recorder.give_up():
            self._refuse(recorder, StorageUnavailable(), "setting not loaded").chainDeferred(done)
        recorder.tell()

    def _record(self, owner: _Owner, recorder: Recorder, copy: Copy) -> Deferred[bool]:
        mode = self._works.settings.save
        if not recorder.recording or mode is SaveMode.FALSE:
            return self._skip("not asked for")
        may, reason = policy.judge(copy.element, copy.direction, mode)
        peer = conversation.peer_of(copy.element, copy.direction, recorder.owner)
        if not may or peer is None:
            return self._skip(reason if peer else "no peer")
        content = items.content(copy.element, copy.direction, mode, peer.name)
        if policy.is_too_large(content):
            return self._refuse(recorder, NotAcceptable("It is too large."), "too large")
        if not self._is_new(owner, recorder, copy, peer, content):
            return self._skip("copy")
        if owner.sealing is not None and not owner.sealing.keys:
            return self._refuse(recorder, NoUsableKey(), "no key")
        # Milliseconds are as much as clients keep, and three octets less in each sealed item.
        at = times.floor_to_millisecond(items.said_at(copy.element, copy.when, (recorder.jid.host, peer.key)))
        done = owner.conversations.record(Arrival(peer, content, at, owner.sealing))
        return done.addCallbacks(self._archived, self._unarchived, errbackArgs=(recorder,))

    def _is_new(
        self, owner: _Owner, recorder: Recorder, copy: Copy, peer: conversation.Peer, content: str
    ) -> bool:
        to_self = peer.key == recorder.owner
        if len(owner.recorders) == 1 and not to_self:
            return True
        sender = recorder.owner if to_self else copy.element.getAttribute("from")
        stream = recorder.jid.full() + (copy.direction.value if to_self else "")
        body = content.partition(">")[2].rpartition("<")[0]  # without <to> or <from>
        return owner.copies.is_new(stream, sender, copy.element.getAttribute("id"), peer.thread, body)

    @inlineCallbacks
    def _set_auto(
        self, owner: _Owner, recorder: Recorder, request: AutoRequest
    ) -> Generator[Deferred[Any], Any, None]:
        yield follow(recorder.known)
        if not recorder.ready or (request.encrypt and self._works.writer.unavailable):
            raise StorageUnavailable
        keys = self._judged_keys(recorder, request) if request.encrypt else ()
        supplied = tuple(SuppliedKey(key.name, key.der) for key in keys)
        auto = AutoState(request.save, request.encrypt, request.dialect.namespace, supplied)
        before = recorder.auto, recorder.keys
        recorder.set(auto, keys)
        try:
            yield owner.adjust()
            if request.lasting:
                yield self._works.writer.submit(SetAuto(recorder.owner, auto))
        except ArchiveError:  # the client will be told that nothing changed
            recorder.set(*before)
            owner.adjust().addErrback(self._log_failure)
            raise

    def _judged_keys(self, recorder: Recorder, request: AutoRequest) -> tuple[PublicKey, ...]:
        """The keys to encrypt for: those supplied, or those that this stream supplied before."""
        settings = self._works.settings
        if not settings.encryption:
            raise NotImplementedHere("Encryption is not offered here.")
        keys = dict.fromkeys(
            publickeys.from_numbers(key.modulus, key.exponent, key.name, minimum_bits=settings.minimum_bits)
            for key in request.keys
        )
        names = [key.name for key in keys]
        if len(set(names)) < len(names):
            raise UnusableKey("Two different public keys are supplied under one name.")
        if not keys and recorder.encrypting:
            return recorder.keys
        if not keys:
            raise NoUsableKey
        self._works.keyring.destroy(self._works.keyring.create(settings.seal_algorithm))
        return tuple(keys)

    @inlineCallbacks
    def _written(self, jid: str) -> Generator[Deferred[Any], Any, None]:
        owner = self._owners.get(jid)
        if owner is None:
            yield self._works.writer.flushed(jid)
            return
        for recorder in list(owner.recorders.values()):
            yield follow(recorder.known)  # what waits for it is recorded by then
        yield owner.conversations.written()

    def _archived(self, _: None) -> bool:
        self.counts["archived"] += 1
        return True

    def _unarchived(self, failure: Failure, recorder: Recorder) -> Failure:
        error = failure.value
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
            listener = self._listeners.get(recorder.jid.full())
            if listener is not None:
                listener(f"A message was not archived. {error}")

    def _log_failure(self, failure: Failure) -> None:
        self.log.error("recording could not be adjusted: {kind}", kind=kind(failure))
