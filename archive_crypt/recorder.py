"""The recorder of one client stream: its auto-archiving setting, and what waits until that is known.

What the recorders of one user share, his conversations and their data keys, is in `conversations`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.core.dialect import Dialect
from archive_crypt.core.message import Message
from archive_crypt.core.preferences import Changes
from archive_crypt.crypto import publickeys
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.errors import ArchiveBusy, UnusableKey
from archive_crypt.model import AutoState, Direction, Micros, Preferences

#: What may wait, in clear and in memory only, until the setting is loaded: octets and seconds.
MOST_WAITING = 256 * 1024
MOST_SECONDS = 5.0


class Copy(NamedTuple):
    """A user's own copy of a message: which way it went, and when it came by."""

    direction: Direction
    message: Message
    when: Micros


class Listener(Protocol):
    """What a stream's user can be told without having asked."""

    def onNotice(self, text: str) -> None:
        """Something in words, from his server."""

    def onPush(self, dialect: Dialect, changes: Changes, wishes: Preferences) -> None:
        """Preferences that changed; `wishes` are all of them now."""


class Recorder:
    """What is known of one stream. `jid` is its full JID: the owner is never read from elsewhere."""

    def __init__(self, jid: JID, opened: Micros = 0) -> None:
        self.jid = jid
        self.opened = opened
        #: Whether its connection is lost, and the client may come back to it.
        self.pending = False
        self.owner: str = jid.userhost()
        # Without one its setting would be stored as the lasting one.
        assert jid.resource, "a stream has a full JID"
        self.resource = jid.resource
        self.auto = AutoState()
        self.keys: tuple[PublicKey, ...] = ()
        self.ready = False
        #: Fires when the setting is known, or late.
        self.known: Deferred[None] = Deferred()
        self.closed = False
        #: One <auto/> at a time, in the order they came.
        self.lock = DeferredLock()
        self.noticed: set[str] = set()
        #: Whether the setting is that of later streams too (scope='global').
        self.lasting = False
        #: Whether a setting of this stream alone may be stored.
        self.stored = False
        #: Whether its client asked for preferences, and in which dialects it is told of changes.
        self.asked = False
        self.subscribed: dict[Dialect, None] = {}
        self.listener: Listener | None = None
        self._waiting: list[tuple[Copy, Deferred[bool]]] = []
        self._octets = 0
        self._late = False

    @property
    def recording(self) -> bool:
        """Whether this stream asked for auto-archiving."""
        return self.auto.save

    @property
    def encrypting(self) -> bool:
        """Whether it asked for encryption as well."""
        return self.auto.save and self.auto.encrypt

    def set(self, auto: AutoState, keys: Sequence[PublicKey], *, lasting: bool) -> None:
        """From now on this is the stream's setting; the keys of the one before are forgotten."""
        self.auto = auto
        self.keys = tuple(keys)
        self.lasting = lasting

    def wait(self, copy: Copy) -> Deferred[bool]:
        """Keep a copy until the setting is known.

        :raises ArchiveBusy: it is too much, or has been waited for too long.
        """
        size = len(copy.message.element.toXml())
        if self._late or self._octets + size > MOST_WAITING:
            raise ArchiveBusy
        self._octets += size
        done: Deferred[bool] = Deferred()
        self._waiting.append((copy, done))
        return done

    def start(
        self, auto: AutoState, minimum_bits: int, *, lasting: bool
    ) -> list[tuple[Copy, Deferred[bool]]]:
        """The setting is known: `auto`. What waited, in order.

        A key that may no longer be used (the operator asks for more bits now) is left out; with
        none left over, what would be sealed fails, and is not archived.
        """
        keys = []
        for key in auto.keys:
            try:
                keys.append(publickeys.from_der(key.der, key.name, minimum_bits=minimum_bits))
            except UnusableKey:
                continue
        self.set(auto, keys, lasting=lasting)
        self.ready = True
        return self._let_go()

    def tell(self) -> None:
        """Let those go on who wait for the setting."""
        if not self.known.called:
            self.known.callback(None)

    def give_up(self) -> list[tuple[Copy, Deferred[bool]]]:
        """The setting is late: what waited, in order; nothing more may wait."""
        self._late = True
        return self._let_go()

    def _let_go(self) -> list[tuple[Copy, Deferred[bool]]]:
        waiting, self._waiting, self._octets = self._waiting, [], 0
        return waiting
