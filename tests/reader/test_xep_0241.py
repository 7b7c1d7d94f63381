"""The plugin for XEP-0241: a slixmpp client over TLS, a real server, a real archive."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import F
from archive_crypt.reader.errors import Conflict, NotAcceptable, NotFound, NotOffered
from archive_crypt.reader.opening import Book
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, awaited
from tests.reader.kit import said

JULIET = f"juliet@{DOMAIN}"


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
@pytest.mark.clause("0136-auto-crypt-02", "0241-3-06")
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
async def test_the_last_key_of_what_is_recorded(served, login, talk):
    """The last EncryptedKey of a data key in use is not deleted."""
    client = await login(served)
    sealed, laptop = client.plugin["xep_0241"], LAPTOP.public().name
    await awaited(sealed.enable([LAPTOP.public()], lasting=True))
    await talk("O Romeo")
    ((collection, _),) = await awaited(all_of(sealed.keys([laptop])))
    with pytest.raises(Conflict):
        await awaited(sealed.delete(collection, [laptop]))
