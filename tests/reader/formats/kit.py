"""Any transcripts there can be, for the laws that formats keep; and a few by hand."""

import io
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st

from archive_crypt.core import times
from archive_crypt.core.items import Bound, ReadItem
from archive_crypt.model import SECOND, Link
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.formats.transcript import Extras, Transcript, settled, write
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed
from tests.kit import MORNING

#: Fewer examples than elsewhere: each is whole files.
law = settings(derandomize=True, deadline=None, max_examples=60)

ROMEO, JULIET = "romeo@montague.lit", "juliet@capulet.lit"
START = MORNING * SECOND

#: What could lead or fetch from elsewhere, or run something.
LINKS = (
    *("https://a.lit/?b", "//a.lit", "javascript:alert(1)", "![a](https://a.lit/a.png)", "[a](javascript:a)"),
    *("<https://a.lit>", "[a]: https://a.lit", '<img src="https://a.lit/a.png" onerror=alert(1)>', "&#106;"),
)
#: Any text that XML 1.0 can carry, with much of what formats could take for their own.
TEXTS = st.one_of(
    st.text(
        st.characters(
            exclude_categories=("Cs", "Cc"), include_characters="\t\n\r", exclude_characters="\ufffe\uffff"
        )
    ),
    st.lists(
        st.sampled_from(
            [*"<>&'\"`*_[]()#+-=!|~\\:/.\n\t ", "\nFrom ", "<script>", "]]>", "www.a.lit", "a", "1", *LINKS]
        )
    ).map("".join),
)
MOMENTS = st.one_of(
    st.integers(times.EARLIEST, times.LATEST),
    st.integers(START, START + 3 * 10**11).map(lambda m: m // 10**6 * 10**6),
)
CONTACTS = st.sampled_from(
    [f"{JULIET}/balcony", JULIET, "garden@rooms.montague.lit", "o'hara&co@capulet.lit"]
)
#: Of links, which are read as JIDs.
JIDS = st.sampled_from([f"{JULIET}/balcony", JULIET, "montague.lit"])
REST = st.sampled_from(
    [
        '<openpgp xmlns="urn:xmpp:openpgp:0">QUJD</openpgp>',
        '<a:x xmlns:a="urn:x" a:b="&quot;&lt;">\u00e9&amp;</a:x>',
        '<thread xmlns="jabber:client">t1</thread>',
        '<plain xmlns=""></plain>',
    ]
)
FORMS = st.sampled_from(
    ['<x xmlns="jabber:x:data" type="submit"><field var="a"><value>&lt;</value></field></x>']
)


def optional(strategy):
    return st.one_of(st.none(), strategy)


@st.composite
def items(draw):
    kind = draw(st.sampled_from(("to", "from", "note")))
    languages = optional(st.sampled_from(["en", "it", "de-CH"]))
    bodies = (
        draw(st.lists(st.tuples(languages, TEXTS), max_size=3)) if kind != "note" else [(None, draw(TEXTS))]
    )
    bound = st.builds(Bound, st.just("key-1"), st.integers(0, 2**31), CONTACTS, MOMENTS)
    return ReadItem(
        kind=kind,
        at=draw(optional(MOMENTS)),
        secs=draw(optional(st.integers(0, 2**31))),
        name=draw(optional(TEXTS)),
        bodies=tuple(bodies),
        bound=draw(optional(bound)),
        jid=draw(optional(CONTACTS)),
        rest=tuple(draw(st.lists(REST, max_size=2))),
    )


@st.composite
def entries(draw, place):
    item = draw(optional(items()))
    at = None if item is None else draw(optional(MOMENTS)) if item.at is None else item.at
    findings = draw(st.lists(st.sampled_from(list(Finding)), unique=True, max_size=3))
    missing = draw(st.integers(0, 3))
    keys = draw(st.lists(st.sampled_from(["0BDAFE74C38315CA", "416876E0DAF55AB5"]), max_size=2))
    return Entry(place, draw(st.booleans()), item, at, tuple(findings), missing, tuple(keys))


@st.composite
def transcripts(draw):
    start = draw(MOMENTS)
    collection = Listed(
        draw(CONTACTS),
        start,
        times.render(start),
        draw(optional(st.integers(0, 2**31 - 1))),
        draw(optional(TEXTS)),
        draw(optional(TEXTS)),
        draw(st.booleans()),
    )
    places = sorted(draw(st.lists(st.integers(0, 40), max_size=6)))
    links = draw(st.dictionaries(st.sampled_from(["previous", "next"]), st.builds(Link, JIDS, MOMENTS)))
    return Transcript(
        collection,
        tuple(draw(entries(place)) for place in places),
        Extras(links, draw(optional(FORMS))),
        draw(st.integers(0, 3)),
        draw(st.booleans()),
    )


def written(writer, chapters, *args, **kwargs):
    """The text of a file of these transcripts."""
    file = io.StringIO(newline="")
    write(writer(file, *args, **kwargs), chapters)
    return file.getvalue()


def by_themselves(chapter):
    """A transcript whose entries are as they are out of their archive."""
    return replace(chapter, entries=tuple(map(settled, chapter.entries)))


def entry(text, kind="from", *, place=0, second=0, findings=(), sealed=True, missing=0, **more):
    """An entry that says this, some seconds after START."""
    at = START + round(second * SECOND)
    item = ReadItem(kind, at, None, more.pop("name", None), ((None, text),), None, **more)
    return Entry(place, sealed, item, at, tuple(findings), missing)


def unread(*findings, place=0):
    """An entry that could not be read."""
    return Entry(place, True, None, None, findings)


def chapter(*said, with_=f"{JULIET}/balcony", start=START, missing=0, withheld=False, **more):
    """A transcript of these entries, placed in turn."""
    collection = Listed(with_, start, times.render(start), crypt=True, **more)
    placed = tuple(replace(one, place=place) for place, one in enumerate(said))
    return Transcript(collection, placed, missing=missing, withheld=withheld)
