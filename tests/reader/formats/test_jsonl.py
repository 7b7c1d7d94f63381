"""JSON Lines: nothing is lost, and nothing is believed that makes no sense."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.reader.checking import Finding
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.formats import jsonl
from tests.reader.bait import bait
from tests.reader.formats.kit import ROMEO, chapter, entry, law, transcripts, unread, written


def read_back(tmp_path, text):
    path = tmp_path / "archive.jsonl"
    path.write_bytes(text.encode())
    return list(jsonl.read(path))


@law
@given(st.lists(transcripts(), max_size=3))
def test_nothing_is_lost(tmp_path_factory, chapters):
    """What is written is read back equal, to the last attribute."""
    text = written(jsonl.Writer, chapters, ROMEO)
    assert read_back(tmp_path_factory.mktemp("jsonl"), text) == chapters


def test_what_a_line_says():
    """The file tells whose it is; a message is a line, with what is to be said of it, in ASCII."""
    text = written(jsonl.Writer, [chapter(entry("\u00e9\n", findings=[Finding.UNBOUND]))], ROMEO)
    archive, collection, message = map(json.loads, text.splitlines())
    assert archive == {"type": "archive", "version": 1, "owner": ROMEO}
    assert (collection["with"], collection["crypt"]) == ("juliet@capulet.lit/balcony", True)
    assert message["item"] == {
        "kind": "from",
        "utc": "2026-11-21T10:00:00Z",
        "bodies": [{"text": "\u00e9\n"}],
    }
    assert message["findings"] == ["unbound"]
    assert text.isascii()


def test_what_could_not_be_read_is_there(tmp_path):
    """An entry that could not be opened, messages that are missing and a collection withheld are lines."""
    chapters = [chapter(unread(Finding.NO_KEY), missing=2), chapter(withheld=True)]
    text = written(jsonl.Writer, chapters, "")
    kinds = [json.loads(line)["type"] for line in text.splitlines()]
    assert kinds == ["archive", "collection", "message", "missing", "collection", "withheld"]
    assert json.loads(text.splitlines()[2])["suspicious"] is True


HEAD = '{"type": "archive", "version": 1}\n'
COLLECTION = '{"type": "collection", "with": "a@b", "start": "2026-11-21T10:00:00Z", "told": "2026-11-21T10:00:00.0Z"}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{", "line 1: this is not what a file of ours holds"),
        ("[]", "line 1: it is no object"),
        (COLLECTION, "line 1: a file of ours begins with a line of type archive"),
        (HEAD + HEAD, "line 2: a file of ours begins with"),
        ('{"type": "archive", "version": 2}', "line 1: it is of another version than 1"),
        (HEAD + '{"type": "message", "place": 0}', "line 2: it is of no collection"),
        (HEAD + COLLECTION.replace(".0Z", ".5Z"), "line 2: its start is told in two ways"),
        (HEAD + COLLECTION + '{"type": "poem"}', "line 3: its type is not known"),
        (HEAD + COLLECTION + '{"type": "message"}', "line 3: this is not"),
        (HEAD + COLLECTION + '{"type": "message", "place": -1}', "line 3: this is not"),
        (HEAD + COLLECTION + '{"type": "message", "place": 0, "at": "yesterday"}', "line 3: A time must be"),
        (HEAD + COLLECTION + '{"type": "message", "place": 0, "item": {"kind": "poem"}}', "line 3: its kind"),
        (HEAD + COLLECTION + '{"type": "message", "place": 0, "findings": ["odd"]}', "line 3: this is not"),
        (
            HEAD + COLLECTION + '{"type": "message", "place": 0, "item": {"kind": "to", "rest": ["<x>"]}}',
            "line 3: an element in it is not XML",
        ),
        (
            HEAD
            + COLLECTION
            + '{"type": "message", "place": 0, "item": {"kind": "to", "rest": ["<!DOCTYPE x><x/>"]}}',
            "line 3: an element in it is not XML, or not by itself",
        ),
        (HEAD + COLLECTION.replace("a@b", "a@b/\\ud800"), "line 2: a text in it has a character that XML"),
        (
            HEAD
            + COLLECTION
            + '{"type": "message", "place": 0, "item": {"kind": "to", "bodies": [{"text": "\\u0000"}]}}',
            "line 3: a text in it has a character that XML",
        ),
        (HEAD + "[" * 100_000, "line 2: this is not"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, text, said):
    """A file that is none of ours, or was spoilt, is refused by its line, without repeating what is there."""
    with pytest.raises(Problem, match=said):
        read_back(tmp_path, text)


def test_an_element_that_names_a_file(tmp_path):
    """No file is opened that an element in the file names."""
    with bait(tmp_path) as path:
        item = {"kind": "to", "rest": [f"<!DOCTYPE x SYSTEM 'file://{path}'><x/>"]}
        message = json.dumps({"type": "message", "place": 0, "item": item})
        with pytest.raises(Problem, match="line 3: an element in it is not XML"):
            read_back(tmp_path, HEAD + COLLECTION + message)


def test_what_is_no_text(tmp_path):
    """Other octets than UTF-8, and a file that is not there, are named."""
    path = tmp_path / "x"
    path.write_bytes(b"\xff")
    with pytest.raises(Problem, match="is not in UTF-8"):
        list(jsonl.read(path))
    with pytest.raises(Problem, match="cannot be read: No such file"):
        list(jsonl.read(tmp_path / "y"))
