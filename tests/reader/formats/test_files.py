"""What all writers have in common, and where their files go."""

import io

import pytest

from archive_crypt.reader.failures import Problem
from archive_crypt.reader.formats import files, xep
from archive_crypt.reader.formats.files import PerContact, file_name
from archive_crypt.reader.formats.transcript import write
from archive_crypt.reader.formats.xepfile import ArchiveFile
from archive_crypt.reader.opening import Book
from tests.reader.formats.kit import JULIET, ROMEO, START, chapter, entry
from tests.reader.kit import said

WRITERS = {**files.WRITERS, "xep": lambda file, owner: xep.Writer(file, owner)}


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_kept(name):
    """Each message is in the file before the next collection is asked for: nothing waits in memory."""
    file = io.StringIO()

    def many():
        for number in range(3):
            yield chapter(entry(f"message{number}"), start=START + number)
            assert f"message{number}" in file.getvalue()

    write(WRITERS[name](file, ROMEO), many())


@pytest.mark.parametrize("name", ["jsonl", "mbox", "markdown", "html"])
def test_a_withheld_collection_by_itself(name):
    """A collection of which nothing came at all is in the file, by its name."""
    file = io.StringIO()
    writer = WRITERS[name](file, ROMEO)
    writer.withheld(chapter(with_="nurse@capulet.lit").collection)
    writer.finish()
    assert "nurse@capulet" in file.getvalue()


@pytest.mark.parametrize(
    "contact", ["juliet@capulet.lit", "..", "", "../../etc/passwd", "a b@x", "\x00", "é" * 500, "/" * 2000]
)
def test_file_names(tmp_path, contact):
    """Whatever a contact is called, his file is in the folder; two contacts have two."""
    path = tmp_path / file_name(contact)
    path.touch(exist_ok=False)
    assert path.resolve().parent == tmp_path.resolve()
    assert file_name(contact) != file_name(f"{contact}x")


def test_a_file_for_each_contact(tmp_path):
    """Collections of several contacts in turns: each file has its own, in order, and is whole."""
    writer = PerContact(tmp_path, ROMEO, encrypted=False)
    nurse = "nurse@capulet.lit"
    write(
        writer,
        [chapter(entry(text), with_=who) for text, who in zip("abc", (JULIET, nurse, JULIET), strict=True)],
    )
    found = {}
    for path in tmp_path.iterdir():
        found[path.name] = [
            said(one.entries) for one in ArchiveFile(path).transcripts(Book([]), trusted=True)
        ]
    assert found == {f"{JULIET}.xml": [["a"], ["c"]], f"{nurse}.xml": [["b"]]}


def test_taken_meanwhile(tmp_path):
    """What came to be at that place while a file was written is not overwritten either."""
    path = tmp_path / "x.jsonl"
    with pytest.raises(Problem, match="exists already"), files.new(path, "jsonl", ROMEO):
        path.write_text("mine")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def failing():
    """A transcript, and then a fault."""
    yield chapter(entry("x"))
    raise ZeroDivisionError


def test_without_end(tmp_path):
    """What fails on its way leaves nothing, of a file and of a folder."""
    for name in ("jsonl", "xep"):
        with pytest.raises(ZeroDivisionError), files.new(tmp_path / name, name, ROMEO) as writer:
            write(writer, failing())
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full(tmp_path):
    """A file that cannot be written is a problem with its name."""
    with (
        pytest.raises(Problem, match="x.jsonl cannot be written: No space left"),
        files.new(tmp_path / "x.jsonl", "jsonl", ROMEO),
    ):
        raise OSError(28, "No space left on device")
