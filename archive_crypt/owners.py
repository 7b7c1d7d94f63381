"""A user who is here: the recorders of his streams and what they share, and what it comes to for a
message: whether it is saved, how much of it, and sealed for whom.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed

from archive_crypt.conversations import Conversations
from archive_crypt.copies import Copies
from archive_crypt.core import preferences
from archive_crypt.core.conversation import Peer
from archive_crypt.crypto import publickeys
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import UnusableKey
from archive_crypt.model import SECOND, Automatic, Micros, Preferences, PublishedKey, SaveMode
from archive_crypt.offrecord import OffTheRecord
from archive_crypt.recorder import Recorder
from archive_crypt.silence import Silence
from archive_crypt.store.interfaces import OwnerState, Prolong, Terms
from archive_crypt.works import Conversation, Sealing, Works

#: Contacts and threads whose save mode is remembered.
_MOST_DECIDED = 1000

#: Seconds that nothing is recorded when the archive is found to be full, unless something is removed.
_PAUSE_WHEN_FULL = 60.0

#: How much an operator's compulsory logging saves at least (XEP-0136 7.1).
REQUIRED = {
    Automatic.REQUIRED_BODY: SaveMode.BODY,
    Automatic.REQUIRED_MESSAGE: SaveMode.MESSAGE,
}


@dataclass(frozen=True, slots=True)
class _Published:
    """A published key that was found fit for use, and from when to when it is."""

    key: PublicKey
    begin: Micros | None
    end: Micros | None

    def holds(self, now: Micros) -> bool:
        return (self.begin is None or self.begin <= now) and (self.end is None or now < self.end)


class Owner:
    """One user. `recorders`: of his streams, by full JID."""

    def __init__(self, jid: str, works: Works, silence: Silence[Conversation]) -> None:
        self.jid = jid
        self.recorders: dict[str, Recorder] = {}
        self.conversations = Conversations(jid, works, silence)
        self.copies = Copies(works.clock)
        self.off_the_record = OffTheRecord(jid, self.conversations)
        self.preferences = Preferences()
        self._decided: dict[tuple[str, str | None], tuple[SaveMode, Terms | None]] = {}
        #: How his messages are sealed now; None: in clear.
        self.sealing: Sealing | None = None
        self._settings = works.settings
        self._clock = works.clock
        self._full_until = 0.0
        self._published: tuple[_Published, ...] = ()
        self._told = False
        #: When a published key begins or ends to hold: then what is sealed for whom changes.
        self._turning: Micros | None = None
        self._stored: dict[str, Micros] = {}

    # What he wants.

    def load(self, state: OwnerState) -> None:
        """Take over what outlived his streams, unless it is older than what is known."""
        if not self._told:
            self._take(state.published)
        self.prefer(state.preferences)

    def prefer(self, wishes: Preferences) -> None:
        """These are his preferences now, unless newer ones are known. What his sessions were prolonged
        by since that was stored is kept."""
        if wishes.revision >= self.preferences.revision:
            self.preferences = preferences.not_sooner(wishes, self.preferences)
            self._stored = {session.thread: session.until for session in wishes.sessions}
            self._decided.clear()

    def mode(self, peer: Peer, now: Micros) -> tuple[SaveMode, Terms | None]:
        """How much of a message is saved, and under which terms; None: whatever he prefers.

        Remembered until preferences change, but where time decides as well.
        """
        if self.preferences.sessions:
            return self._decide(peer, now)
        key = (peer.jid, peer.thread)
        found = self._decided.get(key)
        if found is None:
            if len(self._decided) >= _MOST_DECIDED:
                self._decided.clear()
            found = self._decided[key] = self._decide(peer, now)
        return found

    def _decide(self, peer: Peer, now: Micros) -> tuple[SaveMode, Terms | None]:
        settings = self._settings
        wishes = preferences.without_lapsed(self.preferences, now)
        mode = preferences.save_mode(wishes, peer.jid, peer.thread, settings.save)
        level = REQUIRED.get(settings.automatic)
        if level is not None:
            mode = preferences.most(mode, level)
        mode = preferences.least(mode, SaveMode.MESSAGE if settings.full_content else SaveMode.BODY)
        if level is not None:
            return mode, None
        return mode, Terms(wishes.revision, mode, peer.jid, peer.thread, settings.save, now)

    def prolong(self, thread: str, now: Micros) -> Prolong | None:
        """A message in `thread`: its session rule, if there is one, begins to last anew. What is to
        be stored of that, now and then."""
        self.preferences = preferences.prolonged(self.preferences, thread, now)
        for session in self.preferences.sessions:
            unstored = session.until - self._stored.get(thread, 0)
            if session.thread == thread and unstored > session.timeout * SECOND // 4:
                return self._prolonged(thread, session.until)
        return None

    def unstored(self) -> list[Prolong]:
        """What is left to be stored when he goes."""
        return [
            self._prolonged(session.thread, session.until)
            for session in self.preferences.sessions
            if session.until > self._stored.get(session.thread, 0)
        ]

    def _prolonged(self, thread: str, until: Micros) -> Prolong:
        self._stored[thread] = until
        return Prolong(self.jid, thread, until)

    # Whether he may keep more.

    @property
    def full(self) -> bool:
        """Whether there was no room lately, so that nothing more is recorded for now."""
        return bool(self._clock.seconds() < self._full_until)

    def fill(self) -> None:
        """There is no room: all recording stops, as a record with holes is worse than one that ends."""
        self._full_until = self._clock.seconds() + _PAUSE_WHEN_FULL
        self.conversations.stop()

    def empty(self) -> None:
        """Something was removed: there may be room again."""
        self._full_until = 0.0

    # For whom it is sealed.

    def publish(self, keys: Iterable[PublishedKey]) -> None:
        """These are his published keys now; those that cannot be used are skipped (XEP-0241 3). What
        was kept of them is older, whenever it is loaded."""
        self._told = True
        self._take(keys)

    def _take(self, keys: Iterable[PublishedKey]) -> None:
        found = []
        for key in keys:
            try:
                public = publickeys.from_der(key.der, key.name, minimum_bits=self._settings.minimum_bits)
            except UnusableKey:
                continue
            found.append(_Published(public, key.begin, key.end))
        self._published = tuple(found)

    def published(self, now: Micros) -> tuple[PublicKey, ...]:
        """His published keys that hold now."""
        return tuple(one.key for one in self._published if one.holds(now))

    def turned(self, now: Micros) -> bool:
        """Whether a published key began or ended to hold since `adjust`."""
        return self._turning is not None and now >= self._turning

    def adjust(self, now: Micros) -> Deferred[None]:
        """Make what is recorded fit the streams' settings and the keys, after one changed.

        A message is sealed if any of the streams that record asked for it.
        """
        encrypting = [recorder for recorder in self.recorders.values() if recorder.encrypting]
        moments = [moment for one in self._published for moment in (one.begin, one.end) if moment]
        self._turning = min((moment for moment in moments if moment > now), default=None)
        if encrypting:
            supplied = [key for recorder in encrypting for key in recorder.keys]
            keys = tuple(dict.fromkeys((*supplied, *self.published(now))))
            self.sealing = Sealing(keys[: self._settings.limits.keys], encrypting[0].auto.namespace)
        else:
            self.sealing = None
        if not any(recorder.recording for recorder in self.recorders.values()):
            self.conversations.stop()
        elif self.sealing is None:
            self.conversations.decline()
        elif not self.sealing.keys:
            self.conversations.stop()  # nothing can be sealed, nor be recorded in clear
        else:
            return self.conversations.encrypt(self.sealing)
        return succeed(None)
