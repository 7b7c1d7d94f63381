"""The law of sealed items: whatever the server does with them but leave them alone is seen."""

from hypothesis import assume, given
from hypothesis import strategies as st

from archive_crypt.core.items import Bound
from archive_crypt.model import MILLISECOND, SECOND
from archive_crypt.reader.checking import Expectation, Finding, judge
from tests.reader.kit import law

JULIET, NURSE = "juliet@capulet.lit", "nurse@capulet.lit"
START = 1_795_255_200 * SECOND


def sealed(count, name="k", with_=JULIET, start=START, second_key_from=None):
    """Well-sealed items: (KeyName of the EncryptedData, what is bound inside)."""
    names = [
        f"{name}2" if second_key_from is not None and n >= second_key_from else name for n in range(count)
    ]
    return [(key, Bound(key, n, with_, start)) for n, key in enumerate(names)]


def judged(items, with_=JULIET, start=START, before=None, first=0):
    """The verdicts of one collection, and what is expected after it."""
    expected = (before or Expectation()).begin(with_, start, first)
    verdicts = []
    for key_name, bound in items:
        verdict, expected = judge(expected, key_name, bound)
        verdicts.append(verdict)
    return verdicts, expected


def is_reported(verdicts):
    return any(verdict.missing or any(f.suspicious for f in verdict.findings) for verdict in verdicts)


@st.composite
def lists(draw):
    """The items of one collection, of one data key or of two."""
    count = draw(st.integers(2, 12))
    return sealed(count, second_key_from=draw(st.none() | st.integers(1, count)))


@law
@given(lists(), st.integers(0, SECOND // MILLISECOND))
def test_an_untouched_list_is_not_reported(items, moved_on):
    """Items in their place are all right, also where the store moved the start on, up to a second."""
    verdicts, _ = judged(items, with_=f"{JULIET}/chamber", start=START + moved_on * MILLISECOND)
    assert not is_reported(verdicts)


@law
@given(lists(), st.data())
def test_the_end_of_a_list_is_not_reported(items, data):
    """Reading may begin at any place that the server names."""
    first = data.draw(st.integers(0, len(items) - 1))
    assert not is_reported(judged(items[first:], first=first)[0])


@law
@given(lists(), st.data())
def test_any_other_order_is_reported(items, data):
    """No reordering goes unseen."""
    other = data.draw(st.permutations(items))
    assume(other != items)
    assert is_reported(judged(other)[0])


@law
@given(lists(), st.data())
def test_a_repetition_is_reported(items, data):
    """An item that comes twice is seen, wherever it comes again."""
    again = data.draw(st.sampled_from(items))
    place = data.draw(st.integers(0, len(items)))
    assert is_reported(judged([*items[:place], again, *items[place:]])[0])


@law
@given(lists(), st.data())
def test_a_removal_is_reported_as_missing(items, data):
    """What was taken out, but from the end, is counted where it is missing; the others are all right."""
    taken = data.draw(st.sets(st.integers(0, len(items) - 2), min_size=1))
    verdicts, _ = judged([item for n, item in enumerate(items) if n not in taken])
    assert sum(verdict.missing for verdict in verdicts) == len(taken)
    assert not any(verdict.findings for verdict in verdicts)


@st.composite
def pairs(draw):
    """Two collections, told apart by contact or start, or by nothing but a few milliseconds."""
    first, second = draw(st.integers(2, 8)), draw(st.integers(2, 8))
    with_, start = draw(
        st.sampled_from(
            [(NURSE, START), (JULIET, START + 2 * SECOND), (JULIET, START - 600 * SECOND), (JULIET, START)]
        )
    )
    return sealed(first, "a"), sealed(second, "b", with_, start), with_, start


@law
@given(pairs(), st.data())
def test_a_swap_between_two_collections_is_reported(pair, data):
    """Items that change places with those of another collection are seen when both are read."""
    ours, theirs, with_, start = pair
    i, j = data.draw(st.integers(0, len(ours) - 1)), data.draw(st.integers(0, len(theirs) - 1))
    ours[i], theirs[j] = theirs[j], ours[i]
    shown = START + 5 * MILLISECOND if (with_, start) == (JULIET, START) else start
    verdicts, then = judged(ours)
    others, _ = judged(theirs, with_, shown, then)
    assert is_reported(verdicts + others)


@law
@given(pairs())
def test_two_untouched_collections_are_not_reported(pair):
    """Collections that have nothing to do with each other do not disturb each other."""
    ours, theirs, with_, start = pair
    verdicts, then = judged(ours)
    others, _ = judged(theirs, with_, start, then)
    assert not is_reported(verdicts + others)


@law
@given(lists())
def test_a_collection_that_comes_twice_is_reported(items):
    """The same items under another start, however near, are seen."""
    _, then = judged(items)
    assert is_reported(judged(items, start=START + MILLISECOND, before=then)[0])


@law
@given(st.integers(0, 9), st.integers(0, 9))
def test_items_that_tell_no_number_are_no_gap(unknown, missing):
    """Between two items there may be as many numbers as items that told none; what is more is missing."""
    expected = Expectation().begin(JULIET, START)
    _, expected = judge(expected, "k", Bound("k", 0, JULIET, START))
    for _ in range(unknown):
        expected = expected.skip()
    verdict, _ = judge(expected, "k", Bound("k", 1 + unknown + missing, JULIET, START))
    assert verdict.missing == missing


def test_what_told_no_number_excuses_one_gap_only():
    """Once a number is told again, what is missing later is missing."""
    expected = Expectation().begin(JULIET, START).skip()
    _, expected = judge(expected, "k", Bound("k", 0, JULIET, START))
    verdict, _ = judge(expected, "k", Bound("k", 2, JULIET, START))
    assert verdict.missing == 1


def test_a_start_may_be_a_second_late_and_never_early():
    """A store moves a start on by a second at most: what is beyond comes from another collection."""
    item = sealed(1)
    for moved_on, findings in ((0, ()), (SECOND, ()), (SECOND + 1, 1), (-1, 1)):
        (verdict,), _ = judged(item, start=START + moved_on)
        assert verdict.findings == (findings and (Finding.OTHER_COLLECTION,))


def test_a_private_message_in_a_room_is_bound_to_the_room():
    """The contact that is compared is the bare JID, also of a room's occupant; capitals do not matter."""
    room = "verona@chat.capulet.lit"
    items = sealed(2, with_=room)
    assert not is_reported(judged(items, with_=f"{room}/Tybalt")[0])
    assert not is_reported(judged(items, with_="Verona@chat.capulet.lit/Tybalt")[0])
    assert is_reported(judged(items, with_="mantua@chat.capulet.lit/Tybalt")[0])


def test_another_key_name_is_tampering():
    """The name bound inside is the name outside, and there is one."""
    for name in ("other", None):
        (verdict,), _ = judged([(name, Bound("k", 0, JULIET, START))])
        assert verdict.findings == (Finding.OTHER_KEY_NAME,)
