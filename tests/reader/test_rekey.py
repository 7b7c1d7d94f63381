"""Another key in place of an old one: nothing is deleted before what takes its place has opened the same."""

import asyncio
import base64
import secrets
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from lxml import etree
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from archive_crypt.core import xmlenc
from archive_crypt.core.dialect import T, V
from archive_crypt.core.rsm import PageInfo
from archive_crypt.crypto import envelope, opening
from archive_crypt.crypto.envelope import AES128_CBC, AES256_GCM, RSA_1_5, RSA_OAEP
from archive_crypt.model import SECOND, EncryptedKey, SealedItem, UploadedKey
from archive_crypt.reader import rekey
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.connection import Account, Connection
from archive_crypt.reader.errors import CannotAsk
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import ChatPage, Listed, Query
from archive_crypt.reader.rekey import Rekey
from archive_crypt.reader.rewrapping import DataKey, Evidence, Holder
from archive_crypt.store.interfaces import MOST_WRAPPED
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, USERS, awaited

ROMEO, JULIET = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}"
OLD, NEW = LAPTOP.fingerprint, PHONE.fingerprint
#: A data key of 32 octets, and its name.
KEY, NAME = bytes(range(32)), "usr-one"


@asynccontextmanager
async def connected(served, certificate, kind=Archive):
    account = Account(ROMEO, "127.0.0.1", served.port, certificate)
    async with Connection(account, USERS["romeo"]) as connection:
        yield kind(connection)


@pytest.fixture
def replaced(served, certificate):
    """A function that replaces LAPTOP by PHONE; the outcome, and what was told of the progress. `kind`
    of Archive: what the user's own others do meanwhile. `at`: another server."""

    async def run(kind=Archive, names=(OLD,), at=served):
        told = []
        async with connected(at, certificate, kind) as archive:
            holders = Holder(LAPTOP, names), Holder(PHONE, (NEW,))
            outcome = await Rekey(archive, *holders, lambda *progress: told.append(progress)).run()
        return outcome, told

    return lambda *args, **kwargs: awaited(run(*args, **kwargs))


@pytest.fixture
def readable(served, certificate):
    """A function: what a key reads, collection by collection; None for what it cannot."""

    async def run(key, at=served):
        async with connected(at, certificate) as archive:
            return await read(archive, key)

    return lambda *args, **kwargs: awaited(run(*args, **kwargs))


async def read(archive, *keys):
    book, found = Book(keys), []
    async for collection in archive.collections(Query()):
        book.begin(collection)
        async for page in archive.pages(collection, book):
            found += [entry.item and entry.item.bodies[0][1] for entry in book.read(page)]
    return found


def wrapped_for(served, name):
    """The EncryptedKeys for a public key that the server holds, of each collection."""
    return [sum(name in xml(key) for key in kept.keys) for kept in served.kept]


def xml(key):
    return key.content if hasattr(key, "content") else f"{key.recipient} {key.key_name}"


def reasons(outcome):
    return [(left.collection.with_, left.why.word) for left in outcome.left]


async def upload(client, with_, *parts, at=MORNING):
    """What another client adds to a collection."""
    collection = Listed.named(with_, at * 1_000_000)
    await awaited(client.plugin["xep_0136"].upload(collection, parts))


def data(text="But soft", key=KEY, name=NAME, algorithm=AES256_GCM):
    """An item that another client sealed."""
    plaintext = f"<to xmlns='urn:xmpp:archive' secs='0'><body>{text}</body></to>".encode()
    sealed = envelope.seal(algorithm, memoryview(key), plaintext)
    return xmlenc.write_data(SealedItem(0, name, algorithm, sealed))


def by_id(text, name=None, **how):
    """An item that another client sealed, and that tells its EncryptedKey by its Id; and by this name."""
    whole = data(text, **how)
    names = f"<KeyName>{how.get('name', NAME)}</KeyName>"
    assert whole.count(names) == 1
    told = f"<RetrievalMethod URI='#k1' Type='{xmlenc.XMLENC}EncryptedKey'/>"
    return whole.replace(names, told if name is None else f"<KeyName>{name}</KeyName>{told}")


def key(octets=KEY, name=NAME, private=LAPTOP, recipient=None, algorithm=RSA_OAEP, cut=None, id_="k1"):
    """An EncryptedKey that another client wrapped."""
    public = private.public()
    cipher = envelope.wrap(algorithm, memoryview(bytearray(octets)), public)[:cut]
    return xmlenc.write_key(EncryptedKey(name, recipient or public.name, algorithm, cipher), id_)


# What it is for.


@pytest.mark.clause("0241-6-01", "0241-6-02", "0241-6-05", "0241-6-06")
@ensureDeferred
async def test_all_collections(served, replaced, readable):
    """Nothing is left for the old key, and the new one reads everything; the progress is told."""
    for hour in range(5):
        await served.record(f"{hour}", "x", at=MORNING + 3600 * hour)
    outcome, told = await replaced()
    assert (outcome.replaced, outcome.left, outcome.empty) == (5, (), True)
    assert told == [*((done, 5) for done in range(6)), (0, 0)]
    assert wrapped_for(served, OLD) == [0] * 5
    assert wrapped_for(served, NEW) == [1] * 5
    assert await readable(PHONE) == [text for hour in range(5) for text in (f"{hour}", "x")]
    assert set(await readable(LAPTOP)) == {None}


@ensureDeferred
async def test_an_empty_archive(replaced):
    """Where there is nothing to do, nothing is done, and that is the end."""
    outcome, told = await replaced()
    assert (outcome.replaced, outcome.left, outcome.empty) == (0, (), True)
    assert told == [(0, 0)]


@ensureDeferred
async def test_what_others_have_stays(served, replaced, readable):
    """EncryptedKeys for further keys, and what is in clear, are not touched."""
    third = opening.generate(2048)
    await served.record("sealed", keys=(LAPTOP, third))
    await served.record("in clear", keys=(), at=MORNING + 3600)
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.empty) == (1, True)
    assert await readable(third) == ["sealed", "in clear"]


@pytest.mark.clause("0241-6-09")
@ensureDeferred
async def test_what_is_done_is_not_done_again(served, replaced, readable):
    """Where the new key opens it already, as when it was stopped before, nothing is added."""
    await served.record("half done", keys=(LAPTOP, PHONE))
    before = served.kept[0].keys[:]
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.empty) == (1, True)
    assert served.kept[0].keys == [key for key in before if key.recipient == NEW]
    assert await readable(PHONE) == ["half done"]


@ensureDeferred
async def test_by_every_name(served, login, replaced, readable):
    """EncryptedKeys that call the old key otherwise are replaced too, if that name is known."""
    client = await login(served)
    await upload(client, JULIET, data(), key(recipient="julietRSAkey1hash"))
    outcome, _ = await replaced()
    assert outcome.replaced == 0
    outcome, _ = await replaced(names=(OLD, "julietRSAkey1hash"))
    assert (outcome.replaced, outcome.empty) == (1, True)
    assert await readable(PHONE) == ["But soft"]


@ensureDeferred
async def test_by_the_new_keys_name(served, login, replaced):
    """Where the old key may be called as the new one is, nothing is begun: what is deleted by that name would
    be what was just added."""
    await upload(await login(served), JULIET, data(), key(recipient=NEW))
    with pytest.raises(CannotAsk, match="leave that out"):
        await replaced(names=(OLD, NEW))
    assert wrapped_for(served, NEW) == [1]


@ensureDeferred
async def test_several_data_keys(served, login, replaced, readable):
    """Every data key of a collection is seen to, wherever its items are, and whatever wraps and seals it."""
    client = await login(served)
    algorithms = [
        (AES256_GCM, 32, RSA_OAEP),
        (AES128_CBC, 16, RSA_1_5),
        (AES256_GCM, 32, envelope.RSA_OAEP_MGF1P),
    ]
    for number, (sealing, size, wrapping) in enumerate(algorithms):
        octets, name = bytes([number + 1]) * size, f"key-{number}"
        parts = [data(f"{number}.{n}", octets, name, sealing) for n in range(30)]
        await upload(client, JULIET, *parts, key(octets, name, algorithm=wrapping, id_=f"k{number}"))
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.left, outcome.empty) == (1, (), True)
    assert await readable(PHONE) == [f"{number}.{n}" for number in range(3) for n in range(30)]


@ensureDeferred
async def test_two_data_keys_of_one_name(served, login, replaced, readable):
    """Where two data keys bear one name, and each opens its items, both are replaced."""
    client, other = await login(served), bytes(32)
    await upload(client, JULIET, data("one"), data("two", other), key(), key(other, id_="k2"))
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.empty) == (1, True)
    assert await readable(PHONE) == ["one", "two"]


@ensureDeferred
async def test_two_names_of_one_data_key(served, login, replaced, readable):
    """Where one data key bears two names, and one CipherValue holds it under both, both are replaced."""
    client, first = await login(served), key()
    second = first.replace(f">{NAME}<", ">usr-two<").replace("'k1'", "'k2'")
    assert second.count("usr-two") == second.count("'k2'") == 1  # and its CipherValue is the same
    await upload(client, JULIET, data("one"), data("two", name="usr-two"), first, second)
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.empty) == (1, True)
    assert await readable(PHONE) == ["one", "two"]


@pytest.mark.parametrize(("algorithm", "size"), [(AES256_GCM, 32), (AES128_CBC, 16)])
@pytest.mark.parametrize("name", [None, "of-nothing"])
@ensureDeferred
async def test_an_id_that_leads_nowhere(served, login, replaced, readable, name, algorithm, size):
    """What tells its EncryptedKey by the Id alone is read with the new key as it was with the old one, on
    whatever page it is."""
    client, how = await login(served), {"key": KEY[:size], "algorithm": algorithm}
    parts = [by_id(f"{number}", name, **how) for number in range(150)]
    await upload(client, JULIET, data("named", **how), *parts, key(KEY[:size]))
    before = await readable(LAPTOP)
    assert before[:100] == ["named", *map(str, range(99))]
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.left, outcome.empty) == (1, (), True)
    assert await readable(PHONE) == before


@ensureDeferred
async def test_an_id_that_is_anothers_then(served, login, replaced, readable):
    """The Id of the old EncryptedKey may become that of one for other data: what told it is read all the same."""
    client, other = await login(served), bytes(32)
    await upload(client, JULIET, data("one"), by_id("two"), key())
    await upload(client, JULIET, data("three", other, "usr-two"), key(other, "usr-two", private=PHONE))
    assert (await readable(LAPTOP))[:2] == ["one", "two"]
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.empty) == (1, True)
    assert await readable(PHONE) == ["one", "two", "three"]


@pytest.mark.parametrize("private", [PHONE, LAPTOP])
@ensureDeferred
async def test_an_id_beside_anothers_name(served, login, replaced, readable, private):
    """What tells its EncryptedKey by the Id, and names another data key of the collection beside it, is read with
    the new key as it was with the old one; whoever the other is wrapped for."""
    client, other = await login(served), bytes(32)
    items = (data("one"), by_id("two", "usr-two"), data("three", other, "usr-two"))
    await upload(client, JULIET, *items, key(), key(other, "usr-two", private=private, id_="k2"))
    assert (await readable(LAPTOP))[:2] == ["one", "two"]
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.left, outcome.empty) == (1, (), True)
    assert await readable(PHONE) == ["one", "two", "three"]


def test_an_id_that_only_its_item_tells():
    """Where nothing but an Id proved an EncryptedKey, beside another's name, what takes its place, under another Id, is
    proved by the same item."""
    keys = key(private=PHONE, id_="k7"), key(bytes(32), "usr-two", private=PHONE, id_="k2")
    items = by_id("two", "usr-two"), data("three", bytes(32), "usr-two")
    parts, wrapped = (tuple(map(etree.fromstring, one)) for one in (items, keys))
    seen = Evidence(Holder(PHONE, (NEW,)))
    seen.see(ChatPage(Listed.named(JULIET, 0), parts, wrapped, 0, None))
    assert seen.proves({DataKey(NAME, KEY), DataKey("usr-two", bytes(32))})


@ensureDeferred
async def test_keys_of_nothing_here(served, login, replaced, readable):
    """An EncryptedKey that is for data elsewhere, or for a sealed form, is replaced where it is."""
    client = await login(served)
    await upload(client, JULIET, data(name="elsewhere"))
    await upload(client, f"nurse@{DOMAIN}", data(), key(), key(name="elsewhere", id_="k2"), at=MORNING + 60)
    form = f"<x xmlns='jabber:x:data' type='submit'>{data(name='form')}</x>"
    await upload(client, f"paris@{DOMAIN}", form, key(name="form"), at=MORNING + 120)
    assert await readable(LAPTOP) == ["But soft", "But soft"]
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.left, outcome.empty) == (2, (), True)
    assert await readable(PHONE) == ["But soft", "But soft"]
    assert wrapped_for(served, NEW) == [0, 2, 1]


# What has to stay.


async def _left(served, login, replaced, readable, *parts, word):
    """An honest collection, and one with these parts, of which the old key's have to stay."""
    client = await login(served)
    await served.record("honest", at=MORNING - 3600)
    await upload(client, JULIET, *parts)
    before = served.kept[1].keys[:]
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.empty) == (1, False)
    assert reasons(outcome) == [(JULIET, word)]
    assert [one for one in before if one not in served.kept[1].keys] == []
    return await readable(PHONE)


@ensureDeferred
async def test_a_decoy(served, login, replaced, readable):
    """A decoy of the same name is told, and nothing is deleted where it is; what can be read is read with the
    new key all the same, there and elsewhere."""
    parts = [data(), key(bytes(32), id_="decoy"), key()]
    said = await _left(served, login, replaced, readable, *parts, word="opens-nothing")
    assert said == ["honest", "But soft"]


@ensureDeferred
async def test_a_decoy_by_an_algorithm_that_opens_always(served, login, replaced, readable):
    """With rsa-1_5 everything opens to something: it counts only if that opens a message."""
    cipher = base64.b64encode(bytes(range(256))).decode()
    decoy = key(algorithm=RSA_1_5, id_="decoy")
    head, _, tail = decoy.partition("<CipherValue>")
    decoy = f"{head}<CipherValue>{cipher}{tail[tail.index('</CipherValue>') :]}"
    said = await _left(served, login, replaced, readable, data(), decoy, key(), word="opens-nothing")
    assert said == ["honest", "But soft"]


@ensureDeferred
async def test_a_decoy_of_nothing(served, login, replaced, readable):
    """What rsa-1_5 wraps and nothing here names is not believed."""
    parts = [data(), key(), key(bytes(32), "idle", algorithm=RSA_1_5, id_="idle")]
    said = await _left(served, login, replaced, readable, *parts, word="opens-nothing")
    assert said == ["honest", "But soft"]


@ensureDeferred
async def test_a_key_that_is_cut_off(served, login, replaced, readable):
    """A truncated EncryptedKey is told, and the rest goes on."""
    parts = [data(), key(cut=100, id_="cut"), key()]
    said = await _left(served, login, replaced, readable, *parts, word="not-opened")
    assert said == ["honest", "But soft"]


@ensureDeferred
async def test_a_key_of_somebody_else(served, login, replaced, readable):
    """An EncryptedKey that says it is for the old key and is for another is told."""
    parts = [data(), key(private=opening.generate(2048), recipient=OLD)]
    assert await _left(served, login, replaced, readable, *parts, word="not-opened") == ["honest", None]


@ensureDeferred
async def test_a_key_without_a_name(served, login, replaced, readable):
    """An EncryptedKey that names no data key cannot have another in its place."""
    nameless = key().replace(f"<CarriedKeyName>{NAME}</CarriedKeyName>", "")
    assert await _left(served, login, replaced, readable, data(), nameless, word="nameless") == [
        "honest",
        None,
    ]


@ensureDeferred
async def test_a_key_that_cannot_be_read(served, login, replaced, readable):
    """An EncryptedKey without its octets is told."""
    head, _, tail = key(id_="empty").partition("<CipherValue>")
    empty = f"{head}<CipherValue>{tail[tail.index('</CipherValue>') :]}"
    parts = [data(), empty, key()]
    assert await _left(served, login, replaced, readable, *parts, word="unreadable") == ["honest", "But soft"]


@pytest.mark.parametrize("cut", [4, 40])
@ensureDeferred
async def test_messages_that_are_cut_off(served, login, replaced, readable, cut):
    """Where nothing shows any more that an EncryptedKey is the right one, it stays."""
    whole = data()
    value = whole[whole.index("<CipherValue>") + 13 : whole.index("</CipherValue>")]
    parts = [whole.replace(value, value[:cut]), key()]
    assert await _left(served, login, replaced, readable, *parts, word="opens-nothing") == ["honest", None]


@ensureDeferred
async def test_one_whole_message_is_enough(served, login, replaced, readable):
    """Where one message is damaged another shows that the EncryptedKey is right."""
    client, whole = await login(served), data("whole")
    value = whole[whole.index("<CipherValue>") + 13 : whole.index("</CipherValue>")]
    damaged = whole.replace(value, f"{value[:-8]}AAAAAAA=")
    await upload(client, JULIET, *[damaged] * 30, data("whole"), key())
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.empty) == (1, True)
    assert await readable(PHONE) == [*[None] * 30, "whole"]


@pytest.mark.parametrize("idle", [False, True])
@ensureDeferred
async def test_what_does_not_come_back(served, login, replaced, monkeypatch, idle):
    """Where the server gives other EncryptedKeys than it took, nothing is deleted."""
    client = await login(served)
    await upload(
        client, JULIET, data(), *([] if idle else [key()]), *([key(name="idle", id_="k2")] if idle else [])
    )
    wrap = rekey.wrap
    monkeypatch.setattr(
        rekey, "wrap", lambda keys, public: wrap([replace(one, octets=bytes(32)) for one in keys], public)
    )
    outcome, _ = await replaced()
    assert (outcome.replaced, reasons(outcome)) == (0, [(JULIET, "not-verified")])
    assert wrapped_for(served, OLD) == [1]


@ensureDeferred
async def test_keys_that_are_not_shown(served, replaced):
    """Where the server lists a collection and shows none of its EncryptedKeys, none is deleted."""

    class Hiding(Archive):
        async def keys(self, names):
            async for collection, _ in super().keys(names):
                yield collection, ()

    await served.record("But soft")
    outcome, _ = await replaced(Hiding)
    assert (outcome.replaced, reasons(outcome)) == (0, [(JULIET, "unreadable")])
    assert wrapped_for(served, OLD) == [1]


# What happens meanwhile.


def meanwhile(method, *doings):
    """An archive of which, before that method is called, others do these in turn."""
    left = list(doings)

    async def busy(self, *args):
        if left:
            await left.pop(0)(self, *args)
        return await getattr(Archive, method)(self, *args)

    return type("Busy", (Archive,), {method: busy})


async def another_key(archive, collection, *_):
    """Another client adds an item under a data key of its own, wrapped for the old key only."""
    octets, name = secrets.token_bytes(32), secrets.token_hex()
    await archive.plain.upload(collection, [data("later", octets, name), key(octets, name, id_="later")])


@pytest.mark.clause("0241-6-09")
@pytest.mark.parametrize("method", ["save_keys", "delete"])
@ensureDeferred
async def test_a_key_that_comes_meanwhile(served, login, replaced, readable, method):
    """An EncryptedKey for the old key that was added since it was looked is not deleted with the others, but
    replaced in another round."""
    await upload(await login(served), JULIET, data(), key())
    outcome, told = await replaced(meanwhile(method, another_key))
    assert (outcome.replaced, outcome.left, outcome.empty) == (1, (), True)
    assert await readable(PHONE) == ["But soft", "later"]
    assert len([progress for progress in told if progress == (0, 1)]) == 2


@ensureDeferred
async def test_keys_keep_coming(served, login, replaced, readable):
    """Where there is always one more, it comes to an end all the same, and nothing is deleted that was not
    looked at."""
    await upload(await login(served), JULIET, data(), key())
    outcome, _ = await replaced(meanwhile("delete", *[another_key] * 1000))
    assert (outcome.replaced, reasons(outcome), outcome.empty) == (0, [(JULIET, "changed")], False)
    assert None not in await readable(LAPTOP)


async def gone(archive, collection, *_):
    await archive.remove(collection)


@pytest.mark.parametrize("changes", [0, 2])
@pytest.mark.parametrize("method", ["save_keys", "delete"])
@ensureDeferred
async def test_a_collection_that_is_removed_meanwhile(served, login, replaced, method, changes):
    """What its owner removes is not made anew, however often it was changed before; the rest goes on."""
    await upload(client := await login(served), JULIET, data(), key())
    for number in range(changes):
        await upload(client, JULIET, data(f"{number}"))
    await served.record("other", at=MORNING + 60)
    outcome, _ = await replaced(meanwhile(method, gone))
    assert (outcome.replaced, outcome.left, outcome.empty) == (1, (), True)
    assert [kept.shown.start for kept in served.kept] == [(MORNING + 60) * SECOND]
    assert wrapped_for(served, OLD) == [0]


@ensureDeferred
async def test_what_else_changes_meanwhile(served, login, replaced, readable):
    """A subject that is set while it goes on stays; the collection is seen to in another round."""

    async def subject(archive, collection, *_):
        await archive.plain.upload(collection, [], "of today")

    client, old = await login(served), Listed.named(JULIET, MORNING * SECOND)
    await awaited(client.plugin["xep_0136"].upload(old, [data(), key()], "of old"))
    outcome, _ = await replaced(meanwhile("save_keys", subject))
    assert (outcome.replaced, outcome.left, outcome.empty) == (1, (), True)
    assert served.kept[0].shown.subject == "of today"


@ensureDeferred
async def test_new_messages(served, replaced, readable):
    """Collections that begin while it goes on are seen to in another round."""

    async def talks(archive, *_):
        recorded = Deferred.fromCoroutine(served.record("meanwhile", at=MORNING - 60))
        await recorded.asFuture(asyncio.get_running_loop())

    await served.record("before")
    outcome, _ = await replaced(meanwhile("delete", talks))
    assert (outcome.replaced, outcome.left, outcome.empty) == (2, (), True)
    assert await readable(PHONE) == ["meanwhile", "before"]


@ensureDeferred
async def test_what_is_being_recorded(served, login, talk, replaced, readable):
    """A conversation that goes on is replaced too, and what is said in it afterwards is read with the new key."""
    client = await login(served)
    await awaited(client.plugin["xep_0241"].enable([LAPTOP.public()], lasting=True))
    await talk("O Romeo")
    outcome, _ = await replaced()
    assert (outcome.replaced, outcome.empty) == (1, True)
    await talk("Deny thy father")
    assert (await readable(PHONE))[:1] == ["O Romeo"]


# What servers do.


@pytest.mark.parametrize("dialect", [T, V])
@ensureDeferred
async def test_older_dialects(serve, replaced, readable, dialect):
    """Where only an older namespace is offered, which may know no versions, it is done as well."""
    server = serve(features=[dialect.feature("manage"), dialect.feature("manual")])
    for hour in range(3):
        await server.record(f"{hour}", at=MORNING + 3600 * hour)
    outcome, _ = await replaced(at=server)
    assert (outcome.replaced, outcome.left, outcome.empty) == (3, (), True)
    assert await readable(PHONE, at=server) == ["0", "1", "2"]


@ensureDeferred
async def test_what_the_server_refuses(serve, replaced, readable):
    """Where EncryptedKeys are not taken, that is told with the server's words, and the rest goes on."""
    server = serve()
    await server.record("too many keys")
    await server.record("few", at=MORNING + 60)
    (collection,) = [kept for kept in server.kept if kept.shown.start == MORNING * SECOND]
    (one,) = collection.keys
    collection.keys.append(UploadedKey(one.key_name, ("another",), "x" * MOST_WRAPPED))
    outcome, _ = await replaced(at=server)
    assert (outcome.replaced, reasons(outcome), outcome.empty) == (1, [(JULIET, "refused")], False)
    assert "too many EncryptedKeys" in outcome.left[0].detail
    assert one in collection.keys


@ensureDeferred
async def test_where_the_server_makes_no_sense(served, replaced):
    """A collection of which the server repeats one page for ever is named, none of its EncryptedKeys is
    deleted, and the rest goes on."""

    class Repeating(Archive):
        def __init__(self, connection):
            super().__init__(connection)
            self._page, self.sealed.page = self.sealed.page, self._repeated

        async def _repeated(self, collection, names, *wanted):
            if collection.start != MORNING * SECOND:
                return await self._page(collection, names, *wanted)
            found = await self._page(collection, names)
            return replace(found, keys=(), info=PageInfo("a", "again", None, None))

    for hour in range(2):
        await served.record(f"{hour}", at=MORNING + 3600 * hour)
    outcome, _ = await replaced(Repeating)
    assert (outcome.replaced, reasons(outcome), outcome.empty) == (1, [(JULIET, "not-understood")], False)
    assert "again and again" in outcome.left[0].detail
    assert wrapped_for(served, OLD) == [1, 0]


@ensureDeferred
async def test_pages(serve, replaced, readable):
    """More collections than a page of the list shows are all seen to, although the list shrinks meanwhile."""
    server = serve(most_collections=2)
    for hour in range(7):
        await server.record(f"{hour}", at=MORNING + 3600 * hour)
    outcome, _ = await replaced(at=server)
    assert (outcome.replaced, outcome.left, outcome.empty) == (7, (), True)
    assert await readable(PHONE, at=server) == list("0123456")
