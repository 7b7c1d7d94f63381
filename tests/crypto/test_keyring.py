"""The keyring: a data key is born, used, counted and destroyed, and nobody but the ring has it."""

import base64
import copy
import functools
import pickle
import sys

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from archive_crypt.crypto import envelope, lockedmem, opening
from archive_crypt.crypto.keyring import KeyExhausted, KeyRing
from archive_crypt.errors import KeyDestroyed, LockedMemoryUnavailable, NotImplementedHere

from .kit import octets_of, run

SEALS = list(envelope.SEAL_ALGORITHMS)
TEXT = b"<from><body>Neither, fair saint</body></from>"


@pytest.fixture
def ring():
    """A keyring, closed at the end."""
    ring = KeyRing()
    yield ring
    ring.close()


def slots_in_use(ring):
    return [(id(shelf.page), index) for shelf, index in ring._places.values()]


@pytest.mark.parametrize("algorithm", SEALS)
@pytest.mark.parametrize("wrap", list(envelope.WRAP_ALGORITHMS))
def test_who_has_the_private_key_opens_what_the_ring_sealed(ring, private_key, public_key, algorithm, wrap):
    """From birth to reading: wrapped for a public key, sealed, and opened with nothing else."""
    key = ring.create(algorithm)
    data_key = opening.unwrap(private_key, wrap, ring.wrap(key, public_key, wrap))
    assert opening.open_sealed(algorithm, data_key, ring.seal(key, TEXT)) == TEXT


def test_defaults_are_the_projects_choice(ring, private_key, public_key):
    """Unasked, AES-256-GCM and RSA-OAEP with SHA-256."""
    key = ring.create()
    assert key.algorithm == envelope.AES256_GCM
    assert len(opening.unwrap(private_key, envelope.RSA_OAEP, ring.wrap(key, public_key))) == 32


def test_a_key_has_a_name_of_its_own(ring):
    """A name is srv- and 128 random bits, never the same twice."""
    names = {ring.create().name for _ in range(300)}
    assert len(names) == 300
    assert {(name[:4], len(base64.urlsafe_b64decode(name[4:] + "=="))) for name in names} == {("srv-", 16)}


def test_a_handle_shows_its_name_only(ring):
    """repr says which key, and no more."""
    key = ring.create()
    assert repr(key) == str(key) == f"<DataKey {key.name}>"


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_handle_is_never_copied(ring, way):
    """Neither copy nor pickle takes a DataKey."""
    with pytest.raises(TypeError, match="cannot be copied"):
        way(ring.create())


def test_a_handle_is_small(ring):
    """Ten thousand conversations may be open: a handle takes less than 250 octets, its name included."""
    key = ring.create()
    assert not hasattr(key, "__dict__")
    assert sys.getsizeof(key) + sys.getsizeof(key.name) < 250


def test_sealed_counts_items(ring):
    """`sealed` grows with every item, is the key's own, and cannot be set."""
    one, other = ring.create(), ring.create()
    for expected in range(3):
        assert one.sealed == expected
        ring.seal(one, TEXT)
    assert other.sealed == 0
    with pytest.raises(AttributeError):
        one.sealed = 0


def test_a_key_is_worn_out_at_the_limit():
    """Beyond `limit` items a key seals no more, so that no nonce comes twice; it can still be wrapped."""
    ring = KeyRing(limit=3)
    key = ring.create()
    for _ in range(3):
        ring.seal(key, TEXT)
    with pytest.raises(KeyExhausted) as caught:
        ring.seal(key, TEXT)
    assert isinstance(caught.value, KeyDestroyed)
    assert key.sealed == 3
    ring.close()


def test_a_destroyed_key_is_zeros(ring):
    """destroy overwrites the slot at once."""
    key = ring.create()
    shelf, index = ring._places[key]
    assert any(shelf.page.slot(index))
    ring.destroy(key)
    assert not any(shelf.page.slot(index))


def test_a_destroyed_key_does_nothing(ring, public_key):
    """It neither seals nor wraps, and destroying it again is no error."""
    key = ring.create()
    ring.destroy(key)
    ring.destroy(key)
    assert len(ring) == 0
    for use in (lambda: ring.seal(key, TEXT), lambda: ring.wrap(key, public_key)):
        with pytest.raises(KeyDestroyed):
            use()


def test_a_key_belongs_to_its_ring(ring):
    """In another ring a key is not alive, and cannot be destroyed from there."""
    key, other = ring.create(), KeyRing()
    with pytest.raises(KeyDestroyed):
        other.seal(key, TEXT)
    other.destroy(key)
    assert ring.seal(key, TEXT)


def test_destroy_all_destroys_all(ring):
    """Afterwards no key is alive, and new ones can be made."""
    keys = [ring.create() for _ in range(200)]
    ring.destroy_all()
    assert len(ring) == 0
    for key in keys:
        with pytest.raises(KeyDestroyed):
            ring.seal(key, TEXT)
    assert ring.seal(ring.create(), TEXT)


def test_a_closed_ring_does_nothing(ring):
    """After close no key is made, used or alive; destroying and closing again are no errors."""
    key = ring.create()
    pages = [shelf.page for shelf in ring._shelves]
    ring.close()
    ring.close()
    ring.destroy(key)
    ring.destroy_all()
    assert (len(ring), ring.kind) == (0, None)
    for use in (ring.create, lambda: ring.seal(key, TEXT), lambda: pages[0].slot(0)):
        with pytest.raises(KeyDestroyed):
            use()


def test_no_page_before_the_first_key():
    """A ring is made before the daemon forks, its first page after."""
    made = []

    def new_page():
        made.append(lockedmem.new_page())
        return made[-1]

    ring = KeyRing(new_page)
    assert (len(made), ring.kind) == (0, None)
    ring.create()
    assert (len(made), ring.kind) == (1, made[0].kind)
    ring.close()


def test_kind_is_the_weakest():
    """One page that is only locked makes the whole ring 'mlock'."""
    pages = iter([lockedmem.new_page(), lockedmem.new_page(secret=False)])
    ring = KeyRing(lambda: next(pages))
    for _ in range(129):
        ring.create()
    assert ring.kind == "mlock"
    ring.close()


@pytest.mark.usefixtures("without_memfd_secret")
def test_without_memfd_secret_keys_are_locked(ring):
    """On an old kernel the ring works with mlock(2), and says so."""
    assert ring.seal(ring.create(), TEXT)
    assert ring.kind == "mlock"


def test_pages_follow_the_keys(ring):
    """128 keys a page; an emptied page is given back unless it is the only empty one."""
    keys = [ring.create() for _ in range(3 * 128 + 1)]
    assert len(ring._shelves) == 4
    pages = [shelf.page for shelf in ring._shelves]
    for key in keys:
        ring.destroy(key)
    assert len(ring._shelves) == 1
    for page in pages:
        if page is not ring._shelves[0].page:
            with pytest.raises(KeyDestroyed):
                page.slot(0)


def test_slots_are_used_again(ring):
    """A ring whose keys come and go stays at one page."""
    for _ in range(1000):
        ring.destroy(ring.create())
    assert len(ring._shelves) == 1


def test_without_a_page_there_is_no_key(ring, monkeypatch):
    """A failure to get memory or randomness leaves the ring as it was, and the living keys usable."""
    first = ring.create()
    monkeypatch.setattr(lockedmem, "_getrandom", lambda target, size, flags: -1)
    with pytest.raises(LockedMemoryUnavailable):
        ring.create()
    monkeypatch.undo()
    for _ in range(127):
        ring.create()
    monkeypatch.setattr(ring, "_new_page", functools.partial(_refuse, LockedMemoryUnavailable))
    with pytest.raises(LockedMemoryUnavailable):
        ring.create()
    monkeypatch.undo()
    assert len(ring) == 128
    assert ring.seal(first, TEXT)
    assert ring.create() in ring._places


def _refuse(error):
    raise error


def test_an_unknown_algorithm_makes_no_key(ring):
    """It is an error, and no slot is spent on it."""
    with pytest.raises(NotImplementedHere):
        ring.create("http://www.w3.org/2001/04/xmlenc#tripledes-cbc")
    assert (len(ring), ring.kind) == (0, None)


def test_in_a_forked_child_all_keys_are_destroyed():
    """A forked child can neither use the keys nor be crashed by them; the parent keeps them."""
    out = run("""
        import os
        from archive_crypt.crypto.keyring import KeyRing
        from archive_crypt.errors import KeyDestroyed
        ring = KeyRing()
        key, other = ring.create(), ring.create()
        child = os.fork()
        if not child:
            refused = 0
            for use in (lambda: ring.seal(key, b""), ring.create):
                try:
                    use()
                except KeyDestroyed:
                    refused += 1
            ring.destroy(key)
            ring.close()
            raise SystemExit(refused)
        _, status = os.waitpid(child, 0)
        ring.seal(key, b"")
        print(os.waitstatus_to_exitcode(status))
    """)
    assert out == "2"


class Life(RuleBasedStateMachine):
    """Keys come, seal and go in any order; no two living ones share a slot, and the dead do nothing."""

    keys = Bundle("keys")

    def __init__(self):
        super().__init__()
        self.ring = KeyRing(functools.partial(lockedmem.new_page, secret=False), limit=5)
        self.alive = {}  # each key with its octets

    @rule(target=keys, algorithm=st.sampled_from(SEALS), count=st.sampled_from([1, 2, 130]))
    def create(self, algorithm, count):
        made = [self.ring.create(algorithm) for _ in range(count)]
        self.alive |= {key: octets_of(self.ring, key) for key in made}
        return multiple(*made)

    @rule(key=keys, times=st.integers(1, 3))
    def seal(self, key, times):
        for _ in range(times):
            if key not in self.alive or key.sealed == 5:
                with pytest.raises(KeyExhausted if key in self.alive else KeyDestroyed):
                    self.ring.seal(key, TEXT)
            else:
                sealed = self.ring.seal(key, TEXT)
                assert opening.open_sealed(key.algorithm, self.alive[key], sealed) == TEXT

    @rule(key=keys)
    def destroy(self, key):
        self.ring.destroy(key)
        self.alive.pop(key, None)

    @rule(step=st.integers(1, 3))
    def destroy_many(self, step):
        for key in list(self.alive)[::step]:
            self.destroy(key)

    @invariant()
    def each_has_its_own_slot_and_octets(self):
        places = slots_in_use(self.ring)
        assert len(self.ring) == len(self.alive) == len(set(places))
        assert all(octets_of(self.ring, key) == octets for key, octets in self.alive.items())
        assert len(set(self.alive.values())) == len(self.alive)

    @invariant()
    def free_slots_are_zeros_on_few_pages(self):
        shelves = self.ring._shelves
        assert not any(any(shelf.page.slot(index)) for shelf in shelves for index in shelf.free)
        assert sum(len(shelf.free) == lockedmem.SLOTS for shelf in shelves) <= 1
        assert set(self.ring._roomy) == {shelf for shelf in shelves if shelf.free}

    def teardown(self):
        self.ring.close()


Life.TestCase.settings = settings(derandomize=True, deadline=None, max_examples=40, stateful_step_count=30)
TestLife = Life.TestCase
