"""Whatever is asked of the archive gets one answer, and what it refuses changes nothing.

The requests are the examples of tests/vectors, and one with a real public key, changed at random:
parts dropped, doubled, renamed, moved into other namespaces, nested, given other values.
"""

import copy
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from twisted.logger import LogLevel, capturedLogs

from archive_crypt.core.dialect import DIALECTS, F
from tests.kit import LAPTOP, House, element, key_info
from tests.reader.kit import law
from tests.test_vectors import EVERY, FOLDER

ORCHARD = "romeo@montague.net/orchard"
LIST = f"<iq type='get' id='still-there'><list xmlns='{F.namespace}'/></iq>"
ERRORS = (LogLevel.error, LogLevel.critical)

SEEDS = [(FOLDER / row["file"]).read_text() for row in EVERY if "disco" not in row["file"]] + [
    f"<iq type='set' id='auto'><auto xmlns='{namespace}' save='true' encrypt='true'>{key_info(LAPTOP, 'a')}</auto></iq>"
    for namespace in DIALECTS
]
TREES = [etree.fromstring(xml) for xml in SEEDS]
PARTS = [part for tree in TREES for part in tree.iter()]
#: What is in the archive before: collections, in clear and encrypted, preferences, one being recorded.
BEFORE = [
    (FOLDER / row["file"]).read_text()
    for row in EVERY
    if row["file"][:11]
    in ("0241-01-sto", "0136v131-08", "0136v131-13", "0136v131-21", "0136v131-28", "0136v131-34")
]

NAMES = sorted({etree.QName(part).localname for part in PARTS} | {"bogus", "message", "handled"})
ATTRIBUTES = sorted({name for part in PARTS for name in part.attrib if name not in ("id", "type")})
NAMESPACES = sorted(
    {etree.QName(part).namespace or "" for part in PARTS}
    | {"jabber:client", "urn:x", "a/../b", "urn:quoted", ""}
)
VALUES = sorted(
    {value for part in PARTS for value in (*part.attrib.values(), (part.text or "").strip())}
    | {"", " ", "0", "-1", "1e3", "1_0", "٣", "2147483648", "9" * 30, "4:5", "65536", "-9223372036854775808:0"}
    | {"true", "1", "yes", "TRUE", "body", "message", "stream", "require", "global", "dataKey2"}
    | {"0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "99999-01-01T00:00:00Z", "1469-02-30T00:00:00Z"}
    | {"2026-11-21T10:00:00+02:00", "1469-07-21", "2016-12-31T23:59:60Z", "1469-07-21T02:56:15.1234567890123Z"}
    | {"@", "a@b@c", "/x", "a@", "capulet.com", "ß@ＣＡＰＵＬＥＴ.com", "a@b/\u200b", "a@[::1]", "a b@c", "a@b/" + "é" * 1100}
    | {"x" * 3000, "<&>\"'", "\u202e\U0001f4a9", "=", "AAAA", "AQAB" * 5000, "é" * 100_000}
)  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One change: `how`, to the part and attribute at these places, with these new things."""

    how: str
    place: int
    other: int
    name: str
    attribute: str
    namespace: str
    value: str

    def made(self, iq):
        """Change the request. The iq itself is the host's: only its payload changes, and its type."""
        parts = list(iq.iterdescendants())
        if parts:
            getattr(self, f"_{self.how}")(iq, parts[self.place % len(parts)])

    def _drop(self, iq, part):
        part.getparent().remove(part)

    def _double(self, iq, part):
        part.addnext(copy.deepcopy(part))

    def _rename(self, iq, part):
        part.tag = etree.QName(etree.QName(part).namespace, self.name)

    def _requalify(self, iq, part):
        part.tag = etree.QName(self.namespace or None, etree.QName(part).localname)

    def _translate(self, iq, part):
        for each in [part, *part.iterdescendants()]:
            each.tag = etree.QName(self.namespace or None, etree.QName(each).localname)

    def _take(self, iq, part):
        part.append(copy.deepcopy(PARTS[self.other % len(PARTS)]))

    def _say(self, iq, part):
        part.text = self.value

    def _set(self, iq, part):
        part.set(self.attribute, self.value)

    def _change(self, iq, part):
        if part.attrib:
            part.set(sorted(part.attrib)[self.other % len(part.attrib)], self.value)

    def _forget(self, iq, part):
        if part.attrib:
            del part.attrib[sorted(part.attrib)[self.other % len(part.attrib)]]

    def _nest(self, iq, part):
        for _ in range(self.other % 300):
            part = etree.SubElement(part, part.tag)

    def _repeat(self, iq, part):
        for _ in range(self.other % 300):
            part.addnext(copy.deepcopy(part))

    def _turn(self, iq, part):
        iq.set("type", {"get": "set", "set": "get"}[iq.get("type")])


HOW = sorted(name[1:] for name in vars(Mutation) if name[0] == "_" and name[1] != "_")
MUTATIONS = st.builds(
    Mutation,
    how=st.sampled_from(HOW),
    place=st.integers(0, 60),
    other=st.integers(0, len(PARTS)),
    name=st.sampled_from(NAMES),
    attribute=st.sampled_from(ATTRIBUTES),
    namespace=st.sampled_from(NAMESPACES),
    value=st.sampled_from(VALUES),
)
REQUESTS = st.tuples(st.sampled_from(TREES), st.lists(MUTATIONS, min_size=1, max_size=3))


def mutated(seed, mutations):
    iq = copy.deepcopy(seed)
    for mutation in mutations:
        mutation.made(iq)
    xml = etree.tostring(iq, encoding="unicode")
    return xml.replace("urn:quoted", "urn:a&apos;/&gt;&lt;b&#9;xmlns=&apos;c")  # lxml would not say it


def lived_in():
    """A stream of romeo's, whose archive is not empty."""
    stream = House().stream(ORCHARD)
    for xml in BEFORE:
        assert stream.ask(xml).get("type") == "result"
    stream.says("<message to='juliet@capulet.com' type='chat'><body>Neither, fair saint</body></message>")
    return stream


def answers(stream, xml):
    """The results and errors that a request gets."""
    before = len(stream.received)
    stream.ask(xml)
    found = [one for one in stream.received[before:] if one.get("type") in ("result", "error")]
    return [one for one in found if etree.QName(one).localname == "iq"]


def is_for_the_archive(xml):
    return any(child.uri in DIALECTS for child in element(xml).elements())


def state(stream):
    """All that is kept, and how the stream archives."""
    (auto,) = answers(stream, f"<iq type='get' id='p'><pref xmlns='{F.namespace}'/></iq>")
    owned = stream.house.storage._owners["romeo@montague.net"]
    return owned.copy(0).kept, dict(owned.tombstones), owned.state, owned.stamp, etree.tostring(auto)


@pytest.mark.clause("INT-13", "0136-intro-01")
@law
@given(st.lists(REQUESTS, min_size=1, max_size=3))
def test_any_request_gets_one_answer_and_an_error_changes_nothing(requests):
    """A result or an error, once, with its id; no bug; after an error all is as it was."""
    stream = lived_in()
    for seed, mutations in requests:
        xml, before = mutated(seed, mutations), state(stream)
        with capturedLogs() as events:
            found = answers(stream, xml)
        assert [event for event in events if event["log_level"] in ERRORS] == []
        if not is_for_the_archive(xml):
            assert found == []
            continue
        (answer,) = found
        assert (answer.get("id"), answer.get("to")) == (seed.get("id"), ORCHARD)
        if answer.get("type") == "error":
            assert answer.find(".//{*}internal-server-error") is None
            assert state(stream) == before


@pytest.mark.parametrize(
    "part",
    [
        "<from secs='0'><body>a</body><x xmlns='relative'/></from>",
        "<x xmlns='jabber:x:data' type='submit'><y xmlns='../relative'/></x>",
        "<EncryptedData xmlns='http://www.w3.org/2001/04/xmlenc#'><y xmlns='relative'/></EncryptedData>",
    ],
    ids=["content", "form", "data"],
)
def test_namespaces_that_are_relative_are_bad_requests(part):
    """They have no canonical form, which is what is kept."""
    stream = House().stream(ORCHARD)
    chat = f"<chat with='a@b' start='1469-07-21T02:56:15Z'>{part}</chat>"
    answer = stream.ask(f"<iq type='set' id='n'><save xmlns='{F.namespace}'>{chat}</save></iq>")
    assert answer.find(".//{*}bad-request") is not None


DEEP, LONG = 10_000, 1_000_000


@pytest.mark.clause("INT-13")
@pytest.mark.parametrize("namespace", DIALECTS)
@pytest.mark.parametrize(
    "chat",
    [
        f"<from secs='0'><body>a</body>{'<y:y>' * DEEP}{'</y:y>' * DEEP}</from>",
        f"<from secs='0'><body>{'<x>' * DEEP}{'</x>' * DEEP}</body></from>",
        f"<from secs='0' name='{'x' * LONG}'><body>a</body></from>",
        f"<from secs='0'><body>{'x' * LONG}</body></from>",
        f"<from secs='{'1' * LONG}'><body>a</body></from>",
        f"<previous with='{'x' * LONG}' start='1469-07-21T02:56:15Z'/>",
        f"<x xmlns='jabber:x:data' type='submit'><field var='{'x' * LONG}'/></x>",
        f"<EncryptedData xmlns='http://www.w3.org/2001/04/xmlenc#' Id='{'x' * LONG}'/>",
        "<from secs='0'><body>a</body></from>" * 2 + "<x/>" * DEEP,
    ],
    ids=lambda chat: chat[:30],
)
def test_monstrous_uploads_are_refused(chat, namespace):
    """Ten thousand elements deep or a million characters long: an error, and life goes on."""
    stream = House().stream(ORCHARD)
    save = f"<save xmlns='{namespace}' xmlns:y='urn:y'><chat with='a@b' start='1469-07-21T02:56:15Z'>{chat}</chat></save>"
    answer = stream.ask(f"<iq type='set' id='m'>{save}</iq>")
    assert answer.find(".//{*}bad-request") is not None or answer.find(".//{*}not-acceptable") is not None
    assert stream.house.storage._owners == {} or not stream.house.storage._owners["romeo@montague.net"].kept
    assert stream.ask(LIST).get("type") == "result"


@pytest.mark.clause("INT-13")
@pytest.mark.parametrize("name", ["with", "start", "subject", "thread"])
def test_monstrous_attributes_are_refused(name):
    stream = House().stream(ORCHARD)
    given_ = {"with": "a@b", "start": "1469-07-21T02:56:15Z", name: "x" * LONG}
    chat = "".join(f" {key}='{value}'" for key, value in given_.items())
    answer = stream.ask(f"<iq type='set' id='m'><save xmlns='{F.namespace}'><chat{chat}/></save></iq>")
    assert answer.find(".//{*}bad-request") is not None or answer.find(".//{*}not-acceptable") is not None
    assert stream.ask(LIST).get("type") == "result"
