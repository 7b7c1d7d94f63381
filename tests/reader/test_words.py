"""What is searched for is found as people mean it, whatever they type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.core.items import ReadItem
from archive_crypt.reader import mirrorfile, words
from archive_crypt.reader.opening import Entry
from tests.reader.kit import law

KEY = bytes(32)


def said(*texts):
    """A message with these bodies."""
    return Entry(0, True, ReadItem("to", 0, 0, None, tuple((None, text) for text in texts), None), 0, ())


@pytest.fixture(scope="module")
def finds(tmp_path_factory):
    """A function: whether words find a text, by the index of a real mirror."""
    file = mirrorfile.MirrorFile(tmp_path_factory.mktemp("words") / "mirror", KEY)

    def search(text, *wanted):
        with file.writing() as database:
            database.execute("DELETE FROM words")
            database.execute("INSERT INTO words (rowid, text) VALUES (1, ?)", (words.indexed(said(text)),))
        match = words.match(wanted)
        return bool(match and file.all("SELECT 1 FROM words WHERE words MATCH ?", (match,)))

    yield search
    file.close()


@pytest.mark.parametrize(
    ("text", "found", "not_found"),
    [
        ("It was the nightingale, and not the lark", ["NIGHTINGALE", "lark", "night*"], ["night", "larks"]),
        ("Parting is such sweet sorrow", ["sweet sorrow", "sorrow"], ["sorrow sweet", "sweet such"]),
        ("Où est le café naïf?", ["ou", "cafe", "CAFÉ", "cafe\u0301"], ["caf"]),
        ("see https://example.org/a-b?c=1", ["example.org", "a-b", "https://example.org/a-b"], ["a-c"]),
        ("я люблю тебя", ["люблю", "ЛЮБЛЮ"], ["люблю меня"]),
        ("私は君が好きです", ["好き", "君", "君が好き"], ["好君", "嫌い"]),
        ("ฉันรักเธอ", ["รัก"], ["เกลียด"]),
        ("see you 👍🏽 then", ["👍", "you 👍"], ["👎"]),
        ('say "AND" or NOT: a* (b) ^c {d} -e', ["AND", "NOT", '"AND"', "(b)", "^c", "-e", "d}"], ["NEAR"]),
    ],
)
def test_what_is_found(finds, text, found, not_found):
    """Words in any case, with accents or without; phrases; beginnings; scripts that write no spaces; and
    nothing is an operator."""
    assert [wanted for wanted in found if not finds(text, wanted)] == []
    assert [wanted for wanted in not_found if finds(text, wanted)] == []


def test_all_words(finds):
    """Several words must all be there, in whatever order."""
    assert finds("the more I give to thee", "thee", "give")
    assert not finds("the more I give to thee", "thee", "take")
    assert not finds("", "thee")


@pytest.mark.parametrize("wanted", [[], [""], ["..."], ["*"], ['"'], [" - "]])
def test_no_word(wanted):
    """Where there is no word to search for, that is told, and not taken for one that is nowhere."""
    assert words.match(wanted) is None


@law
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_any_text_can_be_wanted(finds, text):
    """Whatever is searched for is a query that SQLite understands."""
    assert not finds("", text)


@law
@given(st.lists(st.text("aBü好きĞรั👍'\"*-. ", min_size=1, max_size=6), min_size=1, max_size=5), st.data())
def test_what_was_said_is_found(finds, parts, data):
    """Any stretch of a text, from one space to another, finds it."""
    first = data.draw(st.integers(0, len(parts) - 1))
    wanted = " ".join(parts[first : data.draw(st.integers(first + 1, len(parts)))]).rstrip("*")
    assert finds(" ".join(parts), wanted) or words.match([wanted]) is None
