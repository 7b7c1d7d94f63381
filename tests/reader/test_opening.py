"""Pages are opened, and what cannot be opened or believed is said in its place: nothing is dropped."""

import base64
import contextlib
import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from archive_crypt.core import items, xmlenc
from archive_crypt.core.dialect import DIALECTS
from archive_crypt.core.items import Bound
from archive_crypt.crypto import envelope, opening
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.crypto.opening import CannotOpen
from archive_crypt.model import EncryptedKey, SealedItem
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import ChatPage, Listed
from tests.kit import LAPTOP, PHONE, House, key_info
from tests.reader.kit import (
    JULIET,
    collections,
    found,
    law,
    page,
    read,
    recording,
    said,
    sealed_page,
    talks,
    turn_on,
    with_parts,
)

CIPHER_VALUE = f"{{{xmlenc.XMLENC}}}CipherData/{{{xmlenc.XMLENC}}}CipherValue"
KEY_NAME = f"{{{xmlenc.XMLDSIG}}}KeyInfo/{{{xmlenc.XMLDSIG}}}KeyName"


def changed(element, path, change):
    """A copy of the element in which the text at `path` is what `change` makes of it."""
    other = copy.deepcopy(element)
    child = other.find(path)
    child.text = change(child.text)
    return other


def flipped(text):
    """Base64 of other octets: the last one differs."""
    octets = bytearray(xmlenc.decode_base64(text))
    octets[-1] ^= 1
    return base64.b64encode(octets).decode()


class Sealer:
    """Seals items as a server does, or as it never would, under a data key of its own."""

    def __init__(self, private_key=LAPTOP, seal=envelope.AES256_GCM, wrap=envelope.RSA_OAEP):
        self.ring = KeyRing()
        self.key = self.ring.create(seal)
        self.wrap = wrap
        self.public = private_key.public()

    @property
    def element(self):
        """Its EncryptedKey."""
        cipher = self.ring.wrap(self.key, self.public, self.wrap)
        key = EncryptedKey(self.key.name, self.public.name, self.wrap, cipher)
        return etree.fromstring(xmlenc.write_key(key, f"k{self.key.name}"))

    def data(self, plaintext):
        """EncryptedData of any plaintext."""
        item = SealedItem(0, self.key.name, self.key.algorithm, self.ring.seal(self.key, plaintext))
        return etree.fromstring(xmlenc.write_data(item))

    def item(self, text, number, collection):
        """EncryptedData of an item that is bound to its place."""
        bound = Bound(self.key.name, number, collection.with_.partition("/")[0], collection.start)
        content = f"<to><body>{text}</body></to>"
        return self.data(items.sealed(content, "urn:xmpp:archive", collection.start, collection.start, bound))


@pytest.mark.parametrize("namespace", DIALECTS)
def test_a_conversation_is_opened(namespace):
    """What was said comes back in order, with kind, time and place, in every dialect."""
    dialect = DIALECTS[namespace]
    stream = recording(LAPTOP, dialect=dialect)
    talks(stream, "one")
    stream.house.passes(11)
    stream.hears(f"<message from='{JULIET}/chamber' type='chat'><body>two</body></message>")
    (collection,) = collections(stream, dialect)
    entries = read(page(stream, collection, dialect=dialect))
    assert said(entries) == ["one", "two"]
    assert [(entry.place, entry.item.kind, entry.sealed) for entry in entries] == [
        (0, "to", True),
        (1, "from", True),
    ]
    assert entries[1].at - entries[0].at == 11_000_000
    assert not any(entry.findings or entry.suspicious for entry in entries)


@pytest.mark.parametrize("keys", [(LAPTOP, PHONE), (PHONE, LAPTOP)])
def test_one_of_two_recipients_is_enough(keys):
    """Sealed for two keys, it is opened with either, whichever comes first."""
    shown = sealed_page("one", "two", keys=keys)
    for key in keys:
        assert said(read(shown, key)) == ["one", "two"]


def test_pages_follow_each_other():
    """Places and numbers go on from page to page, and keys that came before open what comes later."""
    stream = recording(LAPTOP)
    talks(stream, "one", "two", "three")
    (collection,) = collections(stream)
    first = page(stream, collection, max=2)
    second = replace(page(stream, collection, max=2, after=first.info.last), keys=())
    book = Book([LAPTOP])
    book.begin(collection)
    entries = book.read(first) + book.read(second)
    assert said(entries) == ["one", "two", "three"]
    assert [entry.place for entry in entries] == [0, 1, 2]
    assert book.end(second.info.count) == 0
    assert not any(entry.suspicious for entry in entries)


def test_only_our_keys_are_asked_for():
    """By the fingerprint, only the EncryptedKeys of our own key come, and they open the page."""
    stream = recording(PHONE, LAPTOP)
    talks(stream, "one")
    (collection,) = collections(stream)
    book = Book([LAPTOP])
    shown = page(stream, collection, *book.key_names)
    assert len(shown.keys) == 1
    assert not book.lacks_keys(shown)
    assert said(read(shown, book=book)) == ["one"]


def test_a_key_under_another_name_is_found():
    """A key that another program supplied under a name of its own: the book says that keys are lacking,
    and with all EncryptedKeys it opens the page."""
    stream = House().stream("romeo@montague.lit/orchard")
    info = key_info(LAPTOP, "my old laptop")
    stream.ask(
        f"<iq type='set' id='a'><auto xmlns='urn:xmpp:archive' save='1' encrypt='1'>{info}</auto></iq>"
    )
    talks(stream, "one")
    (collection,) = collections(stream)
    book = Book([LAPTOP])
    assert book.lacks_keys(page(stream, collection, *book.key_names))
    whole = page(stream, collection)
    assert not book.lacks_keys(whole)
    assert said(read(whole, book=book)) == ["one"]


def test_what_an_honest_server_does_is_never_suspicious():
    """Encryption turned on in the middle, a contact that moves from device to device, whispers in a room,
    a second device with another key: all of it is read without a finding."""
    house = House()
    stream = recording(house=house)
    talks(stream, "in clear at first", to=JULIET)
    turn_on(stream, LAPTOP)
    stream.hears(f"<message from='{JULIET}/chamber' type='chat'><body>from one device</body></message>")
    stream.hears(f"<message from='{JULIET}/balcony' type='chat'><body>from another</body></message>")
    whisper = "<body>psst</body><x xmlns='http://jabber.org/protocol/muc#user'/>"
    stream.hears(f"<message from='verona@chat.capulet.lit/Tybalt' type='chat'>{whisper}</message>")
    talks(recording(PHONE, house=house, resource="phone"), "late", to=JULIET)
    book = Book([LAPTOP])
    entries = [entry for chat in collections(stream) for entry in read(page(stream, chat), book=book)]
    assert sorted(said(entries)) == ["from another", "from one device", "in clear at first", "late", "psst"]
    assert all(entry.sealed and not entry.findings and not entry.missing for entry in entries)


def test_without_the_private_key():
    """What was sealed for others only is said to be so, item by item."""
    shown = sealed_page("one", "two", keys=(PHONE,))
    entries = read(shown, LAPTOP)
    assert said(entries) == [None, None]
    assert found(entries) == [["no-key"], ["no-key"]]
    assert all(entry.suspicious for entry in entries)
    assert found(read(replace(shown, keys=()), PHONE)) == [["no-key"], ["no-key"]]


def test_rsa_1_5_of_others_is_no_key_of_ours():
    """That OpenSSL unwraps every rsa-1_5 EncryptedKey to some key does not make it ours."""
    sealer = Sealer(PHONE, wrap=envelope.RSA_1_5)
    shown = sealed_page("one")
    shown = replace(with_parts(shown, [sealer.item("x", 0, shown.collection)]), keys=(sealer.element,))
    assert found(read(shown, LAPTOP)) == [["no-key"]]
    assert said(read(shown, PHONE)) == ["x"]


def test_an_id_that_leads_nowhere_is_no_guess():
    """What tells its EncryptedKey by an Id that is not there is not opened by a data key whose padding fits."""
    sealer, other = Sealer(seal=envelope.AES128_CBC), bytes(16)
    item = b"<to xmlns='urn:xmpp:archive' secs='0'><body>x</body></to>"
    ours = _unwrapped(sealer)
    while True:
        sealed = envelope.seal(envelope.AES128_CBC, memoryview(other), item)
        with contextlib.suppress(CannotOpen):  # that is so in one case of sixteen
            opening.open_sealed(envelope.AES128_CBC, ours, sealed)
            break
    told = xmlenc.write_data(SealedItem(0, "of-nothing", envelope.AES128_CBC, sealed), ["nowhere"])
    shown = sealed_page("one")
    shown = replace(with_parts(shown, [etree.fromstring(told)]), keys=(sealer.element,))
    assert found(read(shown)) == [["no-key"]]


def test_a_data_key_of_the_same_name_whose_padding_fits():
    """Of two data keys of one name, or one that is named and one that is told by its Id, that opens an item sealed
    with CBC which makes a message of it: padding alone is no proof, whichever was wrapped first."""
    right, wrong = (Sealer(seal=envelope.AES128_CBC) for _ in range(2))
    item = b"<to xmlns='urn:xmpp:archive' secs='0'><body>x</body></to>"
    ours = _unwrapped(wrong)
    while True:
        sealed = envelope.seal(envelope.AES128_CBC, memoryview(_unwrapped(right)), item)
        with contextlib.suppress(CannotOpen):  # that is so in fifteen cases of sixteen
            opening.open_sealed(envelope.AES128_CBC, ours, sealed)
            break
    data = SealedItem(0, wrong.key.name, envelope.AES128_CBC, sealed)
    shown = replace(sealed_page("one"), keys=(wrong.element, right.element))
    by_id = etree.fromstring(xmlenc.write_data(data, [f"k{right.key.name}"]))
    assert said(read(with_parts(shown, [wrong.data(item), by_id]))) == ["x", "x"]
    of_one_name = etree.fromstring(
        etree.tostring(right.element).decode().replace(f">{right.key.name}<", f">{wrong.key.name}<")
    )
    shown = replace(shown, keys=(wrong.element, of_one_name))
    by_name = etree.fromstring(xmlenc.write_data(data))
    assert said(read(with_parts(shown, [wrong.data(item), by_name]))) == ["x", "x"]


def _unwrapped(sealer):
    wrapped = xmlenc.read_key(sealer.element)
    return opening.unwrap(LAPTOP, wrapped.algorithm, wrapped.cipher, (wrapped.digest, wrapped.mgf))


def test_an_altered_item():
    """One altered octet, and only that item is not opened."""
    shown = sealed_page("one", "two", "three")
    parts = list(shown.parts)
    parts[1] = changed(parts[1], CIPHER_VALUE, flipped)
    entries = read(with_parts(shown, parts))
    assert said(entries) == ["one", None, "three"]
    assert found(entries) == [[], ["cannot-open"], []]
    assert not any(entry.missing for entry in entries)


@pytest.mark.parametrize("text", ["", "no base64", None])
def test_an_item_that_is_none(text):
    """EncryptedData without a readable CipherValue is reported where it stands."""
    shown = sealed_page("one", "two")
    parts = [changed(shown.parts[0], CIPHER_VALUE, lambda _: text), shown.parts[1]]
    assert found(read(with_parts(shown, parts))) == [["cannot-open"], []]


def test_an_altered_key():
    """An altered EncryptedKey of ours is told from one that was never there."""
    shown = sealed_page("one")
    altered = replace(shown, keys=tuple(changed(key, CIPHER_VALUE, flipped) for key in shown.keys))
    assert found(read(altered)) == [["cannot-open"]]
    unreadable = replace(shown, keys=tuple(changed(key, CIPHER_VALUE, lambda _: "?") for key in shown.keys))
    assert found(read(unreadable)) == [["no-key"]]


def test_swapped_items():
    """Two items that changed places: a message is missing, and then it comes out of place."""
    shown = sealed_page("one", "two", "three", "four")
    one, two, three, four = shown.parts
    entries = read(with_parts(shown, [one, three, two, four]))
    assert said(entries) == ["one", "three", "two", "four"]
    assert found(entries) == [[], [], ["out-of-place"], []]
    assert [entry.missing for entry in entries] == [0, 1, 0, 0]


def test_a_repeated_item():
    """An item that comes twice is shown twice, and said to be out of place the second time."""
    shown = sealed_page("one", "two")
    one, two = shown.parts
    assert found(read(with_parts(shown, [one, one, two]))) == [[], ["out-of-place"], []]


def test_a_missing_item():
    """Where an item was taken out it is missing, also at the beginning; what follows is all right."""
    shown = sealed_page("one", "two", "three")
    for taken in (0, 1):
        parts = [part for n, part in enumerate(shown.parts) if n != taken]
        entries = read(with_parts(shown, parts))
        assert [entry.missing for entry in entries] == [int(n == taken) for n in range(2)]
        assert [entry.suspicious for entry in entries] == [n == taken for n in range(2)]


def test_items_that_are_counted_and_not_given():
    """What the server counts, and does not give, is missing at the end."""
    shown = sealed_page("one", "two", "three")
    book = Book([LAPTOP])
    read(with_parts(shown, shown.parts[:2]), book=book)
    assert book.end(shown.info.count) == 1
    assert book.end(None) == 0


def test_a_moved_collection():
    """A whole collection under another contact, or another time, is seen in each of its items."""
    shown = sealed_page("one", "two")
    for other in ({"with_": "nurse@capulet.lit"}, {"start": shown.collection.start + 3_600_000_000}):
        moved = replace(shown, collection=replace(shown.collection, **other))
        entries = read(moved)
        assert said(entries) == ["one", "two"]
        assert found(entries) == [["other-collection"], ["other-collection"]]


def test_a_start_that_the_store_moved_on():
    """Collections that would begin at one instant are told apart by the store, and that is no tampering."""
    stream = recording(LAPTOP)
    for thread in ("a", "b", "c"):
        talks(stream, thread, to=JULIET, thread=thread)
    shown = collections(stream)
    assert len({collection.start for collection in shown}) == 3
    book = Book([LAPTOP])
    entries = [entry for collection in shown for entry in read(page(stream, collection), book=book)]
    assert said(entries) == ["a", "b", "c"]
    assert not any(entry.suspicious for entry in entries)


def test_items_swapped_between_collections_of_one_instant():
    """Even where contact and second are the same, two swapped items are seen: by their keys."""
    stream = recording(LAPTOP)
    for thread in ("a", "b"):
        talks(stream, f"{thread}0", f"{thread}1", to=JULIET, thread=thread)
    one, two = (page(stream, collection) for collection in collections(stream))
    keys = one.keys + two.keys
    book = Book([LAPTOP])
    entries = read(replace(one, parts=(two.parts[0], one.parts[1]), keys=keys), book=book)
    entries += read(replace(two, parts=(one.parts[0], two.parts[1]), keys=keys), book=book)
    assert len(said(entries)) == 4
    assert any("key-elsewhere" in words for words in found(entries))


def test_a_renamed_key():
    """A data key under another name than the one bound inside is seen."""
    shown = sealed_page("one")
    parts = [changed(part, KEY_NAME, lambda _: "other") for part in shown.parts]
    carried = f"{{{xmlenc.XMLENC}}}CarriedKeyName"
    keys = tuple(changed(key, carried, lambda _: "other") for key in shown.keys)
    entries = read(replace(with_parts(shown, parts), keys=keys))
    assert said(entries) == ["one"]
    assert found(entries) == [["other-key-name"]]


def test_a_second_data_key():
    """A collection may go on under another data key, and is opened with both."""
    shown = sealed_page("one", "two")
    second = Sealer()
    more = [second.item("three", 2, shown.collection), second.item("four", 3, shown.collection)]
    entries = read(replace(with_parts(shown, [*shown.parts, *more]), keys=(*shown.keys, second.element)))
    assert said(entries) == ["one", "two", "three", "four"]
    assert not any(entry.suspicious for entry in entries)


def test_plain_items():
    """What was archived in clear is read as well, and known to be so."""
    stream = recording()
    talks(stream, "one", "two")
    (collection,) = collections(stream)
    entries = read(page(stream, collection))
    assert said(entries) == ["one", "two"]
    assert [entry.sealed for entry in entries] == [False, False]
    assert not any(entry.suspicious for entry in entries)


def test_a_plain_item_among_sealed_ones():
    """In an encrypted collection an item in clear is suspicious: the server itself could have put it there."""
    shown = sealed_page("one", "two")
    forged = etree.fromstring("<from xmlns='urn:xmpp:archive' secs='0'><body>forged</body></from>")
    entries = read(with_parts(shown, [shown.parts[0], forged, shown.parts[1]]))
    assert said(entries) == ["one", "forged", "two"]
    assert found(entries) == [[], ["in-clear"], []]


def test_what_a_client_sealed():
    """Several items in one EncryptedData, without namespace, bound to nothing: all are shown, and said to be
    unbound, which is not suspicious."""
    shown = sealed_page("one")
    sealer = Sealer()
    data = sealer.data(b"<to secs='0'><body>a</body></to> <from secs='7'><body>b</body></from>")
    entries = read(replace(with_parts(shown, [*shown.parts, data]), keys=(*shown.keys, sealer.element)))
    assert said(entries) == ["one", "a", "b"]
    assert found(entries) == [[], ["unbound"], ["unbound"]]
    assert [entry.place for entry in entries] == [0, 1, 1]
    assert entries[2].at - entries[1].at == 7_000_000
    assert not any(entry.suspicious for entry in entries)


def test_an_unbound_item_between_bound_ones():
    """A client's item takes a place, which is no gap in the numbers of the others; a real gap still is."""
    shown = sealed_page("0", "1", "2", "3")
    sealer = Sealer()
    data = sealer.data(b"<to><body>a</body></to><to><body>b</body></to>")
    keys = (*shown.keys, sealer.element)
    for taken, missing in ((1, 0), (2, 1)):
        parts = [shown.parts[0], data, *shown.parts[1 + taken :]]
        entries = read(replace(with_parts(shown, parts), keys=keys))
        assert sum(entry.missing for entry in entries) == missing


def test_a_key_of_ours_for_something_else():
    """An item sealed for others only has no key of ours, though other items of the page have."""
    shown = sealed_page("one")
    other = Sealer(PHONE)
    parts = [*shown.parts, other.item("x", 1, shown.collection)]
    entries = read(replace(with_parts(shown, parts), keys=(*shown.keys, other.element)))
    assert found(entries) == [[], ["no-key"]]


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"hello",
        b"\x00\xff",
        b"<note",
        b"<iq xmlns='jabber:client'/>",
        b"</x><x>",
        b"<to secs='x'><body/></to>",
        b"<to secs='%s'><body/></to>" % (b"9" * 5000),
        b"<to xmlns:b='urn:x-archive-crypt:0' b:of='k %s 2026-11-21T10:00:00Z a@b'/>" % (b"9" * 5000),
        b"<to/><iq/>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><to><body>&b;</body></to>",
        b"<a:to><body>undeclared</body></a:to>",
        b"<a:to><body>undeclared</body><x xmlns='relative'/></a:to>",  # a warning hides the error
        b"<to><body>undeclared</body><b:x/><x xmlns='relative'/></to>",
        b"<to b:secs='0'><body>undeclared</body><x xmlns='relative'/></to>",
    ],
)
def test_what_is_not_a_message(plaintext):
    """Anything else that was sealed is said to be no message, and harms nothing."""
    shown = sealed_page("one")
    sealer = Sealer()
    keys = (*shown.keys, sealer.element)
    entries = read(replace(with_parts(shown, [sealer.data(plaintext), *shown.parts]), keys=keys))
    assert said(entries) == [None, "one"]
    assert found(entries) == [["not-an-item"], []]


def test_what_stands_between_messages():
    """Comments and the like beside a message that a client sealed are none, and harm nothing."""
    shown = sealed_page("one")
    sealer = Sealer()
    data = sealer.data(b"<!-- a --> <to secs='0'><body>two</body></to><?b c?>")
    assert said(read(replace(with_parts(shown, [data]), keys=(sealer.element,)))) == ["two"]


def test_a_time_beyond_all_calendars():
    """A message so late that no calendar has its day is shown without a time."""
    shown = sealed_page("one")
    sealer = Sealer()
    data = sealer.data(b"<to secs='99999999999999999999'><body>late</body></to>")
    (entry,) = read(replace(with_parts(shown, [data]), keys=(sealer.element,)))
    assert (entry.item.bodies, entry.at) == (((None, "late"),), None)


@law
@given(st.binary() | st.text().map(str.encode))
def test_whatever_was_sealed_is_one_entry_at_least(plaintext):
    """No plaintext stops the reader, and none is dropped."""
    sealer = Sealer()
    collection = Listed(JULIET, 0, "1970-01-01T00:00:00Z", crypt=True)
    shown = ChatPage(collection, (sealer.data(plaintext),), (sealer.element,), 0, None)
    assert len(read(shown)) >= 1


def test_a_cipher_that_shows_no_alteration():
    """What was sealed with CBC is read, with the remark that an alteration would not show."""
    shown = sealed_page("one")
    old = Sealer(seal=envelope.AES128_CBC, wrap=envelope.RSA_1_5)
    entries = read(replace(with_parts(shown, [old.item("x", 0, shown.collection)]), keys=(old.element,)))
    assert said(entries) == ["x"]
    assert found(entries) == [["alterable"]]
    assert not entries[0].suspicious


def test_each_key_is_unwrapped_once(monkeypatch):
    """However many items a data key opens, and however many decoys bear its name, each EncryptedKey is tried
    once by each private key: an RSA operation takes as long as fifty items."""
    shown = sealed_page("1", "2", "3", keys=(LAPTOP,))
    (wrapped,) = shown.keys
    decoys = []
    for number in range(3):
        decoy = copy.deepcopy(wrapped)
        cipher = decoy.find(f".//{{{xmlenc.XMLENC}}}CipherValue")
        cipher.text = base64.b64encode(bytes([number]) * 256).decode()
        decoys.append(decoy)
    tried = []
    unwrap = opening.unwrap
    monkeypatch.setattr(opening, "unwrap", lambda *request: tried.append(request[2]) or unwrap(*request))
    book = Book([PHONE, LAPTOP])
    assert said(read(replace(shown, keys=(*decoys, wrapped)), book=book)) == ["1", "2", "3"]
    assert len(tried) == len(set(tried)) * 2 == 8
    unopened = read(replace(shown, keys=tuple(decoys)), book=Book([LAPTOP]))
    assert found(unopened) == [["cannot-open"]] * 3
    assert len(tried) == 11
