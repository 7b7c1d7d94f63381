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
from archive_crypt.core.stanzas import MOST_KEYS, AutoRequest
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
    Automatic,
    AutoState,
    Direction,
    Micros,
    PublishedKey,
    SaveMode,
    SuppliedKey,
)
from archive_crypt.owners import REQUIRED, Owner
from archive_crypt.recorder import MOST_SECONDS, Copy, Listener, Recorder
from archive_crypt.silence import Silence
from archive_crypt.store.interfaces import OwnerState, Prolong, SetAuto, SetPublished
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
        self.now = now
        self._works = works
        self._owners: dict[str, Owner] = {}
        self._silence: Silence[Conversation] = Silence(works.clock, works.settings.silence)
        self._rules = policy.Rules(
            required=works.settings.automatic in REQUIRED, forward_secret=works.settings.forward_secret
        )
        self.wishes = Wishes(works, self._owners, now)
        self.management = Management(works, self._owners, now)

    # What a host tells.

    def stream_opened(self, jid: JID) -> Deferred[None]:
        """A client stream was bound to the full JID `jid`; fires when its setting is loaded, or late."""
        owner = self._owners.get(jid.userhost())
        if owner is None:
            owner = Owner(jid.userhost(), self._works, self._silence)
            self._owners[jid.userhost()] = owner
        recorder = Recorder(jid)
        owner.recorders[jid.full()] = recorder
        if self._works.settings.automatic in REQUIRED:
            self._works.clock.callLater(_WARN_AFTER, self._warn, recorder)
        return self._load(owner, recorder)

    def stream_closed(self, jid: JID) -> None:
        """The stream is gone, and with it what it asked for."""
        owner = self._owners.get(jid.userhost())
        recorder = owner.recorders.pop(jid.full(), None) if owner else None
        if owner is None or recorder is None:
            return
        recorder.closed = True
        recorder.listener = None
        for _, done in recorder.give_up():
            done.errback(StorageUnavailable())
        recorder.tell()
        owner.adjust(self.now()).addErrback(self._log_failure)
        if not owner.recorders:
            for change in owner.unstored():
                self._submit(change)
            del self._owners[jid.userhost()]

    def keys_published(self, jid: JID, nodes: Mapping[str, Sequence[domish.Element]]) -> Deferred[None]:
        """The keys in the nodes of `published.NODES` that the user `jid` (bare) has published now, as
        far as they can be used; those kept before are forgotten. Fires when that is durable."""
        settings = self._works.settings
        trees = {node: [_tree(element) for element in elements] for node, elements in nodes.items()}
        keys = []
        for found in published.read(jid.full(), trees, openpgp=settings.openpgp_keys)[:MOST_KEYS]:
            key = found.key
            try:
                public = publickeys.from_numbers(
                    key.modulus, key.exponent, key.name, minimum_bits=settings.minimum_bits
                )
            except UnusableKey:
                self.counts["published key unusable"] += 1
                continue
            keys.append(PublishedKey(public.name, public.der, found.begin, found.end))
        owner = self._owners.get(jid.full())
        if owner is not None:
            owner.publish(keys)
            owner.adjust(self.now()).addErrback(self._log_failure)
        return self._submit(SetPublished(jid.full(), tuple(keys)))

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

    def listen(self, jid: JID, listener: Listener) -> None:
        """Tell `listener` what the user of this stream should know without having asked."""
        self._find(jid)[1].listener = listener

    def set_auto(self, jid: JID, request: AutoRequest) -> Deferred[None]:
        """Do as ``<auto/>`` says on this stream; fires when it holds and is durable.

        :raises NotImplementedHere: it is not offered, or encryption is not, or the user prefers a
            save mode that cannot be recorded.
        :raises LoggingRequired: it would turn off what the operator requires.
        :raises NoUsableKey: there is no key to encrypt for, or one that cannot be used.
        """
        owner, recorder = self._find(jid)
        return recorder.lock.run(self._set_auto, owner, recorder, request)

    # How it is done.

    @inlineCallbacks
    def _load(self, owner: Owner, recorder: Recorder) -> Generator[Deferred[Any], Any, None]:
        late = self._works.clock.callLater(MOST_SECONDS, self._be_late, recorder)
        while not recorder.closed:
            try:
                state = yield self._works.storage.state(recorder.owner)
            except StorageUnavailable:
                yield deferLater(self._works.clock, _PAUSE)
            except ArchiveError as error:
                self.log.error("a setting could not be loaded: {kind}", kind=type(error).__name__)
                self._be_late(recorder)
                break
            else:
                self._start(owner, recorder, state)
                break
        if late.active():
            late.cancel()

    def _start(self, owner: Owner, recorder: Recorder, state: OwnerState) -> None:
        if recorder.closed:
            return
        if not any(other.ready for other in owner.recorders.values()):
            owner.load(state)
        auto, settings = state.auto, self._works.settings
        if settings.automatic is Automatic.OFF:
            auto = AutoState()
        elif settings.automatic in REQUIRED and not auto.save:
            auto = AutoState(save=True)
        waiting = recorder.start(auto, settings.minimum_bits)
        if recorder.recording:
            owner.adjust(self.now()).addErrback(self._log_failure)
        for copy, done in waiting:
            self._record(owner, recorder, copy).chainDeferred(done)
        recorder.tell()

    def _be_late(self, recorder: Recorder) -> None:
        for _, done in recorder.give_up():
            self._refuse(recorder, StorageUnavailable(), "setting not loaded").chainDeferred(done)
        recorder.tell()

    def _record(self, owner: Owner, recorder: Recorder, copy: Copy) -> Deferred[bool]:
        now = self.now()
        peer = conversation.peer_of(copy.element, copy.direction, recorder.owner)
        if peer is None:
            return self._skip("no peer")
        if peer.thread is not None and owner.preferences.sessions:
            self._prolong(owner, peer.thread, now)
        if not recorder.recording:
            return self._skip("not asked for")
        mode, terms = owner.mode(peer, now)
        if mode is SaveMode.FALSE:
            return self._skip("not to be saved")
        may, reason = policy.judge(copy.element, copy.direction, mode, self._rules)
        if not may:
            return self._skip(reason)
        content = items.content(copy.element, copy.direction, mode, peer.name)
        if policy.is_too_large(content):
            return self._refuse(recorder, NotAcceptable("It is too large."), "too large")
        if not self._is_new(owner, recorder, copy, peer, content):
            return self._skip("copy")
        if owner.turned(now):
            owner.adjust(now).addErrback(self._log_failure)
        if owner.sealing is not None and not owner.sealing.keys:
            return self._refuse(recorder, NoUsableKey(), "no key")
        # Milliseconds are as much as clients keep, and three octets less in each sealed item.
        at = times.floor_to_millisecond(items.said_at(copy.element, copy.when, (recorder.jid.host, peer.key)))
        done = owner.conversations.record(Arrival(peer, content, at, owner.sealing, terms))
        return done.addCallbacks(self._archived, self._unarchived, errbackArgs=(recorder,))

    def _prolong(self, owner: Owner, thread: str, now: Micros) -> None:
        change = owner.prolong(thread, now)
        if change is not None:
            self._submit(change)

    def _is_new(
        self, owner: Owner, recorder: Recorder, copy: Copy, peer: conversation.Peer, content: str
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
        self, owner: Owner, recorder: Recorder, request: AutoRequest
    ) -> Generator[Deferred[Any], Any, None]:
        yield follow(recorder.known)
        self._may_set_auto(owner, request)
        if not recorder.ready or (request.encrypt and self._works.writer.unavailable):
            raise StorageUnavailable
        keys = self._judged_keys(owner, recorder, request) if request.encrypt else ()
        supplied = tuple(SuppliedKey(key.name, key.der) for key in keys)
        auto = AutoState(request.save, request.encrypt, request.dialect.namespace, supplied)
        before = recorder.auto, recorder.keys, recorder.lasting
        recorder.set(auto, keys, lasting=request.lasting)
        try:
            yield owner.adjust(self.now())
            if request.lasting:
                yield self._works.writer.submit(SetAuto(recorder.owner, auto))
        except ArchiveError:  # the client will be told that nothing changed
            recorder.set(*before[:2], lasting=before[2])
            owner.adjust(self.now()).addErrback(self._log_failure)
            raise

    def _may_set_auto(self, owner: Owner, request: AutoRequest) -> None:
        settings = self._works.settings
        if settings.automatic is Automatic.OFF:
            raise NotImplementedHere("Automatic archiving is not offered here.")
        if settings.automatic in REQUIRED and not request.save:
            raise LoggingRequired
        if settings.automatic is Automatic.ALLOWED and request.save:
            wanted = preferences.all_modes(preferences.without_lapsed(owner.preferences, self.now()))
            if wanted & unsupported(settings):
                raise NotImplementedHere("Your preferences save more of a message than can be recorded.")

    def _judged_keys(self, owner: Owner, recorder: Recorder, request: AutoRequest) -> tuple[PublicKey, ...]:
        """The keys supplied to encrypt for, now or by this stream before; published ones come beside."""
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
        if not keys and not owner.published(self.now()):
            raise NoUsableKey
        self._works.keyring.destroy(self._works.keyring.create(settings.seal_algorithm))
        return tuple(keys)

    def _archived(self, _: None) -> bool:
        self.counts["archived"] += 1
        return True

    def _unarchived(self, failure: Failure, recorder: Recorder) -> bool | Failure:
        error = failure.value
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

    def _submit(self, change: Prolong | SetPublished) -> Deferred[None]:
        """Store something that nobody waits for."""
        try:
            done: Deferred[None] = self._works.writer.submit(change)
        except ArchiveBusy as error:
            done = fail(error)
        return done.addErrback(self._log_failure)

    def _find(self, jid: JID) -> tuple[Owner, Recorder]:
        owner = self._owners[jid.userhost()]
        return owner, owner.recorders[jid.full()]

    def _log_failure(self, failure: Failure) -> None:
        self.log.error("recording could not be adjusted: {kind}", kind=kind(failure))


def _tree(element: domish.Element) -> etree._Element:
    """What a user published, as lxml has it; what lxml will not have holds no key."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(element.toXml(), parser)
    except (etree.XMLSyntaxError, RecursionError, ValueError):
        return etree.Element("unreadable")
