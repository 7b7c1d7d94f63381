"""Questions that are asked of the database together."""

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from archive_crypt.errors import StorageUnavailable
from archive_crypt.model import AutoState
from archive_crypt.store.gathered import States
from archive_crypt.store.interfaces import OwnerState, SetAuto

OWNERS = [f"user{n}@capulet.lit" for n in range(1200)]


def asked(owners):
    """Transactions that were asked for, and the answers."""
    batches = []

    def read(jids):
        batches.append((list(jids), Deferred()))
        return batches[-1][1]

    states = States(read)
    return batches, [states.get(owner) for owner in owners]


def test_gathered():
    """While one transaction reads, all that is asked for waits for the next."""
    batches, answers = asked(OWNERS)
    for n, (jids, done) in enumerate(batches):
        done.callback({jid: OwnerState(AutoState(save=True)) for jid in jids[:-1]})
        assert [answer.called for answer in answers].count(True) == sum(
            len(jids) for jids, _ in batches[: n + 1]
        )
    assert [len(jids) for jids, _ in batches] == [1, 500, 500, 199]
    assert [answer.result.auto.save for answer in answers].count(False) == 4


def test_a_failure():
    """Everybody is told of a failure who asked with the first, and nobody else."""
    batches, answers = asked(OWNERS[:3])
    batches[0][1].callback({})
    batches[1][1].errback(StorageUnavailable())
    for answer in answers[1:]:
        answer.addErrback(lambda failure: failure.trap(StorageUnavailable))
    assert [answer.result for answer in answers] == [OwnerState(), StorageUnavailable, StorageUnavailable]


@ensureDeferred
async def test_many_at_once(storage):
    """Whoever asks with others is told what is his, and no less than alone."""
    for n, owner in enumerate(OWNERS[:40]):
        await storage.apply([SetAuto(owner, AutoState(True, False, f"urn:{n}"), {"x": AutoState(False)})])
    states = await gatherResults([storage.state(owner) for owner in OWNERS[:50]])
    assert [state.auto.namespace for state in states[:40]] == [f"urn:{n}" for n in range(40)]
    assert all(set(state.streams) == {"x"} for state in states[:40])
    assert states[40:] == [OwnerState()] * 10
