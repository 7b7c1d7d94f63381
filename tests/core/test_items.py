"""What is archived of a message, and how it is shown again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from archive_crypt.core import items, times
from archive_crypt.core.dialect import DIALECTS
from archive_crypt.core.message import Message
from archive_crypt.errors import BadRequest
from archive_crypt.model import SECOND, Direction, PlainItem, SaveMode
from tests.kit import element

START = times.parse("1469-07-21T02:56:15Z")
#: Any text that XML 1.0 can carry.
TEXTS = st.text(
    st.characters(
        exclude_categories=("Cs", "Cc"), include_characters="\t\n\r", exclude_characters="\ufffe\uffff"
    )
)


def content(xml, mode=SaveMode.BODY, direction=Direction.TO, name=None):
    return items.content(Message(element(xml)), direction, mode, name)


def read(xml, namespace="urn:xmpp:archive"):
    tag = xml[1:].partition(" ")[0].partition(">")[0]
    return items.read(etree.fromstring(xml.replace(f"<{tag}", f"<{tag} xmlns='{namespace}'", 1)))


def test_bodies_only():
    """Mode 'body' keeps the bodies of all languages and nothing else."""
    xml = (
        "<message><active xmlns='http://jabber.org/protocol/chatstates'/><subject>s</subject>"
        "<body>Hello</body><body xml:lang='it'>Ciao</body>"
        "<html xmlns='http://jabber.org/protocol/xhtml-im'><body xmlns='http://www.w3.org/1999/xhtml'>x</body></html>"
        "</message>"
    )
    assert content(xml) == '<to><body>Hello</body><body xml:lang="it">Ciao</body></to>'


def test_whole_message():
    """Mode 'message' keeps every child, each in its own namespace; bodies take the archive's."""
    kept = content(
        "<message><body>Hello</body><thread>t1</thread>"
        "<active xmlns='http://jabber.org/protocol/chatstates'/></message>",
        SaveMode.MESSAGE,
    )
    root = etree.fromstring(kept.replace("<to>", "<to xmlns='urn:xmpp:archive'>"))
    assert [child.tag for child in root] == [
        "{urn:xmpp:archive}body",
        "{jabber:client}thread",
        "{http://jabber.org/protocol/chatstates}active",
    ]


def test_openpgp_stays():
    """An OpenPGP payload and its marker stay beside the body, which says nothing without them."""
    kept = content(
        "<message><body>encrypted</body><openpgp xmlns='urn:xmpp:openpgp:0'>QUJD</openpgp>"
        "<encryption xmlns='urn:xmpp:eme:0' namespace='urn:xmpp:openpgp:0'/><store xmlns='urn:xmpp:hints'/></message>"
    )
    assert '<openpgp xmlns="urn:xmpp:openpgp:0">QUJD</openpgp>' in kept
    assert "urn:xmpp:eme:0" in kept
    assert "hints" not in kept


def test_no_markup_in_namespaces():
    """What has a namespace that holds markup, which domish writes unescaped, is not archived at all."""
    evil = "u'/&gt;&lt;/to&gt;&lt;from&gt;&lt;body&gt;forged&lt;/body&gt;&lt;/from&gt;&lt;to&#10;a='"
    kept = content(
        f'<message><body>real</body><x xmlns="{evil}"/><y xmlns:p="{evil}" p:z="1"/>'
        f'<w xmlns="urn:w"><v xmlns="{evil}"/></w></message>',
        SaveMode.MESSAGE,
    )
    assert kept == "<to><body>real</body></to>"


def test_no_markup_in_default_namespaces():
    """Nor does a default namespace that an element declares and does not use itself."""
    evil = "x'/>\t</from><to><body>forged</body></to><from><a\tb='"
    message = element("<message><body>real</body></message>")
    child = message.addElement(("urn:xmpp:openpgp:0", "openpgp"))
    child.defaultUri = evil
    child.addElement((None, "inner"))
    kept = items.content(Message(message), Direction.FROM, SaveMode.BODY)
    assert [etree.QName(one).localname for one in etree.fromstring(kept)] == ["body", "openpgp"]


def test_prefixes_that_meet():
    """Attributes of two namespaces keep apart, whatever prefixes domish had for them."""
    kept = content(
        "<message xmlns:q='urn:1'><body>x</body><x xmlns='urn:x' xmlns:xn0='urn:2' q:a='1' xn0:a='2'/></message>",
        SaveMode.MESSAGE,
    )
    assert etree.fromstring(kept)[1].attrib == {"{urn:1}a": "1", "{urn:2}a": "2"}


def test_room_nickname():
    """In a room the sender's nickname stands in 'name'."""
    kept = content(
        "<message><body>x</body></message>", direction=Direction.FROM, name="thirdwitch's <friend>"
    )
    assert read(kept).name == "thirdwitch's <friend>"


@given(TEXTS)
def test_texts_survive(text):
    """Whatever is said comes back letter by letter."""
    message = element("<message><body/></message>")
    message.body.addContent(text)
    kept = items.content(Message(message), Direction.TO, SaveMode.BODY)
    (shown,) = items.shown([PlainItem(0, START, kept)], START)
    assert read(shown).bodies == ((None, text),)


@given(st.sampled_from(list(DIALECTS)), TEXTS, st.integers(0, 2**16), st.integers(-SECOND, 10**12))
def test_sealed_plaintext_reads_back(namespace, text, number, later):
    """What is sealed tells its text, its own time and its place, in the namespace asked for."""
    message = element("<message><body/></message>")
    message.body.addContent(text)
    kept = items.content(Message(message), Direction.FROM, SaveMode.BODY)
    bound = items.Bound("srv-key", number, "juliet@capulet.lit", START)
    plaintext = items.sealed(kept, namespace, START + later, START, bound)
    item = items.read(etree.fromstring(plaintext))
    assert item == items.ReadItem(
        "from", START + later, max(0, later // SECOND), None, ((None, text),), bound
    )


def shown_secs(offsets):
    kept = [PlainItem(n, START + offset, "<from><body>x</body></from>") for n, offset in enumerate(offsets)]
    return [read(xml) for xml in items.shown(kept, START)]


def test_secs_from_the_previous_item():
    """secs counts from the item before, the first one's from the start; utc is always there."""
    read_items = shown_secs([0, 11 * SECOND, 18 * SECOND])
    assert [item.secs for item in read_items] == [0, 11, 7]
    assert [item.at - START for item in read_items] == [0, 11 * SECOND, 18 * SECOND]


@pytest.mark.clause("0136-manual-collection-14")
def test_a_hundred_messages():
    """Of messages every 0.51 seconds each is 0 or 1 second after the one before, and none is told
    a second away from its time."""
    offsets, total = [number * 510_000 for number in range(100)], 0
    for offset, item in zip(offsets, shown_secs(offsets), strict=True):
        assert item.secs in (0, 1)
        total += item.secs
        assert abs(offset - total * SECOND) < SECOND


@pytest.mark.clause("0136-manual-collection-14")
@given(st.lists(st.integers(0, 10**10), min_size=1).map(sorted))
def test_rounding_does_not_accumulate(offsets):
    """The running sum of secs stays within a second of the real time."""
    total = 0
    for offset, item in zip(offsets, shown_secs(offsets), strict=True):
        total += item.secs
        assert 0 <= offset - total * SECOND < SECOND


@given(st.lists(st.integers(-(10**10), 10**10)))
def test_secs_never_negative(offsets):
    """Whatever the order of times, secs is a number from 0 up."""
    assert all(item.secs >= 0 for item in shown_secs(offsets))


def test_notes_have_no_secs():
    """A note has a time of its own and does not move the clock."""
    kept = [
        PlainItem(0, START, "<note>n</note>"),
        PlainItem(1, START + 5 * SECOND, "<to><body>x</body></to>"),
    ]
    note, message = (read(xml) for xml in items.shown(kept, START))
    assert (note.kind, note.secs, note.at) == ("note", None, START)
    assert message.secs == 5


@pytest.mark.parametrize(
    ("delay", "said"),
    [
        ("<delay xmlns='urn:xmpp:delay' from='montague.lit' stamp='1469-07-21T02:00:00Z'/>", "02:00:00"),
        ("<delay xmlns='urn:xmpp:delay' from='mallory.lit' stamp='1469-07-21T02:00:00Z'/>", "02:56:15"),
        ("<delay xmlns='urn:xmpp:delay' from='montague.lit' stamp='1470-01-01T00:00:00Z'/>", "02:56:15"),
        ("<delay xmlns='urn:xmpp:delay' from='montague.lit' stamp='soon'/>", "02:56:15"),
        ("", "02:56:15"),
    ],
)
def test_delayed_messages(delay, said):
    """A delay is believed if one who keeps messages says so, and only backwards."""
    message = element(f"<message><body>x</body>{delay}</message>")
    expected = times.parse(f"1469-07-21T{said}Z")
    assert items.said_at(Message(message), START, {"montague.lit"}) == expected


@pytest.mark.parametrize(
    "xml",
    [
        "<chat xmlns='urn:xmpp:archive'/>",
        "<to xmlns='urn:other'/>",
        "<to xmlns='urn:xmpp:archive' secs='-1'/>",
        "<to xmlns='urn:xmpp:archive' utc='now'/>",
    ],
)
def test_no_items(xml):
    """What is no item of the archive is refused by its reader."""
    with pytest.raises(BadRequest):
        items.read(etree.fromstring(xml))


def test_what_a_note_says():
    """The text of a note is its one body."""
    assert read("<note utc='1469-07-21T03:04:35Z'>I think she might fancy me.</note>").bodies == (
        (None, "I think she might fancy me."),
    )


def test_all_of_an_item_is_read():
    """Besides its bodies an item tells who said it in a room, and its other children, each by itself."""
    item = read(
        "<from secs='0' name='benvolio' jid='benvolio@montague.net'><p:openpgp xmlns:p='urn:xmpp:openpgp:0'"
        " p:a='1'>AB<q xmlns=''/></p:openpgp><body>Good</body><active xmlns='http://jabber.org/protocol/chatstates'/></from>"
    )
    assert (item.jid, item.bodies) == ("benvolio@montague.net", ((None, "Good"),))
    assert item.rest == (
        '<p:openpgp xmlns="" xmlns:p="urn:xmpp:openpgp:0" p:a="1">AB<q></q></p:openpgp>',
        '<active xmlns="http://jabber.org/protocol/chatstates"></active>',
    )


def test_a_child_without_form():
    """A child that has no canonical form does not cost the bodies beside it."""
    assert read("<to><x xmlns='relative'/><body>x</body></to>").bodies == ((None, "x"),)
