"""The plugin for XEP-0241: a slixmpp client over TLS, a real server, a real archive."""

import pytest
from lxml import etree
from pytest_twisted import ensureDeferred
from twisted.words.protocols.jabber.error import StanzaError

from archive_crypt.core import xmlenc
from archive_crypt.core.dialect import F
from archive_crypt.core.items import ReadItem
from archive_crypt.crypto import envelope, opening
from archive_crypt.model import SECOND, EncryptedKey, PageRequest
from archive_crypt.reader.errors import CannotAsk, Conflict, NotAcceptable, NotFound, NotOffered, NotWanted
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, awaited
from tests.reader.kit import said
from tests.reader.scripted import Scripted

JULIET = f"juliet@{DOMAIN}"
START, HOUR = MORNING * SECOND, 3600 * SECOND


async def all_of(iterator):
    return [one async for one in iterator]


async def read(client, collection, *private_keys):
    """The entries of a collection."""
    book, entries = Book(private_keys or [LAPTOP]), []
    book.begin(collection)
    async for page in client.plugin["xep_0241"].pages(collection, book):
        entries += book.read(page)
    return entries


@ensureDeferred
@pytest.mark.clause("0136-auto-crypt-01", "0136-auto-crypt-02", "0241-3-01", "0241-3-06", "D218-18")
async def test_enable(served, login, talk):
    """Archiving is turned on, encrypted for the keys given, for later streams too; and it is read."""
    client = await login(served)
    assert await awaited(client.plugin["xep_0241"].enable([LAPTOP.public()], lasting=True))
    shown = (await awaited(client.plugin["xep_0136"].get_preferences())).auto
    assert (shown.save, shown.encrypt, shown.lasting) == (True, True, True)
    await talk("O Romeo", "Shall I hear more?")
    (collection,) = await awaited(all_of(client.plugin["xep_0136"].collections()))
    assert collection.crypt
    entries = await awaited(read(client, collection))
    assert said(entries) == ["O Romeo", "Shall I hear more?"]
    assert not any(entry.suspicious for entry in entries)


@ensureDeferred
@pytest.mark.clause("0241-7-01", "0241-3-14")
async def test_enable_where_it_cannot_be(serve, login):
    """No key, and no encryption, are different errors; nothing is archived in clear instead."""
    client = await login(serve())
    with pytest.raises(NotAcceptable):
        await awaited(client.plugin["xep_0241"].enable())
    for settings in (
        {"encryption": False},
        {"features": ()},
        {"features": [F.feature("auto"), F.feature("pref")]},
    ):
        other = await login(serve(**settings))
        with pytest.raises(NotOffered, match="auto and encrypt"):
            await awaited(other.plugin["xep_0241"].enable([LAPTOP.public()]))
        assert not (await awaited(other.plugin["xep_0136"].get_preferences())).auto.save


@ensureDeferred
@pytest.mark.clause("0241-5-01", "0241-5-05", "0241-5-06")
async def test_small_pages_with_our_keys(served, login):
    """Encrypted collections come in pages of five at most, with the EncryptedKeys of our own key only."""
    await served.record(*"0123456", keys=(LAPTOP, PHONE))
    client = await login(served)
    (collection,) = await awaited(all_of(client.plugin["xep_0136"].collections()))
    pages = await awaited(all_of(client.plugin["xep_0241"].pages(collection, Book([PHONE]))))
    assert [len(page) for page in pages] == [5, 2]
    assert [len(page.keys) for page in pages] == [1, 1]
    assert said(await awaited(read(client, collection, PHONE))) == list("0123456")


@ensureDeferred
@pytest.mark.clause("0241-6-02", "0241-6-06")
async def test_keys(served, login):
    """The EncryptedKeys of a public key are listed over all collections, page by page, and deleted from
    one; those that would lock somebody out are guarded."""
    for hour in range(3):
        await served.record("x", keys=(LAPTOP, PHONE), at=MORNING + 3600 * hour)
    client = await login(served, list_page=2)
    sealed, laptop = client.plugin["xep_0241"], LAPTOP.public().name
    listed = await awaited(all_of(sealed.keys([laptop])))
    assert [len(keys) for _, keys in listed] == [1, 1, 1]
    collection, _ = listed[1]
    await awaited(sealed.delete(collection, [laptop]))
    left = await awaited(all_of(sealed.keys([laptop])))
    assert [chat.start for chat, _ in left] == [listed[0][0].start, listed[2][0].start]
    assert said(await awaited(read(client, collection, PHONE))) == ["x"]
    await awaited(sealed.delete(collection, [laptop]))
    await awaited(client.plugin["xep_0136"].remove(collection))
    with pytest.raises(NotFound):
        await awaited(sealed.delete(collection, [laptop]))


@ensureDeferred
async def test_delete_as_the_standard_prints_it(serve, login):
    """A server that takes <delete/> as a get only, as XEP-0241 prints it, is asked so."""
    heard = []

    def script(element):
        return StanzaError("bad-request") if element.kind == "set" else None

    served = serve(features=(), handler=lambda archiver, jid: Scripted(script, heard))
    client = await login(served)
    await awaited(client.plugin["xep_0241"].delete(Listed.named(JULIET, START), ["laptop"]))
    assert [element.kind for element in heard] == ["set", "get"]


@ensureDeferred
async def test_the_last_key_of_what_is_recorded(served, login, talk):
    """The last EncryptedKey of a data key in use is not deleted."""
    client = await login(served)
    sealed, laptop = client.plugin["xep_0241"], LAPTOP.public().name
    await awaited(sealed.enable([LAPTOP.public()], lasting=True))
    await talk("O Romeo")
    ((collection, _),) = await awaited(all_of(sealed.keys([laptop])))
    with pytest.raises(Conflict):
        await awaited(sealed.delete(collection, [laptop]))


# Uploads


def spoken(text, after=0, kind="to", rest=()):
    return ReadItem(kind, START + after, None, None, ((None, text),), None, None, rest)


@ensureDeferred
@pytest.mark.clause(
    "0241-2-01", "0241-2-03", "0241-2-04", "0241-2-07", "0241-2-14", "0241-2-15", "0241-2-16", "0241-7-03"
)
async def test_save_sealed(serve, login):
    """What is uploaded is one EncryptedData, of a fresh data key that is wrapped for each public key:
    nothing is in clear, any of the private keys opens it, and the server need not offer encryption."""
    served = serve(encryption=False)
    client = await login(served)
    chat = Listed.named(JULIET, START, thread="ffd7")
    items = [spoken("O Romeo", 510_000), spoken("<&>", 11 * SECOND, "from"), spoken("mine", kind="note")]
    keys = [LAPTOP.public(), PHONE.public()]
    saved = await awaited(client.plugin["xep_0241"].save(chat, items, keys))
    assert (saved.items, saved.collection.crypt, saved.collection.thread) == (3, True, "ffd7")
    page = await awaited(client.plugin["xep_0136"].page(chat))
    (data,) = page.parts
    found = xmlenc.read_data(data)
    wrapped = [xmlenc.read_key(key) for key in page.keys]
    assert data.get("Type") == xmlenc.CONTENT_TYPE
    assert (found.algorithm, {key.algorithm for key in wrapped}) == (envelope.AES256_GCM, {envelope.RSA_OAEP})
    assert {key.key_name for key in wrapped} == set(found.key_names)
    assert sorted(name for key in wrapped for name in key.recipients) == sorted(key.name for key in keys)
    for key in (LAPTOP, PHONE):
        entries = await awaited(read(client, chat, key))
        assert said(entries) == ["O Romeo", "<&>", "mine"]
        assert [(entry.item.kind, entry.at) for entry in entries] == [(one.kind, one.at) for one in items]


@ensureDeferred
@pytest.mark.clause("0241-2-09", "0241-2-11")
async def test_a_key_for_each_upload(served, login):
    """Each upload has a data key of its own, however many stanzas it takes; those of one share it, and
    send its EncryptedKeys once."""
    client = await login(served, most_items=2)
    chat, sealed = Listed.named(JULIET, START), client.plugin["xep_0241"]
    sent = []
    client.add_filter("out", lambda stanza: sent.append(str(stanza)) or stanza)
    for hour in range(2):
        texts = [spoken(str(5 * hour + number), hour * HOUR + number * SECOND) for number in range(5)]
        await awaited(sealed.save(chat, texts, [LAPTOP.public()]))
    uploads = [text for text in sent if "<save" in text]
    assert [text.count("<EncryptedKey") for text in uploads] == [1, 0, 0, 1, 0, 0]
    page = await awaited(client.plugin["xep_0136"].page(chat, PageRequest(max=50)))
    names = [xmlenc.read_data(part).key_names for part in page.parts]
    assert len(set(names[:3])) == len(set(names[3:])) == 1
    assert names[0] != names[3]
    assert said(await awaited(read(client, chat))) == list("0123456789")


@ensureDeferred
async def test_old_algorithms_only_when_told(served, login):
    """What is old is written when it is asked for by name, and read."""
    client = await login(served)
    for second, (algorithm, wrapping) in enumerate(
        [(envelope.AES128_CBC, envelope.RSA_1_5), (envelope.AES256_CBC, envelope.RSA_OAEP_MGF1P)]
    ):
        chat = Listed.named(JULIET, START + second * SECOND)
        how = {"algorithm": algorithm, "wrapping": wrapping}
        await awaited(client.plugin["xep_0241"].save(chat, [spoken("x")], [LAPTOP.public()], **how))
        page = await awaited(client.plugin["xep_0136"].page(chat))
        assert xmlenc.read_data(page.parts[0]).algorithm == algorithm
        assert xmlenc.read_key(page.keys[0]).algorithm == wrapping
        assert said(await awaited(read(client, chat))) == ["x"]


@ensureDeferred
@pytest.mark.clause("0136-security-encrypt-01", "0241-8-01")
async def test_a_subject_is_confirmed(served, login):
    """A subject, which the server can read, goes with what is sealed only when that was confirmed;
    otherwise nothing is sent."""
    client = await login(served)
    chat, sealed, keys = Listed.named(JULIET, START), client.plugin["xep_0241"], [LAPTOP.public()]
    asked = []
    for confirm in ({}, {"confirm": lambda subject: asked.append(subject)}):
        with pytest.raises(NotWanted, match="can be read by the server"):
            await awaited(sealed.save(chat, [spoken("x")], keys, subject="She speaks!", **confirm))
    assert asked == ["She speaks!"]
    assert await awaited(all_of(client.plugin["xep_0136"].collections())) == []
    saved = await awaited(
        sealed.save(chat, [spoken("x")], keys, subject="She speaks!", confirm=lambda subject: True)
    )
    assert saved.collection.subject == "She speaks!"


@ensureDeferred
@pytest.mark.clause("0136-impl-form-06", "0241-2-18")
async def test_a_sealed_form(served, login):
    """What a form holds is sealed, too, and goes with an empty one."""
    client = await login(served)
    chat, sealed = Listed.named(JULIET, START), client.plugin["xep_0241"]
    form = "<x xmlns='jabber:x:data' type='submit'><field var='task'><value>1</value></field></x>"
    await awaited(sealed.save(chat, [], [LAPTOP.public()], form=form))
    page = await awaited(client.plugin["xep_0136"].page(chat))
    assert b"task" not in etree.tostring(page.form)
    book = Book([LAPTOP])
    book.begin(chat)
    assert book.form(page).find(".//{jabber:x:data}field").get("var") == "task"
    other = Book([PHONE])
    other.begin(chat)
    assert other.form(page) is None
    await awaited(sealed.save(chat, [], [LAPTOP.public()], form="<x xmlns='jabber:x:data' type='submit'/>"))
    assert (await awaited(client.plugin["xep_0136"].page(chat))).form is None
    ((_, keys),) = await awaited(all_of(sealed.keys([LAPTOP.public().name])))
    assert len(keys) == 1  # there is none for a data key that seals nothing


@ensureDeferred
async def test_nobody_could_read_it(served, login):
    """Without a public key nothing is uploaded, sealed or in clear."""
    client = await login(served)
    with pytest.raises(CannotAsk, match="nobody could read"):
        await awaited(client.plugin["xep_0241"].save(Listed.named(JULIET, START), [spoken("x")], []))
    assert await awaited(all_of(client.plugin["xep_0136"].collections())) == []


@ensureDeferred
@pytest.mark.clause("0241-6-01", "0241-6-05", "0241-2-08")
async def test_keys_are_added(served, login):
    """A data key that is wrapped for another public key lets its private key open what is there."""
    await served.record("secret", keys=(LAPTOP,))
    client = await login(served)
    sealed, names = client.plugin["xep_0241"], [LAPTOP.public().name]
    ((chat, (element,)),) = await awaited(all_of(sealed.keys(names)))
    old = xmlenc.read_key(element)
    data_key = opening.unwrap(LAPTOP, old.algorithm, old.cipher)
    cipher = envelope.wrap(envelope.RSA_OAEP, memoryview(data_key), PHONE.public())
    new = EncryptedKey(old.key_name, PHONE.public().name, envelope.RSA_OAEP, cipher)
    changed = await awaited(sealed.save_keys(chat, [new]))
    assert changed.version == chat.version + 1
    await awaited(sealed.delete(chat, names))
    assert said(await awaited(read(client, chat, PHONE))) == ["secret"]
    assert await awaited(all_of(sealed.keys(names))) == []
