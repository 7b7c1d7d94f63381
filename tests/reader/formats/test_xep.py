"""The file format of XEP-0136 0.13, section 11."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from archive_crypt.core import times
from archive_crypt.model import SECOND
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.formats import xep
from archive_crypt.reader.formats.xepfile import ArchiveFile
from archive_crypt.reader.opening import Book
from tests.kit import LAPTOP, PHONE
from tests.reader.bait import bait
from tests.reader.formats.kit import (
    JULIET,
    ROMEO,
    by_themselves,
    chapter,
    entry,
    law,
    transcripts,
    unread,
    written,
)
from tests.reader.kit import found, said, sealed_page

V = "{http://www.xmpp.org/extensions/xep-0136.html#ns}"
FILE = Path(__file__).parent / "example-file.xml"
DAY = times.parse("1469-07-21T02:56:15Z")


def read_back(folder, text, *private_keys, trusted=True):
    path = folder / "archive.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(ArchiveFile(path).transcripts(Book(private_keys), trusted=trusted))


@pytest.mark.clause("0136-fileformat-01", "0136-fileformat-03")
def test_the_example(tmp_path):
    """The XEP's example is one collection with the contact that the file names, each message at its time."""
    (read,) = read_back(tmp_path, FILE.read_bytes())
    collection = read.collection
    assert (collection.with_, collection.start, collection.subject) == (
        "juliet@capulet.com",
        DAY,
        "She speaks!",
    )
    assert [one.item.kind for one in read.entries] == ["from", "to", "from"]
    assert said(read.entries)[1] == "Neither, fair saint, if either thee dislike."
    assert read.entries[1].at == DAY + 11 * SECOND


@law
@given(st.lists(transcripts(), max_size=3), st.sampled_from([None, JULIET, f"{JULIET}/balcony"]))
def test_nothing_is_lost(tmp_path_factory, chapters, with_):
    """What is written is read back equal, but for what only meant something in its archive."""
    text = written(xep.Writer, chapters, ROMEO, with_)
    read = read_back(tmp_path_factory.mktemp("xep"), text)
    assert [by_themselves(one) for one in read] == [by_themselves(one) for one in chapters]


@pytest.mark.clause("0136-fileformat-01", "0136-fileformat-03")
def test_what_a_file_looks_like():
    """An XML declaration, ``<archive/>`` with the contact; a chat says its own only if it is another."""
    chapters = [chapter(entry("Ay me")), chapter(entry("Who is it?", "to"), with_=JULIET)]
    text = written(xep.Writer, chapters, ROMEO, JULIET)
    assert text.startswith("<?xml version='1.0' encoding='UTF-8'?>\n")
    root = etree.fromstring(text.encode())
    assert (root.tag, root.get("with")) == (f"{V}archive", JULIET)
    assert [chat.get("with") for chat in root] == [f"{JULIET}/balcony", None]


@law
@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=20).map(sorted))
def test_secs_are_the_standards(offsets):
    """Others who heed only secs find each message less than a second from its time: they add up."""
    chapters = [chapter(*(entry("x", second=offset / SECOND) for offset in offsets))]
    root = etree.fromstring(written(xep.Writer, chapters, ROMEO).encode())
    total = 0
    for offset, item in zip(offsets, root.iter(f"{V}from"), strict=True):
        total += int(item.get("secs"))
        assert 0 <= offset - total * SECOND < SECOND


def test_what_could_not_be_read_is_there():
    """Where something could not be read, or is missing, there is a note that every reader shows."""
    chapters = [chapter(unread(Finding.NO_KEY), entry("x", missing=2), missing=1), chapter(withheld=True)]
    root = etree.fromstring(written(xep.Writer, chapters, None).encode())
    assert [note.text for note in root.iter(f"{V}note")] == [
        "This message could not be read: none of your private keys opens this.",
        "2 messages are missing here.",
        "A message is missing here.",
        "This collection was listed, but the server did not give it, or not to its end.",
    ]


def encrypted(*pages):
    """A file of what the server gave, still sealed."""
    file = io.StringIO(newline="")
    writer = xep.Writer(file, ROMEO, encrypted=True)
    for page in pages:
        writer.begin(page.collection)
        for part in page.parts:
            writer.sealed(part)
        writer.keys(page.keys)
    writer.finish()
    return file.getvalue()


@pytest.mark.clause("0136-fileformat-01")
def test_encrypted(tmp_path):
    """What stays sealed is opened out of the file as from the server, with each of the keys alone."""
    text = encrypted(sealed_page("But soft", "what light", keys=(LAPTOP, PHONE)))
    assert "But soft" not in text
    for key in (LAPTOP, PHONE):
        (read,) = read_back(tmp_path, text, key, trusted=False)
        assert said(read.entries) == ["But soft", "what light"]
        assert found(read.entries) == [[], []]
        assert read.collection.crypt
    (read,) = read_back(tmp_path, text, trusted=False)
    assert found(read.entries) == [["no-key"], ["no-key"]]


def test_other_namespaces(tmp_path):
    """Files in the namespaces of later versions are read too, and their versions."""
    for namespace in ("urn:xmpp:tmp:archive", "urn:xmpp:archive"):
        text = (
            f"<archive xmlns='{namespace}'><chat with='a@b' start='1469-07-21T02:56:15Z' version='3'><next/>"
            "<from secs='0'><body>x</body></from></chat></archive>"
        )
        (read,) = read_back(tmp_path, text)
        assert (said(read.entries), read.collection.version) == (["x"], 3)


def test_marks_of_others_only_warn(tmp_path):
    """In a file that somebody else made no mark makes anything look better; those that warn are kept."""
    chapters = [chapter(entry("x", findings=[Finding.OUT_OF_PLACE, Finding.UNBOUND]), unread(Finding.NO_KEY))]
    (read,) = read_back(tmp_path, written(xep.Writer, chapters, ROMEO), trusted=False)
    assert found(read.entries) == [["out-of-place"], ["no-key"]]
    assert not any(one.sealed for one in read.entries)
    assert not read.collection.crypt


def test_put_in_clear_among_what_is_sealed(tmp_path):
    """What somebody put in clear into an encrypted collection of a file is marked, whatever he marks it as."""
    text = encrypted(sealed_page("But soft"))
    forged = "<from xmlns:a='urn:x-archive-crypt:file:0' a:sealed='true'><body>Come</body></from></chat>"
    (read,) = read_back(tmp_path, text.replace("</chat>", forged), LAPTOP, trusted=False)
    assert said(read.entries) == ["But soft", "Come"]
    assert found(read.entries) == [[], ["in-clear"]]
    assert not read.entries[1].sealed


CHAT = "<chat with='a@b' start='1469-07-21T02:56:15Z'/>"


def in_archive(content):
    return f"<archive xmlns='{V[1:-1]}'>{content}</archive>"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 0: this is not well-formed XML"),
        ("<archive", "is no archive file"),
        ("<mail/>", "is no archive file"),
        ("<archive/>", "is no archive file"),
        (
            in_archive("\n<chat start='1469-07-21T02:56:15Z'/>"),
            "the collection in line 2 is not as it should be",
        ),
        (in_archive("<chat with='a@b'/>"), "the collection in line 1"),
        (in_archive("<chat with='a@b' start='yesterday'/>"), "the collection in line 1"),
        (in_archive(CHAT)[:-3], "this is not well-formed XML"),
        (f"<!DOCTYPE archive [<!ENTITY a 'b'>]>{in_archive(CHAT)}", "has a document type"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, text, says):
    """What is no such file, was cut off, or would have something fetched or unfolded, is refused."""
    with pytest.raises(Problem, match=says):
        read_back(tmp_path, text)


def test_a_file_that_names_another(tmp_path):
    """No file is opened that a document type in the file names."""
    with bait(tmp_path) as path, pytest.raises(Problem, match="has a document type"):
        read_back(tmp_path, f"<!DOCTYPE archive SYSTEM 'file://{path}'>{in_archive(CHAT)}")


def test_a_bomb(tmp_path):
    """Entities that unfold into each other are refused at once; nested elements end at a depth."""
    bomb = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10 if n else 'x'}'>" for n in range(12))
    with pytest.raises(Problem, match="has a document type"):
        read_back(tmp_path, f"<!DOCTYPE archive [{bomb}]>{in_archive('&e11;')}")
    deep = "<x>" * 5000 + "</x>" * 5000
    with pytest.raises(Problem, match="not well-formed"):
        read_back(
            tmp_path, in_archive(f"<chat with='a@b' start='1469-07-21T02:56:15Z'><to>{deep}</to></chat>")
        )


def test_a_spoilt_item_is_told(tmp_path):
    """One item that is none is told where it stands, and the rest is read."""
    chat = CHAT[:-2] + "><from secs='soon'><body>x</body></from><to><body>y</body></to></chat>"
    (read,) = read_back(tmp_path, in_archive(chat))
    assert found(read.entries) == [["not-an-item"], []]
    assert said(read.entries) == [None, "y"]


def test_one_collection_at_a_time(tmp_path):
    """A file is read as it is asked for: what is spoilt at its end does not keep from what is before."""
    path = tmp_path / "archive.xml"
    path.write_text(in_archive(CHAT + "\n<chat/>"))
    transcripts = ArchiveFile(path).transcripts(Book([]), trusted=True)
    assert next(transcripts).collection.with_ == "a@b"
    with pytest.raises(Problem, match="line 2"):
        next(transcripts)


def test_the_owner(tmp_path):
    """A file of ours tells whose archive it is."""
    path = tmp_path / "archive.xml"
    path.write_text(written(xep.Writer, [chapter(entry("x"))], ROMEO))
    assert ArchiveFile(path).owner == ROMEO
    path.write_text(in_archive(CHAT))
    assert ArchiveFile(path).owner == ""
