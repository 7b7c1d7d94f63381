"""One owner's open conversations and their data keys: acts on the effects the core decides.

What is sealed is sealed in the same turn of the reactor in which it comes; from here on only
its ciphertext exists. Streams and their settings are the recorder's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, inlineCallbacks, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from archive_crypt.core import conversation, items, times
from archive_crypt.core.conversation import TRANSITIONS, Effect, Event, Peer, State
from archive_crypt.crypto.keyring import DataKey
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.deferreds import Shared, kind
from archive_crypt.errors import (
    ArchiveBusy,
    ArchiveError,
    NoUsableKey,
    QuotaExceeded,
    StorageRefused,
    StorageUnavailable,
    Withheld,
)
from archive_crypt.model import EncryptedKey, Micros, PlainItem, SealedItem
from archive_crypt.silence import Silence
from archive_crypt.store.interfaces import AddKeys, Append, Change, Open, Rename, Reseal, Terms
from archive_crypt.works import Arrival, Conversation, Sealing, Works, new_id

#: A collection ends at so many items or octets.
MOST_ITEMS = 2**16
MOST_OCTETS = 8 * 1024 * 1024

#: Changes of a conversation that wait while it is being sealed anew.
_MOST_HELD = 2000

#: Items sealed in one turn of the reactor when a collection is sealed anew: a few milliseconds.
_SLICE = 200

#: Seconds between tries to read what is to be sealed anew while the database is away, and how many.
_PAUSE = 1.0
_TRIES = 3


class Conversations:
    """What one owner is having recorded now, whichever of his streams it passes."""

    log = Logger()

    def __init__(self, owner: str, works: Works, silence: Silence[Conversation]) -> None:
        self._owner = owner
        self._works = works
        self._limits = works.settings.limits
        self._silence = silence
        self._open: dict[tuple[str, str | None], Conversation] = {}
        self._resealing: list[Shared] = []
        self._effects: dict[Effect, Callable[[Conversation, Any], Deferred[None] | None]] = {
            Effect.CREATE_KEY: self._create_key,
            Effect.OPEN: self._open_collection,
            Effect.APPEND: self._append,
            Effect.SEAL: self._seal,
            Effect.RESEAL: self._reseal,
            Effect.CLOSE: self._close,
            Effect.DESTROY_KEY: self._destroy_key,
        }

    def __len__(self) -> int:
        return len(self._open)

    def record(self, arrival: Arrival) -> tuple[Conversation, Deferred[None]]:
        """Add a message to its conversation's collection: the conversation, and what fires when it is
        durable.

        That fails, with nothing archived and nothing left in clear, if it cannot be sealed or taken.
        After CollectionGone tell `gone`.
        """
        talk = self._talk(arrival)
        # What comes from outside decides how many there would be.
        if talk.key not in self._open:
            self._make_room()
        self._open.pop(talk.key, None)
        self._open[talk.key] = talk  # the last that was heard stands last
        try:
            done = self._happen(talk, Event.SEALED if arrival.sealing else Event.MESSAGE, arrival)
            if arrival.peer.jid != talk.with_:
                self._follow(talk, arrival.peer)
        except ArchiveError as error:
            self._abort(talk)
            return talk, fail(error)
        self._silence.heard(talk, self.stop_one)
        if talk.items >= MOST_ITEMS or talk.octets >= MOST_OCTETS:
            self.stop_one(talk)
        return talk, done or succeed(None)

    def gone(self, talk: Conversation) -> None:
        """Its collection was removed through another process: the next message begins another one."""
        self._give_up(talk)

    @inlineCallbacks
    def encrypt(self, sealing: Sealing) -> Generator[Deferred[Any], Any, None]:
        """Seal what is being recorded, from now on and what its collections hold (XEP-0241 3).

        Fires when no row of it is in clear any more. Data keys alive are wrapped for those of
        `sealing.keys` that they were not wrapped for.
        """
        failed: ArchiveError | None = None
        for talk in list(self._open.values()):
            try:
                self._happen(talk, Event.ENCRYPT, sealing)
                self._wrap_for_more(talk, sealing)
            except ArchiveError as error:
                self._abort(talk)
                failed = error
        if failed is not None:
            raise failed
        yield self.resealed()

    def decline(self) -> None:
        """Encryption was turned off: what is sealed closes, what follows begins in clear."""
        for talk in list(self._open.values()):
            self._happen(talk, Event.DECLINE)

    def stop(self) -> None:
        """Close all collections and destroy their data keys."""
        for talk in list(self._open.values()):
            self.stop_one(talk)

    def recorded(self) -> list[Conversation]:
        """What is being recorded now."""
        return list(self._open.values())

    def find(self, key: str, thread: str | None) -> Conversation | None:
        """The conversation with a peer (`Peer.key`) in a thread, if it is being recorded."""
        return self._open.get((key, thread))

    def stop_one(self, talk: Conversation) -> None:
        """Close one collection and destroy its data key."""
        self._happen(talk, Event.STOP)

    @inlineCallbacks
    def written(self) -> Generator[Deferred[Any], Any, None]:
        """Fires when all that was recorded by now can be read; StorageUnavailable if it cannot."""
        if self._works.writer.unavailable:
            raise StorageUnavailable
        yield self.resealed()
        yield self._works.writer.flushed(self._owner)

    @inlineCallbacks
    def resealed(self) -> Generator[Deferred[Any], Any, None]:
        """Fires when what is being sealed anew is; fails, whoever asks, as the first of it fails."""
        running = self._resealing = [one for one in self._resealing if not one.over]
        try:
            yield gatherResults([one.wait() for one in running], consumeErrors=True)
        except FirstError as error:
            raise error.subFailure.value from None  # type: ignore[misc]

    @property
    def busy(self) -> bool:
        """Whether anything is still to be sealed anew, whose data key therefore lives."""
        return any(not one.over for one in self._resealing)

    # What an event does to a conversation.

    def _happen(self, talk: Conversation, event: Event, matter: Any = None) -> Deferred[None] | None:
        """Let an event happen: its effects in order. What the last of them waits for, if anything."""
        talk.state, effects = TRANSITIONS[talk.state, event]
        done = None
        for effect in effects:
            done = self._effects[effect](talk, matter)
        return done

    def _create_key(self, talk: Conversation, matter: Arrival | Sealing) -> None:
        talk.sealing = matter.sealing if isinstance(matter, Arrival) else matter
        talk.wrapped = talk.sealing.keys if talk.sealing else ()  # shared: there are many of them
        talk.data_key = self._works.keyring.create(self._works.settings.seal_algorithm)

    def _open_collection(self, talk: Conversation, arrival: Arrival) -> None:
        key = talk.data_key
        change = Open(
            owner=self._owner,
            collection=talk.id,
            with_=talk.with_,
            start=talk.start,
            thread=arrival.peer.thread,
            key_name=key.name if key else None,
            algorithm=key.algorithm if key else None,
            keys=self._wrapped(talk),
            terms=arrival.terms,
            parent=arrival.peer.parent,
        )
        self._submit(talk, change).addErrback(self._not_opened, talk)

    def _append(self, talk: Conversation, arrival: Arrival) -> Deferred[None]:
        item = PlainItem(talk.items, arrival.at, arrival.content)
        return self._add(talk, item, len(arrival.content), arrival.terms)

    def _seal(self, talk: Conversation, arrival: Arrival) -> Deferred[None]:
        item = self._sealed(talk, talk.items, arrival.at, arrival.content)
        return self._add(talk, item, len(item.cipher), arrival.terms)

    def _close(self, talk: Conversation, _: Any = None) -> None:
        if self._open.get(talk.key) is talk:
            del self._open[talk.key]
        self._silence.forget(talk)

    def _destroy_key(self, talk: Conversation, _: Any = None) -> None:
        if talk.data_key is not None:
            self._works.keyring.destroy(talk.data_key)

    def _reseal(self, talk: Conversation, _: Any) -> None:
        talk.held = []
        self._resealing.append(Shared(self._seal_anew(talk)))

    # How it is done.

    def _talk(self, arrival: Arrival) -> Conversation:
        key = (arrival.peer.key, arrival.peer.thread)
        talk = self._open.get(key)
        if talk is None:
            start = times.floor_to_millisecond(arrival.at)
            talk = Conversation(key, new_id(arrival.now), arrival.peer.jid, start)
        return talk

    def _make_room(self) -> None:
        """Close what was silent for longest if no more may be open: of the owner's, or of all users'."""
        if len(self._open) >= self._limits.open_collections:
            self.stop_one(next(iter(self._open.values())))
        elif len(self._silence) >= self._limits.server_open_collections:
            self._silence.end_one()

    def _abort(self, talk: Conversation) -> None:
        """Something failed halfway: nothing more goes this way, and no key stays behind."""
        self._close(talk)
        self._destroy_key(talk)
        talk.state = State.CLOSED

    def _add(
        self, talk: Conversation, item: PlainItem | SealedItem, octets: int, terms: Terms | None
    ) -> Deferred[None]:
        done = self._submit(talk, Append(self._owner, talk.id, item, terms))
        talk.items += 1
        talk.octets += octets
        return done

    def _submit(self, talk: Conversation, change: Change) -> Deferred[None]:
        if talk.held is None:
            return self._works.writer.submit(change)
        if len(talk.held) >= _MOST_HELD:
            raise ArchiveBusy
        done: Deferred[None] = Deferred()
        talk.held.append((change, done))
        return done

    def _sealed(self, talk: Conversation, number: int, at: Micros, content: str) -> SealedItem:
        """An item sealed under the conversation's data key, its place bound inside."""
        key, sealing = talk.data_key, talk.sealing
        if key is None or sealing is None:
            raise StorageRefused("There is no data key to seal with.")
        bound = items.Bound(key.name, number, talk.key[0].partition("/")[0], talk.start)
        plaintext = items.sealed(content, sealing.namespace, at, talk.start, bound)
        return SealedItem(number, key.name, key.algorithm, self._works.keyring.seal(key, plaintext))

    def _wrapped(self, talk: Conversation) -> tuple[EncryptedKey, ...]:
        if talk.data_key is None or talk.sealing is None:
            return ()
        if not talk.sealing.keys:
            raise NoUsableKey  # what is sealed for nobody is lost
        return self._wrap(talk, talk.data_key, talk.sealing.keys)

    def _wrap(self, talk: Conversation, key: DataKey, keys: Sequence[PublicKey]) -> tuple[EncryptedKey, ...]:
        algorithm = self._works.settings.wrap_algorithm
        talk.wrapped += tuple(key for key in keys if key not in talk.wrapped)
        return tuple(
            EncryptedKey(key.name, public.name, algorithm, self._works.keyring.wrap(key, public, algorithm))
            for public in keys
        )

    def _wrap_for_more(self, talk: Conversation, sealing: Sealing) -> None:
        """Wrap a data key for those it was not wrapped for; too many of them, and the collection ends:
        every page of it carries them all."""
        new = [key for key in sealing.keys if key not in talk.wrapped]
        if not new or talk.data_key is None:
            return
        if len(talk.wrapped) + len(new) > self._limits.keys:
            self.stop_one(talk)
            return
        talk.sealing = sealing
        key = talk.data_key
        change = AddKeys(self._owner, talk.id, key.name, key.algorithm, self._wrap(talk, key, new))
        self._submit(talk, change).addErrback(self._lost)

    def _follow(self, talk: Conversation, peer: Peer) -> None:
        with_, talk.settled = conversation.renamed(talk.with_, talk.settled, peer.jid)
        if with_ != talk.with_:
            talk.with_ = with_
            self._submit(talk, Rename(self._owner, talk.id, with_)).addErrback(self._lost)

    def _not_opened(self, failure: Failure, talk: Conversation) -> None:
        """There is no such collection: the next message begins another one."""
        if not isinstance(failure.value, Withheld | QuotaExceeded):  # told by what follows
            self._lost(failure)
        self._give_up(talk)

    def _give_up(self, talk: Conversation) -> None:
        if talk.state in (State.PLAIN, State.SEALED):
            self._abort(talk)

    def _lost(self, failure: Failure) -> None:
        """What hangs on this change fails by itself, and says so to whoever waits for it."""
        self.log.error("a collection was not written: {kind}", kind=kind(failure))

    # Sealing anew what was recorded in clear.

    @inlineCallbacks
    def _seal_anew(self, talk: Conversation) -> Generator[Deferred[Any], Any, None]:
        try:
            sealed = yield self._read_and_seal(talk)
            key = talk.data_key
            assert key is not None  # noqa: S101 - CREATE_KEY came before RESEAL
            keys = self._wrapped(talk)
            done = self._works.writer.submit(
                Reseal(self._owner, talk.id, key.name, key.algorithm, keys, tuple(sealed))
            )
        except ArchiveError as error:
            self.log.error("a collection stays in clear: {kind}", kind=type(error).__name__)
            self._release(talk, error)
            self._abort(talk)
            raise
        self._release(talk)
        self._happen(talk, Event.RESEALED)
        try:
            yield done
        except ArchiveError:
            self._give_up(talk)  # what comes must not be sealed with a key that nobody knows
            raise
        self._works.storage.vacuum().addErrback(self._not_vacuumed)

    def _not_vacuumed(self, failure: Failure) -> None:
        self.log.warn("what was in clear is not vacuumed yet: {kind}", kind=kind(failure))

    @inlineCallbacks
    def _read_and_seal(self, talk: Conversation) -> Generator[Deferred[Any], Any, list[SealedItem]]:
        """All that the collection holds in clear, sealed; in slices, so that others have their turn."""
        sealed: list[SealedItem] = []
        tries = 0
        while True:
            after = sealed[-1].number if sealed else -1
            try:
                yield self._works.writer.flushed(self._owner)
                part = yield self._works.storage.plain_items(self._owner, talk.id, after, _SLICE)
            except StorageUnavailable:
                tries += 1
                if tries >= _TRIES:
                    raise
                yield deferLater(self._works.clock, _PAUSE)
                continue
            if not part:
                return sealed
            sealed += [self._sealed(talk, item.number, item.at, item.content) for item in part]

    def _release(self, talk: Conversation, error: ArchiveError | None = None) -> None:
        """Let go of what was held back: into the writer, or as failed."""
        held, talk.held = talk.held or [], None
        for change, done in held:
            try:
                if error is not None:
                    raise error
                self._works.writer.submit(change).chainDeferred(done)
            except ArchiveError as refusal:
                done.errback(refusal)
