"""What is kept, managed by its owner (XEP-0136 5, 8 and 10; XEP-0241 5 and 6): uploaded, listed, retrieved,
removed, its keys listed and deleted, its changes told to replicas.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, inlineCallbacks

from archive_crypt.admission import Admissions
from archive_crypt.core import preferences, rsm, stanzas
from archive_crypt.core.stanzas import (
    DeleteRequest,
    KeysRequest,
    ListRequest,
    ModifiedRequest,
    RemoveRequest,
    RetrieveRequest,
)
from archive_crypt.core.uploads import SaveRequest
from archive_crypt.deferreds import follow
from archive_crypt.errors import NoSuchCollection, NotAcceptable, NotImplementedHere, StorageUnavailable
from archive_crypt.model import SECOND, Collection, Micros, Page, WrappedKey
from archive_crypt.owners import Owner
from archive_crypt.store.interfaces import (
    CollectionPage,
    DeleteKeys,
    ListFilter,
    Modification,
    Remove,
    Save,
)
from archive_crypt.works import Conversation, Works, new_id

T = TypeVar("T")

#: Collections that one transaction removes: all of an archive at once would hold up the others.
_SLICE = 500


class Management:
    """Answers for the archives of all users; `owners` are those who are here, by bare JID.

    Every request first waits for what its owner had recorded before it, so that he reads what he
    just wrote.
    """

    def __init__(self, works: Works, owners: Mapping[str, Owner], now: Callable[[], Micros]) -> None:
        self._works = works
        self._owners = owners
        self._now = now
        self._admissions = Admissions(works.settings.limits, works.clock)

    def admit(self, owner: str, ask: Callable[..., Deferred[T]], *args: Any) -> Deferred[T]:
        """Call `ask` when it is the turn of a request of this owner's.

        :raises TooManyRequests: too many of his wait already.
        """
        return self._admissions.admit(owner, ask, *args)

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

    @inlineCallbacks
    def save(self, owner: str, request: SaveRequest) -> Generator[Deferred[Any], Any, Collection]:
        """An upload kept (XEP-0136 5.3): the collection as it is then.

        :raises NotImplementedHere: uploads are not offered, or not of more than bodies.
        :raises NotAcceptable: it is too much at once, would mix with what is there, or make that too large.
        :raises QuotaExceeded: the owner's archive is full.
        """
        settings = self._works.settings
        if not settings.manual:
            raise NotImplementedHere("Manual archiving is not offered here.")
        if settings.body_only_uploads and not request.bodies_only:
            raise NotImplementedHere("Only the bodies of messages can be uploaded here.")
        if len(request.items) > settings.limits.items_an_upload:
            raise NotAcceptable(f"Upload at most {settings.limits.items_an_upload} messages at once.")
        yield self._written(owner)
        saved: Collection = yield self._works.writer.submit(
            Save(
                owner=owner,
                collection=new_id(self._now()),
                with_=request.with_,
                start=request.start,
                most_octets=settings.largest_collection,
                thread=request.thread,
                subject=request.subject,
                links=request.links,
                form=request.form,
                items=request.items,
                keys=request.keys,
            )
        )
        return saved

    @inlineCallbacks
    def remove(self, owner: str, request: RemoveRequest) -> Generator[Deferred[Any], Any, None]:
        """Collections removed (XEP-0136 8.3); what is being recorded of them is closed, its keys destroyed.

        :raises NoSuchCollection: nothing matched.
        """
        yield self._known(owner)
        here = self._owners.get(owner)
        open_ = [talk for talk in here.conversations.recorded() if _concerns(request, talk)] if here else []
        if here is not None:
            for talk in open_:
                here.conversations.stop_one(talk)
        yield self._written(owner)
        which = ListFilter(request.with_, request.exact, request.start, request.end, request.identity)
        ids = frozenset(talk.id for talk in open_) if request.open else None
        removed = 0
        while True:
            part: int = yield self._works.writer.submit(Remove(owner, which, _SLICE, ids))
            removed += part
            if part < _SLICE:
                break
        if here is not None:
            here.empty()
        if not removed:
            raise NoSuchCollection("There is nothing to remove.")

    @inlineCallbacks
    def keys(
        self, owner: str, request: KeysRequest
    ) -> Generator[Deferred[Any], Any, Page[tuple[Collection, Sequence[WrappedKey]]]]:
        """One page of the collections with EncryptedKeys for a public key (XEP-0241 6), and these."""
        window = rsm.window(request.page, stanzas.read_position(2), self._works.settings.most_collections)
        yield self._written(owner)
        page: Page[Any] = yield self._works.storage.keys(owner, request.key_names, window)
        return page

    @inlineCallbacks
    def delete(self, owner: str, request: DeleteRequest) -> Generator[Deferred[Any], Any, None]:
        """EncryptedKeys of one collection deleted (XEP-0241 6).

        :raises NoSuchCollection: there is none of this identity.
        :raises WouldLoseData: something could not be opened by anybody any more.
        """
        yield self._written(owner)
        guard = self._works.settings.guard_keys
        change = DeleteKeys(owner, request.with_, request.start, request.key_names, guard)
        yield self._works.writer.submit(change)

    @inlineCallbacks
    def modified(
        self, owner: str, request: ModifiedRequest
    ) -> Generator[Deferred[Any], Any, Page[Modification]]:
        """One page of what was changed or removed (XEP-0136 10)."""
        window = rsm.window(request.page, stanzas.read_stamp, self._works.settings.most_collections)
        yield self._written(owner)
        page: Page[Modification] = yield self._works.storage.modified(owner, request.after, window)
        return page

    @inlineCallbacks
    def _written(self, jid: str) -> Generator[Deferred[Any], Any, None]:
        owner = self._owners.get(jid)
        if owner is None:
            if self._works.writer.unavailable:
                raise StorageUnavailable
            yield self._works.writer.flushed(jid)
            return
        yield self._known(jid)
        yield owner.conversations.written()

    @inlineCallbacks
    def _known(self, jid: str) -> Generator[Deferred[Any], Any, None]:
        """What waits for a stream's setting is recorded by then."""
        owner = self._owners.get(jid)
        for recorder in list(owner.recorders.values()) if owner else ():
            yield follow(recorder.known)


def _concerns(request: RemoveRequest, talk: Conversation) -> bool:
    """Whether what is being recorded may be among what is to be removed. Its start can have been
    moved on by less than a second when it was written; to close one too many does no harm."""
    if request.with_ is not None:
        exact = request.exact or request.identity
        if not preferences.matches(request.with_, exact, talk.with_):
            return False
    if request.end is not None and talk.start >= request.end:
        return False
    if request.start is None:
        return True
    if request.identity:
        return talk.start <= request.start < talk.start + SECOND
    return talk.start + SECOND > request.start
