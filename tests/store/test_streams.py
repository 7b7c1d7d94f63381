"""The auto-archiving settings of single streams, kept by every storage: one promise a test."""

from pytest_twisted import ensureDeferred

from archive_crypt.model import AutoState, SuppliedKey
from archive_crypt.store.interfaces import OwnerState, SetAuto
from tests.store.kit import JULIET, ROMEO, everything

LAPTOP, PHONE = SuppliedKey("laptop", b"\x30\x00der"), SuppliedKey("phone", b"\x30\x01")
SEALED = AutoState(True, True, "urn:xmpp:tmp:archive", (LAPTOP, PHONE))
PLAIN, OFF = AutoState(True, False, "urn:xmpp:archive"), AutoState(False, False, "urn:xmpp:archive")


@ensureDeferred
async def test_streams_beside_the_lasting_one(storage):
    """Each stream's setting is kept with its keys, beside the lasting one and those of others."""
    other = AutoState(True, True, "urn:xmpp:archive", (LAPTOP,))
    await storage.apply([SetAuto(ROMEO, other), SetAuto(ROMEO, streams={"orchard": SEALED})])
    await storage.apply(
        [SetAuto(ROMEO, streams={"Orchard": OFF}), SetAuto(JULIET, streams={"orchard": PLAIN})]
    )
    assert await storage.state(ROMEO) == OwnerState(other, streams={"orchard": SEALED, "Orchard": OFF})
    assert await storage.state(JULIET) == OwnerState(streams={"orchard": PLAIN})


@ensureDeferred
async def test_one_change_of_several(storage):
    """One change sets the lasting setting, sets, replaces and removes those of streams; the rest stays."""
    before = {"orchard": SEALED, "garden": PLAIN, "cell": SEALED}
    await storage.apply([SetAuto(ROMEO, streams=before)])
    await storage.apply([SetAuto(ROMEO, SEALED, {"orchard": None, "garden": SEALED, "tomb": OFF, "a": None})])
    after = {"garden": SEALED, "cell": SEALED, "tomb": OFF}
    assert await storage.state(ROMEO) == OwnerState(SEALED, streams=after)
    await storage.apply([SetAuto(ROMEO, streams=dict.fromkeys(after))])
    assert await storage.state(ROMEO) == OwnerState(SEALED)


@ensureDeferred
async def test_streams_again(storage):
    """Settings set again, as after a COMMIT whose answer was lost, are the same."""
    batch = [SetAuto(ROMEO, PLAIN, {"orchard": SEALED}), SetAuto(ROMEO, streams={"orchard": PLAIN})]
    await storage.apply(batch)
    before = await everything(storage)
    await storage.apply(batch, again=True)
    assert await everything(storage) == before


@ensureDeferred
async def test_forget_streams(storage):
    """All settings of streams of a domain are forgotten but those named; those of other domains and the
    lasting ones are not touched."""
    nurse, below = "nurse@capulet.lit", "x@y.capulet.lit"
    both = {"chamber": SEALED, "hall": PLAIN}
    await storage.apply([SetAuto(jid, PLAIN, both) for jid in (ROMEO, JULIET, nurse, below)])
    assert (
        await storage.forget_streams("capulet.lit", [(JULIET, "hall"), (nurse, "cell"), (ROMEO, "hall")]) == 3
    )
    assert await storage.state(JULIET) == OwnerState(PLAIN, streams={"hall": PLAIN})
    assert await storage.state(nurse) == OwnerState(PLAIN)
    for elsewhere in (ROMEO, below):
        assert await storage.state(elsewhere) == OwnerState(PLAIN, streams=both)
    assert await storage.forget_streams("capulet.lit", []) == 1
    assert await storage.state(JULIET) == OwnerState(PLAIN)


@ensureDeferred
async def test_what_is_set_after_forgetting_stays(storage):
    """What is applied after streams were to be forgotten, though at the same time, is kept."""
    await storage.apply([SetAuto(ROMEO, streams={"orchard": PLAIN})])
    forgotten = storage.forget_streams("montague.lit", [])
    applied = storage.apply([SetAuto(ROMEO, streams={"orchard": SEALED})])
    assert await forgotten == 1
    await applied
    assert await storage.state(ROMEO) == OwnerState(streams={"orchard": SEALED})
