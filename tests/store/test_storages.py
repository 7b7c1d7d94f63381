"""The contract of `Storage`, kept by every storage: one promise a test."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.errors import CollectionUnknown, NoSuchCollection, StorageRefused
from archive_crypt.model import MILLISECOND, AutoState, Link, SealedItem, SuppliedKey, Window
from archive_crypt.store.interfaces import MOST_PAGE, AddKeys, OwnerState, Rename, Reseal, SetAuto
from tests.store.kit import (
    CHAMBER,
    GCM,
    JULIET,
    ROMEO,
    START,
    everything,
    listed,
    numbers,
    opened,
    paged,
    plain,
    sealed,
    sealed_open,
    wrapped,
)


@ensureDeferred
async def test_new_collection(storage):
    """A new collection is listed with what it was opened with, version 0."""
    await storage.apply([opened(thread="t1"), plain(0), plain(1)])
    (shown,) = (await listed(storage)).items
    assert (shown.with_, shown.start, shown.thread) == (CHAMBER, START, "t1")
    assert (shown.version, shown.crypt, shown.subject) == (0, False, None)


@ensureDeferred
async def test_one_batch_is_one_version(storage):
    """All that one batch appends to a collection raises its version by one."""
    await storage.apply([opened(), plain(0)])
    await storage.apply([plain(1), plain(2)])
    await storage.apply([plain(3)])
    (shown,) = (await listed(storage)).items
    assert shown.version == 2


@ensureDeferred
async def test_items_come_back(storage):
    """Plain items come back as they were put in, in order, with their places and count."""
    await storage.apply([opened(), plain(0, "a"), plain(1, "b"), plain(2, "ü\U0001f600\\x00")])
    found = await paged(storage)
    assert found.page.items == [plain(0, "a").item, plain(1, "b").item, plain(2, "ü\U0001f600\\x00").item]
    assert (found.page.index, found.page.count) == (0, 3)


@ensureDeferred
async def test_sealed_items_come_back_with_their_keys(storage):
    """Sealed items name their data key, and exactly its EncryptedKeys come with them."""
    cipher = bytes(range(256))
    await storage.apply([sealed_open(recipients=("laptop", "phone")), sealed(0, cipher=cipher)])
    await storage.apply([sealed_open(2, "k2", start=START + 1), sealed(0, "k2", 2)])
    found = await paged(storage)
    assert found.page.items == [SealedItem(0, "k1", GCM, cipher)]
    assert found.keys == {"k1": [wrapped("k1", "laptop"), wrapped("k1", "phone")]}
    assert found.collection.crypt


@ensureDeferred
async def test_keys_by_recipient(storage):
    """Asked for one public key, only its EncryptedKeys come; the items are unaffected."""
    await storage.apply([sealed_open(recipients=("laptop", "phone")), sealed(0)])
    assert (await paged(storage, recipients=["phone"])).keys == {"k1": [wrapped("k1", "phone")]}
    found = await paged(storage, recipients=["nobody"])
    assert (found.keys, numbers(found)) == ({"k1": []}, [0])


@pytest.mark.clause("0241-5-02", "0241-5-04")
@ensureDeferred
async def test_keys_of_the_page_only(storage):
    """Keys that no item of the page names are not returned; a second data key has its own."""
    await storage.apply([sealed_open(), sealed(0)])
    await storage.apply([AddKeys(ROMEO, 1, "k2", GCM, (wrapped("k2"),)), sealed(1, "k2")])
    assert list((await paged(storage, Window(limit=1))).keys) == ["k1"]
    assert list((await paged(storage, Window(limit=1, after=(0,)))).keys) == ["k2"]
    assert list((await paged(storage)).keys) == ["k1", "k2"]


@pytest.mark.clause("0241-5-02")
@ensureDeferred
async def test_keys_in_other_collections(storage):
    """EncryptedKeys of a data key are found in whichever of the owner's collections they are."""
    await storage.apply([sealed_open(), sealed(0), opened(2, start=START + 1)])
    await storage.apply([AddKeys(ROMEO, 2, "k1", GCM, (wrapped("k1", "phone", b"other"),))])
    assert [key.recipient for key in (await paged(storage)).keys["k1"]] == ["laptop", "phone"]


@ensureDeferred
async def test_two_recipients_of_one_name(storage):
    """Two public keys of one name both keep their EncryptedKey."""
    keys = (wrapped("k1", "laptop", b"one"), wrapped("k1", "laptop", b"two"))
    await storage.apply([opened(key_name="k1", algorithm=GCM, keys=keys), sealed(0)])
    assert {key.cipher for key in (await paged(storage)).keys["k1"]} == {b"one", b"two"}


@ensureDeferred
async def test_added_keys_count_as_one_change(storage):
    """Wrapping a data key for more public keys raises the version once; doing it again does not."""
    await storage.apply([sealed_open(), sealed(0)])
    more = AddKeys(ROMEO, 1, "k1", GCM, (wrapped("k1", "phone"),))
    await storage.apply([more])
    await storage.apply([more])
    (shown,) = (await listed(storage)).items
    assert shown.version == 1


@ensureDeferred
async def test_owners_are_apart(storage):
    """One owner sees nothing of another's archive, though all else is equal."""
    await storage.apply([sealed_open(), sealed(0), sealed_open(owner=JULIET), sealed(0, owner=JULIET)])
    await storage.apply([AddKeys(JULIET, 1, "k1", GCM, (wrapped("k1", "hers"),))])
    assert (await listed(storage)).count == 1
    assert [key.recipient for key in (await paged(storage)).keys["k1"]] == ["laptop"]
    with pytest.raises(NoSuchCollection):
        await paged(storage, owner="nurse@capulet.lit")


@ensureDeferred
async def test_unknown_owner(storage):
    """An owner nobody knows has no collections, no preferences, and the setting that is off."""
    page = await listed(storage, "nobody@example.net")
    assert (list(page.items), page.index, page.count) == ([], 0, 0)
    assert await storage.state("nobody@example.net") == OwnerState()


@ensureDeferred
async def test_equal_starts_are_bumped(storage):
    """Two collections that would begin at one instant with one contact begin 1 ms apart."""
    await storage.apply([opened(1), opened(2)])
    await storage.apply([opened(3)])
    starts = [shown.start for shown in (await listed(storage)).items]
    assert starts == [START, START + MILLISECOND, START + 2 * MILLISECOND]


@ensureDeferred
async def test_identity_is_exact(storage):
    """A collection is found by exactly its contact and start, nothing similar."""
    await storage.apply([opened(), plain(0)])
    for with_, start in ((JULIET, START), (CHAMBER, START + 1), (f"{CHAMBER}x", START)):
        with pytest.raises(NoSuchCollection):
            await paged(storage, with_=with_, start=start)


@ensureDeferred
async def test_list_filter_by_contact(storage):
    """A list's with matches a full JID, all of a bare JID, all of a domain; exactly if asked."""
    contacts = [CHAMBER, f"{JULIET}/pda", JULIET, "nurse@capulet.lit/x", "capulet.lit", "a@xcapulet.lit"]
    await storage.apply([opened(n, with_, START + n) for n, with_ in enumerate(contacts)])

    async def found(with_, exact=False):
        return [shown.with_ for shown in (await listed(storage, with_=with_, exact=exact)).items]

    assert await found(CHAMBER) == [CHAMBER]
    assert await found(JULIET) == [CHAMBER, f"{JULIET}/pda", JULIET]
    assert await found(JULIET, exact=True) == [JULIET]
    assert await found("capulet.lit") == contacts[:5]
    assert await found("capulet.lit", exact=True) == ["capulet.lit"]


@ensureDeferred
async def test_list_filter_by_time(storage):
    """start is inclusive, end exclusive; the count is that of what matches."""
    await storage.apply([opened(n, start=START + n) for n in range(5)])
    page = await listed(storage, start=START + 1, end=START + 4)
    assert [shown.start - START for shown in page.items] == [1, 2, 3]
    assert page.count == 3


@ensureDeferred
async def test_list_is_chronological(storage):
    """Collections are listed by start, whatever order they were made in; ties by id."""
    await storage.apply([opened(9, start=START + 5), opened(3, start=START), opened(2, JULIET, START)])
    assert [shown.id for shown in (await listed(storage)).items] == [2, 3, 9]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(limit=2), [0, 1]),
        (Window(limit=2, after=(START + 1, 1)), [2, 3]),
        (Window(limit=2, before=(START + 4, 4), backwards=True), [2, 3]),
        (Window(limit=2, backwards=True), [5, 6]),
        (Window(limit=9, after=(START + 4, 4), backwards=True), [5, 6]),
        (Window(limit=2, index=3), [3, 4]),
        (Window(limit=2, index=7), []),
        (Window(limit=0), []),
        (Window(limit=2, after=(START + 1, 999)), [2, 3]),
        (Window(limit=9, after=(START + 6, 6)), []),
    ],
)
@ensureDeferred
async def test_windows_of_a_list(storage, window, expected):
    """Any window of a list: its items in order, the place of the first, the count of all."""
    await storage.apply([opened(n, start=START + n) for n in range(7)])
    page = await listed(storage, window=window)
    assert [shown.id for shown in page.items] == expected
    assert page.count == 7
    assert page.index == (expected[0] if expected else 0)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(limit=2), [0, 1]),
        (Window(limit=2, after=(1,)), [2, 3]),
        (Window(limit=2, before=(4,), backwards=True), [2, 3]),
        (Window(limit=2, backwards=True), [5, 6]),
        (Window(limit=2, index=3), [3, 4]),
        (Window(limit=0), []),
    ],
)
@ensureDeferred
async def test_windows_of_a_collection(storage, window, expected):
    """Any window of a collection: its items in order, the place of the first, the count of all."""
    await storage.apply([opened(), *(plain(n) for n in range(7))])
    found = await paged(storage, window)
    assert numbers(found) == expected
    assert (found.page.index, found.page.count) == (expected[0] if expected else 0, 7)


@pytest.mark.parametrize("backwards", [False, True])
@ensureDeferred
async def test_heavy_pages_end_early(storage, backwards):
    """A page ends with the item that reaches its octets, from whichever end it is read."""
    text = "x" * (MOST_PAGE // 2)
    await storage.apply([opened(), *(plain(n, text) for n in range(5))])
    found = await paged(storage, Window(limit=5, backwards=backwards))
    assert numbers(found) == ([3, 4] if backwards else [0, 1])
    assert found.page.index == numbers(found)[0]


@ensureDeferred
async def test_rename(storage):
    """A renamed collection has its items under the new contact and none under the old."""
    await storage.apply([opened(with_=JULIET), plain(0)])
    await storage.apply([Rename(ROMEO, 1, CHAMBER)])
    found = await paged(storage)
    assert (numbers(found), found.collection.version) == ([0], 1)
    with pytest.raises(NoSuchCollection):
        await paged(storage, with_=JULIET)


@ensureDeferred
async def test_rename_there_and_back(storage):
    """A collection can take the full JID and give it up again, and an identity once left is free."""
    await storage.apply([opened(with_=JULIET), plain(0)])
    for with_ in (CHAMBER, JULIET, CHAMBER):
        await storage.apply([Rename(ROMEO, 1, with_)])
    await storage.apply([opened(2, with_=JULIET)])
    found = await listed(storage)
    assert [(shown.with_, shown.start, shown.version) for shown in found.items] == [
        (CHAMBER, START, 3),
        (JULIET, START, 0),
    ]


@ensureDeferred
async def test_rename_never_collides(storage):
    """A renaming that would take another collection's identity is not done."""
    await storage.apply([opened(1), opened(2, with_=JULIET), plain(0, collection=2)])
    await storage.apply([Rename(ROMEO, 2, CHAMBER)])
    assert [shown.with_ for shown in (await listed(storage)).items] == [CHAMBER, JULIET]


@ensureDeferred
async def test_reseal(storage):
    """A collection sealed anew holds the sealed items and keys, nothing in clear, one version on."""
    await storage.apply([opened(), plain(0), plain(1)])
    items = (SealedItem(0, "k1", GCM, b"a"), SealedItem(1, "k1", GCM, b"b"))
    await storage.apply([Reseal(ROMEO, 1, "k1", GCM, (wrapped("k1"),), items), sealed(2, cipher=b"c")])
    found = await paged(storage)
    assert [item.cipher for item in found.page.items] == [b"a", b"b", b"c"]
    assert found.collection.crypt
    assert found.keys == {"k1": [wrapped("k1")]}
    assert await storage.plain_items(ROMEO, 1, -1, 10) == []


@ensureDeferred
async def test_reseal_loses_nothing(storage):
    """A reseal that does not cover all that is in clear is refused, and changes nothing."""
    await storage.apply([opened(), plain(0), plain(1)])
    items = (SealedItem(0, "k1", GCM, b"a"),)
    with pytest.raises(StorageRefused):
        await storage.apply([Reseal(ROMEO, 1, "k1", GCM, (wrapped("k1"),), items)])
    found = await paged(storage)
    assert found.page.items == [plain(0).item, plain(1).item]
    assert not found.collection.crypt


@ensureDeferred
async def test_plain_items_in_parts(storage):
    """What a collection holds in clear can be read in parts."""
    await storage.apply([opened(), *(plain(n) for n in range(5))])
    first = await storage.plain_items(ROMEO, 1, -1, 3)
    rest = await storage.plain_items(ROMEO, 1, 2, 3)
    assert [item.number for item in (*first, *rest)] == [0, 1, 2, 3, 4]
    assert first[0] == plain(0).item


@ensureDeferred
async def test_batches_are_whole(storage):
    """Of a batch with one impossible change nothing is made."""
    with pytest.raises(StorageRefused):
        await storage.apply([opened(), plain(0), sealed(1, "unheard of")])
    assert (await listed(storage)).count == 0


@ensureDeferred
async def test_outcomes_are_aligned(storage):
    """Each change has its outcome, in order; for those of the recorder it is None."""
    add = AddKeys(ROMEO, 1, "k2", GCM, (wrapped("k2"),))
    batch = [sealed_open(), sealed(0), add, Rename(ROMEO, 1, JULIET), SetAuto(ROMEO, AutoState(True))]
    assert await storage.apply(batch) == [None] * 5
    assert await storage.apply([]) == []


@ensureDeferred
async def test_a_collection_that_is_gone(storage):
    """What is appended to a collection that there is not is lost alone; the rest of the batch is made."""
    outcomes = await storage.apply([opened(), plain(0, collection=404), plain(0)])
    assert [type(outcome) for outcome in outcomes] == [type(None), CollectionUnknown, type(None)]
    assert numbers(await paged(storage)) == [0]


@ensureDeferred
async def test_again_changes_nothing(storage):
    """A batch applied again, as after a COMMIT whose answer was lost, changes nothing; the outcomes
    are the same."""
    batch = [
        sealed_open(),
        sealed(0),
        sealed(1),
        Rename(ROMEO, 1, JULIET),
        opened(2, start=START + 9),
        plain(0, collection=2),
    ]
    outcomes = await storage.apply(batch)
    before = await everything(storage)
    assert await storage.apply(batch, again=True) == outcomes
    assert await everything(storage) == before


@ensureDeferred
async def test_again_after_a_refusal(storage):
    """A batch that was refused is refused again, and the next one is made."""
    await storage.apply([opened(), plain(0)])
    impossible = [plain(1), sealed(2, "unheard of")]
    for again in (False, True):
        with pytest.raises(StorageRefused):
            await storage.apply(impossible, again=again)
    await storage.apply([plain(1)])
    assert numbers(await paged(storage)) == [0, 1]


@ensureDeferred
async def test_parent_thread(storage):
    """A collection whose thread came from another one is linked to the latest with that thread and
    bare JID."""
    threads = [
        (1, CHAMBER, "t1"),
        (2, f"{JULIET}/pda", "t1"),
        (3, JULIET, "t2"),
        (4, "nurse@capulet.lit", "t1"),
    ]
    await storage.apply([opened(n, with_, START + n, thread=thread) for n, with_, thread in threads])
    await storage.apply([opened(5, start=START + 5, thread="t3", parent="t1")])
    await storage.apply([opened(6, start=START + 6, parent="unheard of")])
    assert (await paged(storage, start=START + 5)).links == {"previous": Link(f"{JULIET}/pda", START + 2)}
    assert (await paged(storage, start=START + 6)).links == {}


@ensureDeferred
async def test_parent_thread_of_one_batch(storage):
    """A parent thread's collection is found that is opened by the same batch, one later by none."""
    await storage.apply([opened(1, start=START + 9, thread="t1")])
    await storage.apply([opened(2, start=START, thread="t1"), opened(3, start=START + 1, parent="t1")])
    assert (await paged(storage, start=START + 1)).links == {"previous": Link(CHAMBER, START)}
    await storage.apply([opened(4, start=START - 1, parent="t1")])
    assert (await paged(storage, start=START - 1)).links == {}


@ensureDeferred
async def test_auto_setting(storage):
    """The lasting auto setting is kept with its keys, and replaced as a whole."""
    keys = (SuppliedKey("laptop", b"\x30\x00der"), SuppliedKey("phone", b"\x30\x01"))
    await storage.apply([SetAuto(ROMEO, AutoState(True, True, "urn:xmpp:archive", keys))])
    assert (await storage.state(ROMEO)).auto == AutoState(True, True, "urn:xmpp:archive", keys)
    await storage.apply([SetAuto(ROMEO, AutoState(True, False, "urn:xmpp:archive"))])
    assert (await storage.state(ROMEO)).auto == AutoState(True, False, "urn:xmpp:archive")


@ensureDeferred
async def test_vacuum(storage):
    """Vacuuming is possible at any time and changes nothing."""
    await storage.apply([opened(), plain(0)])
    await storage.vacuum()
    assert numbers(await paged(storage)) == [0]
