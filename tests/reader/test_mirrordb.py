"""The file of a mirror: what it keeps, for whom, and what is told when it cannot be used."""

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.core.items import Bound, ReadItem
from archive_crypt.core.times import EARLIEST, LATEST
from archive_crypt.model import SECOND
from archive_crypt.reader import mirrorfile, mirrorrows, mirrors
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.mirrordb import Mirror, Stored
from archive_crypt.reader.mirrorrows import Head
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Change, Listed, Query
from tests.kit import LAPTOP
from tests.reader.kit import law

KEY, OTHER = bytes(32), bytes([1]) * 32
NOON = 1_795_262_400 * SECOND
JULIET = Listed.named("juliet@capulet.lit/balcony", NOON)
NURSE = Listed.named("nurse@capulet.lit", NOON + SECOND)


def message(text, place=0, at=NOON):
    return Entry(place, True, ReadItem("from", at, 0, None, ((None, text),), None), at, ())


def told(*collections, removed=False):
    return [Change(collection, removed) for collection in collections]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mirror"


@pytest.fixture
def mirror(path):
    with Mirror(path, KEY) as opened:
        yield opened


def test_never_in_clear(path, monkeypatch):
    """Where what should encrypt is SQLite without SQLCipher, there is no mirror."""
    monkeypatch.setattr(mirrorfile.sqlcipher, "connect", sqlite3.connect)
    with pytest.raises(Problem, match="without SQLCipher"):
        Mirror(path, KEY)
    assert path.read_bytes() == b""


# What is kept

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
moments = st.integers(EARLIEST, LATEST)
items = st.builds(
    ReadItem,
    kind=st.sampled_from(["to", "from", "note"]),
    at=st.none() | moments,
    secs=st.none() | st.integers(0, 10**30),
    name=st.none() | texts,
    bodies=st.lists(st.tuples(st.none() | texts, texts), max_size=2).map(tuple),
    bound=st.none() | st.builds(Bound, texts, st.integers(0), texts, moments),
    jid=st.none() | texts,
    rest=st.lists(texts, max_size=2).map(tuple),
)
entries = st.builds(
    Entry,
    place=st.integers(0, 9),
    sealed=st.booleans(),
    item=st.none() | items,
    at=st.none() | moments,
    findings=st.lists(st.sampled_from(list(Finding)), unique=True).map(tuple),
    missing=st.integers(0, 9),
)


@law
@given(entries)
def test_entries_come_back(entry):
    """An entry comes back from its row with all there is to it."""
    assert mirrorrows.entry(mirrorrows.of_entry(entry)) == entry


def test_of_one_moment(path):
    """What is read in a snapshot is of one moment, whatever another program does meanwhile."""
    with Mirror(path, KEY) as reading, Mirror(path, KEY) as syncing:
        syncing.note(told(JULIET), "1", None)
        syncing.store(*syncing.pending(), Head(JULIET), [message("soft")])
        with reading.snapshot():
            assert reading.count() == (1, 1)
            syncing.note(told(JULIET, removed=True), "2", "1")
            assert reading.count() == (1, 1)
            assert reading.search("soft")
        assert reading.count() == (0, 0)
        assert not reading.search("soft")


def test_what_was_overtaken(mirror):
    """What was fetched before a change is not taken for what came after it, nor a cursor for a later one."""
    assert mirror.note(told(JULIET), "1", None) == 0
    (before,) = mirror.pending()
    assert mirror.note(told(JULIET), "2", "1") == 0
    assert mirror.store(before, Head(JULIET), [message("before")]) is Stored.OVERTAKEN
    (after,) = mirror.pending()
    assert mirror.store(after, Head(JULIET), [message("after")]) is Stored.ALL
    assert mirror.pending() == []
    assert mirror.note(told(JULIET, removed=True), "3", "1") is None
    assert (mirror.cursor, mirror.count()) == ("2", (1, 1))
    mirror.restart("1")
    assert (mirror.keep_unseen("1"), mirror.unlisted(), mirror.count()) == (0, [], (1, 1))


def versions(mirror, *numbers):
    """What comes of JULIET in these versions, each told of in turn."""
    for place, number in enumerate(numbers):
        assert mirror.note(told(JULIET), str(place), mirror.cursor) == 0
        (pending,) = mirror.pending()
        yield mirror.store(pending, Head(replace(JULIET, version=number)), [message(f"version {number}")])


def test_an_earlier_version(mirror):
    """An earlier version takes nothing away, nor does what follows it: what is there is the last copy. When
    it is forgotten, what the server has is to be fetched."""
    ended = [Stored.ALL, Stored.ALL, Stored.ALL, Stored.SET_BACK, Stored.SET_BACK]
    assert list(versions(mirror, 0, 2, 2, 1, 9)) == ended
    (kept,) = mirror.collections(Query())
    assert (kept.collection.version, kept.unlisted, mirror.pending()) == (2, True, [])
    assert mirror.forget(mirror.unlisted()) == 1
    (pending,) = mirror.pending()
    assert mirror.store(pending, Head(replace(JULIET, version=9)), []) is Stored.ALL
    assert mirror.unlisted() == []


def test_no_versions(mirror):
    """In a dialect without versions (0.13) the server is believed."""
    assert list(versions(mirror, None, 2, None, 1)) == [Stored.ALL] * 4


def test_who_with_and_when(mirror):
    """A bare JID is for all its resources too, and a domain for everybody there, in any case; the start is
    inclusive, the end exclusive."""
    mirror.note(told(JULIET, NURSE), "1", None)
    for pending in mirror.pending():
        mirror.store(pending, Head(pending.collection), [])

    def found(*query):
        return [kept.collection for kept in mirror.collections(Query(*query))]

    assert found() == found("CAPULET.lit") == [JULIET, NURSE]
    assert found("Juliet@capulet.lit") == found(JULIET.with_) == found(None, None, NURSE.start) == [JULIET]
    assert found("juliet@capulet.lit/chamber") == found("capulet.lit/balcony") == []
    assert found(None, NURSE.start) == found("nurse@capulet.lit") == [NURSE]


# Encrypted


def test_encrypted(path, mirror):
    """Nobody without the key finds a word, a name or a thread in the files, and only the owner may read them."""
    collection = Listed.named("juliet@capulet.lit", NOON, thread="balcony-scene", subject="of-roses")
    mirror.note(told(collection), "cursor-of-the-server", None)
    mirror.store(*mirror.pending(), Head(collection), [message("what's in a name")])
    octets = b""
    for file in path.parent.iterdir():
        octets += file.read_bytes()
        assert file.stat().st_mode & 0o777 == 0o600
    for word in (b"SQLite", b"name", b"juliet", b"capulet", b"balcony", b"roses", b"cursor", b"CREATE"):
        assert word not in octets


def test_of_another_key(path, mirror, capfd):
    """With another key there is one line, and nothing else, also from the library."""
    with pytest.raises(Problem, match="is damaged, or not of the key beside it: move it away and sync again"):
        Mirror(path, OTHER)
    assert capfd.readouterr() == ("", "")


def filled(path):
    with Mirror(path, KEY) as mirror:
        mirror.note(told(JULIET), "1", None)
        mirror.store(*mirror.pending(), Head(JULIET), [message(f"word {n} " * 50, n) for n in range(200)])


@pytest.mark.parametrize("where", [0, 100, 5000, 90_000, -5000, -100])
def test_damaged(path, capfd, where):
    """A flipped octet anywhere is found out; one line says what to do."""
    filled(path)
    octets = bytearray(path.read_bytes())
    octets[where] ^= 1
    path.write_bytes(octets)
    with pytest.raises(Problem, match="is damaged.*: move it away and sync again"):
        Mirror(path, KEY)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"no mirror", b"x" * 8192])
def test_no_mirror_at_all(path, content):
    """A file that is something else is not written to."""
    path.write_bytes(content)
    with pytest.raises(Problem, match="move it away and sync again"):
        Mirror(path, KEY)
    assert path.read_bytes() == content


def test_of_another_version(path, monkeypatch):
    """What another version wrote is not taken for what this one would."""
    filled(path)
    monkeypatch.setattr(mirrorfile, "VERSION", mirrorfile.VERSION + 1)
    with pytest.raises(Problem, match="of another version of archive-reader: move it away and sync again"):
        Mirror(path, KEY)


def test_no_place(tmp_path):
    """Where no file can be made that is told."""
    with pytest.raises(Problem, match="cannot be made: No such file"):
        Mirror(tmp_path / "nowhere" / "mirror", KEY)
    with pytest.raises(Problem, match="Is a directory|cannot be opened"):
        Mirror(tmp_path, KEY)


def test_busy(path, mirror, monkeypatch):
    """While another program writes for long, that is told."""
    monkeypatch.setattr(mirrorfile, "_PATIENCE", 0)
    with mirror._file.writing(), pytest.raises(Problem, match="is in use by another"):
        Mirror(path, KEY)


def test_a_number_too_large(mirror):
    """A server cannot bring sync down by a number that no table holds."""
    huge = Listed("juliet@capulet.lit", NOON, "now", 2**70)
    mirror.note(told(huge), "1", None)
    with pytest.raises(Problem, match="a number from the server: it is too large"):
        mirror.store(*mirror.pending(), Head(huge), [])
    assert len(mirror.pending()) == 1


# Where they are


def test_places(tmp_path, monkeypatch):
    """Each account has a mirror of its own, where XDG says."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(
        Problem, match="There is no mirror of romeo@x here: archive-reader sync romeo@x makes one"
    ):
        mirrors.find("romeo@x", [LAPTOP])
    mirrors.make("romeo@x", [LAPTOP], ()).__exit__()
    with mirrors.find("romeo@x", [LAPTOP]) as mirror:
        assert mirror.count() == (0, 0)
    assert (tmp_path / "archive-reader" / "romeo@x.mirror").exists()
    with pytest.raises(Problem, match="There is no mirror of juliet@x"):
        mirrors.find("juliet@x", [LAPTOP])
    (tmp_path / "archive-reader" / "romeo@x.mirror.key").unlink()
    with pytest.raises(Problem, match="without it .* cannot be opened: bring it back from a backup, or move"):
        mirrors.find("romeo@x", [LAPTOP])
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert mirrors.folder() == tmp_path / "home" / ".local/share/archive-reader"
