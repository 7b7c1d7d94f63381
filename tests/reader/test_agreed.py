"""What two agreed of the logging of a conversation, read from its messages; what may be archived then."""

import json
from dataclasses import replace

import pytest
from lxml import etree
from pytest_twisted import ensureDeferred

from archive_crypt.core.canonical import canonical
from archive_crypt.core.items import ReadItem
from archive_crypt.model import ContactModes, Modes, Otr, SaveMode
from archive_crypt.reader import agreed, ssn
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.otr import Logging, Outcome
from archive_crypt.reader.protocol import Listed, parse
from archive_crypt.reader.ssn import Form
from archive_crypt.reader.xep_0136 import preferences
from archive_crypt.reader.xep_0136.preferences import Preferences, SessionModes
from tests.reader.conftest import DOMAIN

MAY, NOT = Logging.MAY, Logging.MUSTNOT
ROMEO, JULIET, NURSE = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", f"nurse@{DOMAIN}"
OFFER = ssn.write_offer(JULIET, "t", (MAY, NOT))
RENEWAL = ssn.write_offer(JULIET, "t", (NOT,), renegotiate=True)
DONE, END = ssn.write_completion(JULIET, "t"), ssn.write_end(JULIET, "t")
UNAVAILABLE = (
    "<error xmlns='jabber:client' type='cancel'>"
    "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
)


def answer(mode, offered=(MAY, NOT), **form):
    offer = Form("form", "t", accept=True, logging=offered, **form)
    return ssn.write_answer(ROMEO, offer, mode, switchable=True)


def entry(message=None, text=None):
    """One message, of those that negotiate or of others; romeo's, if it is not for him and comes not back."""
    read = etree.Element("message") if message is None else etree.fromstring(message)
    rest = tuple(canonical(child) for child in read)
    kind = "from" if read.get("to") == ROMEO or read.find("{*}error") is not None else "to"
    item = ReadItem(kind, 0, None, None, ((None, text),) if text else (), None, rest=rest)
    return Entry(0, False, item, 0, ())


def outcome(*messages):
    return agreed.outcome([entry(text="before"), *map(entry, messages), entry(text="after")])


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((), None),
        ((OFFER,), Outcome.PENDING),
        ((OFFER, answer(Otr.FORBID), DONE), Outcome.MAY),
        ((OFFER, answer(Otr.REQUIRE), DONE), Outcome.MUSTNOT),
        ((OFFER, answer(Otr.REQUIRE), DONE, END), Outcome.MUSTNOT),
        ((OFFER, answer(Otr.FORBID), DONE, RENEWAL, answer(Otr.REQUIRE, renegotiate=True)), Outcome.MUSTNOT),
        ((OFFER, answer(Otr.FORBID), DONE, RENEWAL), Outcome.MAY),
        ((OFFER, answer(Otr.FORBID, (NOT,))), Outcome.FAILED),
        ((OFFER, answer(Otr.FORBID, (NOT,)), OFFER, answer(Otr.FORBID), DONE), Outcome.MAY),
        ((OFFER, answer(Otr.REQUIRE, None)), Outcome.UNANSWERED),
        ((OFFER, OFFER.replace("</message>", f"{UNAVAILABLE}</message>")), Outcome.UNANSWERED),
        ((ssn.write_offer(JULIET, "t", (NOT, MAY)), answer(Otr.FORBID, None)), Outcome.MUSTNOT),
    ],
)
def test_outcomes(messages, expected):
    """An offer, its answer, new terms: what they come to; once off the record, all of it is. Who is silent about
    logging accepts what is offered by default."""
    assert outcome(*messages) is expected


@pytest.mark.parametrize(
    "messages",
    [
        (answer(Otr.REQUIRE),),
        (answer(Otr.REQUIRE).replace(ROMEO, JULIET), answer(Otr.REQUIRE)),
        (OFFER, answer(Otr.REQUIRE).replace(ROMEO, JULIET)),
        (OFFER, answer(Otr.REQUIRE).replace("type='submit'", "type='nonsense'")),
        (OFFER, answer(Otr.REQUIRE).replace("type='submit'", "type='result'")),
        (answer(Otr.FORBID, (NOT,)),),
    ],
)
def test_it_takes_two(messages):
    """What answers no offer of the other side, or is no answer, is neither an agreement nor a failure."""
    assert outcome(*messages) in (None, Outcome.PENDING, Outcome.UNANSWERED)


def test_what_negotiates():
    """The messages that negotiate are told from others, and from what could not be read."""
    others = [entry(text="But soft"), Entry(0, True, None, None, ())]
    assert agreed.said([entry(OFFER), *others, entry(DONE)]) == others
    assert outcome() is None


@pytest.mark.clause("0136-otr-notes-02")
@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("I owe you 1000 ducats", ()),
        (None, ('<openpgp xmlns="urn:xmpp:openpgp:0">QUJD</openpgp>',)),
        (None, ('<x xmlns="jabber:x:oob"><url>https://capulet.lit/bond</url></x>',)),
    ],
)
def test_what_is_said_beside_a_negotiation(text, more):
    """A message that negotiates and says something too is one of those that say something; only what it
    negotiates is left out."""
    both = entry(OFFER, text)
    both = replace(both, item=replace(both.item, rest=(*both.item.rest, *more)))
    (kept,) = agreed.said([both])
    assert kept.item.bodies == both.item.bodies
    assert kept.item.rest == tuple(child for child in both.item.rest if "feature-neg" not in child)


def test_what_is_nested_as_deep_as_can_be():
    """Nothing in an item, which may come from anywhere, ends the reading of the others."""
    deepest = max(filter(is_xml, range(1, 300)))
    item = ReadItem("to", 0, None, None, (), None, rest=(deep(deepest),))
    assert agreed.outcome([Entry(0, False, item, 0, ()), entry(OFFER)]) is Outcome.PENDING


def deep(levels):
    return "<a xmlns='http://jabber.org/protocol/feature-neg'>" * levels + "</a>" * levels


def is_xml(levels):
    try:
        return parse(deep(levels).encode()) is not None
    except etree.XMLSyntaxError:
        return False


def test_a_thread_goes_on():
    """What was agreed holds in later collections of the same thread with the contact, until something else is
    agreed there; without a thread it holds in its own collection only."""
    agreements = agreed.Agreements()
    off, on = ([entry(OFFER), entry(answer(mode))] for mode in (Otr.REQUIRE, Otr.FORBID))
    talk = [entry(text="x")]
    conversations = (
        (off, "t", f"{JULIET}/balcony", Outcome.MUSTNOT),
        (talk, "t", JULIET, Outcome.MUSTNOT),
        (talk, "u", JULIET, None),
        (talk, "t", NURSE, None),
        (on, "t", JULIET, Outcome.MAY),
        (talk, "t", JULIET, None),
        (off, None, JULIET, Outcome.MUSTNOT),
        (talk, None, JULIET, None),
    )
    for start, (said, thread, contact, expected) in enumerate(conversations):
        assert agreements.outcome(Listed.named(contact, start, thread), said) is expected


def test_it_is_read_in_any_order():
    """What was agreed counts from when it was, whenever that is read; and an answer may come in a later
    collection than the offer."""
    agreements = agreed.Agreements()
    yes, no = [entry(answer(Otr.FORBID))], [entry(answer(Otr.REQUIRE))]
    asks, talk = [entry(OFFER)], [entry(text="x")]
    for start, said in ((40, [*asks, *yes]), (30, talk), (20, no), (10, asks)):
        agreements.outcome(Listed.named(JULIET, start, "t"), said)
    for start, said, expected in (
        (10, asks, Outcome.PENDING),
        (30, talk, Outcome.MUSTNOT),
        (20, no, Outcome.MUSTNOT),
        (50, talk, None),
    ):
        assert agreements.outcome(Listed.named(JULIET, start, "t"), said) is expected


# What the user prefers


def modes(otr):
    return Modes(SaveMode.BODY, otr)


@pytest.mark.parametrize(
    ("with_", "thread", "expected"),
    [
        (JULIET, "t", Otr.FORBID),
        (JULIET, "u", Otr.PREFER),
        (f"{JULIET}/balcony", None, Otr.PREFER),
        (NURSE, None, Otr.OPPOSE),
        ("tybalt@capulet.example", None, Otr.APPROVE),
    ],
)
def test_whose_preference_counts(with_, thread, expected):
    """That of the thread counts, if it has one, before that of the contact, of his domain, and of everybody."""
    wishes = Preferences(
        default=modes(Otr.APPROVE),
        items=(ContactModes(DOMAIN, modes(Otr.OPPOSE)), ContactModes(JULIET, modes(Otr.PREFER))),
        sessions=(
            SessionModes("t", SaveMode.BODY, Otr.FORBID),
            SessionModes("u", SaveMode.BODY),
        ),
    )
    assert preferences.modes(wishes, with_, thread).otr is expected


def test_no_preference():
    """Where nothing is told it is 'concede', the standard's own."""
    assert preferences.modes(Preferences(), JULIET, None).otr is Otr.CONCEDE


# save


def transcript(path, *collections):
    """A file of conversations: each with whom, and its entries."""
    lines = [{"type": "archive", "version": 1, "owner": ROMEO}]
    for minute, (with_, *entries) in enumerate(collections):
        start = f"2026-11-21T10:{minute:02}:00Z"
        lines.append({"type": "collection", "with": with_, "start": start, "told": start})
        for place, one in enumerate(entries):
            item = {"kind": one.item.kind, "utc": start, "rest": list(one.item.rest)}
            item["bodies"] = [{"text": text} for _, text in one.item.bodies]
            lines.append({"type": "message", "place": place, "at": start, "item": item})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def texts(done):
    return [line["bodies"][0]["text"] for line in done.lines]


@pytest.fixture
def laptop(key_files):
    return ("--key", key_files["laptop"])


@pytest.mark.clause("0136-otr-notes-01")
@ensureDeferred
async def test_what_was_agreed_is_obeyed(served, reader, laptop, tmp_path):
    """A conversation in which the two agreed to be off the record is not saved, and that is told of whom; not
    even if the user insists. The others are saved, without the messages that negotiate."""
    off = [entry(OFFER), entry(answer(Otr.REQUIRE)), entry(text="secret")]
    on = [entry(OFFER), entry(answer(Otr.FORBID)), entry(DONE), entry(text="said")]
    path = transcript(tmp_path / "x.jsonl", (JULIET, *off), (NURSE, *on))
    for how in ((), ("--force",)):
        done = await reader("save", ROMEO, path, *laptop, *how, at=served)
        assert done.code == 4
        assert f"{JULIET}, 2026-11-21T10:00:00Z: not saved. You and {JULIET} agreed" in done.err
        assert "archive-reader prefs contact" in done.err
        assert texts(await reader("read", ROMEO, *laptop, "--json", at=served)) == ["said"]


@ensureDeferred
async def test_what_is_said_beside_is_saved(served, reader, laptop, tmp_path):
    """What a contact says in a message that negotiates is saved with the rest of it."""
    mixed = OFFER.replace("<no-store xmlns='urn:xmpp:hints'/>", "")
    said = [entry(mixed, "one"), entry(answer(Otr.FORBID)), entry(text="two")]
    path = transcript(tmp_path / "x.jsonl", (JULIET, *said))
    done = await reader("save", ROMEO, path, *laptop, "--json", at=served)
    assert (done.code, done.lines[0]["messages"]) == (0, 2)
    assert texts(await reader("read", ROMEO, *laptop, "--json", at=served)) == ["one", "two"]


@pytest.mark.clause("0136-otr-nego-07")
@ensureDeferred
async def test_preferences_of_off_the_record(served, reader, laptop, tmp_path):
    """Of whom the user requires to be off the record nothing is saved, unless he insists; of whom he only
    prefers that, with nothing agreed, it is."""
    path = transcript(tmp_path / "x.jsonl", (JULIET, entry(text="one")), (NURSE, entry(text="two")))
    for contact, save, otr in ((JULIET, SaveMode.FALSE, Otr.REQUIRE), (NURSE, SaveMode.BODY, Otr.PREFER)):
        set_ = ("--save", save.value, "--otr", otr.value)
        await reader("prefs", "contact", ROMEO, contact, *set_, at=served)
    done = await reader("save", ROMEO, path, *laptop, at=served)
    assert done.code == 4
    assert f"all with {JULIET} off the record (otr require). Change them by archive-reader prefs" in done.err
    assert texts(await reader("read", ROMEO, *laptop, "--json", at=served)) == ["two"]
    assert (await reader("save", ROMEO, path, *laptop, "--force", at=served)).code == 0
    assert texts(await reader("read", ROMEO, *laptop, "--json", at=served)) == ["one", "two"]
