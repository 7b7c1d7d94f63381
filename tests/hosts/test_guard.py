"""The hardened parser alone: what it lets through, and with which condition it ends."""

from __future__ import annotations

import gc
import itertools
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.words.protocols.jabber.error import StreamError

from archive_crypt.hosts.guard import GuardedStream
from archive_crypt.hosts.limits import Limits
from archive_crypt.hosts.wire import render
from tests.crypto.kit import law

HEADER = b"<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'>"


def parser(stanza_bytes=1000, **limits):
    """A parser past the header, and the list of what comes out of it."""
    stream, out = GuardedStream(stanza_bytes, Limits(**limits)), []
    stream.DocumentStartEvent = lambda root: None
    stream.ElementEvent = out.append
    stream.DocumentEndEvent = lambda: out.append("end")
    stream.parse(HEADER)
    return stream, out


def refused(data, **limits):
    stream, _ = parser(**limits)
    with pytest.raises(StreamError) as caught:
        stream.parse(data)
    return caught.value.condition


def in_chunks(stream, xml, size):
    for at in range(0, len(xml), size):
        stream.parse(xml[at : at + size])


def again(element):
    """The element that somebody else reads, who gets this one as we write it."""
    stream, out = parser()
    stream.parse(render(element))
    return out[0]


def padded(size):
    return b"<message>" + b"x" * (size - len("<message></message>")) + b"</message>"


def test_stanzas_and_end():
    """Stanzas come out one by one, then the end of the stream."""
    stream, out = parser()
    stream.parse(b"<message><body>a</body></message> <iq/></s:stream>")
    assert [getattr(e, "name", e) for e in out] == ["message", "iq", "end"]


def test_size_is_of_one_stanza_not_of_the_buffer():
    """Any number of stanzas may arrive in one buffer, if each is within the bound."""
    stream, out = parser()
    stream.parse(padded(900) * 5)
    assert len(out) == 5


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_size_bound(chunk):
    """A stanza is refused before it comes out when it is too long, however it is cut up."""
    stream, out = parser()
    with pytest.raises(StreamError, match="policy-violation"):
        in_chunks(stream, padded(1020), chunk)
    assert out == []
    stream, out = parser()
    in_chunks(stream, padded(1000), chunk)
    assert len(out) == 1


def test_pending_tag_counts():
    """A tag that never ends is refused although it fires no event."""
    assert refused(b"<message id='" + b"x" * 1000) == "policy-violation"


def test_endless_header_counts():
    """The stream header is bounded like a stanza."""
    stream = GuardedStream(1000, Limits())
    with pytest.raises(StreamError, match="policy-violation"):
        stream.parse(b"<s:stream from='" + b"x" * 1000)


def test_keepalives_do_not_add_up():
    """White space between stanzas is free, however much of it comes in a day."""
    stream, out = parser()
    for _ in range(3000):
        stream.parse(b"\n")
    stream.parse(b"<iq/>")
    assert len(out) == 1


def test_depth():
    """As many elements inside each other as the bound says, and not one more."""
    assert refused(b"<message>" + b"<a>" * 5, depth=5) == "policy-violation"
    stream, out = parser(depth=5)
    stream.parse(b"<message>" + b"<a>" * 4 + b"</a>" * 4 + b"</message>")
    assert len(out) == 1


def test_elements():
    """A stanza of many tiny elements, which cost much memory, is refused."""
    assert refused(b"<message>" + b"<a/>" * 5, elements=5) == "policy-violation"


@pytest.mark.parametrize(
    ("xml", "condition"),
    [
        (b"<message><!-- c --></message>", "restricted-xml"),
        (b"<message><?php x ?></message>", "restricted-xml"),
        (b"<message>&author;</message>", "restricted-xml"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]>", "not-well-formed"),  # after the root: no DTD at all
        (b"<message></iq>", "not-well-formed"),
        (b"<message>\x00</message>", "not-well-formed"),
        (b"<message>&#0;</message>", "not-well-formed"),
        (b"<message>\xff\xfe</message>", "not-well-formed"),
        (b"<message>\xed\xa0\x80</message>", "not-well-formed"),  # half of a surrogate pair
        (b"<x:message/>", "not-well-formed"),  # prefix not declared
        (b"<message a='1' a='2'/>", "not-well-formed"),
        (b"hello<message/>", "bad-format"),
        (b'<message><a xmlns="u\'>&lt;evil/>"/></message>', "policy-violation"),
        (b"<message><x:a xmlns:x='u&amp;v'/></message>", "policy-violation"),
    ],
)
def test_refused_xml(xml, condition):
    """What RFC 6120 11 forbids, or domish could not write again safely, ends the stream."""
    assert refused(xml) == condition


@pytest.mark.parametrize(
    ("xml", "condition"),
    [
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>", "restricted-xml"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>", "restricted-xml"),
        (b"<?xml version='1.0' encoding='ISO-8859-1'?>", "unsupported-encoding"),
        (b"<?pi x?><a>", "restricted-xml"),
        ("<?xml version='1.0'?><a>".encode("utf-16"), "unsupported-encoding"),
        ("<?xml version='1.0'?><a>".encode("utf-16-le"), "not-well-formed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "not-well-formed"),  # a TLS ClientHello
        (b"GET / HTTP/1.1\r\n", "not-well-formed"),
    ],
)
def test_refused_beginnings(xml, condition):
    """So does a beginning that is no stream."""
    stream = GuardedStream(1000, Limits())
    with pytest.raises(StreamError) as caught:
        stream.parse(xml)
    assert caught.value.condition == condition


def test_stop_drops_the_rest():
    """After `stop` the rest of the same buffer is not looked at, nor what follows."""
    stream, out = parser()
    stream.ElementEvent = lambda element: (out.append(element), stream.stop())
    stream.parse(b"<starttls/><message/> not > even < XML")
    stream.parse(b"<message/>")
    assert len(out) == 1


@pytest.mark.parametrize("part", [b"\n", b"&lt;", b"&#10;", b"]"])
def test_text_costs_linear_time(part):
    """Text in many pieces, which domish would join one by one, takes no longer than other text."""
    stream, out = parser(256 * 1024)
    xml = b"<message><body>" + part * (200_000 // len(part)) + b"</body></message>"
    began = time.process_time()
    in_chunks(stream, xml, 4096)
    assert len(out) == 1
    assert time.process_time() - began < 0.5  # 0.8 s for newlines alone without `buffer_text`


def test_prefixes_are_not_confused():
    """An element keeps its namespace when it is written again, whatever its prefixes were."""
    stream, out = parser()
    stream.parse(
        b"<message><a xmlns:x='one' xmlns:s='two'>"
        b"<b xmlns:x='two'><c xmlns='one'/><x:d/></b><s:e/></a></message>"
    )
    a = again(out[0]).firstChildElement()
    b, e = a.elements()
    c, d = b.elements()
    assert [x.uri for x in (a, b, c, d, e)] == ["jabber:client", "jabber:client", "one", "two", "two"]


def test_no_namespace_stays_none():
    """An element in no namespace does not slip into the stream's."""
    stream, out = parser()
    stream.parse(b"<message><a xmlns=''><b/></a></message>")
    a = again(out[0]).firstChildElement()
    assert [a.uri, a.firstChildElement().uri] == ["", ""]


STANZAS = (
    "<message id='1'><body>wherefore &amp; why</body></message> \n"
    "<s:error/><iq><x:query xmlns:x='urn:x' x:a='>'><y xmlns='urn:y'/></x:query></iq>"
    "<message><body xml:lang='el'>γιατί</body><s:thread/></message><message/>"
    "<presence>]]</presence></s:stream>"
).encode()


@law
@given(st.lists(st.integers(0, len(STANZAS)), max_size=20))
def test_new_parsers_change_nothing(cuts):
    """However a stream is cut up, and thus wherever a parser gives way to a new one, the same stanzas come out."""
    whole, expected = parser()
    whole.parse(STANZAS)
    stream, out = parser()
    cuts = sorted({0, *cuts, len(STANZAS)})
    for start, end in itertools.pairwise(cuts):
        stream.parse(STANZAS[start:end])
    assert [e if e == "end" else e.toXml() for e in out] == [e if e == "end" else e.toXml() for e in expected]


@pytest.mark.parametrize(
    "header", [HEADER[:-1] + b" version='1.0' id='a>b'>", b"<?xml version='1.0'?>" + HEADER]
)
def test_a_new_parser_is_inside_the_same_root(header):
    """After a message the parser is a new one that was given the root's tag and nothing else; its bounds hold."""
    stream, out = GuardedStream(1000, Limits()), []
    stream.DocumentStartEvent = stream.DocumentEndEvent = lambda *_: out.append("root")
    stream.ElementEvent = out.append
    stream.parse(header + b"<message>")
    old = stream.parser
    stream.parse(b"<body>wherefore</body></message>")
    assert stream.parser is not old
    assert stream.parser.CurrentByteIndex == len(header[header.index(b"<s:") :])
    in_chunks(stream, padded(1000) * 3, 100)
    with pytest.raises(StreamError, match="policy-violation"):
        stream.parse(padded(1020))
    assert [getattr(e, "name", e) for e in out] == ["root", *["message"] * 4]


def test_a_stanza_lives_no_longer_than_it_is_held():
    """Who lets go of a stanza frees it, all of it, at once: it is no circle for a collector to find."""
    stream, out = parser()
    gc.disable()
    try:
        stream.parse(b"<message><body>a</body><x xmlns='urn:x'><y/></x></message>")
        parts = [weakref.ref(out[0]), *(weakref.ref(child) for child in out[0].elements())]
        out.clear()
        assert [part() for part in parts] == [None, None, None]
    finally:
        gc.enable()
