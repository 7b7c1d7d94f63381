"""Pages of a collection -> its messages, or what is to be said of those that cannot be read or
believed, each in its place. Pure: pages come from anywhere, private keys are handed in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from lxml import etree

from archive_crypt.core import items, xmlenc
from archive_crypt.core.dialect import F
from archive_crypt.core.items import ReadItem
from archive_crypt.core.xmlenc import ReadData, ReadKey
from archive_crypt.crypto import opening
from archive_crypt.crypto.envelope import RSA_1_5
from archive_crypt.crypto.opening import CannotOpen, PrivateKey
from archive_crypt.errors import BadRequest, UnusableKey
from archive_crypt.model import Micros
from archive_crypt.reader.checking import Expectation, Finding, Verdict, judge
from archive_crypt.reader.clock import Clock
from archive_crypt.reader.protocol import ChatPage, Listed, is_sealed, parse

_DATA_FORM = "jabber:x:data"


class NoKeyForIt(CannotOpen):
    """No EncryptedKey for it is one of ours."""


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
        self._private_keys = [(_name(key), key) for key in private_keys]
        self._expected = Expectation()
        self._data_keys = _DataKeys(self._private_keys)
        self._place = 0
        self._from_start = secs_from_start
        self._clock = Clock(0)
        self._crypt = False

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of our public keys, as `enable` gives them: their fingerprints."""
        return tuple(name for name, _ in self._private_keys if name)

    def begin(self, collection: Listed, place: int = 0) -> None:
        """A collection is read now, from its item at `place` on."""
        self._expected = self._expected.begin(collection.with_, collection.start, place)
        self._data_keys = _DataKeys(self._private_keys)
        self._clock = Clock(collection.start, from_start=self._from_start)
        self._place, self._crypt = place, collection.crypt

    def lacks_keys(self, page: ChatPage) -> bool:
        """Whether an item came without any EncryptedKey: if only those of our fingerprints were
        asked for, there may be some under other names of our keys."""
        keys = _read_keys(page)
        known = {key.key_name for key in keys} | {key.id for key in keys}
        sealed = (_read_data(part) for part in page.parts if is_sealed(part))
        return any(data is not None and known.isdisjoint(data.key_names + data.key_ids) for data in sealed)

    def read(self, page: ChatPage) -> list[Entry]:
        """The messages of the next page."""
        self._data_keys.learn(_read_keys(page))
        self._clock.turn(page.index)
        self._crypt = self._crypt or page.collection.crypt or any(map(is_sealed, page.parts))
        entries = [entry for part in page.parts for entry in self._read_part(part)]
        return entries if self._inner is None else [self._inner(page.collection, entry) for entry in entries]

    def form(self, page: ChatPage) -> etree._Element | None:
        """The attributes form of a page (XEP-0136 5.8), opened if it is sealed; None: there is none, or
        none of our keys opens it."""
        self._data_keys.learn(_read_keys(page))
        if page.form is None:
            return None
        form = copy.deepcopy(page.form)
        for part in [child for child in form if is_sealed(child)]:
            data = _read_data(part)
            try:
                content = None if data is None else _parsed(self._data_keys.open(data), _DATA_FORM)
            except CannotOpen:
                content = None
            if content is None:
                return None
            form.extend(content)
            form.remove(part)
        return form

    def end(self, count: int | None) -> int:
        """How many messages the server counted and did not give; `count` None: it does not tell."""
        return 0 if count is None else max(0, count - self._place)

    def _read_part(self, part: etree._Element) -> list[Entry]:
        entries = list(self._sealed(part) if is_sealed(part) else self._in_clear(part))
        self._place += 1
        return entries

    def _in_clear(self, part: etree._Element) -> Iterator[Entry]:
        self._expected = self._expected.skip()
        findings = (Finding.IN_CLEAR,) if self._crypt else ()
        item = _item(part)
        if item is None:
            yield self._unread(False, *findings, Finding.NOT_AN_ITEM)
        else:
            yield self._entry(False, item, Verdict(findings))

    def _sealed(self, part: etree._Element) -> Iterator[Entry]:
        data = _read_data(part)
        try:
            if data is None:
                raise CannotOpen
            found = _items(self._data_keys.open(data))
        except CannotOpen as error:
            self._expected = self._expected.skip()
            yield self._unread(True, Finding.NO_KEY if isinstance(error, NoKeyForIt) else Finding.CANNOT_OPEN)
            return
        if not any(item.bound for item in found):
            self._expected = self._expected.skip()
        if not found:
            yield self._unread(True, Finding.NOT_AN_ITEM)
        for item in found:
            yield self._entry(True, item, self._judged(data, item))

    def _judged(self, data: ReadData, item: ReadItem) -> Verdict:
        verdict = Verdict((Finding.UNBOUND,))
        if item.bound is not None:
            key_name = data.key_names[0] if len(data.key_names) == 1 else None
            verdict, self._expected = judge(self._expected, key_name, item.bound)
        if data.algorithm in opening.AUTHENTICATED:
            return verdict
        return replace(verdict, findings=(*verdict.findings, Finding.ALTERABLE))

    def _entry(self, sealed: bool, item: ReadItem, verdict: Verdict) -> Entry:
        return Entry(self._place, sealed, item, self._clock.at(item), verdict.findings, verdict.missing)

    def _unread(self, sealed: bool, *findings: Finding) -> Entry:
        return Entry(self._place, sealed, None, None, findings)


class _DataKeys:
    """The data keys of one collection: those that are open, and the EncryptedKeys that came."""

    def __init__(self, private_keys: Sequence[tuple[str | None, PrivateKey]]) -> None:
        self._private_keys = private_keys
        self._wrapped: dict[bytes, ReadKey] = {}
        self._open: dict[str, bytes] = {}

    def learn(self, keys: Sequence[ReadKey]) -> None:
        self._wrapped |= {key.cipher: key for key in keys}

    def open(self, data: ReadData) -> bytes:
        """The plaintext of an EncryptedData.

        :raises NoKeyForIt: none of its EncryptedKeys is one of ours.
        :raises CannotOpen: one is, but it or the EncryptedData is not as it was made.
        """
        for name in data.key_names:
            if name in self._open:
                try:
                    return opening.open_sealed(data.algorithm, self._open[name], data.cipher)
                except CannotOpen:
                    continue
        return self._unwrap_and_open(data)

    def _unwrap_and_open(self, data: ReadData) -> bytes:
        ours = False
        for wrapped in self._wrapped.values():
            if wrapped.key_name not in data.key_names and wrapped.id not in data.key_ids:
                continue
            for name, private_key in self._private_keys:
                ours = ours or name in wrapped.recipients
                try:
                    oaep = wrapped.digest, wrapped.mgf
                    data_key = opening.unwrap(private_key, wrapped.algorithm, wrapped.cipher, oaep)
                    # With rsa-1_5 anybody's EncryptedKey gives some key, if a useless one.
                    ours = ours or wrapped.algorithm != RSA_1_5
                    plaintext = opening.open_sealed(data.algorithm, data_key, data.cipher)
                except CannotOpen:
                    continue
                self._open |= dict.fromkeys(data.key_names, data_key)
                return plaintext
        raise CannotOpen if ours else NoKeyForIt


def _name(key: PrivateKey) -> str | None:
    """The fingerprint of its public half; None if that is found unfit today: it may open old messages."""
    try:
        return key.public(minimum_bits=1024).name
    except UnusableKey:
        return None


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


def _items(plaintext: bytes) -> list[ReadItem]:
    """The items in a plaintext, which may be several (XEP-0241 2); none if it is anything else.

    Those without a namespace take that of the collection around them. One that is no item spoils all.
    """
    root = _parsed(plaintext, F.namespace)
    found = [_item(child) for child in root if isinstance(child.tag, str)] if root is not None else []
    return [] if None in found else [item for item in found if item is not None]


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
