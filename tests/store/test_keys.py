"""EncryptedKeys and who may have them, kept by every storage (XEP-0241 5 and 6): one promise a test."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.errors import NoSuchCollection, WouldLoseData
from archive_crypt.model import Form, UploadedKey, Window
from archive_crypt.store.interfaces import AddKeys, DeleteKeys
from tests.store.kit import (
    ALL,
    CHAMBER,
    GCM,
    JULIET,
    ROMEO,
    START,
    carried,
    data,
    element_of_key,
    everything,
    listed,
    modified,
    numbers,
    only,
    opened,
    paged,
    plain,
    said,
    save,
    sealed,
    sealed_open,
    wrapped,
)

#: An EncryptedKey whose KeyInfo names no public key.
ANONYMOUS = UploadedKey("k1", (), element_of_key("k1", ()))


def delete(*recipients, with_=CHAMBER, start=START, guard=False, owner=ROMEO):
    return DeleteKeys(owner, with_, start, recipients, guard)


async def with_keys(storage, *recipients, window=ALL, owner=ROMEO):
    """The collections with EncryptedKeys for `recipients`, by id: these as a set."""
    page = await storage.keys(owner, recipients, window)
    return {shown.id: set(keys) for shown, keys in page.items}


@pytest.mark.clause("0241-5-02", "0241-5-04")
@ensureDeferred
async def test_keys_of_uploaded_items(storage):
    """With EncryptedData come exactly the EncryptedKeys that it names, of all names it has."""
    keys = (carried("k1"), carried("k2"), carried("k1", "phone"), carried("k3"))
    await only(storage, save(items=(data("x", "k1"), data("y", "k2", "k3"), data("z")), keys=keys))
    first, second, third = [await paged(storage, Window(limit=1, index=n)) for n in range(3)]
    assert {name: set(found) for name, found in first.keys.items()} == {"k1": {keys[0], keys[2]}}
    assert second.keys == {"k2": [keys[1]], "k3": [keys[3]]}
    assert third.keys == {}


@pytest.mark.clause("0241-5-02")
@ensureDeferred
async def test_keys_from_anywhere(storage):
    """EncryptedKeys come from any of the owner's collections, the recorder's among them."""
    await storage.apply([sealed_open(1), sealed(0), save(2, JULIET, keys=(carried(),))])
    await only(storage, save(3, "nurse@capulet.lit", items=(data("x", "k1"),)))
    expected = {"k1": {wrapped("k1"), carried()}}
    for with_ in (CHAMBER, "nurse@capulet.lit"):
        found = await paged(storage, with_=with_)
        assert {name: set(keys) for name, keys in found.keys.items()} == expected


@ensureDeferred
async def test_equal_keys(storage):
    """An EncryptedKey of the recorder that is in two collections comes once."""
    more = AddKeys(ROMEO, 2, "k1", GCM, (wrapped("k1"),))
    await storage.apply([sealed_open(1), sealed(0), opened(2, JULIET), more])
    assert (await paged(storage)).keys == {"k1": [wrapped("k1")]}


@pytest.mark.clause("0241-5-03")
@ensureDeferred
async def test_keys_of_the_form(storage):
    """The EncryptedKeys that a form names come with every page, even one without items."""
    form = Form("<x><EncryptedData/></x>", ("k1", "k2"))
    await only(storage, save(form=form, keys=(carried("k1"), carried("k2"), carried("k3"))))
    for window in (ALL, Window(limit=0)):
        found = await paged(storage, window)
        assert (found.form, found.keys) == (form, {"k1": [carried("k1")], "k2": [carried("k2")]})


@pytest.mark.clause("0241-5-07")
@ensureDeferred
async def test_keys_by_recipient(storage):
    """Asked for public keys, those EncryptedKeys come that are for any of them, the data all the same."""
    keys = (carried("k1", "laptop"), carried("k1", "phone", "pda"), carried("k1", "watch"))
    await only(storage, save(items=(data("x", "k1"),), keys=keys))

    async def found(*recipients):
        page = await paged(storage, recipients=recipients)
        assert page.page.count == 1
        return set(page.keys["k1"])

    assert await found("laptop") == {keys[0]}
    assert await found("pda") == {keys[1]}
    assert await found("pda", "phone", "watch") == {keys[1], keys[2]}
    assert await found("nobody") == set()
    assert await found() == set(keys)


@ensureDeferred
async def test_keys_for_nobody(storage):
    """An EncryptedKey that names no public key comes when all do, and is for no one in particular."""
    await only(storage, save(items=(data("x", "k1"),), keys=(ANONYMOUS,)))
    assert (await paged(storage)).keys == {"k1": [ANONYMOUS]}
    assert (await paged(storage, recipients=["laptop", ""])).keys == {"k1": []}
    assert await with_keys(storage, "laptop", "") == {}
    assert await only(storage, delete("laptop", "")) == 0


@ensureDeferred
async def test_keys_without_a_name(storage):
    """An EncryptedKey without a CarriedKeyName comes with no page, but is listed and can be deleted."""
    await only(storage, save(items=(data("x", "k1"), data("y")), keys=(carried(""),)))
    assert (await paged(storage)).keys == {"k1": []}
    assert await with_keys(storage, "laptop") == {1: {carried("")}}
    assert await only(storage, delete("laptop", guard=True)) == 1


@ensureDeferred
async def test_list_of_keys(storage):
    """The keys for a public key are listed by collection, in the order of these; others are not."""
    await storage.apply(
        [
            sealed_open(1, "k1", ("laptop", "phone"), start=START + 9),
            save(2, JULIET, START + 3, keys=(carried("k2"), carried("k2", "phone"), carried("k3"))),
            save(3, JULIET, START + 4, keys=(carried("k4", "phone"),)),
            save(4, JULIET, START + 5, items=(said(),)),
        ]
    )
    page = await storage.keys(ROMEO, ["laptop"], ALL)
    assert [shown for shown, _ in page.items] == [
        shown for shown in (await listed(storage)).items if shown.id in (1, 2)
    ]
    assert [set(keys) for _, keys in page.items] == [{carried("k2"), carried("k3")}, {wrapped("k1")}]
    assert (page.index, page.count) == (0, 2)


@ensureDeferred
async def test_list_of_keys_of_several(storage):
    """Asked for several public keys, what is for any of them is listed, each key once."""
    keys = (carried("k1", "laptop", "phone"), carried("k2", "phone"), carried("k3", "pda"))
    await only(storage, save(keys=keys))
    ((_, found),) = (await storage.keys(ROMEO, ["phone", "laptop"], ALL)).items
    assert len(found) == 2
    assert set(found) == set(keys[:2])


@ensureDeferred
async def test_no_keys(storage):
    """Where there are none for these public keys, or no owner, the list is empty."""
    await only(storage, save(keys=(carried(),)))
    for owner, recipients in ((ROMEO, ["phone"]), (JULIET, ["laptop"])):
        page = await storage.keys(owner, recipients, ALL)
        assert (list(page.items), page.index, page.count) == ([], 0, 0)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(limit=2), [1, 2]),
        (Window(limit=2, after=(START + 2, 2)), [3, 4]),
        (Window(limit=2, before=(START + 4, 4), backwards=True), [2, 3]),
        (Window(limit=2, backwards=True), [4, 5]),
        (Window(limit=2, index=3), [4, 5]),
        (Window(limit=0), []),
        (Window(limit=9, after=(START + 5, 5)), []),
    ],
)
@ensureDeferred
async def test_windows_of_a_list_of_keys(storage, window, expected):
    """Any window of a list of keys: its collections in order, the place of the first, the count of all."""
    await storage.apply([save(n, start=START + n, keys=(carried(f"k{n}"),)) for n in range(1, 6)])
    await only(storage, save(9, start=START + 2, with_=JULIET, keys=(carried("k1", "phone"),)))
    page = await storage.keys(ROMEO, ["laptop"], window)
    assert [shown.id for shown, _ in page.items] == expected
    assert (page.index, page.count) == (expected[0] - 1 if expected else 0, 5)


@ensureDeferred
async def test_delete(storage):
    """Deleted are the EncryptedKeys for a public key in one collection: their number, one version on."""
    await storage.apply([sealed_open(1, recipients=("laptop", "phone")), sealed(0)])
    await storage.apply([save(1, keys=(carried(), carried("k2"))), save(2, JULIET, keys=(carried(),))])
    before = (await modified(storage)).items[-1].stamp
    assert await only(storage, delete("laptop")) == 3
    assert await with_keys(storage, "laptop", "phone") == {1: {wrapped("k1", "phone")}, 2: {carried()}}
    found = await paged(storage)
    assert (found.collection.version, numbers(found)) == (2, [0])
    (change,) = (await modified(storage, before)).items
    assert (change.with_, change.version, change.removed) == (CHAMBER, 2, False)


@ensureDeferred
async def test_delete_for_several(storage):
    """Keys for any of several public keys are deleted at once; one for two of them is one key."""
    keys = (carried("k1", "laptop", "phone"), carried("k1", "pda"), carried("k1", "watch"))
    await only(storage, save(keys=keys))
    assert await only(storage, delete("phone", "laptop", "pda", "nobody")) == 2
    assert await with_keys(storage, "laptop", "phone", "pda", "watch") == {1: {keys[2]}}


@ensureDeferred
async def test_delete_equal_wrappings(storage):
    """EncryptedKeys of the recorder for two public keys are two, even of the same octets."""
    await storage.apply([sealed_open(recipients=("laptop", "phone", "pda")), sealed(0)])
    assert await only(storage, delete("laptop", "phone")) == 2
    assert await with_keys(storage, "laptop", "phone", "pda") == {1: {wrapped("k1", "pda")}}


@ensureDeferred
async def test_delete_nothing(storage):
    """Where there is no such EncryptedKey none is deleted, and nothing changes."""
    await storage.apply([sealed_open(1), sealed(0)])
    archive = await everything(storage)
    assert await only(storage, delete("phone", guard=True)) == 0
    assert await everything(storage) == archive


@ensureDeferred
async def test_delete_nowhere(storage):
    """Keys can be deleted in a collection of exactly an identity only; the rest of the batch is made."""
    await only(storage, save(keys=(carried(),)))
    wrong = [
        delete("laptop", start=START + 1),
        delete("laptop", with_=JULIET),
        delete("laptop", owner=JULIET),
    ]
    outcomes = await storage.apply([*wrong, delete("laptop")])
    assert [type(outcome) for outcome in outcomes] == [NoSuchCollection] * 3 + [int]
    assert outcomes[3] == 1


@pytest.mark.parametrize(
    "changes",
    [
        [save(items=(data("x", "k1"),), keys=(carried(),))],
        [save(form=Form("<x/>", ("k1",)), keys=(carried(),))],
        [sealed_open(), sealed(0)],
        [sealed_open()],
    ],
    ids=["data", "form", "recorded", "opened"],
)
@ensureDeferred
async def test_guard(storage, changes):
    """Under guard the last EncryptedKey of a data key in use stays, and nothing changes; else it goes."""
    await storage.apply(changes)
    archive = await everything(storage)
    assert isinstance(await only(storage, delete("laptop", guard=True)), WouldLoseData)
    assert await everything(storage) == archive
    assert await only(storage, delete("laptop")) == 1


@ensureDeferred
async def test_guard_elsewhere(storage):
    """The guard looks at all the owner's collections, for what is needed and for other keys."""
    await storage.apply([save(1, keys=(carried(),)), save(2, JULIET, items=(data("x", "k1"),))])
    assert isinstance(await only(storage, delete("laptop", guard=True)), WouldLoseData)
    await only(storage, save(3, JULIET, START + 1, keys=(carried("k1", "phone"),)))
    assert await only(storage, delete("laptop", guard=True)) == 1
    last = delete("phone", with_=JULIET, start=START + 1, guard=True)
    assert isinstance(await only(storage, last), WouldLoseData)


@ensureDeferred
async def test_guard_knows_owners(storage):
    """Another owner's EncryptedKey is no help, and his data no obstacle."""
    await storage.apply(
        [
            save(1, keys=(carried(), carried("k2")), items=(data("x", "k1"),)),
            save(1, owner=JULIET, keys=(carried(), carried("k2")), items=(data("y", "k2"),)),
        ]
    )
    assert isinstance(await only(storage, delete("laptop", guard=True)), WouldLoseData)
    await only(storage, save(1, keys=(carried("k1", "phone"),)))
    assert await only(storage, delete("laptop", guard=True)) == 2


@ensureDeferred
async def test_guard_lets_what_is_not_needed_go(storage):
    """Under guard a key goes that nothing names; a data key that never had one is no obstacle."""
    await only(storage, save(items=(data("x", "k1"), data("y", "lost")), keys=(carried(), carried("k2"))))
    await only(storage, save(keys=(carried("k1", "phone"),)))
    assert await only(storage, delete("laptop", guard=True)) == 2


@ensureDeferred
async def test_guard_of_several(storage):
    """Under guard nothing is deleted if one of several data keys would be lost, or one's last two go."""
    await only(storage, save(items=(data("x", "k1"), data("y", "k2"))))
    await only(storage, save(keys=(carried("k1"), carried("k2"), carried("k2", "phone"))))
    assert isinstance(await only(storage, delete("laptop", guard=True)), WouldLoseData)
    await only(storage, save(keys=(carried("k1", "pda"),)))
    assert isinstance(await only(storage, delete("laptop", "phone", guard=True)), WouldLoseData)
    assert await only(storage, delete("laptop", guard=True)) == 2


@ensureDeferred
async def test_replacing_keys(storage):
    """Keys uploaded for a new public key, then those for the old one deleted: the data stay within reach."""
    await storage.apply([sealed_open(), sealed(0)])
    outcomes = await storage.apply([save(keys=(carried("k1", "new"),)), delete("laptop", guard=True)])
    assert outcomes[1] == 1
    found = await paged(storage)
    assert found.keys == {"k1": [carried("k1", "new")]}
    assert found.collection.version == 2


@ensureDeferred
async def test_the_recorder_goes_on(storage):
    """What is sealed with a data key is still taken when its EncryptedKeys were deleted."""
    await storage.apply([sealed_open(), sealed(0), delete("laptop")])
    assert await only(storage, sealed(1)) is None
    assert (await paged(storage)).page.count == 2


@ensureDeferred
async def test_crypt_no_longer(storage):
    """A collection that held EncryptedKeys only is not crypt without them, and takes messages in clear."""
    await only(storage, save(keys=(carried(),)))
    await only(storage, delete("laptop"))
    assert [shown.crypt for shown in (await listed(storage)).items] == [False]
    assert (await only(storage, save(items=(said(),)))).version == 2


@ensureDeferred
async def test_again(storage):
    """Deletions applied again have the same outcomes."""
    await storage.apply([save(keys=(carried(),)), opened(2, JULIET), plain(0, collection=2)])
    batch = [delete("laptop"), delete("laptop"), delete("laptop", start=START + 1)]
    assert (await storage.apply(batch))[:2] == [1, 0]
    archive = await everything(storage)
    again = await storage.apply(batch, again=True)
    assert again[:2] == [1, 0]
    assert isinstance(again[2], NoSuchCollection)
    assert await everything(storage) == archive
