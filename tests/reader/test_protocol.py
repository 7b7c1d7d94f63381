"""Answers are read with distrust: what makes no sense is one error."""

import pytest
from lxml import etree

from archive_crypt.core import times
from archive_crypt.core.dialect import F
from archive_crypt.reader import protocol
from archive_crypt.reader.errors import NotUnderstood
from archive_crypt.reader.protocol import Listed
from tests.reader.bait import bait

NS = F.namespace
START = "2026-11-21T10:00:00Z"
CHAT = f"with='juliet@capulet.lit' start='{START}'"
JULIET = Listed("juliet@capulet.lit", times.parse(START), START)


@pytest.mark.parametrize(
    "answer",
    [
        f"<chat xmlns='{NS}' {CHAT}/>",
        "<list xmlns='jabber:client'/>",
        f"<list xmlns='{NS}'><chat start='{START}'/></list>",
        f"<list xmlns='{NS}'><chat with='a@b'/></list>",
        f"<list xmlns='{NS}'><chat with='a@b' start='noon'/></list>",
        f"<list xmlns='{NS}'><chat with='a@b' start='{START}' version='x'/></list>",
        f"<list xmlns='{NS}'><set xmlns='http://jabber.org/protocol/rsm'><count>many</count></set></list>",
    ],
)
def test_a_list_that_is_none(answer):
    """An answer that makes no sense is one error."""
    with pytest.raises(NotUnderstood):
        protocol.read_list(protocol.parse(answer.encode()))


def test_a_page_without_index():
    """Where a server tells no index, the place is counted."""
    answer = f"<chat xmlns='{NS}' {CHAT}><from/><unknown/><x xmlns='jabber:x:data'/></chat>"
    page = protocol.read_chat(protocol.parse(answer.encode()), 40)
    assert (page.index, len(page.parts), page.keys, page.info) == (40, 1, (), None)
    with pytest.raises(NotUnderstood):
        protocol.read_chat(protocol.parse(f"<list xmlns='{NS}'/>".encode()))


DECLARATIONS = [
    "<?xml version='1.0'?>",
    '<?xml version="1.0" encoding="UTF-8"?>\n',
    "<?xml version = '1.0'\n encoding='utf-8' standalone='no' ?>",
]


@pytest.mark.parametrize("declaration", DECLARATIONS)
def test_a_declaration(declaration):
    """What begins with an XML declaration is read: programs write one before what they encrypt."""
    assert protocol.parse(f"{declaration}<x>ü</x>".encode()).text == "ü"


@pytest.mark.parametrize("whole", ["{0}{0}<x/>", " {0}<x/>", "{0}<!-- --><x/>", "{0}", "\ufeff{0}<x/>"])
def test_what_is_no_declaration_before_an_element(whole):
    """A declaration stands once, at the very beginning, and nothing else does before the element."""
    with pytest.raises(etree.XMLSyntaxError):
        protocol.parse(whole.format(DECLARATIONS[0]).encode())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-7", "iso-8859-1", "us-ascii", "ebcdic-us", ""])
def test_declarations_of_other_encodings(encoding):
    """What is declared to be in another encoding than UTF-8 is refused: it would be read as other than it was
    looked at."""
    with pytest.raises(etree.XMLSyntaxError):
        protocol.parse(f"<?xml version='1.0' encoding='{encoding}'?><x/>".encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
@pytest.mark.parametrize("before", ["", " \n", "<!-- -->", "<?x y?>", *DECLARATIONS])
@pytest.mark.parametrize(
    "type_",
    [
        "<!DOCTYPE x SYSTEM 'file://{}'>",
        "<!DOCTYPE x PUBLIC '-//X' 'file://{}' [<!ENTITY a 'b'>]>",
        "<!DOCTYPE x [<!ENTITY % a SYSTEM 'file://{}'> %a;]>",
        "<!DOCTYPE x [<!ENTITY a SYSTEM 'file://{}'>]>",
    ],
)
def test_document_types(tmp_path, type_, before, encoding):
    """What has a document type is refused, however it is written, and no file that it names is opened."""
    with bait(tmp_path) as path, pytest.raises(etree.XMLSyntaxError):
        protocol.parse(f"{before}{type_.format(path)}<x>&a;</x>".encode(encoding))


def test_ids():
    """An element with ids that are odd, or there twice, is read: a contact may have sent it."""
    tree = protocol.parse(b"<x><y xml:id='a'/><y xml:id='a'/><y xml:id='1 2'/></x>")
    assert len(tree) == 3
