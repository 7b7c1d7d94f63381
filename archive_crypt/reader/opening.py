"""Pages of a collection -> its messages, or what is to be said of those that cannot be read or
believed, each in its place. No network and no file: pages come from anywhere, private keys are handed in.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

from lxml import etree

from archive_crypt.core import items, xmlenc
from archive_crypt.core.dialect import F
from archive_crypt.core.items import ReadItem
from archive_crypt.core.xmlenc import ReadData, ReadKey
from archive_crypt.crypto import opening
from archive_crypt.crypto.opening import PrivateKey
from archive_crypt.errors import BadRequest
from archive_crypt.model import Micros
from archive_crypt.reader.checking import Expectation, Finding, Verdict, judge
from archive_crypt.reader.clock import Clock
from archive_crypt.reader.datakeys import DataKeys, Unwrapping
from archive_crypt.reader.protocol import ChatPage, Listed, is_sealed, parse

_DATA_FORM = "jabber:x:data"
_UNBOUND = Verdict((Finding.UNBOUND,))


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of a collection, in its place. `item` is None where it could not be read; `at`
    is its time, None where it tells none; `missing` messages are missing before it, at least.
    `openpgp_keys`: ids of the keys that would open the OpenPGP message in it, where ours do not."""

    place: int
    sealed: bool
    item: ReadItem | None
    at: Micros | None
    findings: tuple[Finding, ...]
    missing: int = 0
    openpgp_keys: tuple[str, ...] = ()

    @property
    def suspicious(self) -> bool:
        """Whether it is not all it should be."""
        return self.missing > 0 or any(finding.suspicious for finding in self.findings)


class Book:
    """What was read so far of an archive, which is needed to judge what comes next.

    Collections are read one after another: `begin` one, `read` its pages in order, `end` it.
    `secs_from_start`: see `Clock`. `inner`: what reads messages that are encrypted within an entry, as
    `ox.Reader.read`.
    """

    def __init__(
        self,
        private_keys: Sequence[PrivateKey],
        *,
        secs_from_start: bool = False,
        inner: Callable[[Listed, Entry], Entry] | None = None,
    ) -> None:
        self._inner = inner
        self._unwrapping = Unwrapping(private_keys)
        self._expected = Expectation()
        self._data_keys = DataKeys(self._unwrapping)
        self._place = 0
        self._from_start = secs_from_start
        self._clock = Clock(0)
        self._crypt = False

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of our public keys, as `enable` gives them: their fingerprints."""
        return tuple(name for name, _ in self._unwrapping.keys if name)

    def blank(self) -> Book:
        """Another one with the same private keys, that has read nothing."""
        book = Book((), secs_from_start=self._from_start)
        book._unwrapping = self._unwrapping
        book._data_keys = DataKeys(self._unwrapping)
        return book

    def begin(self, collection: Listed, place: int = 0) -> None:
        """A collection is read now, from its item at `place` on."""
        self._expected = self._expected.begin(collection.with_, collection.start, place)
        self._data_keys.close()
        self._data_keys = DataKeys(self._unwrapping)
        self._clock = Clock(collection.start, from_start=self._from_start)
        self._place, self._crypt = place, collection.crypt

    def prepare(self, page: ChatPage) -> None:
        """A page that is going to be read: meanwhile its keys are unwrapped."""
        self._unwrapping.start(_read_keys(page))

    def lacks_keys(self, page: ChatPage) -> bool:
        """Whether an item came without any EncryptedKey: if only those of our fingerprints were
        asked for, there may be some under other names of our keys."""
        keys = _read_keys(page)
        known = {key.key_name for key in keys} | {key.id for key in keys}
        sealed = (part for part in page.parts if is_sealed(part))
        return any(known.isdisjoint(xmlenc.read_keys_of(part)) for part in sealed)

    def read(self, page: ChatPage) -> list[Entry]:
        """The messages of the next page. Inner messages are waited for: `read_aside` does not keep a
        connection waiting."""
        entries = self._read(page)
        return entries if self._inner is None else [self._inner(page.collection, entry) for entry in entries]

    async def read_aside(self, page: ChatPage) -> list[Entry]:
        """The same, but inner messages are read in another thread, one after another."""
        inner = self._inner
        if inner is None:
            return self.read(page)
        return [await asyncio.to_thread(inner, page.collection, entry) for entry in self._read(page)]

    def _read(self, page: ChatPage) -> list[Entry]:
        self._data_keys.learn(_read_keys(page))
        self._clock.turn(page.index)
        sealed = [is_sealed(part) for part in page.parts]
        self._crypt = self._crypt or page.collection.crypt or any(sealed)
        # Step by step for all of a page, not part by part: that way the code of a step stays in the
        # processor's cache, and the whole takes two thirds of the time.
        read = [_read_data(part) for part in compress(page.parts, sealed)]
        plaintexts = [self._data_keys.open(data) if data else Finding.CANNOT_OPEN for data in read]
        found = [text if isinstance(text, Finding) else _items(text) for text in plaintexts]
        opened = iter(zip(read, found, strict=True))
        entries: list[Entry] = []
        for part, is_data in zip(page.parts, sealed, strict=True):
            entries += self._sealed(*next(opened)) if is_data else self._in_clear(part)
            self._place += 1
        return entries

    def form(self, page: ChatPage) -> etree._Element | None:
        """The attributes form of a page (XEP-0136 5.8), opened if it is sealed; None: there is none, or
        none of our keys opens it."""
        self._data_keys.learn(_read_keys(page))
        if page.form is None:
            return None
        form = copy.deepcopy(page.form)
        for part in [child for child in form if is_sealed(child)]:
            data = _read_data(part)
            plaintext = self._data_keys.open(data) if data else Finding.CANNOT_OPEN
            content = None if isinstance(plaintext, Finding) else _parsed(plaintext, _DATA_FORM)
            if content is None:
                return None
            form.extend(content)
            form.remove(part)
        return form

    def end(self, count: int | None) -> int:
        """How many messages the server counted and did not give; `count` None: it does not tell."""
        self._data_keys.close()  # books share what was unwrapped: it would stay
        return 0 if count is None else max(0, count - self._place)

    def _in_clear(self, part: etree._Element) -> Iterator[Entry]:
        self._expected = self._expected.skip()
        findings = (Finding.IN_CLEAR,) if self._crypt else ()
        item = _item(part)
        if item is None:
            yield self._unread(False, *findings, Finding.NOT_AN_ITEM)
        else:
            yield self._entry(False, item, Verdict(findings))

    def _sealed(self, data: ReadData | None, found: list[ReadItem] | Finding) -> Iterator[Entry]:
        if data is None or isinstance(found, Finding):
            self._expected = self._expected.skip()
            yield self._unread(True, found if isinstance(found, Finding) else Finding.CANNOT_OPEN)
            return
        if all(item.bound is None for item in found):
            self._expected = self._expected.skip()
        for item in found:
            yield self._entry(True, item, self._judged(data, item))

    def _judged(self, data: ReadData, item: ReadItem) -> Verdict:
        if item.bound is None:
            verdict = _UNBOUND
        else:
            key_name = data.key_names[0] if len(data.key_names) == 1 else None
            verdict, self._expected = judge(self._expected, key_name, item.bound)
        if data.algorithm in opening.AUTHENTICATED:
            return verdict
        return verdict._replace(findings=(*verdict.findings, Finding.ALTERABLE))

    def _entry(self, sealed: bool, item: ReadItem, verdict: Verdict) -> Entry:
        return Entry(self._place, sealed, item, self._clock.at(item), verdict.findings, verdict.missing)

    def _unread(self, sealed: bool, *findings: Finding) -> Entry:
        return Entry(self._place, sealed, None, None, findings)


def _read_keys(page: ChatPage) -> list[ReadKey]:
    """Those EncryptedKeys that can be read; what the others were for cannot be opened, and that is said."""
    found = []
    for element in page.keys:
        try:
            found.append(xmlenc.read_key(element))
        except BadRequest:
            continue
    return found


def _read_data(part: etree._Element) -> ReadData | None:
    try:
        return xmlenc.read_data(part)
    except BadRequest:
        return None


def _items(plaintext: bytes) -> list[ReadItem] | Finding:
    """The items in a plaintext, which may be several (XEP-0241 2); one that is no item spoils all.

    Those without a namespace take that of the collection around them.
    """
    root = _parsed(plaintext, F.namespace)
    found: list[ReadItem] = []
    for child in () if root is None else root:
        if isinstance(child.tag, str):  # no comment
            item = _item(child)
            if item is None:
                return Finding.NOT_AN_ITEM
            found.append(item)
    return found or Finding.NOT_AN_ITEM


def _parsed(plaintext: bytes, namespace: str) -> etree._Element | None:
    """An element that holds what the plaintext does; None: that is no XML."""
    try:
        return parse(b"<x xmlns='%s'>%s</x>" % (namespace.encode(), plaintext))
    except etree.XMLSyntaxError:
        return None


def _item(element: etree._Element) -> ReadItem | None:
    try:
        return items.read(element)
    except (BadRequest, ValueError):  # ValueError: a number of thousands of digits
        return None
