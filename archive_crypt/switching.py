"""Turning automatic archiving on and off (XEP-0136 7, XEP-0241 3), and the public keys it encrypts for:
those supplied with ``<auto/>``, and those that users publish.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from lxml import etree
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish import domish

from archive_crypt.core import preferences, published
from archive_crypt.core.stanzas import AutoRequest
from archive_crypt.crypto import publickeys
from archive_crypt.crypto.publickeys import PublicKey
from archive_crypt.deferreds import follow, kind
from archive_crypt.errors import (
    ArchiveError,
    LoggingRequired,
    NotImplementedHere,
    NoUsableKey,
    StorageUnavailable,
    UnusableKey,
)
from archive_crypt.model import Automatic, AutoState, Micros, PublishedKey, SuppliedKey
from archive_crypt.owners import REQUIRED, Owner
from archive_crypt.recorder import Recorder
from archive_crypt.store.interfaces import SetAuto, SetPublished
from archive_crypt.wishes import unsupported
from archive_crypt.works import Works


class Switching:
    """The switches of all users who are here; `owners` by bare JID."""

    log = Logger()

    def __init__(
        self,
        works: Works,
        owners: Mapping[str, Owner],
        now: Callable[[], Micros],
        *,
        streams_outlive: bool,
    ) -> None:
        self._streams_outlive = streams_outlive
        self._works = works
        self._owners = owners
        self._now = now
        #: Set by a host that has to ask for what users publish: given a bare JID it tells `publish` of it,
        #: if that is not fresh, and fires; with `soon` it fires at once and tells later. It never fails and
        #: does not take long.
        self.finder: Callable[..., Deferred[None]] | None = None
        #: Keys of users whose first stream is about to open.
        self._early: dict[str, tuple[PublishedKey, ...]] = {}

    def welcome(self, owner: Owner) -> None:
        """A user's first stream opens: what he publishes was told just before."""
        keys = self._early.pop(owner.jid, None)
        if keys is not None:
            owner.publish(keys)

    def set(self, jid: JID, request: AutoRequest) -> Deferred[None]:
        """Do as ``<auto/>`` says on the stream `jid`; fires when it holds and is durable.

        :raises NotImplementedHere: it is not offered, or encryption is not, or the user prefers a
            save mode that cannot be recorded.
        :raises LoggingRequired: it would turn off what the operator requires.
        :raises NoUsableKey: there is no key to encrypt for, or one that cannot be used.
        """
        owner = self._owners[jid.userhost()]
        recorder = owner.recorders[jid.full()]
        return recorder.lock.run(self._set_auto, owner, recorder, request)

    def find(self, jid: str, *, soon: bool = False, anew: bool = False) -> Deferred[None]:
        """Have the host look for what the user `jid` (bare) publishes, if it has to; fires in any case,
        at once if that need only be `soon`. `anew`: even if it did not long ago."""
        return succeed(None) if self.finder is None else self.finder(jid, soon=soon, anew=anew)

    def publish(self, jid: JID, nodes: Mapping[str, Sequence[domish.Element]]) -> SetPublished:
        """Use the keys that the user `jid` (bare) publishes, as far as they can be used; what is to be
        kept of them."""
        settings = self._works.settings
        trees = {node: [_tree(element) for element in elements] for node, elements in nodes.items()}
        keys = []
        for found in published.read(jid.full(), trees, openpgp=settings.openpgp_keys)[: settings.limits.keys]:
            key = found.key
            try:
                public = publickeys.from_numbers(
                    key.modulus, key.exponent, key.name, minimum_bits=settings.minimum_bits
                )
            except UnusableKey:
                continue
            keys.append(PublishedKey(public.name, public.der, found.begin, found.end))
        owner = self._owners.get(jid.full())
        if owner is None:
            self._early[jid.full()] = tuple(keys)
        else:
            owner.publish(keys)
            owner.adjust(self._now()).addErrback(self._log_failure)
        return SetPublished(jid.full(), tuple(keys))

    def forget_streams(self, domain: str) -> Deferred[None]:
        """All streams of `domain` that are open were told of: what others asked for is void. Fires in any
        case; what could not be forgotten now is the next time."""
        stored = [
            (owner.jid, recorder.resource)
            for owner in self._owners.values()
            for recorder in owner.recorders.values()
            if recorder.stored and recorder.jid.host == domain
        ]
        # Asked for in this very turn: what any stream sets from now on is written after it.
        forgotten = self._works.storage.forget_streams(domain, stored)
        return forgotten.addCallbacks(lambda _: None, self._log_failure)

    @inlineCallbacks
    def _set_auto(
        self, owner: Owner, recorder: Recorder, request: AutoRequest
    ) -> Generator[Deferred[Any], Any, None]:
        yield follow(recorder.known)
        self._may_set_auto(owner, request)
        if request.encrypt:
            yield self.find(owner.jid)
            if not request.keys and not recorder.keys and not owner.published(self._now()):
                # He may have published one just now, and the news be on its way.
                yield self.find(owner.jid, anew=True)
        if not recorder.ready or (request.encrypt and self._works.writer.unavailable):
            raise StorageUnavailable
        keys = self._judged_keys(owner, recorder, request) if request.encrypt else ()
        supplied = tuple(SuppliedKey(key.name, key.der) for key in keys)
        auto = AutoState(request.save, request.encrypt, request.dialect.namespace, supplied)
        before = recorder.auto, recorder.keys, recorder.lasting
        recorder.set(auto, keys, lasting=request.lasting)
        try:
            yield owner.adjust(self._now())
            yield self._store(owner, recorder)
        except ArchiveError:  # the client will be told that nothing changed
            recorder.set(*before[:2], lasting=before[2])
            owner.adjust(self._now()).addErrback(self._log_failure)
            raise

    def _store(self, owner: Owner, recorder: Recorder) -> Deferred[None]:
        """Have a new setting written, as far as it outlives anything.

        :raises ArchiveBusy: too much waits to be written.
        """
        auto = recorder.auto if recorder.lasting else None
        streams = self._streams(owner, recorder) if self._streams_outlive else {}
        if auto is None and not streams:
            return succeed(None)
        return self._works.writer.submit(SetAuto(owner.jid, auto, streams))

    def _streams(self, owner: Owner, recorder: Recorder) -> Mapping[str, AutoState | None]:
        """What is to be stored of single streams, after the setting of one changed."""
        if not recorder.lasting:
            if recorder.closed:
                return {}
            recorder.stored = True
            return {recorder.resource: recorder.auto}
        # The others go on as they are, whatever holds for later ones.
        others = [other for other in owner.recorders.values() if other.ready and other is not recorder]
        for other in others:
            other.stored = True
        return {recorder.resource: None, **{other.resource: other.auto for other in others}}

    def _may_set_auto(self, owner: Owner, request: AutoRequest) -> None:
        settings = self._works.settings
        if settings.automatic is Automatic.OFF:
            raise NotImplementedHere("Automatic archiving is not offered here.")
        if settings.automatic in REQUIRED and not request.save:
            raise LoggingRequired
        if settings.automatic is Automatic.ALLOWED and request.save:
            wanted = preferences.all_modes(preferences.without_lapsed(owner.preferences, self._now()))
            if wanted & unsupported(settings):
                raise NotImplementedHere("Your preferences save more of a message than can be recorded.")

    def _judged_keys(self, owner: Owner, recorder: Recorder, request: AutoRequest) -> tuple[PublicKey, ...]:
        """The keys supplied to encrypt for, now or by this stream before; published ones come beside."""
        settings = self._works.settings
        if not settings.encryption:
            raise NotImplementedHere("Encryption is not offered here.")
        if len(request.keys) > settings.limits.keys_supplied:
            raise UnusableKey(f"At most {settings.limits.keys_supplied} public keys can be supplied at once.")
        keys = dict.fromkeys(
            publickeys.from_numbers(key.modulus, key.exponent, key.name, minimum_bits=settings.minimum_bits)
            for key in request.keys
        )
        names = [key.name for key in keys]
        if len(set(names)) < len(names):
            raise UnusableKey("Two different public keys are supplied under one name.")
        if not keys and recorder.encrypting and recorder.keys:
            return recorder.keys
        others = [other for other in owner.recorders.values() if other.encrypting and other is not recorder]
        if len(keys | dict.fromkeys(key for other in others for key in other.keys)) > settings.limits.keys:
            raise UnusableKey(f"Your streams supply more than {settings.limits.keys} public keys.")
        if not keys and not owner.published(self._now()):
            raise NoUsableKey
        self._works.keyring.destroy(self._works.keyring.create(settings.seal_algorithm))
        return tuple(keys)

    def _log_failure(self, failure: Failure) -> None:
        self.log.error("recording could not be adjusted: {kind}", kind=kind(failure))


def _tree(element: domish.Element) -> etree._Element:
    """What a user published, as lxml has it; what lxml will not have holds no key."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(element.toXml(), parser)
    except (etree.XMLSyntaxError, RecursionError, ValueError):
        return etree.Element("unreadable")
