"""Messages become uploads that servers take, and that say all that was said."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.core import stanzas, times
from archive_crypt.core.dialect import DIALECTS, F
from archive_crypt.core.items import ReadItem, read
from archive_crypt.model import MILLISECOND, SECOND, SaveMode
from archive_crypt.reader import protocol
from archive_crypt.reader.errors import CannotAsk
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.xep_0136 import requests, uploads
from archive_crypt.reader.xep_0136.uploads import PLAIN
from tests.reader.kit import law

START = times.parse("2026-11-21T10:00:00Z")
JULIET = Listed.named("juliet@capulet.lit", START)
HINT = "<{} xmlns='urn:xmpp:hints'></{}>"
HEADER = "<headers xmlns='http://jabber.org/protocol/shim'><header name='{}'>{}</header></headers>"


def item(text="x", after=0, kind="to", **other):
    """Something that was said so many microseconds after the start."""
    given = {"name": None, "bodies": ((None, text),) if text else (), "bound": None, "rest": ()}
    return ReadItem(**{"kind": kind, "at": START + after, "secs": None} | given | other)


def seconds(items, **how):
    return [one.secs for one in uploads.timed(items, START, **how)]


def read_back(items, namespace=F.namespace):
    """What a reader finds in the upload of these."""
    parts = PLAIN.write(namespace, list(uploads.timed(items, START)))
    return [read(protocol.parse(f"<c xmlns='{namespace}'>{part}</c>".encode())[0]) for part in parts]


@pytest.mark.clause("0136-manual-collection-13", "0136-manual-collection-14")
def test_rounding_does_not_add_up():
    """100 messages every 0.51 s: each secs is 0 or 1, and their running sum is never a second off."""
    said = [item(after=510 * MILLISECOND * number) for number in range(100)]
    found, reached = seconds(said), 0
    assert set(found) == {0, 1}
    for one, secs in zip(said, found, strict=True):
        reached += secs
        assert abs(START + reached * SECOND - one.at) < SECOND


def test_notes_do_not_move_the_clock():
    """A note has no secs; one older than what was before has 0; after others, they count from those."""
    said = [item(after=11 * SECOND), item(kind="note", after=90 * SECOND), item(after=18 * SECOND), item()]
    assert seconds(said) == [11, None, 7, 0]
    assert seconds(said, since=START + 5 * SECOND) == [6, None, 7, 0]
    with pytest.raises(CannotAsk, match="needs its time"):
        seconds([replace(item(), at=None)])


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="￾￿"), max_size=20)


@pytest.mark.clause(
    "0136-manual-collection-11",
    "0136-manual-collection-12",
    "0136-impl-muc-03",
    "0136f-muc-01",
    "0136f-note-01",
)
@given(
    kind=st.sampled_from(["to", "from", "note"]),
    bodies=st.lists(st.tuples(st.sampled_from([None, "en", "it"]), texts), min_size=1, max_size=3),
    after=st.integers(0, 10**13),
    name=st.one_of(st.none(), texts.filter(bool)),
    namespace=st.sampled_from(list(DIALECTS)),
)
@law
def test_what_is_written_is_read(kind, bodies, after, name, namespace):
    """Kind, time to the microsecond, sender and all texts come back, in every dialect."""
    if kind == "note":
        bodies, name = [(None, bodies[0][1])], None
    said = item(
        kind=kind,
        after=after,
        name=name,
        bodies=tuple(bodies),
        rest=("<x xmlns='y:z'></x>",) * (kind != "note"),
    )
    (found,) = read_back([said], namespace)
    assert replace(found, secs=None, rest=()) == replace(said, rest=())
    assert len(found.rest) == len(said.rest)


@pytest.mark.clause("D374-06", "0136-security-store-02")
@pytest.mark.parametrize(
    "rest",
    [
        HINT.format("no-store", "no-store"),
        HINT.format("no-permanent-store", "no-permanent-store"),
        HEADER.format("Store", "false"),
        HEADER.format("store", "perhaps"),
    ],
)
def test_who_sent_it_wanted_it_not_stored(rest):
    """What its sender wanted not to be stored is left out, and reported."""
    said = [item("one"), item("two", rest=(rest,)), item("three")]
    assert uploads.sift(said, SaveMode.MESSAGE) == ([said[0], said[2]], [said[1]])


@pytest.mark.clause(
    "0136-pref-determine-04",
    "0136-pref-determine-05",
    "0136-manual-collection-15",
    "0136-manual-collection-16",
    "D374-08",
)
def test_what_the_mode_keeps():
    """Bodies only, or all there is; an OpenPGP payload always; and nothing that is empty."""
    openpgp, form = "<openpgp xmlns='urn:xmpp:openpgp:0'>x</openpgp>", "<x xmlns='jabber:x:data'></x>"
    harmless = HEADER.format("Store", "true")
    said = item(rest=(openpgp, form, harmless))
    assert uploads.sift([said], SaveMode.MESSAGE) == ([said], [])
    ((kept,), _) = uploads.sift([said], SaveMode.BODY)
    assert kept.rest == (openpgp,)
    empty = item("", rest=(form,))
    assert uploads.sift([empty], SaveMode.BODY) == ([], [empty])
    assert uploads.sift([item("")], SaveMode.MESSAGE)[0] == []


@pytest.mark.clause("0136-impl-muc-00", "0136-impl-muc-01", "0136-impl-muc-02")
def test_rooms():
    """What came from a room needs its sender's nickname, and the room's bare JID."""
    said = [item(kind="from", name="benvolio"), item(kind="to")]
    uploads.check_room("balcony@house.lit", said)
    with pytest.raises(CannotAsk, match="bare JID"):
        uploads.check_room("balcony@house.lit/benvolio", said)
    with pytest.raises(CannotAsk, match="nickname"):
        uploads.check_room("balcony@house.lit", [item(kind="from")])


@pytest.mark.clause("0136-manual-upload-05")
@given(st.lists(st.integers(1, 50), max_size=40), st.integers(50, 90), st.integers(1, 7))
@law
def test_portions(sizes, room, most):
    """All items in order, in runs that are neither too large nor too many."""
    said = list(uploads.timed([item("x" * size) for size in sizes], START))
    measure = lambda one: len(one.item.bodies[0][1])  # noqa: E731
    found = list(uploads.portions(said, measure, room, most))
    assert [one for portion in found for one in portion] == said
    assert all(0 < len(portion) <= most and sum(map(measure, portion)) <= room for portion in found)


def test_one_that_is_too_large():
    """A message that fits no upload is known before anything is uploaded."""
    said = uploads.timed([item(), item('"' * 300)], START)
    with pytest.raises(CannotAsk, match="raise largest_stanza"):
        list(uploads.portions(said, PLAIN.size, 1000, 10))  # slixmpp writes &quot;


@pytest.mark.parametrize("text", ["bell\a", "\ud800", "￾"])
def test_what_no_stanza_can_hold(text):
    """Characters that XML cannot have are an error here, and not the end of the stream."""
    (said,) = uploads.timed([item(text)], START)
    with pytest.raises(CannotAsk, match="XML"):
        PLAIN.size(said)


def test_attributes_that_slixmpp_would_drop():
    """What slixmpp would send without its attributes is not sent."""
    (said,) = uploads.timed([item(rest=("<x xmlns='y:z' xmlns:p='p:q' p:a='1'/>",))], START)
    with pytest.raises(CannotAsk, match="slixmpp"):
        PLAIN.size(said)
    with pytest.raises(CannotAsk, match="slixmpp"):
        uploads.elements(F.namespace, [said.write()])


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=["V", "T", "F"])
@pytest.mark.clause(
    "0136-manual-upload-01",
    "0136-impl-link-02",
    "0136-impl-form-01",
    "0136-impl-form-02",
    "0136-manual-collection-05",
)
def test_the_server_reads_it(dialect):
    """What is uploaded is what the server takes it for."""
    form = "<x xmlns='jabber:x:data' type='submit'><field var='task'><value>1</value></field></x>"
    said = uploads.timed([item("<&>", 11 * SECOND), item("n", kind="note")], START)
    written = uploads.elements(dialect.namespace, [form, *PLAIN.write(dialect.namespace, list(said))])
    request = requests.save(dialect, replace(JULIET, thread="ffd7"), written, "She speaks!")
    saved = stanzas.parse("set", protocol.parse(str(request).encode()))
    assert (saved.with_, saved.start, saved.thread, saved.subject) == (
        JULIET.with_,
        START,
        "ffd7",
        "She speaks!",
    )
    assert [(one.secs, one.encrypted) for one in saved.items] == [(11, False), (0, False)]
    assert "task" in saved.form.content


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=["V", "T", "F"])
@pytest.mark.parametrize("with_", ["juliet@capulet.com", "juliet@capulet.com/chamber", "capulet.com"])
@pytest.mark.clause("0136-manual-collection-02")
def test_with_whom(dialect, with_):
    """A collection is with whomever one talked to: a full JID, a bare one, or a domain."""
    said = uploads.timed([item("hi")], START)
    written = uploads.elements(dialect.namespace, list(PLAIN.write(dialect.namespace, list(said))))
    request = requests.save(dialect, replace(JULIET, with_=with_), written)
    saved = stanzas.parse("set", protocol.parse(str(request).encode()))
    assert saved.with_ == with_
