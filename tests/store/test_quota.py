"""What an owner may keep, counted and held to by every storage."""

from contextlib import closing
from uuid import uuid4

import psycopg2
import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from archive_crypt.errors import CollectionUnknown, PartlyRefused, QuotaExceeded
from archive_crypt.model import SECOND, Form, Mark
from archive_crypt.store.interfaces import AddKeys
from archive_crypt.store.memory import MemoryStorage
from archive_crypt.store.pgsql import PgStorage
from archive_crypt.store.quota import Quota
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
    wrapped,
)
from tests.store.test_histories import Dice, got

#: What the items `plain(n, "x" * 100)` and `said("x" * 100)` take.
ITEM = len("<to><body></body></to>") + 100
UPLOADED = len('<to secs="0"><body></body></to>') + 100
TEXT = "x" * 100


class Clock:
    """The time that the memory stamps with; PostgreSQL has its own."""

    now = 2_000_000_000 * SECOND

    def __call__(self):
        Clock.now += SECOND
        return Clock.now


@pytest_twisted.async_yield_fixture(params=["memory", "pgsql"])
async def limited(request):
    """A function that makes a storage with a quota."""
    made = []

    def make(*quota, **more):
        if request.param == "memory":
            return MemoryStorage(Clock(), Quota(*quota, **more))
        from twisted.internet import reactor

        made.append(PgStorage(request.getfixturevalue("dsn"), reactor, quota=Quota(*quota, **more)))
        return made[-1]

    yield make
    for storage in made:
        storage.close()


async def refused(storage, *changes):
    """Of a batch, whether each change was refused for want of room."""
    return [isinstance(one, QuotaExceeded) for one in await storage.apply(changes)]


async def identities(storage, owner=ROMEO):
    return [(one.with_, one.start) for one in (await listed(storage, owner)).items]


@ensureDeferred
async def test_what_was_spooled_is_kept(limited):
    """What comes out of a spool was said to be durable: it is kept, however full it gets; what comes after is not."""
    storage = limited(octets=1)
    spooled = Mark(str(uuid4()), "records", 2)
    assert not any(
        isinstance(one, Exception) for one in await storage.apply([sealed_open(), sealed(0)], mark=spooled)
    )
    assert await refused(storage, sealed(1)) == [True]
    assert numbers(await paged(storage)) == [0]


@ensureDeferred
async def test_a_batch_that_may_be_in_a_spool_is_made_whole(limited):
    """With copies of it acknowledged, a batch is not made without what there is no room for, or no collection:
    it is not made at all, and says which."""
    storage, spool = limited(octets=40), str(uuid4())
    assert await storage.apply([sealed_open()], mark=Mark(spool, "batches", 1)) == [None]
    batch = [opened(2), sealed(0, cipher=b"x" * 40), plain(0, collection=99, owner=JULIET)]
    with pytest.raises(PartlyRefused) as found:
        await storage.apply(batch, mark=Mark(spool, "batches", 2))
    assert {n: type(one) for n, one in found.value.outcomes.items()} == {
        1: QuotaExceeded,
        2: CollectionUnknown,
    }
    assert await storage.marks(spool) == (1, 0)
    assert len(await identities(storage)) == 1


@ensureDeferred
async def test_what_does_not_fit_is_refused(limited):
    """Items are kept as long as they fit to the octet; another owner's archive is not full."""
    storage = limited(octets=2 * ITEM)
    assert await refused(storage, opened(), plain(0, TEXT), plain(1, TEXT)) == [False] * 3
    assert await refused(storage, plain(2, "")) == [True]
    assert await refused(storage, opened(owner=JULIET), plain(0, TEXT, owner=JULIET)) == [False] * 2
    assert numbers(await paged(storage)) == [0, 1]


@ensureDeferred
async def test_no_holes_in_a_batch(limited):
    """Once an item is refused, so is all that comes after it in the batch, however small, but not what others
    keep."""
    storage = limited(octets=2 * ITEM)
    batch = [opened(), opened(2, JULIET), plain(0, TEXT), plain(1, TEXT * 2), plain(2, ""), plain(0, "", 2)]
    batch += [opened(3, owner=JULIET), plain(0, "", 3, JULIET)]
    assert await refused(storage, *batch) == [False] * 3 + [True] * 3 + [False] * 2
    assert numbers(await paged(storage)) == [0]


@ensureDeferred
async def test_no_holes_over_batches(limited):
    """A collection that something was refused for gets no more, though room was made meanwhile; a new one
    does."""
    storage = limited(octets=2 * ITEM)
    await storage.apply([opened(), plain(0, TEXT), opened(2, JULIET), plain(0, TEXT, 2)])
    assert await refused(storage, plain(1, TEXT)) == [True]
    assert await refused(storage, remove(with_=JULIET, exact=True), plain(2, TEXT)) == [False, True]
    assert numbers(await paged(storage)) == [0]
    assert await refused(storage, opened(3, JULIET), plain(0, TEXT, 3)) == [False, False]


@ensureDeferred
async def test_uploads_that_do_not_fit(limited):
    """An upload that does not fit is refused whole; one that brings nothing more never is."""
    storage = limited(octets=2 * UPLOADED)
    await only(storage, save(items=(said(TEXT), said(TEXT))))
    for more in ({"items": (said(""),)}, {"form": Form("<x/>")}, {"subject": "s", "items": (said(""),)}):
        assert isinstance(await only(storage, save(**more)), QuotaExceeded)
    assert isinstance(await only(storage, save(2, JULIET, items=(said(""),))), QuotaExceeded)
    assert (await only(storage, save(subject="s"))).version == 1
    assert await identities(storage) == [(CHAMBER, START)]


@ensureDeferred
async def test_keys_count(limited):
    """Uploaded EncryptedKeys count, as often as they name public keys; the same one again does not."""
    key = carried("k1", "laptop", "phone")
    storage = limited(octets=2 * len(key.content))
    await only(storage, save(keys=(key,)))
    assert (await only(storage, save(keys=(key,)))).version == 0
    assert isinstance(await only(storage, save(keys=(carried("k2"),))), QuotaExceeded)


@ensureDeferred
async def test_collections_are_counted(limited):
    """So many collections and no more, recorded or uploaded; what is there may grow; removal makes room."""
    storage = limited(collections=2)
    assert await refused(storage, opened(), opened(2, JULIET), opened(3, start=START + 1)) == [
        False,
        False,
        True,
    ]
    assert isinstance(await only(storage, save(4, start=START + 2)), QuotaExceeded)
    assert await refused(storage, plain(0), save(items=(said(),), start=START)) == [False, False]
    assert await refused(storage, remove(with_=JULIET, exact=True), save(5, start=START + 2)) == [
        False,
        False,
    ]


@ensureDeferred
async def test_the_oldest_go(limited):
    """Where the operator prefers, the collections begun longest ago go, as many as must, and leave tombstones."""
    storage = limited(octets=3 * ITEM, rolling=True)
    for n in range(1, 4):
        await storage.apply([opened(n, start=START - n), plain(0, TEXT, n)])
    assert await refused(storage, opened(4), plain(0, TEXT, 4), plain(1, TEXT, 4)) == [False] * 3
    assert await identities(storage) == [(CHAMBER, START - 3), (CHAMBER, START)]
    removed = [one.start for one in (await storage.modified(ROMEO, 0, ALL)).items if one.removed]
    assert removed == [START - 1, START - 2]


@ensureDeferred
async def test_what_is_being_recorded_stays(limited):
    """What something came into lately may still be being recorded: it does not go, and what is new is refused."""
    storage = limited(octets=ITEM, rolling=True, settled=3600)
    await storage.apply([opened(), plain(0, TEXT)])
    assert await refused(storage, opened(2, JULIET), plain(0, TEXT, 2)) == [False, True]
    assert isinstance(await only(storage, save(3, start=START + 1, items=(said(TEXT),))), QuotaExceeded)


@ensureDeferred
async def test_an_upload_never_replaces_itself(limited):
    """To make room for an upload, the collection it goes into is not removed, though it is the oldest; and for
    one that can never fit nothing is."""
    storage = limited(octets=2 * UPLOADED, rolling=True)
    await storage.apply([save(1, items=(said(TEXT),)), save(2, JULIET, items=(said(TEXT),))])
    assert isinstance(await only(storage, save(3, start=START + 1, items=(said(TEXT * 4),))), QuotaExceeded)
    assert len(await identities(storage)) == 2
    assert (await only(storage, save(9, items=(said(TEXT),)))).id == 1
    assert await identities(storage) == [(CHAMBER, START)]


@ensureDeferred
async def test_keys_that_others_need_stay_counted(limited):
    """When the oldest goes, keys that others need move to those, and count there."""
    storage = limited(collections=2, rolling=True)
    await only(storage, save(1, keys=(carried(),)))
    await only(storage, save(2, JULIET, items=(data("d", "k1"),)))
    await only(storage, save(3, start=START + 1))
    ((key,),) = (await paged(storage, with_=JULIET)).keys.values()
    assert key == carried()


@ensureDeferred
async def test_nothing_goes_in_vain(limited):
    """Where all that may go would not be enough, nothing goes."""
    storage = limited(octets=3 * UPLOADED, rolling=True)
    await storage.apply([save(1, items=(said(TEXT),)), save(2, JULIET, items=(said(TEXT),) * 2)])
    before = await everything(storage)
    assert isinstance(await only(storage, save(9, JULIET, items=(said(TEXT),) * 2)), QuotaExceeded)
    assert await everything(storage) == before


@ensureDeferred
async def test_keys_that_stay_make_no_room(limited):
    """A collection whose keys others need frees less than it takes: it goes only if there is room then, or if
    there is with those after it."""
    key = carried(text="x" * 200)
    room = len(key.content.encode()) + len(data("d", "k1").content.encode()) + UPLOADED
    storage = limited(octets=room, rolling=True)
    await only(storage, save(1, keys=(key,)))
    await only(storage, save(2, JULIET, items=(data("d", "k1"),)))
    await only(storage, save(3, start=START + SECOND, items=(said(TEXT),)))
    before = await everything(storage)
    assert isinstance(
        await only(storage, save(9, JULIET, items=(data("d" * (room - 200), "k1"),))), QuotaExceeded
    )
    assert await everything(storage) == before
    assert (await only(storage, save(4, start=START + 2 * SECOND, items=(said(TEXT),)))).id == 4
    assert await identities(storage) == [(CHAMBER, START + SECOND), (CHAMBER, START + 2 * SECOND)]


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 4))
def test_a_record_is_a_beginning(steps, room):
    """Whatever is appended, removed and refused: a collection holds the first so many of its items, with no
    hole, and never is there more than fits."""
    storage = MemoryStorage(Clock(), Quota(octets=room * ITEM))
    made, asked = 0, {}
    for step in steps:
        if step == 0:
            made += 1
            asked[made] = 0
            got(storage.apply([opened(made, start=START + made)]))
        elif step == 1 and asked:
            got(storage.apply([remove(limit=1)]))
        elif asked:
            number = 1 + step % made
            got(storage.apply([plain(asked[number], TEXT, number)]))
            asked[number] += 1
    kept = storage._owners[ROMEO].kept.values() if ROMEO in storage._owners else ()
    assert all(list(one.items) == list(range(len(one.items))) for one in kept)
    assert sum(len(one.items) for one in kept) <= room


def counted(dsn):
    """Of each owner: what is counted, and what it comes to when all is added up."""
    query = """
        SELECT o.octets, o.collections,
            (SELECT coalesce(sum(octet_length(content)), 0) FROM item i WHERE i.owner = o.id)
            + (SELECT coalesce(sum(octet_length(cipher)), 0) FROM encrypted_key k WHERE k.owner = o.id),
            (SELECT count(*) FROM collection c WHERE c.owner = o.id),
            (SELECT coalesce(sum(octets), 0) FROM change h WHERE h.owner = o.id)
        FROM owner o"""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


@pytest.mark.parametrize("seed", range(4))
@ensureDeferred
async def test_the_count_is_what_there_is(dsn, pgsql, seed):
    """After any history, what is counted of an owner is what adding it all up comes to."""
    dice = Dice(seed)
    for _ in range(100):
        await pgsql.apply(dice.throw())
    for octets, collections, added, there, changes in counted(dsn):
        assert (octets, octets, collections) == (added, changes, there)


@ensureDeferred
async def test_what_is_gone_is_not_counted(dsn, pgsql):
    """Items for a collection that is no longer there count for nothing, nor do withheld ones; sealing anew and
    further keys do."""
    await pgsql.apply([sealed_open(), sealed(0), plain(0, collection=7), plain(0, collection=8)])
    await pgsql.apply([AddKeys(ROMEO, 1, "k1", GCM, (wrapped("k1", "phone"), wrapped("k1")))])
    await pgsql.apply([AddKeys(ROMEO, 9, "k1", GCM, (wrapped("k1", "phone"),))])
    ((octets, _, added, _, changes),) = counted(dsn)
    assert octets == added == changes == len(b"cipher") + 2 * len(b"wrapped")
