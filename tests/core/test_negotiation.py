"""Which threads are off the record by agreement."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.core.message import Message
from archive_crypt.core.negotiation import Negotiations, Verdict
from archive_crypt.model import Direction
from tests.core.vectors import printed
from tests.kit import element

NOTHING, OFFERED, AGREED, OFF, ON = Verdict
TO, FROM = Direction.TO, Direction.FROM
ROMEO, JULIET = "romeo@montague.net", "juliet@capulet.com"
THREAD = "ffd7076498744578d10edabfe7f4a866"
FORM_TYPES = [
    "urn:xmpp:ssn",
    "urn:xmpp:chatneg",
    "http://jabber.org/protocol/chatneg",
    "http://www.xmpp.org/extensions/xep-0155.html#ns",
]


def message(inner="<body>Speak again, bright angel!</body>", thread="t", kind="normal"):
    threaded = f"<thread>{thread}</thread>" if thread else ""
    return element(f"<message type='{kind}'>{threaded}{inner}</message>")


def form(kind, form_type=FORM_TYPES[0], **fields):
    """A negotiation form with these fields, as the child of a message."""
    values = "".join(
        f"<field var='{name}'><value>{value}</value></field>"
        for name, value in {"FORM_TYPE": form_type, **fields}.items()
    )
    return (
        "<feature xmlns='http://jabber.org/protocol/feature-neg'>"
        f"<x xmlns='jabber:x:data' type='{kind}'>{values}</x></feature>"
    )


OFFER = form("form", accept="true")
ACCEPT = form("submit", accept="1", logging="mustnot")
COMPLETE = form("result", accept="1")


class Talk:
    """What a user exchanges with Juliet in one thread, unless told otherwise."""

    def __init__(self, **limits):
        self.negotiations = Negotiations(**limits)

    def __call__(self, direction, inner=None, thread="t", peer=JULIET, kind="normal"):
        said = message(inner, thread, kind) if inner else message(thread=thread, kind=kind)
        return self.negotiations.saw(Message(said), direction, peer)

    def agree(self, thread="t"):
        self(TO, OFFER, thread)
        self(FROM, ACCEPT, thread)
        return self(TO, COMPLETE, thread)

    def is_off(self, thread="t", peer=JULIET):
        return self.negotiations.forbids(peer, thread)


@pytest.fixture
def talk():
    return Talk()


def printed_talk(start, peer, *names):
    """The verdicts on printed stanzas that go to and fro, the first in direction `start`."""
    negotiations = Negotiations()
    directions = [start, FROM if start is TO else TO] * len(names)
    return [
        (negotiations.saw(Message(printed(name)), direction, peer), negotiations.forbids(peer, THREAD))
        for name, direction in zip(names, directions, strict=False)
        if name
    ]


@pytest.mark.clause("D218-13")
@pytest.mark.parametrize(("start", "peer"), [(TO, JULIET), (FROM, ROMEO)])
def test_printed_agreement(start, peer):
    """The printed agreement takes its thread off the record for either side, and the printed
    renegotiation puts it back."""
    assert printed_talk(start, peer, "0155-01", "0155-02", "0155-07", "0155-11", "0155-12") == [
        (OFFERED, False),
        (NOTHING, False),
        (AGREED, True),
        (OFF, True),
        (ON, False),
    ]


@pytest.mark.clause("D218-13")
@pytest.mark.parametrize("end", [("0155-14", "0155-15"), ("", "0155-14", "0155-15")])
def test_printed_termination(end):
    """Either side can end the session, after which the thread is on the record again."""
    verdicts = printed_talk(TO, JULIET, "0155-01", "0155-02", "0155-07", "", *end)
    assert verdicts[-2:] == [(ON, False), (NOTHING, False)]


@pytest.mark.parametrize(
    "names",
    [
        ("0155-01", "0155-03", "0155-07"),  # declined
        ("0155-01", "0155-02", "0155-08"),  # canceled
        ("0155-01", "0155-02"),  # not completed
        ("0155-01", "", "0155-07"),  # not accepted
        ("0155-01", "", "0155-08"),
    ],
)
def test_printed_without_agreement(names):
    """What was declined, canceled, not accepted or not completed takes nothing off the record."""
    assert not any(off for _, off in printed_talk(TO, JULIET, *names))


def test_printed_rejection():
    """New terms that are rejected leave the old ones in force."""
    names = "0155-01", "0155-02", "0155-07", "0155-11", "0155-13", "0155-09", "0155-10"
    assert printed_talk(TO, JULIET, *names)[3:] == [(OFF, True)] * 4


@pytest.mark.clause("D218-14")
@pytest.mark.parametrize("names", [("0217-03", "0217-06", "0217-07"), ("0116-03", "0116-08", "0116-10")])
def test_printed_esessions(names):
    """An ESession with otr=true, or with what XEP-0116 made of that, is off the record."""
    assert printed_talk(TO, "bob@example.com", *names)[-1] == (AGREED, True)


@pytest.mark.clause("D218-13")
@pytest.mark.parametrize("form_type", FORM_TYPES)
def test_every_name(talk, form_type):
    """Sessions are negotiated by any of their four names."""
    talk(FROM, form("form", form_type, accept="1"))
    talk(TO, form("submit", form_type, accept="1", logging="mustnot"))
    assert talk(FROM, form("result", form_type, accept="1")) is AGREED


@pytest.mark.clause("D218-14")
@pytest.mark.parametrize(
    ("fields", "off"),
    [
        ({"logging": "mustnot"}, True),
        ({"logging": "may"}, False),
        ({"logging": " may "}, False),
        ({"logging": "true"}, True),
        ({"logging": "false"}, True),
        ({"logging": ""}, True),
        ({"otr": "true"}, True),
        ({"otr": "1"}, True),
        ({"otr": "perhaps"}, True),
        ({"otr": "false"}, False),
        ({"otr": "0"}, False),
        ({"otr": "false", "logging": "mustnot"}, True),
        ({"otr": "true", "logging": "may"}, True),
        ({}, False),
    ],
)
def test_what_forbids(talk, fields, off):
    """Only logging=may and otr=false allow logging; who says nothing about it forbids nothing."""
    talk(TO, OFFER)
    talk(FROM, form("submit", accept="1", **fields))
    assert talk(TO, COMPLETE) is (AGREED if off else NOTHING)
    assert talk.is_off() is off


def test_field_without_value(talk):
    """A logging field that was left empty does not allow it."""
    talk(TO, OFFER)
    talk(FROM, ACCEPT.replace("<value>mustnot</value>", ""))
    assert talk(TO, COMPLETE) is AGREED


def test_accepted_in_silence(talk):
    """Who accepts an offer and leaves a field out accepts what is offered by default."""
    talk(TO, form("form", accept="1", logging="mustnot"))
    talk(FROM, form("submit", accept="1"))
    assert talk(TO, COMPLETE) is AGREED


def test_back_only_in_words(talk):
    """Recording is never resumed by what was left out."""
    talk.agree()
    talk(TO, form("form", renegotiate="1", logging="may"))
    assert talk(FROM, form("submit", renegotiate="1")) is OFF


def test_renegotiated_away(talk):
    """A session on the record can be taken off it by new terms, without a completion."""
    assert talk(FROM, form("form", renegotiate="1", logging="mustnot")) is OFFERED
    assert talk(TO, form("submit", renegotiate="1", logging="mustnot")) is AGREED


def test_negotiated_again(talk):
    """A whole new negotiation in the thread can put it on the record again."""
    talk.agree()
    assert talk(FROM, OFFER) is OFF
    assert talk(TO, form("submit", accept="1", logging="may")) is OFF
    assert talk(FROM, COMPLETE) is ON


def test_messages_of_the_thread(talk):
    """Each message of a thread off the record is told, in both directions; others are not."""
    assert talk(TO) is NOTHING
    talk.agree()
    for direction in TO, FROM:
        assert talk(direction) is OFF
        assert talk(direction, thread="another") is NOTHING
        assert talk(direction, thread="") is NOTHING
        assert talk(direction, peer=ROMEO) is NOTHING
    assert not talk.is_off("another")
    assert not talk.is_off(None)


def test_without_thread(talk):
    """What is agreed without a thread is agreed for all messages without one."""
    assert talk.agree(thread="") is AGREED
    assert talk.is_off(None)
    assert not talk.is_off("t")


def test_first_offer_counts(talk):
    """While an offer is open, another one is nothing new: the first is where dropping begins."""
    assert talk(TO, OFFER) is OFFERED
    assert talk(TO, OFFER) is NOTHING
    assert talk(FROM, OFFER) is NOTHING


def test_offers_that_cross(talk):
    """When both sides offer at once, either offer can be accepted and completed."""
    talk(TO, OFFER)
    talk(FROM, OFFER)
    talk(FROM, ACCEPT)
    assert talk(TO, COMPLETE) is AGREED


def test_second_copy_of_an_offer(talk):
    """A copy of the offer, delivered to another client late, does not undo the answer."""
    talk(FROM, OFFER)
    talk(TO, ACCEPT)
    talk(FROM, OFFER)
    assert talk(FROM, COMPLETE) is AGREED


def test_second_answer(talk):
    """When two clients of one side accept, the one that forbids logging counts."""
    talk(TO, OFFER)
    talk(FROM, ACCEPT)
    talk(FROM, form("submit", accept="1", logging="may"))
    assert talk(TO, COMPLETE) is AGREED


def test_old_offer_undoes_nothing(talk):
    """An offer that was open before the agreement cannot be completed after it."""
    talk(FROM, OFFER)
    talk(TO, form("submit", accept="1", logging="may"))
    talk.agree()
    assert talk(FROM, COMPLETE) is OFF
    assert talk.is_off()


def test_errors_change_nothing(talk):
    """An error holds the form that it refuses: it is no offer, and ends none."""
    assert talk(FROM, OFFER, kind="error") is NOTHING
    talk(TO, OFFER)
    talk(FROM, OFFER, kind="error")
    talk(FROM, ACCEPT)
    assert talk(TO, COMPLETE) is AGREED


def test_rooms_negotiate_nothing(talk):
    """In a room anybody could complete what another one offered."""
    talk(TO, OFFER, kind="groupchat")
    talk(FROM, ACCEPT, kind="groupchat")
    assert talk(TO, COMPLETE, kind="groupchat") is NOTHING


@pytest.mark.parametrize(
    "ends", [form("cancel"), form("submit", terminate="1"), form("result", terminate="true")]
)
@pytest.mark.parametrize("direction", Direction)
def test_endings(talk, ends, direction):
    """A session ends when either side cancels or terminates it."""
    talk.agree()
    assert talk(direction, ends) is ON
    assert not talk.is_off()


def test_cancelled_offer(talk):
    """Who cancels new terms that are still open does not end the session."""
    talk.agree()
    talk(TO, form("form", renegotiate="1", logging="may"))
    assert talk(TO, form("cancel")) is OFF


def test_other_forms(talk):
    """Other forms and features are no offers."""
    assert talk(TO, form("form", "urn:example:other", accept="1")) is NOTHING
    assert talk(TO, "<feature xmlns='http://jabber.org/protocol/feature-neg'/>") is NOTHING


@pytest.mark.parametrize(
    "inner", [ACCEPT, COMPLETE, form("submit", terminate="1"), form("cancel"), form("odd")]
)
def test_strays(talk, inner):
    """Answers to no offer are nothing."""
    for direction in TO, FROM, TO:
        assert talk(direction, inner) is NOTHING


def test_the_last_agreements_stay():
    """Of too many threads off the record the one silent for longest is forgotten."""
    talk = Talk(most=3)
    for thread in "abc":
        talk.agree(thread)
    talk(FROM, thread="a")
    talk.agree("d")
    assert [talk.is_off(thread) for thread in "abcd"] == [True, False, True, True]


def test_offers_push_nothing_out():
    """No number of offers pushes out an agreement; of too many offers the oldest is forgotten."""
    talk = Talk(most=3)
    for thread in "abc":
        talk.agree(thread)
    for thread in "123456":
        talk(FROM, OFFER, thread)
    assert all(talk.is_off(thread) for thread in "abc")
    talk(TO, ACCEPT, "1")
    assert talk(FROM, COMPLETE, "1") is NOTHING
    talk(TO, ACCEPT, "6")
    assert talk(FROM, COMPLETE, "6") is AGREED


def test_endless_thread(talk):
    """The longest thread works as any other does."""
    endless = "x" * 100_000
    talk.agree(endless)
    assert talk.is_off(endless)
    assert not talk.is_off(endless + "x")


LOGGING = st.sampled_from([{}, {"logging": "may"}, {"logging": "mustnot"}, {"otr": "true"}, {"otr": "false"}])
WORDS = st.sampled_from(["accept", "renegotiate"])
YES_OR_NO = st.sampled_from(["1", "0"])
OFFERS = st.builds(lambda word, logging: form("form", **{word: "1"}, **logging), WORDS, LOGGING)
ANSWERS = st.builds(
    lambda kind, word, yes, logging: form(kind, **{word: yes}, **logging),
    st.sampled_from(["submit", "result"]),
    WORDS,
    YES_OR_NO,
    LOGGING,
)
ENDS = st.sampled_from([form("submit", terminate="1"), form("result", terminate="1"), form("cancel")])
PLAIN = st.just("<body>hi</body>")
THREADS = st.sampled_from(["t", "u"])


def steps(*forms):
    """(direction, thread, child) of messages at random."""
    return st.lists(st.tuples(st.sampled_from(Direction), THREADS, st.one_of(*forms)), max_size=25)


def agreement(direction, thread, logging):
    """Three messages that settle whether there is logging."""
    other = FROM if direction is TO else TO
    answer = form("submit", accept="1", logging=logging)
    return [(direction, thread, OFFER), (other, thread, answer), (direction, thread, COMPLETE)]


def new_terms(direction, thread, logging):
    """Two messages that settle it anew."""
    other = FROM if direction is TO else TO
    return [
        (direction, thread, form("form", renegotiate="1")),
        (other, thread, form("submit", renegotiate="1", logging=logging)),
    ]


#: By mere chance hardly anything is agreed: so whole agreements too, and random steps between them.
DEALINGS = st.lists(
    st.one_of(
        st.builds(agreement, st.sampled_from(Direction), THREADS, st.sampled_from(["may", "mustnot"])),
        st.builds(new_terms, st.sampled_from(Direction), THREADS, st.sampled_from(["may", "mustnot"])),
        st.lists(
            st.tuples(st.sampled_from(Direction), THREADS, st.one_of(OFFERS, ANSWERS, ENDS, PLAIN)),
            max_size=4,
        ),
    ),
    max_size=12,
).map(lambda dealings: [step for dealing in dealings for step in dealing])


@pytest.mark.clause("D218-13")
@given(DEALINGS)
def test_off_until_on(events):
    """Whatever is negotiated, a thread is off the record from AGREED to ON, and only then; and
    ON takes an end of the session, or an answer."""
    talk, off = Talk(), set()
    for direction, thread, inner in events:
        verdict = talk(direction, inner, thread)
        assert (verdict in (OFF, ON)) is (thread in off)
        if verdict is AGREED:
            off.add(thread)
        elif verdict is ON:
            assert "type='form'" not in inner
            assert "feature" in inner
            off.remove(thread)
        assert {one for one in "tu" if talk.is_off(one)} == off


@given(steps(OFFERS, ANSWERS, PLAIN), st.sampled_from(Direction))
def test_one_side_cannot_undo(events, side):
    """Whatever one side sends after an agreement, short of ending the session, the thread stays off."""
    talk = Talk()
    talk.agree("t")
    for _, thread, inner in events:
        talk(side, inner, thread)
        assert talk.is_off("t")


@given(steps(OFFERS, ANSWERS, ENDS, PLAIN), st.sampled_from(Direction))
def test_one_side_cannot_switch_off(events, side):
    """Whatever one side sends alone, recording goes on."""
    talk = Talk()
    for _, thread, inner in events:
        assert talk(side, inner, thread) in (NOTHING, OFFERED)
        assert not talk.is_off(thread)


@given(steps(ANSWERS, ENDS, PLAIN))
def test_no_offer_no_agreement(events):
    """Without an offer nothing that both sides say switches recording off."""
    talk = Talk()
    for direction, thread, inner in events:
        assert talk(direction, inner, thread) is NOTHING
