"""What is known of conversations that are negotiated: it is found, and it is bounded."""

import pytest
from slixmpp import JID

from archive_crypt.reader.errors import CannotAsk
from archive_crypt.reader.otr import Logging, Outcome
from archive_crypt.reader.xep_0155.talks import MOST_TALKS, Talk, Talks

JULIET, PHONE, NURSE = (
    JID("juliet@capulet.lit/balcony"),
    JID("juliet@capulet.lit/pda"),
    JID("nurse@capulet.lit/house"),
)
BARE = JULIET.bare


@pytest.fixture
def talks():
    return Talks()


def talk(talks, jid=JULIET, thread="ffd7", outcome=Outcome.PENDING):
    """One that is known."""
    found = Talk(jid, thread, outcome=outcome)
    talks.add(found)
    return found


def test_found(talks):
    """A conversation is that of a full JID in a thread; one that was offered to the contact is that of whichever
    client of his answers."""
    offered = talk(talks, JID(BARE))
    assert talks.find(JULIET, "ffd7") is talks.find(PHONE, "ffd7") is offered
    talks.bind(offered, JULIET)
    assert (talks.find(JULIET, "ffd7"), talks.find(PHONE, "ffd7")) == (offered, None)
    assert talks.find(JULIET, "other") is talks.find(JULIET, None) is talks.find(NURSE, "ffd7") is None


def test_by_the_contact(talks):
    """Who asks about a contact without a resource is told of the private one, if there is one."""
    talk(talks, PHONE, outcome=Outcome.MAY)
    private = talk(talks, JULIET, outcome=Outcome.MUSTNOT)
    talk(talks, JID(f"{BARE}/tomb"), outcome=Outcome.MAY)
    assert talks.find(JID(BARE), "ffd7") is private


@pytest.mark.parametrize(
    ("outcome", "taken"),
    [
        (Outcome.PENDING, True),
        (Outcome.MAY, True),
        (Outcome.MUSTNOT, True),
        (Outcome.FAILED, False),
        (Outcome.UNANSWERED, False),
        (None, False),
    ],
)
def test_a_thread_belongs_to_one(talks, outcome, taken):
    """A thread in which something is in force, or may come to be, is nobody else's."""
    talk(talks, outcome=outcome)
    assert talks.is_taken(NURSE, "ffd7") is talks.is_taken(PHONE, "ffd7") is taken
    assert not talks.is_taken(JULIET, "ffd7")


def test_room(talks):
    """More with a contact cost the oldest of his that nothing depends on, then the oldest of his; never what is
    being negotiated, and never another contact's."""
    nurse = talk(talks, NURSE, outcome=Outcome.FAILED)
    assert talks.room(BARE) is None
    outcomes = [Outcome.PENDING, Outcome.MUSTNOT, Outcome.FAILED, Outcome.MAY, None]
    outcomes += [Outcome.MAY] * (MOST_TALKS - len(outcomes))
    known = [talk(talks, thread=str(number), outcome=outcome) for number, outcome in enumerate(outcomes)]
    for expected in (known[2], known[4], known[1], known[3]):
        assert talks.room(BARE) is expected
        talks.remove(expected)
        assert talks.room(BARE) is None
        talk(talks, thread=f"{expected.thread} again")
    for one in talks.of(BARE):
        one.outcome = Outcome.PENDING
    with pytest.raises(CannotAsk, match="wait"):
        talks.room(BARE)
    assert nurse in talks


def test_what_is_private(talks):
    """What was agreed to be is private, and what was accepted to be, before it is opened."""
    one = talk(talks)
    assert not one.is_private
    one.chosen = Logging.MUSTNOT
    assert one.is_private
    one.take_back(Outcome.MUSTNOT)
    assert one.is_private
    one.take_back(None)
    assert not one.is_private
