"""What replicas learn, kept by every storage (XEP-0136 10): one promise a test."""

import time

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.errors import ArchiveError
from archive_crypt.model import SECOND, Form, Link, Window
from archive_crypt.store.interfaces import AddKeys, DeleteKeys, Expire, Rename
from tests.store.kit import (
    CHAMBER,
    GCM,
    JULIET,
    ROMEO,
    START,
    carried,
    data,
    everything,
    modified,
    only,
    opened,
    plain,
    remove,
    said,
    save,
    sealed,
    sealed_open,
    versions,
    wrapped,
)

FUTURE = 4_000_000_000 * SECOND


@ensureDeferred
async def test_new_collections(storage):
    """New collections are changed ones of version 0, recorded or uploaded."""
    await storage.apply([opened(), plain(0)])
    await only(storage, save(2, JULIET))
    assert await versions(storage) == [(CHAMBER, START, 0, False), (JULIET, START, 0, False)]


@ensureDeferred
async def test_the_latest_is_last(storage):
    """Each collection is there once, in the order of their latest changes."""
    await storage.apply([opened(1), plain(0)])
    await storage.apply([opened(2, JULIET)])
    await storage.apply([plain(1)])
    assert await versions(storage) == [(JULIET, START, 0, False), (CHAMBER, START, 1, False)]
    await only(storage, save(2, JULIET, subject="s"))
    assert await versions(storage) == [(CHAMBER, START, 1, False), (JULIET, START, 1, False)]


@ensureDeferred
async def test_stamps(storage):
    """No two changes of an owner have one stamp, even in one batch, and later ones have higher ones;
    they are the time of the change, or about."""
    begun = time.time_ns() // 1000
    await storage.apply([opened(n, start=START + n) for n in range(1, 11)])
    first = [one.stamp for one in (await modified(storage)).items]
    await storage.apply([plain(0, "", n) for n in range(1, 11)])
    second = [one.stamp for one in (await modified(storage)).items]
    assert len({*first, *second}) == 20
    assert max(first) < min(second)
    assert all(begun - SECOND < stamp < time.time_ns() // 1000 + SECOND for stamp in (*first, *second))


@pytest.mark.parametrize(
    "change",
    [
        plain(1),
        save(items=(said(),)),
        save(subject="s"),
        save(thread="t"),
        save(links={"previous": None, "next": Link(JULIET, START)}),
        Rename(ROMEO, 1, "juliet@capulet.lit/pda"),
        save(form=Form("<x/>")),
    ],
    ids=["recorded", "uploaded", "subject", "thread", "link", "renamed", "form"],
)
@ensureDeferred
async def test_every_change_counts(storage, change):
    """Every change of a collection raises its version by one and comes after all before it."""
    await storage.apply([opened(1), plain(0), opened(2, "nurse@capulet.lit")])
    last = (await modified(storage)).items[-1].stamp
    await storage.apply([change])
    news = [one for one in (await modified(storage, last)).items if not one.removed]
    assert [one.version for one in news] == [1]


@ensureDeferred
async def test_every_change_of_keys_counts(storage):
    """So do keys: uploaded, added by the recorder, deleted; if they change anything."""
    await storage.apply([sealed_open(), sealed(0)])
    add = AddKeys(ROMEO, 1, "k1", GCM, (wrapped("k1", "phone"),))
    drop = DeleteKeys(ROMEO, CHAMBER, START, ("phone",), guard=False)
    seen = []
    for change in (save(keys=(carried(),)), save(keys=(carried(),)), add, add, drop, drop):
        before = (await modified(storage)).items[-1].stamp
        await storage.apply([change])
        (found,) = (await modified(storage)).items
        seen.append((found.version, found.stamp > before))
    assert seen == [(1, True), (1, False), (2, True), (2, False), (3, True), (3, False)]


@ensureDeferred
async def test_after(storage):
    """Listed is what was changed strictly after a stamp; the count is that of these."""
    await storage.apply([opened(n, start=START + n) for n in range(1, 6)])
    every = list((await modified(storage)).items)
    for place, one in enumerate(every):
        page = await modified(storage, one.stamp)
        assert (list(page.items), page.index, page.count) == (every[place + 1 :], 0, 4 - place)
        assert list((await modified(storage, one.stamp - 1)).items) == every[place:]


@pytest.mark.parametrize(
    ("limit", "after", "before", "index", "backwards", "expected"),
    [
        (2, None, None, None, False, [1, 2]),
        (2, 2, None, None, False, [3, 4]),
        (2, None, 5, None, True, [3, 4]),
        (2, None, None, None, True, [5, 6]),
        (2, None, None, 3, False, [4, 5]),
        (0, None, None, None, False, []),
        (9, 6, None, None, False, []),
    ],
)
@ensureDeferred
async def test_windows(storage, limit, after, before, index, backwards, expected):
    """Any window of the modifications after a stamp: in order, the place of the first, the count of all."""
    for n in range(7):
        await storage.apply([opened(n + 1, start=START + n)])
    stamps = [one.stamp for one in (await modified(storage)).items]
    window = Window(
        limit,
        after=None if after is None else (stamps[after],),
        before=None if before is None else (stamps[before],),
        backwards=backwards,
        index=index,
    )
    page = await modified(storage, stamps[0], window=window)
    assert [one.start - START for one in page.items] == expected
    assert (page.index, page.count) == (expected[0] - 1 if expected else 0, 6)


@ensureDeferred
async def test_removals(storage):
    """A removed collection is removed at its last version, after all changes before."""
    await storage.apply([opened(1), plain(0), opened(2, JULIET)])
    await storage.apply([plain(1)])
    await only(storage, remove(with_=CHAMBER))
    await only(storage, save(2, JULIET, subject="s"))
    await only(storage, remove(with_=JULIET))
    assert await versions(storage) == [(CHAMBER, START, 1, True), (JULIET, START, 1, True)]


@pytest.mark.parametrize("how", ["removed", "expired"])
@ensureDeferred
async def test_removals_have_stamps(storage, how):
    """Each of many removals has a stamp of its own, later than all before."""
    await storage.apply([opened(n, start=START + n) for n in range(1, 6)])
    last = (await modified(storage)).items[-1].stamp
    await only(
        storage, remove() if how == "removed" else Expire(ROMEO, FUTURE, lambda with_, moment: True, 9)
    )
    stamps = [one.stamp for one in (await modified(storage, last)).items if one.removed]
    assert len(set(stamps)) == 5


@pytest.mark.parametrize("change", [save(2), opened(2)], ids=["uploaded", "recorded"])
@ensureDeferred
async def test_made_anew(storage, change):
    """A removed identity made anew is changed, version 0, and no longer removed."""
    await storage.apply([opened(1), plain(0), opened(5, JULIET)])
    await storage.apply([plain(1)])
    await only(storage, remove(with_=CHAMBER))
    await storage.apply([change])
    assert await versions(storage) == [(JULIET, START, 0, False), (CHAMBER, START, 0, False)]


@ensureDeferred
async def test_removed_again(storage):
    """An identity removed twice is there once, at the version of the last removal."""
    for uploads in (3, 2):
        await storage.apply([save(items=(said(),)) for _ in range(uploads)])
        await only(storage, remove())
    assert await versions(storage) == [(CHAMBER, START, 1, True)]


@ensureDeferred
async def test_removals_outlive(storage):
    """A refused upload to a removed identity leaves it removed."""
    await only(storage, save())
    await only(storage, remove())
    before = await everything(storage)
    assert isinstance(await only(storage, save(items=(said(), data()))), ArchiveError)
    assert await everything(storage) == before


@ensureDeferred
async def test_renamed(storage):
    """A renamed collection is removed under the old identity and changed under the new one."""
    await storage.apply([opened(with_=JULIET), plain(0)])
    await storage.apply([Rename(ROMEO, 1, CHAMBER)])
    news = await versions(storage)
    assert set(news) == {(JULIET, START, 0, True), (CHAMBER, START, 1, False)}
    await storage.apply([Rename(ROMEO, 1, JULIET)])
    assert set(await versions(storage)) == {(CHAMBER, START, 1, True), (JULIET, START, 2, False)}


@ensureDeferred
async def test_renamed_and_removed(storage):
    """A renamed collection that is removed is removed under both identities."""
    await storage.apply([opened(with_=JULIET), plain(0)])
    await storage.apply([Rename(ROMEO, 1, CHAMBER)])
    await only(storage, remove())
    assert await versions(storage) == [(JULIET, START, 0, True), (CHAMBER, START, 1, True)]


@ensureDeferred
async def test_renaming_ends_a_removal(storage):
    """A collection that takes a removed identity ends that removal."""
    await only(storage, save(9, CHAMBER))
    await only(storage, remove())
    await storage.apply([opened(1, JULIET), Rename(ROMEO, 1, CHAMBER)])
    assert set(await versions(storage)) == {(JULIET, START, 0, True), (CHAMBER, START, 1, False)}


@ensureDeferred
async def test_owners_are_apart(storage):
    """One owner learns nothing of another's changes; an owner nobody knows, nothing at all."""
    await storage.apply([opened(), opened(owner=JULIET), remove(owner=JULIET)])
    assert await versions(storage) == [(CHAMBER, START, 0, False)]
    assert await versions(storage, JULIET) == [(CHAMBER, START, 0, True)]
    page = await modified(storage, owner="friar@verona.lit")
    assert (list(page.items), page.index, page.count) == ([], 0, 0)


@ensureDeferred
async def test_forgotten(storage):
    """Removals stamped before a moment are forgotten, no others, and no collection that there is."""
    await storage.apply([opened(1), opened(2, JULIET), opened(3, "nurse@capulet.lit")])
    await only(storage, remove(with_=CHAMBER))
    await only(storage, remove(with_=JULIET))
    stamps = [one.stamp for one in (await modified(storage)).items if one.removed]
    assert await storage.forget_tombstones(stamps[0], 10) == 0
    assert await storage.forget_tombstones(stamps[1], 10) == 1
    assert [one.with_ for one in (await modified(storage)).items] == ["nurse@capulet.lit", JULIET]
    assert await storage.forget_tombstones(FUTURE, 10) == 1
    assert await versions(storage) == [("nurse@capulet.lit", START, 0, False)]


@ensureDeferred
async def test_forgotten_in_parts(storage):
    """At most so many removals are forgotten at once, of all owners, until there is none."""
    owners = [ROMEO, JULIET]
    await storage.apply([opened(n, start=START + n, owner=owner) for owner in owners for n in range(1, 4)])
    await storage.apply([remove(owner) for owner in owners])
    assert [await storage.forget_tombstones(FUTURE, 4) for _ in range(3)] == [4, 2, 0]
    assert [(await modified(storage, owner=owner)).count for owner in owners] == [0, 0]


@ensureDeferred
async def test_stamps_go_on_after_forgetting(storage):
    """A change after all was forgotten is later than what a replica has seen."""
    await only(storage, save())
    await only(storage, remove())
    last = (await modified(storage)).items[-1].stamp
    await storage.forget_tombstones(FUTURE, 10)
    await only(storage, save(2))
    assert (await modified(storage, last)).count == 1
