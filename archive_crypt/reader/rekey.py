"""Replace all EncryptedKeys in an archive that are for one public key by such for another (XEP-0241 6).

What keeps everything readable: EncryptedKeys are deleted only after those in their place were fetched,
and opened, with the new private key, what the old ones open. What is done is in the archive itself, and
nowhere else: stopped at any moment, it goes on when it is begun again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from lxml import etree

from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.model import Micros, PageRequest
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.errors import CannotAsk, Conflict, NotFound, NotUnderstood, Refused
from archive_crypt.reader.protocol import ChatPage, Listed
from archive_crypt.reader.rewrapping import DataKey, Evidence, Holder, Why, held, may_open, plan, which, wrap
from archive_crypt.reader.xep_0136.paging import Paging

#: Rounds over what is left: new EncryptedKeys for the old key may come for as long as it is in use.
_ROUNDS = 20

#: Told how many collections are done, and how many there are for now; None: the server does not count.
Progress = Callable[[int, int | None], None]

_Place = tuple[str, Micros]


@dataclass(frozen=True, slots=True)
class Left:
    """A collection that still has EncryptedKeys for the old key, and why; `detail`: the server's words."""

    collection: Listed
    why: Why
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many collections have the new key in place of the old one now, and what is `left`. `empty`: the
    archive has no EncryptedKey for the old key any more."""

    replaced: int
    left: tuple[Left, ...]
    empty: bool


class _Stays(Exception):  # noqa: N818 - no error, but what a collection comes to
    def __init__(self, why: Why, detail: str = "") -> None:
        self.why, self.detail = why, detail


@dataclass(frozen=True, slots=True)
class _Names:
    """Whose EncryptedKeys come with a page: those of `key_names` only, also where others are missing."""

    key_names: tuple[str, ...]

    def lacks_keys(self, page: ChatPage) -> bool:
        return False


class Rekey:
    """From the key `old` to `new`."""

    def __init__(self, archive: Archive, old: Holder, new: Holder, progress: Progress) -> None:
        """:raises UnusableKey: the new key is not fit for use.
        :raises CannotAsk: EncryptedKeys for both would have one name, by which they are deleted.
        """
        self._archive = archive
        self._old = old
        self._new = new
        self._public = new.private.public()
        if self._public.name in old.names:
            raise CannotAsk(
                "The old key cannot be looked for by the name of the new one: leave that out, or take"
                " another new key."
            )
        self._progress = progress
        self._replaced = 0
        self._left: list[Left] = []
        self._idle: list[tuple[Listed, frozenset[DataKey]]] = []

    async def run(self) -> Outcome:
        """Replace what can be. It ends when nothing is left, or nothing that another round would change.

        :raises RequestFailed: the stream ended, or the server cannot be understood.
        """
        empty = False
        for _ in range(_ROUNDS):
            before = self._replaced
            empty = await self._round()
            if empty or (self._replaced == before and not any(one.why.passing for one in self._left)):
                break
        return Outcome(self._replaced, tuple(self._left), empty)

    async def _round(self) -> bool:
        """Over all collections that the old key has EncryptedKeys in; whether there were none."""
        self._left, self._idle, count = [], [], 0
        total = await self._archive.count_keys(self._old.names)
        self._progress(count, total)
        async with aclosing(self._archive.keys(self._old.names)) as listed:
            async for collection, elements in listed:
                await self._or_left(collection, self._replace(collection, elements))
                count += 1
                self._progress(count, total)
        if self._idle:
            await self._replace_idle()
        return count == 0

    async def _or_left(self, collection: Listed, doing: Awaitable[None]) -> None:
        try:
            await doing
        except _Stays as stays:
            self._left.append(Left(collection, stays.why))
        except (NotFound, Conflict):  # gone, or a data key came that has no EncryptedKey for the new one yet
            self._left.append(Left(collection, Why.CHANGED))
        except Refused as error:
            self._left.append(Left(collection, Why.REFUSED, str(error)))
        except NotUnderstood as error:
            self._left.append(Left(collection, Why.NOT_UNDERSTOOD, str(error)))

    async def _replace(self, collection: Listed, elements: Sequence[etree._Element]) -> None:
        old, new = Evidence(self._old), Evidence(self._new)
        listed = which(elements)
        shown = await self._look(collection, (old, new), lambda: listed <= old.proved.keys())
        todo = plan(elements, old)
        missing = {one for one in todo.proved if not new.proves({one})}
        if missing:
            collection = await self._add(collection, missing, empty=False)
            new = Evidence(self._new)
            shown = await self._look(collection, (new,), lambda: new.proves(todo.proved))
        if not new.proves(todo.proved):
            raise _Stays(Why.NOT_VERIFIED)
        if todo.wrong:
            raise _Stays(todo.wrong[0])
        if todo.idle:
            self._idle.append((collection, todo.idle))
        else:
            await self._delete(collection, shown)

    async def _look(self, collection: Listed, by: Sequence[Evidence], enough: Callable[[], bool]) -> Listed:
        """Have the pages of a collection seen until that is enough, or there are no more. How the last of
        them shows the collection."""
        paging, index = Paging(), 0
        names = _Names((*self._old.names, *self._new.names))
        while True:
            # The first item shows most of it: as a rule there is one data key.
            request = PageRequest(max=None if paging.after else 1, after=paging.after)
            page = await self._archive.sealed.page(collection, names, request, index)
            for one in by:
                one.see(page)
            index = page.index + len(page)
            if enough() or not paging.next(page.info, len(page), complete=False):
                return page.collection

    async def _add(self, collection: Listed, missing: Iterable[DataKey], *, empty: bool) -> Listed:
        """Add EncryptedKeys for the new key; the collection as it should be then. `empty`: whether it may
        hold nothing besides."""
        saved = await self._archive.save_keys(collection, wrap(missing, self._public))
        if saved is None or saved.version is None or collection.version is None:
            return collection
        if not saved.version and not empty:
            await self._check_there(collection)
        if not collection.version <= saved.version <= collection.version + 1:
            raise _Stays(Why.CHANGED)
        return replace(collection, version=saved.version)

    async def _check_there(self, collection: Listed) -> None:
        """Nothing, unless it was removed meanwhile, and made anew for what we added: then that goes too."""
        page = await self._archive.sealed.page(collection, _Names(()), PageRequest(max=1))
        if not page.parts and page.form is None:
            await self._archive.remove(collection)
            raise _Stays(Why.CHANGED)

    async def _delete(self, collection: Listed, shown: Listed) -> None:
        """Delete the EncryptedKeys for the old key, if the collection is as it was when they were listed:
        else there may be one more. (Dialects without versions leave that to the server's guard.)"""
        if None not in (shown.version, collection.version) and shown.version != collection.version:
            raise _Stays(Why.CHANGED)
        await self._archive.delete(collection, self._old.names)
        self._replaced += 1

    # EncryptedKeys that are for nothing in their collection: no page of it shows them, only a list does.

    async def _replace_idle(self) -> None:
        there, added = await self._there(), []

        async def add(collection: Listed, wanted: frozenset[DataKey]) -> None:
            _, found = there.get(_place(collection), (collection, set()))
            missing = wanted - found
            if missing:
                collection = await self._add(collection, missing, empty=True)
            added.append((collection, wanted))

        for collection, wanted in self._idle:
            await self._or_left(collection, add(collection, wanted))
        there = await self._there()
        for collection, wanted in added:
            shown, found = there.get(_place(collection), (collection, set()))
            await self._or_left(collection, self._end_idle(collection, shown, wanted <= found))

    async def _end_idle(self, collection: Listed, shown: Listed, verified: bool) -> None:
        if not verified:
            raise _Stays(Why.NOT_VERIFIED)
        await self._delete(collection, shown)

    async def _there(self) -> dict[_Place, tuple[Listed, set[DataKey]]]:
        """Of the collections in question, which data keys they have EncryptedKeys of for the new key."""
        wanted, by = {_place(collection) for collection, _ in self._idle}, Evidence(self._new)
        there = {}
        async for collection, elements in self._archive.keys(self._new.names):
            if _place(collection) in wanted:
                there[_place(collection)] = collection, held(elements, by)
        return there


async def used(archive: Archive, key: PrivateKey, names: Iterable[str]) -> list[str]:
    """By which of these names the archive has EncryptedKeys that the key opens, or may open: what is by other
    keys' names cannot be deleted by them, but is looked at all the same.

    :raises RequestFailed: as `Rekey.run`.
    """
    found = []
    for name in names:
        seen = Evidence(Holder(key, (name,)))
        async with aclosing(archive.keys((name,))) as listed:
            async for _, elements in listed:
                if may_open(elements, seen):
                    found.append(name)
                    break
    return found


def _place(collection: Listed) -> _Place:
    return collection.with_, collection.start
