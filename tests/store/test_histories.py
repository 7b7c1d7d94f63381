"""Any history of an archive: laws that hold in memory; then every storage is held against the memory."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from archive_crypt.errors import ArchiveError
from archive_crypt.model import SECOND, Form
from archive_crypt.store.interfaces import AddKeys, DeleteKeys, Expire, Rename
from archive_crypt.store.memory import MemoryStorage
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
    opened,
    plain,
    remove,
    said,
    save,
    sealed,
    sealed_open,
    wrapped,
)

FUTURE = 4_000_000_000 * SECOND

CONTACTS = [CHAMBER, JULIET]

histories = st.lists(
    st.tuples(st.sampled_from(["save", "same", "remove", "refused"]), st.integers(0, 3)), max_size=30
)


def changed(step, kind, place):
    """A change of one of four identities."""
    with_, start = CONTACTS[place % 2], START + place // 2
    if kind == "remove":
        return remove(with_=with_, start=start, identity=True)
    more = {
        "save": {"subject": f"s{step}", "items": (said(str(step), step),)},
        "same": {"thread": "t"},
        "refused": {"items": (said(), data())},
    }
    return save(step + 1, with_, start, **more[kind])


def got(d):
    """The result of a Deferred of the memory, which never waits."""
    found = []
    d.addCallback(found.append)
    return found[0]


@given(histories)
def test_a_history_adds_up(history):
    """Whatever is saved and removed: each identity is there at most once, in the order of its last
    change; its version is the number of changes since it was made."""
    storage, expected = MemoryStorage(), {}
    for step, (kind, place) in enumerate(history):
        identity = (CONTACTS[place % 2], START + place // 2)
        got(storage.apply([changed(step, kind, place)]))
        version, removed, thread = expected.get(identity, (-1, True, False))
        if kind == "refused" or (kind == "same" and thread) or (kind == "remove" and removed):
            continue
        expected.pop(identity, None)
        if kind == "remove":
            expected[identity] = (version, True, False)
        else:
            expected[identity] = (
                0 if removed else version + 1,
                False,
                thread * (not removed) or kind == "same",
            )
    found = got(storage.modified(ROMEO, 0, ALL))
    assert [((one.with_, one.start), one.version, one.removed) for one in found.items] == [
        (identity, version, removed) for identity, (version, removed, _) in expected.items()
    ]
    stamps = [one.stamp for one in found.items]
    assert stamps == sorted(set(stamps))


@given(histories, st.integers(0, 30))
def test_a_replica_that_was_away(history, seen):
    """A replica that asks for what came after the last it saw ends up where one does that asks for all."""
    storage, replica, last = MemoryStorage(), {}, 0
    for step, (kind, place) in enumerate(history):
        got(storage.apply([changed(step, kind, place)]))
        if step == seen:
            for one in got(storage.modified(ROMEO, last, ALL)).items:
                replica[one.with_, one.start], last = one, one.stamp
    replica |= {(one.with_, one.start): one for one in got(storage.modified(ROMEO, last, ALL)).items}
    assert set(replica.values()) == set(got(storage.modified(ROMEO, 0, ALL)).items)


class Dice:
    """Throws changes: those of two places are in clear, those of two others encrypted."""

    def __init__(self, seed):
        self._random, self._step, self._recorded = random.Random(seed), 0, []

    def throw(self):
        """The next batch: one change, or the opening of a collection with its first item."""
        self._step += 1
        place = self._random.randrange(4)
        owner = self._random.choice([ROMEO, JULIET])
        target = {"with_": CONTACTS[place % 2], "start": START + place * SECOND, "owner": owner}
        kinds = [self._open, self._append, self._upload, self._upload, self._describe, self._take]
        kinds += [self._rename, self._add_keys]
        return self._random.choice(kinds)(place, target)

    def _open(self, place, target):
        step, owner, thread = self._step, target["owner"], f"t{place}"
        name = None if place % 2 == 0 else f"server{step}"
        self._recorded.append((owner, step, name))
        if name is None:
            parent = f"t{self._random.randrange(5)}"
            return [opened(step, thread=thread, parent=parent, **target), plain(0, "first", step, owner)]
        return [sealed_open(step, name, ("laptop", "phone"), **target), sealed(0, name, step, owner=owner)]

    def _append(self, place, target):
        if not self._recorded:
            return []
        owner, number, name = self._random.choice(self._recorded)
        text = str(self._step)
        if name is None:
            return [plain(self._step, text, number, owner)]
        return [sealed(self._step, name, number, text.encode(), owner)]

    def _rename(self, place, target):
        if not self._recorded:
            return []
        owner, number, _ = self._random.choice(self._recorded)
        return [Rename(owner, number, self._random.choice(CONTACTS))]

    def _add_keys(self, place, target):
        sealing = [(owner, number) for owner, number, name in self._recorded if name is not None]
        if not sealing:
            return []
        (owner, number), name = self._random.choice(sealing), f"more{self._random.randrange(3)}"
        recipient = self._random.choice(["laptop", "phone"])
        changes = [AddKeys(owner, number, name, GCM, (wrapped(name, recipient),))]
        return changes + [sealed(self._step, name, number, owner=owner)] * self._random.randrange(2)

    def _upload(self, place, target):
        octets = self._random.choice([200, 2000])
        name = f"client{place}"
        if place % 2 == 0:
            more = {"items": (said(str(self._step), place),)}
        else:
            recipient = self._random.choice(["laptop", "phone"])
            more = {"items": (data(str(self._step), name),), "keys": (carried(name, recipient),)}
        return [save(self._step, most_octets=octets, **more, **target)]

    def _describe(self, place, target):
        forms = [None, Form(""), Form("<x/>")]
        if place % 2:
            forms.append(Form("<y/>", (f"client{place}",)))
        more = {
            "form": self._random.choice(forms),
            "subject": self._random.choice([None, "", "s"]),
            "thread": f"t{place}",
            "links": {"next": None} if self._random.random() < 0.5 else {},
        }
        return [save(self._step, **more, **target)]

    def _take(self, place, target):
        with_, start, owner = target["with_"], target["start"], target["owner"]
        recipients = self._random.choice([("laptop",), ("phone",), ("laptop", "phone")])
        return [
            self._random.choice(
                [
                    remove(owner, with_=with_, start=start, identity=True),
                    remove(owner, limit=1, with_=with_),
                    DeleteKeys(owner, with_, start, recipients, guard=True),
                    DeleteKeys(owner, with_, start, recipients, guard=False),
                    Expire(owner, FUTURE, lambda with_, moment: with_ == JULIET, 1),
                ]
            )
        ]


async def comparable(storage, owner):
    """All that can be read of an owner, but for stamps."""
    shown, pages, news, state = await everything(storage, owner)
    keys = await storage.keys(owner, ["laptop", "phone"], ALL)
    return (
        shown,
        pages,
        {(one.with_, one.start, one.version, one.removed) for one in news},
        state,
        {shown.id: set(found) for shown, found in keys.items},
    )


@pytest.mark.parametrize("seed", range(8))
@ensureDeferred
async def test_any_history_like_in_memory(storage, seed):
    """After any history every storage shows what the one in memory does, and gave the same outcomes."""
    dice, model = Dice(seed), MemoryStorage()
    for _ in range(100):
        batch = dice.throw()
        outcomes = [await one.apply(batch) for one in (storage, model)]
        kinds = [[type(x) if isinstance(x, ArchiveError) else x for x in part] for part in outcomes]
        assert kinds[0] == kinds[1], batch
    for owner in (ROMEO, JULIET):
        assert await comparable(storage, owner) == await comparable(model, owner)
