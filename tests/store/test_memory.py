"""What only the storage in memory can do: fail when told to, and keep a given time."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.errors import StorageUnavailable
from archive_crypt.model import SECOND
from archive_crypt.store.memory import MemoryStorage
from tests.store.kit import ROMEO, listed, modified, numbers, opened, paged, plain, said, save


@ensureDeferred
async def test_failing():
    """While it fails nothing can be read and nothing is made; then all is as it was."""
    storage = MemoryStorage()
    await storage.apply([opened(), plain(0)])
    storage.failing = StorageUnavailable()
    for ask in (lambda: storage.apply([plain(1)]), lambda: storage.state(ROMEO), lambda: listed(storage)):
        with pytest.raises(StorageUnavailable):
            await ask()
    storage.failing = None
    assert numbers(await paged(storage)) == [0]


@ensureDeferred
async def test_again_after_a_failure():
    """What was not made because it failed is made when it is applied again, though it equals what
    was made before."""
    storage, upload = MemoryStorage(), save(items=(said("hi"),))
    await storage.apply([upload])
    storage.failing = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await storage.apply([upload])
    storage.failing = None
    (made,) = await storage.apply([upload], again=True)
    assert made.version == 1
    assert (await paged(storage)).page.count == 2


@ensureDeferred
async def test_again_and_again():
    """What was made, and fails when it is applied again, is still not made twice at the third try."""
    storage, upload = MemoryStorage(), save(items=(said("hi"),))
    await storage.apply([upload])
    storage.failing = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        await storage.apply([upload], again=True)
    storage.failing = None
    (made,) = await storage.apply([upload], again=True)
    assert (made.version, (await paged(storage)).page.count) == (0, 1)


@ensureDeferred
async def test_its_time():
    """Changes are stamped with the time it was given, and what is of one instant in its order."""
    storage = MemoryStorage(lambda: 5 * SECOND)
    await storage.apply([opened(), opened(2)])
    assert [one.stamp for one in (await modified(storage)).items] == [5 * SECOND, 5 * SECOND + 1]
