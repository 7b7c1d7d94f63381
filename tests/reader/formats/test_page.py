"""HTML: what a reader sees, and what hostile messages cannot do there."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.reader.checking import Finding
from archive_crypt.reader.formats import page
from archive_crypt.reader.show import clean
from tests.reader.formats.kit import ROMEO, TEXTS, chapter, entry, law, transcripts, unread, written


class Seen(HTMLParser):
    """What a browser makes of a page: each element with its attributes, and what is said in it."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.said, self.inside = [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.said.append((tag, dict(attributes).get("class"), ""))
        self.inside = True

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            tag, kind, text = self.said[-1]
            self.said[-1] = (tag, kind, text + data)

    def tagged(self, name):
        return [text for tag, _, text in self.said if tag == name]

    def all(self, name):
        return [text for _, kind, text in self.said if kind == name]


#: All that a page has; of these none fetches, runs or leads anywhere.
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "section"),
    *("h1", "h2", "h3", "p", "bdi", "div", "time"),
}
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "datetime", "dir"}


@pytest.fixture(autouse=True)
def _zone(environment):
    """The local zone is UTC."""


def test_a_page():
    """Who, when and what, by days; the owner's own messages are marked as such."""
    seen = Seen(written(page.Writer, [chapter(entry("Ay me"), entry("I, here", "to", second=86_400))], ROMEO))
    assert seen.all("said") == ["Ay me", "I, here"]
    assert seen.tagged("h3") == ["Saturday 2026-11-21", "Sunday 2026-11-22"]
    assert seen.tagged("bdi") == [
        "juliet@capulet.lit/balcony",
        "2026-11-21 10:00:00+00:00; archived encrypted",
        "juliet",
        "romeo",
    ]
    assert seen.tagged("time") == ["10:00:00", "10:00:00"]
    assert ("div", {"class": "message to"}) in seen.elements


@law
@given(st.lists(transcripts(), max_size=3))
def test_nothing_hostile_gets_out(chapters):
    """Whatever is in an archive, a page has no element and no attribute but its own."""
    seen = Seen(written(page.Writer, chapters, ROMEO))
    assert {tag for tag, _ in seen.elements} <= ELEMENTS
    assert {name for _, attributes in seen.elements for name in attributes} <= ATTRIBUTES


@law
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_texts_are_shown(texts):
    """What was said is shown letter by letter."""
    seen = Seen(written(page.Writer, [chapter(*map(entry, texts))], ROMEO))
    assert seen.all("said") == [clean(text, keep="\t\n") for text in texts]


def test_the_policy():
    """The page forbids itself everything but its one style, by that style's hash."""
    text = written(page.Writer, [], ROMEO)
    style = re.search("<style>(.*)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policies = [
        attributes["content"]
        for tag, attributes in Seen(text).elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == [
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]
    assert "url(" not in style
    assert "@import" not in style


def test_what_is_suspicious_is_marked():
    """Suspicious messages, unreadable ones and gaps are marked where they stand."""
    told = chapter(
        entry("x", findings=[Finding.OUT_OF_PLACE, Finding.UNBOUND]),
        unread(Finding.NO_KEY),
        entry("y", missing=2),
        missing=1,
    )
    seen = Seen(written(page.Writer, [told, chapter(withheld=True)], ROMEO))
    assert seen.all("warning") == [
        "repeated, or moved from its place",
        "This message could not be read: none of your private keys opens this.",
        "2 messages are missing here.",
        "A message is missing here.",
        "This collection was listed, but the server did not give it, or not to its end.",
    ]
    assert seen.all("finding") == ["not bound to a place, as what clients seal is not"]
