"""Which conversation a message is of, and what becomes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.core.conversation import TRANSITIONS, Effect, Event, Peer, State, peer_of, renamed
from archive_crypt.core.message import Message
from archive_crypt.model import Direction
from tests.core.vectors import printed
from tests.kit import element

ROMEO, JULIET = "romeo@montague.lit", "juliet@capulet.lit"
CHAMBER, PDA = f"{JULIET}/chamber", f"{JULIET}/pda"


def lived(events):
    """(state, effects) after those of `events` that can happen in turn."""
    state, effects = State.IDLE, []
    for event in events:
        if (state, event) in TRANSITIONS:
            state, more = TRANSITIONS[state, event]
            effects += more
    return state, effects


EVENTS = st.lists(st.sampled_from(Event), max_size=30)


@given(EVENTS)
def test_nothing_follows_the_key(events):
    """Whatever happens, no effect comes after the key's destruction."""
    _, effects = lived(events)
    if Effect.DESTROY_KEY in effects:
        assert effects.index(Effect.DESTROY_KEY) == len(effects) - 1


@given(EVENTS)
def test_every_key_is_destroyed(events):
    """Whatever happened, once it stops and what is under way ends, a key that was born is destroyed."""
    state, effects = lived([*events, Event.STOP, Event.RESEALED])
    assert state in (State.IDLE, State.CLOSED)
    assert effects.count(Effect.CREATE_KEY) == effects.count(Effect.DESTROY_KEY)


@given(EVENTS)
def test_nothing_in_clear_under_encryption(events):
    """After a key was born nothing is appended in clear."""
    _, effects = lived(events)
    if Effect.CREATE_KEY in effects:
        assert Effect.APPEND not in effects[effects.index(Effect.CREATE_KEY) :]


@given(EVENTS)
def test_nothing_is_sealed_before_its_key(events):
    """Nothing is sealed before the key was born."""
    _, effects = lived(events)
    if Effect.SEAL in effects:
        assert Effect.CREATE_KEY in effects[: effects.index(Effect.SEAL)]


@pytest.mark.parametrize(
    ("xml", "direction", "peer"),
    [
        (f"<message to='{JULIET}'/>", Direction.TO, Peer(JULIET, JULIET, None)),
        (f"<message from='{CHAMBER}'/>", Direction.FROM, Peer(JULIET, CHAMBER, None)),
        (f"<message from='{CHAMBER.upper()}'/>", Direction.FROM, Peer(JULIET, f"{JULIET}/CHAMBER", None)),
        (
            f"<message from='{CHAMBER}'><thread> t1\n</thread></message>",
            Direction.FROM,
            Peer(JULIET, CHAMBER, "t1"),
        ),
        (f"<message from='{CHAMBER}'><thread/></message>", Direction.FROM, Peer(JULIET, CHAMBER, None)),
        (
            "<message type='groupchat' from='balcony@house.lit/benvolio'/>",
            Direction.FROM,
            Peer("balcony@house.lit", "balcony@house.lit", None, "benvolio"),
        ),
        (
            "<message type='chat' from='balcony@house.lit/benvolio'>"
            "<x xmlns='http://jabber.org/protocol/muc#user'/></message>",
            Direction.FROM,
            Peer("balcony@house.lit/benvolio", "balcony@house.lit/benvolio", None),
        ),
        ("<message/>", Direction.TO, Peer(ROMEO, ROMEO, None)),
        ("<message to='@'/>", Direction.TO, None),
    ],
)
def test_peers(xml, direction, peer):
    """Whom a message was exchanged with, and in which thread."""
    assert peer_of(Message(element(xml)), direction, ROMEO) == peer


@pytest.mark.clause("D218-10")
def test_child_thread():
    """A thread is told without the white space around it, and from which one it branched off."""
    peer = peer_of(Message(printed("0201-01")), Direction.FROM, "romeo@example.net")
    assert peer.thread == "e0ffe42b28561960c6b12b944a092794b9683a38"
    assert peer.parent == "7edac73ab41e45c4aafa7b2d7b749080"


@pytest.mark.parametrize(
    ("thread", "parent"),
    [
        ("<thread parent=' t0\n'>t1</thread>", "t0"),
        ("<thread parent=' '>t1</thread>", None),
        ("<thread parent='t0'/>", None),
        ("<thread>t1</thread>", None),
        ("", None),
    ],
)
def test_parents(thread, parent):
    """Only what is a thread itself has a parent; in a room as well."""
    for kind in "chat", "groupchat":
        message = element(f"<message type='{kind}' from='{CHAMBER}'>{thread}</message>")
        assert peer_of(Message(message), Direction.FROM, ROMEO).parent == parent


def test_bare_becomes_full():
    """Begun under the bare JID, a collection takes the full JID of the first answer."""
    assert renamed(JULIET, False, CHAMBER) == (CHAMBER, False)


def test_second_resource_makes_it_bare():
    """When a second resource speaks it is the bare JID's for good."""
    assert renamed(CHAMBER, False, PDA) == (JULIET, True)
    assert renamed(JULIET, True, PDA) == (JULIET, True)


def test_bare_changes_nothing():
    """A message to the bare JID leaves a collection as it is."""
    assert renamed(CHAMBER, False, JULIET) == (CHAMBER, False)
