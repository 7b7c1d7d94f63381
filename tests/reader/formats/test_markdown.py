"""Markdown: what a reader sees, and what hostile messages cannot do there. Shown by markdown-it."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from archive_crypt.reader.checking import Finding
from archive_crypt.reader.formats import markdown
from archive_crypt.reader.show import clean
from tests.reader.formats.kit import ROMEO, TEXTS, chapter, entry, law, transcripts, unread, written

TAGS = {"h1", "h2", "h3", "p", "strong", "em", "br", "blockquote"}


class Seen(HTMLParser):
    """The tags of what Markdown becomes, and the paragraphs' texts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.paragraphs = [], []
        self.feed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert not attributes
        if tag in ("p", "h1", "h2", "h3"):
            self.paragraphs.append("")

    def handle_data(self, data):
        if self.paragraphs:
            self.paragraphs[-1] += data


@pytest.fixture(autouse=True)
def _zone(environment):
    """The local zone is UTC."""


def test_a_file():
    """Who, when and what, by days."""
    text = written(markdown.Writer, [chapter(entry("Ay *me*"), entry("1. I", "to", second=86_400))], ROMEO)
    assert text == (
        "# Messages of romeo@montague\\.lit\n\n"
        "## juliet@capulet\\.lit/balcony, 2026-11-21 10:00:00+00:00\n\n"
        "*archived encrypted*\n\n"
        "### Saturday 2026-11-21\n\n"
        "**10:00:00 juliet:** Ay \\*me\\*\n\n"
        "### Sunday 2026-11-22\n\n"
        "**10:00:00 romeo:** 1\\. I\n\n"
    )


@law
@given(st.lists(transcripts(), max_size=2))
def test_nothing_hostile_gets_out(chapters):
    """Whatever is in an archive, it becomes no link, no image, no markup but the file's own."""
    assert set(Seen(written(markdown.Writer, chapters, ROMEO)).tags) <= TAGS


@law
@given(st.lists(transcripts(), max_size=2))
def test_no_address_becomes_a_link(chapters):
    """Programs that make links of addresses wherever they stand find none that is whole."""
    assert not re.search(r"//|\bwww\.|\w\.\w", written(markdown.Writer, chapters, ROMEO), re.IGNORECASE)


@law
@given(TEXTS)
def test_texts_are_shown(text):
    """What was said is shown letter by letter, but for how much space is between."""
    seen = Seen(written(markdown.Writer, [chapter(entry(text))], ROMEO))
    *_, shown = seen.paragraphs
    assert shown.split() == f"10:00:00 juliet: {clean(text, keep=chr(10) + chr(13) + chr(9))}".split()


def test_lines_stay_lines():
    """Several lines of a message are as many there, and indented as they were."""
    text = written(markdown.Writer, [chapter(entry("def f():\n    pass\n\n# end"))], ROMEO)
    html = MarkdownIt("commonmark").render(text)
    assert "def f():<br />\n\u00a0\u00a0\u00a0\u00a0pass<br />\n\u00a0<br />\n# end</p>" in html


def test_what_is_suspicious_is_marked():
    """Suspicious messages, unreadable ones and gaps are marked where they stand."""
    told = chapter(entry("x", findings=[Finding.OUT_OF_PLACE]), unread(Finding.NO_KEY), missing=2)
    text = written(markdown.Writer, [told, chapter(withheld=True)], ROMEO)
    assert [line for line in text.splitlines() if line.startswith("> ")] == [
        "> **!** repeated, or moved from its place",
        "> **!** This message could not be read: none of your private keys opens this.",
        "> **!** 2 messages are missing here.",
        "> **!** This collection was listed, but the server did not give it, or not to its end.",
    ]
