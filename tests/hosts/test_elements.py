"""The component's stream of XML: the same elements as twisted's, and nothing that grows."""

import tracemalloc
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.words.xish import domish

from archive_crypt.hosts.component import elements
from archive_crypt.hosts.component.elements import ElementStream

ROOT = (
    "<?xml version='1.0'?>\n<stream:stream xmlns='jabber:component:accept' from='archive.capulet.lit'"
    " xmlns:stream='http://etherx.jabber.org/streams' xmlns:ü='urn:ü' id='>' xml:lang='en'>"
)
END = "</stream:stream>"
COPY = (
    "<message from='capulet.lit' to='archive.capulet.lit'><copy xmlns='urn:x-archive-crypt:feed:1'"
    " jid='juliet@capulet.lit/chamber' direction='in'><forwarded xmlns='urn:xmpp:forward:0'>"
    "<message xmlns='jabber:client' from='romeo@montague.lit/garden' type='chat' id='m1' xml:lang='en'>"
    "<body>I take thee at thy word.</body><active xmlns='http://jabber.org/protocol/chatstates'/>"
    "</message></forwarded></copy></message>"
)

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), include_characters="\t\n"))
NAMES = st.sampled_from(["body", "x", "ü", "message", "a-b.c"])
URIS = st.sampled_from(["urn:a", "jabber:client", "urn:ü"])


@st.composite
def markup(draw, depth=3):
    """An element as somebody may write it."""
    prefix = draw(st.sampled_from(["", "", "", "p:", "ü:"]))
    name, declared = prefix + draw(NAMES), ""
    if draw(st.booleans()):
        declared += f" xmlns={quoteattr(draw(URIS))}"
    if prefix == "p:":
        declared += f" xmlns:p={quoteattr(draw(URIS))}"
    attributes = draw(st.dictionaries(st.sampled_from(["id", "to", "xml:lang", "ü:id"]), TEXTS, max_size=3))
    declared += "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
    texts = st.one_of(TEXTS.map(escape), TEXTS.map(lambda text: f"<![CDATA[{text.replace(']', ')')}]]>"))
    inner = "".join(draw(st.lists(st.one_of(texts, markup(depth - 1)), max_size=4))) if depth else ""
    return f"<{name}{declared}>{inner}</{name}>" if inner or draw(st.booleans()) else f"<{name}{declared}/>"


def shape(element):
    """All that an element says."""
    children = [child if isinstance(child, str) else shape(child) for child in element.children]
    return element.uri, element.name, dict(element.attributes), children


def events(stream, octets, cuts=()):
    """What comes out of a stream that gets `octets` cut up at `cuts`."""
    found = []
    stream.DocumentStartEvent = lambda root: found.append((shape(root), root.defaultUri, root.localPrefixes))
    stream.ElementEvent = lambda element: found.append(shape(element))
    stream.DocumentEndEvent = lambda: found.append("end")
    places = [0, *sorted(cut % (len(octets) + 1) for cut in cuts), len(octets)]
    for begin, end in zip(places, places[1:], strict=False):
        stream.parse(octets[begin:end])
    return found


@given(
    st.lists(st.one_of(markup(), st.just(" \n"), st.just(COPY)), max_size=6),
    st.lists(st.integers(0, 10_000), max_size=8),
    st.integers(0, 2000),
)
def test_the_same_elements(stanzas, cuts, remembered):
    """Whatever comes, wherever it is cut, and however often the parser is a new one: the same as twisted's."""
    octets = (ROOT + "".join(stanzas) + END).encode()
    assert events(ElementStream(remembered), octets, cuts) == events(domish.elementStream(), octets)


@given(st.lists(st.integers(0, 10_000), max_size=4))
def test_written_again(cuts):
    """Elements can be written, and say the same to who reads them."""
    stream, stanzas = ElementStream(), []
    stream.DocumentStartEvent = lambda _: None
    stream.ElementEvent = stanzas.append
    stream.parse((ROOT + COPY + "<ü:x a='1' ü:a='2'>&lt;</ü:x>").encode())
    written = "".join(stanza.toXml() for stanza in stanzas)
    again = ("<stream>" + written).encode()
    _, *found = events(ElementStream(), again, cuts)
    assert found == [shape(stanza) for stanza in stanzas]


def test_any_namespace():
    """No namespace that a server lets through ends the stream, or is more than a name when it is written."""
    stanza = "<message><x xmlns='urn:a b' xmlns:p='&amp; &quot;&lt;&#9;' p:a='1'/></message>"
    _, (_, _, _, children) = events(ElementStream(), (ROOT + stanza).encode())
    assert children == [("urn:a%20b", "x", {("%26%20%22%3C%09", "a"): "1"}, [])]


def test_long_texts():
    """A text that expat gives in many pieces is one."""
    text = "\n" * 100_000 + "x" * 100_000
    _, (_, _, _, children) = events(ElementStream(), f"{ROOT}<message>{text}</message>".encode())
    assert children == [text]


@pytest.mark.parametrize(
    "forbidden",
    [
        "<!-- -->",
        "<?php ?>",
        "<message><!-- --></message>",
        "<message><?php ?></message>",
        "<message>&nbsp;</message>",
        "<message><body></message>",
        "<x:message/>",
        "<message a='1' a='2'/>",
        "<message>\0</message>",
        "<!DOCTYPE message>",
    ],
)
def test_forbidden(forbidden):
    """What RFC 6120 forbids ends the stream, at its beginning or later, and nothing of it comes out."""
    with pytest.raises(domish.ParserError):
        events(ElementStream(), f"{ROOT}<iq/>{forbidden}<iq/>".encode())
    with pytest.raises(domish.ParserError):
        events(ElementStream(0), f"{ROOT}<iq></iq>{forbidden}<iq/>".encode(), [len(ROOT) + 10])


def test_no_document_type():
    """So does a document type before the root, and with it all entities that it would declare."""
    with pytest.raises(domish.ParserError, match="DTD"):
        events(ElementStream(), b"<!DOCTYPE stream [<!ENTITY a 'aaaa'>]><stream>&a;</stream>")


@pytest.mark.parametrize("size", [1, 100, 10_000])
@pytest.mark.parametrize("remembered", [50, 4_000_000])
def test_bounds(monkeypatch, size, remembered):
    """A stanza of too many elements arrives empty, and is counted; those before and after it are whole."""
    monkeypatch.setattr(elements, "MOST_ELEMENTS", 100)
    small, large = f"<message>{'<x/>' * 90}</message>", f"<iq id='i'>{'<x>y<z/></x>' * 100}<x/></iq>"
    octets = (ROOT + small + large + small).encode()
    stream = ElementStream(remembered)
    _, first, cut, last = events(stream, octets, range(0, len(octets), size))
    assert len(first[3]) == len(last[3]) == 90
    assert cut == ("jabber:component:accept", "iq", {"id": "i"}, [])
    assert stream.cut == 1


def test_names_are_forgotten():
    """Memory does not grow with the names that senders think up."""
    stream = ElementStream(100_000)
    stream.DocumentStartEvent = stream.ElementEvent = lambda _: None
    stream.parse(ROOT.encode())
    tracemalloc.start()
    try:
        for n in range(300):
            names = "".join(f"<n{n}x{m} xmlns='urn:{n}' a{n}x{m}=''/>" for m in range(100))
            stream.parse(f"<message>{names}</message>".encode())
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 2_500_000  # of 900 KB read; kept, it would be 10 MB


def test_freed_at_once():
    """A stanza is gone when it was dealt with: nothing of it waits for the garbage collector."""
    stream, ended = ElementStream(), []

    class Told(elements.Received):
        def __del__(self):
            ended.append(self.name)

    stream.DocumentStartEvent = lambda _: None
    stream.ElementEvent = lambda _: None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elements, "Received", Told)
        stream.parse((ROOT + "<message><body>x</body></message>").encode())
    assert sorted(ended) == ["body", "message"]
