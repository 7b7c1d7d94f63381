"""Removals and expiry, kept by every storage (XEP-0136 8.3 and 3.2): one promise a test."""

import time

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.errors import CollectionGone, NoSuchCollection
from archive_crypt.model import SECOND, Form
from archive_crypt.store.interfaces import AddKeys, DeleteKeys, Expire
from tests.store.kit import (
    ALL,
    CHAMBER,
    GCM,
    JULIET,
    ROMEO,
    START,
    carried,
    data,
    everything,
    listed,
    modified,
    numbers,
    only,
    opened,
    paged,
    plain,
    remove,
    said,
    save,
    sealed,
    sealed_open,
    versions,
    wrapped,
)

NURSE = "nurse@capulet.lit/x"
FUTURE = 4_000_000_000 * SECOND


def expire(expired=lambda with_, archived: True, before=FUTURE, limit=1000, owner=ROMEO):
    return Expire(owner, before, expired, limit)


async def ids(storage, owner=ROMEO):
    return [shown.id for shown in (await listed(storage, owner)).items]


async def archived(storage):
    """When the last item of each collection was archived, by its contact."""
    asked = {}

    def remember(with_, moment):
        asked[with_] = moment
        return False

    assert await only(storage, expire(remember)) == 0
    return asked


@ensureDeferred
async def test_removed(storage):
    """A removed collection is nowhere any more; its outcome is how many were removed."""
    await storage.apply([sealed_open(), sealed(0), save(2, JULIET, items=(said(),))])
    assert await only(storage, remove(with_=CHAMBER, start=START, identity=True)) == 1
    assert await ids(storage) == [2]
    with pytest.raises(NoSuchCollection):
        await paged(storage)
    assert (await storage.keys(ROMEO, ["laptop"], ALL)).count == 0


@ensureDeferred
async def test_nothing_to_remove(storage):
    """Where nothing matches, nothing is removed and nothing changes."""
    await storage.apply([opened(), plain(0)])
    archive = await everything(storage)
    assert await only(storage, remove(with_="friar@verona.lit")) == 0
    assert await only(storage, remove(owner="friar@verona.lit")) == 0
    assert await everything(storage) == archive


@pytest.mark.parametrize(
    ("which", "left"),
    [
        ({}, []),
        ({"with_": CHAMBER}, [2, 3, 4, 5]),
        ({"with_": JULIET}, [4, 5]),
        ({"with_": JULIET, "exact": True}, [1, 2, 4, 5]),
        ({"with_": "capulet.lit"}, [5]),
        ({"start": START + 3}, [1, 2]),
        ({"end": START + 3}, [3, 4, 5]),
        ({"start": START + 2, "end": START + 4, "with_": JULIET}, [1, 4, 5]),
        ({"with_": JULIET, "start": START + 3, "identity": True}, [1, 2, 4, 5]),
        ({"with_": JULIET, "start": START + 1, "identity": True}, [1, 2, 3, 4, 5]),
        ({"with_": "capulet.lit", "start": START + 3, "identity": True}, [1, 2, 3, 4, 5]),
    ],
)
@ensureDeferred
async def test_which(storage, which, left):
    """Removed is what a list with the same filter shows, or the one of exactly an identity."""
    contacts = [CHAMBER, f"{JULIET}/pda", JULIET, NURSE, "friar@verona.lit"]
    await storage.apply([opened(n, with_, START + n) for n, with_ in enumerate(contacts, 1)])
    assert [shown.id for shown in (await listed(storage, **which)).items] == [
        number for number in range(1, 6) if number not in left
    ]
    assert await only(storage, remove(**which)) == 5 - len(left)
    assert await ids(storage) == left


@ensureDeferred
async def test_in_parts(storage):
    """At most `limit` are removed at once, the first by (start, id), until there is none."""
    starts = {1: 9, 2: 3, 3: 3, 4: 1, 5: 7}
    await storage.apply([opened(n, f"u{n}@verona.lit", START + start) for n, start in starts.items()])
    left = []
    while await only(storage, remove(limit=2)):
        left.append(await ids(storage))
    assert left == [[3, 5, 1], [1], []]


@ensureDeferred
async def test_only_of_these(storage):
    """If ids are given, only what matches and has one of them is removed."""
    await storage.apply([opened(n, start=START + n) for n in range(1, 5)])
    assert await only(storage, remove(start=START + 2, ids=frozenset([1, 2, 4, 99]))) == 2
    assert await ids(storage) == [1, 3]
    assert await only(storage, remove(ids=frozenset())) == 0


@ensureDeferred
async def test_the_recorder_goes_on(storage):
    """What is appended to a removed collection is lost alone, in the same batch too."""
    await storage.apply([opened(1), plain(0), opened(2, JULIET)])
    outcomes = await storage.apply(
        [plain(1), remove(with_=CHAMBER), plain(2), plain(0, collection=2)],
    )
    assert outcomes[:2] == [None, 1]
    assert isinstance(outcomes[2], CollectionGone)
    assert outcomes[3] is None
    assert isinstance(await only(storage, plain(3)), CollectionGone)
    assert await ids(storage) == [2]


@ensureDeferred
async def test_owners_are_apart(storage):
    """Removing all of one owner leaves all of another, equal ids and identities or not."""
    await storage.apply([opened(), plain(0), opened(owner=JULIET), plain(0, owner=JULIET)])
    archive = await everything(storage, JULIET)
    assert await only(storage, remove()) == 1
    assert await everything(storage, JULIET) == archive


@ensureDeferred
async def test_a_new_beginning(storage):
    """A removed identity can be recorded or uploaded anew: version 0, and nothing of before."""
    await storage.apply([save(1, items=(said(),), subject="old"), save(1, subject="older")])
    await only(storage, remove())
    made = await only(storage, save(2, items=(said("new"),)))
    assert (made.version, made.subject) == (0, None)
    await only(storage, remove())
    await storage.apply([opened(3), plain(0, collection=3)])
    found = await paged(storage)
    assert (found.collection.version, numbers(found)) == (0, [0])


@ensureDeferred
async def test_an_id_can_come_back(storage):
    """The very collection that was removed can be made again under its id."""
    for _ in range(2):
        await storage.apply([sealed_open(), sealed(0)])
        assert await only(storage, remove()) == 1
    assert await versions(storage) == [(CHAMBER, START, 0, True)]


@pytest.mark.clause("0241-5-02")
@ensureDeferred
async def test_keys_that_are_needed_stay(storage):
    """EncryptedKeys that data of another collection needs outlive the one they were in."""
    await storage.apply([sealed_open(1), sealed(0), sealed_open(2, "k2", with_=JULIET), sealed(0, "k2", 2)])
    more = AddKeys(ROMEO, 2, "k1", GCM, (wrapped("k1", "phone"),))
    await storage.apply([more, save(2, JULIET, keys=(carried("k1", "pda"),))])
    before = {name: set(keys) for name, keys in (await paged(storage)).keys.items()}
    assert before == {"k1": {wrapped("k1"), wrapped("k1", "phone"), carried("k1", "pda")}}
    await only(storage, remove(with_=JULIET, exact=True))
    assert {name: set(keys) for name, keys in (await paged(storage)).keys.items()} == before
    ((shown, found),) = (await storage.keys(ROMEO, ["phone", "pda"], ALL)).items
    assert (shown.id, set(found)) == (1, {wrapped("k1", "phone"), carried("k1", "pda")})


@ensureDeferred
async def test_keys_that_a_form_needs_stay(storage):
    """EncryptedKeys that the form of another collection needs stay as well."""
    await storage.apply([save(1, form=Form("<x/>", ("k1",))), save(2, JULIET, keys=(carried(),))])
    await only(storage, remove(with_=JULIET, exact=True))
    assert (await paged(storage)).keys == {"k1": [carried()]}


@ensureDeferred
async def test_keys_that_are_there_already(storage):
    """An EncryptedKey that both the removed collection and the one that needs it had is kept once."""
    needing = save(1, items=(data("x", "k1"),), keys=(carried(), carried("k1", "phone")))
    await storage.apply([needing, save(2, JULIET, keys=(carried(), carried("k1", "pda")))])
    await only(storage, remove(with_=JULIET, exact=True))
    ((_, found),) = (await storage.keys(ROMEO, ["laptop", "phone", "pda"], ALL)).items
    assert len(found) == 3
    assert set(found) == {carried(), carried("k1", "phone"), carried("k1", "pda")}
    assert await only(storage, DeleteKeys(ROMEO, CHAMBER, START, ("laptop",), guard=False)) == 1


@ensureDeferred
async def test_keys_that_nobody_needs_go(storage):
    """EncryptedKeys that only their own collection needed are gone with it."""
    await storage.apply(
        [save(1, items=(data("x", "k1"),), keys=(carried(),)), save(2, JULIET, items=(data(),))]
    )
    await only(storage, remove(with_=CHAMBER))
    await only(storage, save(3, items=(data("y", "k1"),)))
    assert (await paged(storage)).keys == {"k1": []}


@ensureDeferred
async def test_keys_of_what_goes_together(storage):
    """Keys that only collections removed with theirs needed are gone with them."""
    await storage.apply([save(1, items=(data("x", "k1"),)), save(2, JULIET, keys=(carried(),))])
    assert await only(storage, remove()) == 2
    await only(storage, save(3, items=(data("y", "k1"),)))
    assert (await paged(storage)).keys == {"k1": []}


@ensureDeferred
async def test_keys_move_on(storage):
    """Keys that were taken in stay as long as anybody needs them, wherever they are."""
    places = [(n, START + n) for n in range(1, 5)]
    await storage.apply([save(n, start=start, items=(data("x", "k1"),)) for n, start in places])
    await only(storage, save(1, start=START + 1, keys=(carried(),)))
    for n, start in places[:-1]:
        await only(storage, remove(ids=frozenset([n])))
        assert (await paged(storage, start=START + 4)).keys == {"k1": [carried()]}, start
    await only(storage, remove())
    assert (await storage.keys(ROMEO, ["laptop"], ALL)).count == 0


@ensureDeferred
async def test_expired(storage):
    """What is expired is removed and leaves a tombstone; the outcome is how many; the rest stays."""
    await storage.apply([opened(1), plain(0), opened(2, JULIET), plain(0, collection=2)])
    await storage.apply([plain(1, collection=2)])
    assert await only(storage, expire(lambda with_, _: with_ == JULIET)) == 1
    assert await ids(storage) == [1]
    assert await versions(storage) == [(CHAMBER, START, 0, False), (JULIET, START, 1, True)]


@ensureDeferred
async def test_expired_in_parts(storage):
    """At most `limit` expire at once, the first by their ids."""
    await storage.apply(
        [change for n in range(1, 6) for change in (opened(n, start=START - n), plain(0, "", n))]
    )
    left = []
    while await only(storage, expire(limit=2)):
        left.append(sorted(await ids(storage)))
    assert left == [[3, 4, 5], [5], []]


@ensureDeferred
async def test_only_what_is_expired_counts(storage):
    """Collections that are not expired are no part of the limit."""
    await storage.apply(
        [change for n in range(1, 6) for change in (opened(n, f"u{n}@verona.lit"), plain(0, "", n))]
    )
    assert await only(storage, expire(lambda with_, _: with_ >= "u4", limit=2)) == 2
    assert await ids(storage) == [1, 2, 3]


@ensureDeferred
async def test_archived_when(storage):
    """What counts is when the last item was archived, not when it was said; other changes do not."""
    begun = time.time_ns() // 1000
    await storage.apply([opened(1), plain(0), save(2, JULIET, items=(said(),))])
    first = await archived(storage)
    assert set(first) == {CHAMBER, JULIET}
    assert all(begun - SECOND <= moment <= time.time_ns() // 1000 + SECOND for moment in first.values())
    await storage.apply([save(2, JULIET, subject="s"), save(1, subject="s")])
    assert await archived(storage) == first
    await storage.apply([plain(1), save(2, JULIET, items=(said(),))])
    later = await archived(storage)
    assert all(later[with_] > first[with_] for with_ in first)


@ensureDeferred
async def test_asked_about(storage):
    """Only what was archived before a moment is asked about."""
    await storage.apply([opened(), plain(0)])
    moment = (await archived(storage))[CHAMBER]
    assert await only(storage, expire(before=moment)) == 0
    assert await only(storage, expire(before=moment + 1)) == 1


@ensureDeferred
async def test_expired_keys_that_are_needed(storage):
    """EncryptedKeys that data of another collection needs outlive what expires, too."""
    await storage.apply(
        [save(1, items=(data("x", "k1"),)), save(2, JULIET, keys=(carried(),), items=(data(),))]
    )
    assert await only(storage, expire(lambda with_, _: with_ == JULIET)) == 1
    assert (await paged(storage)).keys == {"k1": [carried()]}


@ensureDeferred
async def test_expiry_of_one_owner(storage):
    """What expires for one owner stays for another."""
    await storage.apply([opened(), plain(0), opened(owner=JULIET), plain(0, owner=JULIET)])
    assert await only(storage, expire()) == 1
    assert await ids(storage, JULIET) == [1]


@ensureDeferred
async def test_again(storage):
    """Removals applied again have the same outcomes, and nothing more is removed."""
    await storage.apply([opened(n, start=START + n) for n in range(1, 5)])
    batch = [remove(limit=1), expire(limit=1), remove(limit=1)]
    assert await storage.apply(batch) == [1, 1, 1]
    archive = await everything(storage)
    assert await storage.apply(batch, again=True) == [1, 1, 1]
    assert await everything(storage) == archive
    assert (await modified(storage)).count == 4
