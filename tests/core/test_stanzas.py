"""Requests and answers of the three dialects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from archive_crypt.core import answers, rsm, stanzas, xmlenc
from archive_crypt.core.dialect import DIALECTS, F, T, V, features
from archive_crypt.core.stanzas import AutoRequest, ListRequest, RetrieveRequest
from archive_crypt.errors import ArchiveError, BadRequest, NotImplementedHere, NoUsableKey, UnusableKey
from archive_crypt.model import (
    SECOND,
    Collection,
    EncryptedKey,
    Page,
    PageRequest,
    PlainItem,
    SealedItem,
    UploadedKey,
)

CHAMBER = "juliet@capulet.lit/chamber"
START = -15_796_155_825 * SECOND  # 1469-06-08, near enough
EVERY = pytest.mark.parametrize("dialect", [V, T, F], ids=["V", "T", "F"])


def parse(xml, dialect=F, kind="get"):
    name = xml[1:].replace("/", " ").replace(">", " ").partition(" ")[0]
    return stanzas.parse(
        kind, etree.fromstring(xml.replace(f"<{name}", f"<{name} xmlns='{dialect.namespace}'", 1))
    )


@EVERY
@pytest.mark.parametrize(("save", "on"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_auto(dialect, save, on):
    """<auto/> turns archiving on and off, by all four booleans, as set and as get."""
    for kind in "set", "get":
        assert parse(f"<auto save='{save}'/>", dialect, kind) == AutoRequest(dialect, on, False, False, ())


@EVERY
@pytest.mark.parametrize(
    "attributes", ["", "save='yes'", "save='TRUE'", "save='true' encrypt='maybe'", "save=''"]
)
def test_bad_auto(dialect, attributes):
    """A missing or malformed boolean is a bad request."""
    with pytest.raises(BadRequest):
        parse(f"<auto {attributes}/>", dialect, "set")


def test_scope():
    """Only the final dialect has a scope; missing means stream; others than the two are refused."""
    assert parse("<auto save='true' scope='global'/>", F, "set").lasting
    assert not parse("<auto save='true' scope='stream'/>", F, "set").lasting
    assert not parse("<auto save='true'/>", F, "set").lasting
    assert not parse("<auto save='true' scope='global'/>", V, "set").lasting
    with pytest.raises(BadRequest):
        parse("<auto save='true' scope='forever'/>", F, "set")


@EVERY
def test_encrypt_needs_save(dialect):
    """encrypt without save asks for nothing."""
    assert not parse("<auto save='false' encrypt='true'/>", dialect, "set").encrypt
    assert parse("<auto save='1' encrypt='1'/>", dialect, "set").encrypt


KEY = (
    f"<KeyInfo xmlns='{xmlenc.XMLDSIG}'><KeyValue><KeyName>laptop</KeyName><RSAKeyValue>"
    "<Modulus>QUJD</Modulus><Exponent>AQAB</Exponent></RSAKeyValue></KeyValue></KeyInfo>"
)


@EVERY
def test_supplied_keys(dialect):
    """Public keys come along, whatever else is in <auto/>."""
    request = parse(f"<auto save='true' encrypt='true'><other xmlns='urn:x'/>{KEY}</auto>", dialect, "set")
    assert request.keys == (xmlenc.RSAKeyValue("laptop", b"ABC", b"\x01\x00\x01"),)


def test_bounds():
    """At most 64 public keys are looked at; a reply stops growing at 128 KiB."""
    assert stanzas.MOST_KEYS == 64
    assert answers.MOST_REPLY == 131072


@EVERY
def test_as_many_keys_as_may_be(dialect):
    """Sixty-four keys are looked at."""
    assert len(parse(f"<auto save='true' encrypt='true'>{KEY * 64}</auto>", dialect, "set").keys) == 64


@pytest.mark.parametrize(
    "inner",
    [KEY.replace("QUJD", "A!"), KEY.replace("RSAKeyValue", "DSAKeyValue"), KEY * 65],
)
def test_unusable_keys(inner):
    """A key that cannot be read, is no RSA key, or one too many, is not silently left out."""
    with pytest.raises(UnusableKey):
        parse(f"<auto save='true' encrypt='true'>{inner}</auto>", F, "set")


@EVERY
def test_list(dialect):
    """<list/> takes a contact, a time range and a page, all optional."""
    assert parse("<list/>", dialect) == ListRequest(dialect, None, False, None, None, PageRequest())
    request = parse(
        f"<list with='JULIET@capulet.lit/chamber' start='0000-01-01T00:00:00Z' end='1970-01-01T00:00:01Z'>"
        f"<set xmlns='{rsm.RSM}'><max>5</max></set></list>",
        dialect,
    )
    assert (request.with_, request.end) == (CHAMBER, SECOND)
    assert request.start < START
    assert request.page == PageRequest(max=5, given=True)


def test_exactmatch():
    """Where a dialect has it, exactmatch is heeded; in the oldest it is an unknown attribute."""
    xml = "<list with='capulet.lit' exactmatch='true'/>"
    assert [parse(xml, dialect).exact for dialect in (V, T, F)] == [False, True, True]


@EVERY
@pytest.mark.parametrize(
    "attributes",
    [
        "start='x'",
        "end='x'",
        "with='@'",
        "with=''",
        "with='@capulet.lit'",
        "with='juliet@capulet.lit/'",
        "start='1469-07-21'",
    ],
)
def test_bad_list(dialect, attributes):
    """Malformed times and JIDs are bad requests."""
    with pytest.raises(BadRequest):
        parse(f"<list {attributes}/>", dialect)


@EVERY
def test_retrieve(dialect):
    """<retrieve/> addresses one collection, and may name the public keys it holds."""
    request = parse(
        f"<retrieve with='{CHAMBER}' start='1970-01-01T00:00:01Z' exactmatch='true'>"
        f"<KeyName xmlns='{xmlenc.XMLDSIG}'>a</KeyName><KeyName xmlns='{xmlenc.XMLDSIG}'> b </KeyName></retrieve>",
        dialect,
    )
    assert request == RetrieveRequest(dialect, CHAMBER, SECOND, ("a", "b"), PageRequest())


@EVERY
@pytest.mark.parametrize("attributes", ["", f"with='{CHAMBER}'", "start='1970-01-01T00:00:01Z'"])
def test_bad_retrieve(dialect, attributes):
    """with and start are both needed."""
    with pytest.raises(BadRequest):
        parse(f"<retrieve {attributes}/>", dialect)


@EVERY
@pytest.mark.parametrize("xml", ["<list/>", f"<retrieve with='{CHAMBER}' start='1970-01-01T00:00:01Z'/>"])
def test_wrong_type(dialect, xml):
    """Reading is done by get."""
    with pytest.raises(BadRequest):
        parse(xml, dialect, "set")


@EVERY
def test_unknown(dialect):
    """What the archive does not know it does not offer."""
    with pytest.raises(NotImplementedHere):
        parse("<bogus/>", dialect)


@given(
    st.sampled_from(list(DIALECTS)),
    st.sampled_from(["auto", "list", "retrieve", "save", "x"]),
    st.dictionaries(
        st.sampled_from(["save", "encrypt", "scope", "with", "start", "end", "exactmatch", "open"]),
        st.text(
            st.characters(
                min_codepoint=32, exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"
            )
        ),
    ),
    st.sampled_from(["get", "set"]),
)
def test_any_request_is_understood_or_refused(namespace, name, attributes, kind):
    """Whatever comes, it is a request or one of our errors, never anything else."""
    element = etree.Element(f"{{{namespace}}}{name}", attributes)
    try:
        assert isinstance(stanzas.parse(kind, element), AutoRequest | ListRequest | RetrieveRequest)
    except ArchiveError:
        pass


def chat(xml, dialect):
    return etree.fromstring(xml), f"{{{dialect.namespace}}}"


@EVERY
def test_list_answer(dialect):
    """Each collection is an empty <chat/> with all its attributes; ids say where pages end."""
    collections = [
        Collection(7, CHAMBER, 0, 3, "t1", "She speaks!", True),
        Collection(8, CHAMBER, SECOND),
    ]
    answer, ns = chat(answers.list_answer(dialect, Page(collections, 4, 9)), dialect)
    first, second, page = answer
    expected = {"with": CHAMBER, "start": "1970-01-01T00:00:00Z", "thread": "t1", "subject": "She speaks!"}
    expected |= {"crypt": "true"} | ({"version": "3"} if dialect.versioned else {})
    assert (first.tag, dict(first.attrib), len(first)) == (f"{ns}chat", expected, 0)
    assert set(second.attrib) == {"with", "start"} | ({"version"} if dialect.versioned else set())
    assert page.tag == f"{{{rsm.RSM}}}set"
    info = rsm.read_answer(answer)
    assert (info.index, info.count) == (4, 9)
    read = stanzas.read_position(2)
    assert (read(info.first), read(info.last)) == ((0, 7), (SECOND, 8))


@EVERY
def test_nothing_listed(dialect):
    """If nothing matches the list is empty, without a page."""
    assert answers.list_answer(dialect, Page([], 0, 0)) == f"<list xmlns='{dialect.namespace}'></list>"


def test_only_counted():
    """If nothing was wanted but there is something, only the count comes."""
    answer = etree.fromstring(answers.list_answer(F, Page([], 0, 5)))
    assert rsm.read_answer(answer) == rsm.PageInfo(None, None, None, 5)


def sealed(number, size=10, name="d1"):
    return SealedItem(number, name, "urn:gcm", bytes(size))


def answered(items, keys, dialect=F, **more):
    shown = Collection(7, CHAMBER, 0, 3, crypt=True)
    text = answers.chat_answer(dialect, shown, Page(items, more.pop("index", 0), 1000), keys, **more)
    return text, etree.fromstring(text)


@EVERY
def test_chat_answer(dialect):
    """A page has its items, then the keys that open them, then the set; Ids point from one to the other."""
    keys = {
        "d1": [EncryptedKey("d1", "laptop", "urn:oaep", b"1"), EncryptedKey("d1", "phone", "urn:oaep", b"2")],
        "d2": [EncryptedKey("d2", "laptop", "urn:oaep", b"3")],
    }
    _, answer = answered([sealed(0), sealed(1), sealed(2, name="d2")], keys, dialect)
    assert [etree.QName(child).localname for child in answer] == ["EncryptedData"] * 3 + [
        "EncryptedKey",
        "EncryptedKey",
        "EncryptedKey",
        "set",
    ]
    read = [xmlenc.read_key(child) for child in answer[3:6]]
    assert [(key.key_name, key.recipients) for key in read] == [
        ("d1", ("laptop",)),
        ("d1", ("phone",)),
        ("d2", ("laptop",)),
    ]
    assert len({key.id for key in read}) == 3
    ids = [xmlenc.read_data(child).key_ids for child in answer[:3]]
    assert ids == [(read[0].id, read[1].id)] * 2 + [(read[2].id,)]


def test_no_key_no_pointer():
    """Where no key is returned, nothing points to one: a dangling pointer stops xmlsec."""
    _, answer = answered([sealed(0)], {"d1": []})
    assert xmlenc.read_data(answer[0]).key_ids == ()


@EVERY
def test_plain_items_are_requalified(dialect):
    """Plain items and their bodies take the namespace of the request."""
    item = PlainItem(0, 0, "<from><body>hi</body></from>")
    _, answer = answered([item], {}, dialect)
    assert answer[0].tag == f"{{{dialect.namespace}}}from"
    assert answer[0][0].tag == f"{{{dialect.namespace}}}body"


@given(
    st.lists(st.integers(1, 60_000), min_size=1, max_size=40),
    st.integers(0, 3),
    st.booleans(),
)
def test_replies_are_bounded(sizes, wrapped, backwards):
    """A reply never outgrows its bound by more than a first item; what it holds is a true page."""
    items = [sealed(number, size, f"d{number % 3}") for number, size in enumerate(sizes)]
    keys = {
        f"d{n}": [EncryptedKey(f"d{n}", f"p{m}", "urn:oaep", bytes([m]) * 512) for m in range(wrapped)]
        for n in range(3)
    }
    text, answer = answered(items, keys, index=100, backwards=backwards)
    data = [child for child in answer if child.tag == f"{{{xmlenc.XMLENC}}}EncryptedData"]
    assert data
    assert len(data) == 1 or len(text) <= answers.MOST_REPLY
    numbers = [len(xmlenc.read_data(child).cipher) for child in data]
    assert numbers == (sizes[-len(data) :] if backwards else sizes[: len(data)])
    info = rsm.read_answer(answer)
    assert info.index == 100 + (len(items) - len(data) if backwards else 0)
    read = stanzas.read_position(1)
    assert read(info.last)[0] - read(info.first)[0] == len(data) - 1


@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=2).map(tuple))
def test_positions_read_back(position):
    """The id of any position is read as that position."""
    assert stanzas.read_position(len(position))(answers.write_position(position)) == position


@given(st.text(max_size=50))
def test_foreign_ids(text):
    """Any other text is no id of ours, and the reader of ids says so in one way."""
    try:
        position = stanzas.read_position(2)(text)
    except ValueError:
        return
    assert answers.write_position(position) == text


def test_features():
    """All three dialects are announced at once, with their bare namespaces and result sets."""
    assert features(("auto", "encrypt")) == (
        "http://www.xmpp.org/extensions/xep-0136.html#ns",
        "urn:xmpp:tmp:archive",
        "urn:xmpp:archive",
        "http://www.xmpp.org/extensions/xep-0136.html#ns-auto",
        "http://www.xmpp.org/extensions/xep-0136.html#ns-encrypt",
        "urn:xmpp:tmp:archive:auto",
        "urn:xmpp:tmp:archive:encrypt",
        "urn:xmpp:archive:auto",
        "urn:xmpp:archive:encrypt",
        "http://jabber.org/protocol/rsm",
    )
    assert features(()) == ()


def test_conditions_by_dialect():
    """Without a usable key, 0.13 says so in its own way."""
    assert V.condition(NoUsableKey()) == ("feature-not-implemented", "cancel")
    assert T.condition(UnusableKey()) == F.condition(NoUsableKey()) == ("not-acceptable", "modify")
    assert V.condition(BadRequest()) == ("bad-request", "modify")


def test_ids_of_keys_of_several_collections():
    """On a page of keys no Id stands twice, though one key, or one Id, is in two collections."""
    content = f'<EncryptedKey xmlns="{xmlenc.XMLENC}" Id="one">same</EncryptedKey>'
    keys = [UploadedKey("k", ("laptop",), content), EncryptedKey("k", "laptop", "urn:oaep", b"x")]
    shown = [(Collection(n, "a@b", n), keys) for n in range(3)]
    page = etree.fromstring(answers.keys_answer(F, Page(shown, 0, 3)))
    ids = [key.get("Id") for key in page.iter(f"{{{xmlenc.XMLENC}}}EncryptedKey")]
    assert len(ids) == len(set(ids)) == 6
    assert ids[:2].count("one") == 1
