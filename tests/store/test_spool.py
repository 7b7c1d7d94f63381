"""The spool's file: what is in it, in which order, and what becomes of it when it is full, broken or not ours."""

import os
import shutil
import sqlite3
from collections import Counter

import pytest

from archive_crypt.errors import ConfigurationError
from archive_crypt.model import PublishedKey, SaveMode
from archive_crypt.store import spool as storage
from archive_crypt.store.interfaces import AddKeys, Prolong, Rename, SetPublished, Terms
from archive_crypt.store.spool import Spool
from archive_crypt.store.spoolfile import SpoolDamaged, SpoolFull, SpoolUnsure, look
from tests.store.kit import GCM, JULIET, ROMEO, opened, plain, sealed, sealed_open, wrapped

TERMS = Terms(3, SaveMode.BODY, "a@b.lit", "t", SaveMode.FALSE, 9)
#: One of every kind that is spooled, with all that it can hold.
EVERYTHING = [
    sealed_open(thread="t", terms=TERMS, parent="p"),
    sealed(0, cipher=b"\0\xff" * 100)._replace(terms=TERMS),
    AddKeys(ROMEO, 1, "k2", GCM, (wrapped("k2"), wrapped("k2", "phone", b"\xfe"))),
    Rename(ROMEO, 1, "juliet@capulet.lit/bälcony"),
    Prolong(ROMEO, "t", 17),
    SetPublished(JULIET, (PublishedKey("laptop", b"\x30\x82", 1, None), PublishedKey("phone", b"\x30"))),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def begin(path):
    """Opens the spool, as another process would once this one is gone."""
    opened_ones = []

    def begin(most_octets=1_000_000):
        for spool in opened_ones:
            spool.close()
        spool = Spool(path, most_octets)
        spool.waiting = spool.open()
        opened_ones.append(spool)
        return spool

    yield begin
    for spool in opened_ones:
        spool.close()


def waiting(spool):
    return [one.change for one in spool.first(0, 1000, 10**9)]


def test_what_it_holds(begin):
    """Every change comes back as it went in, in order, whoever opens the file next."""
    begin().put((), EVERYTHING, 0)
    spool = begin()
    assert waiting(spool) == EVERYTHING
    assert spool.waiting == Counter({ROMEO: 5, JULIET: 1})


@pytest.mark.parametrize("change", [plain(0), opened()])
def test_nothing_in_clear(begin, change):
    """What is recorded in clear has no form in the spool."""
    with pytest.raises(TypeError):
        begin().put((), [change], 0)


def test_nobody_else_may_read_it(begin, path):
    """The files are their owner's alone: who talks with whom is in them."""
    begin().put((), EVERYTHING, 0)
    assert {file.name: file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == dict.fromkeys(
        ["spool", "spool-wal", "spool-shm", "spool.lock"], 0
    )


def test_a_commit_is_synced(begin):
    """What was put is synced to the disk."""
    assert begin()._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_copies_that_were_made(begin):
    """Copies of a batch that was made are not written again; of one that was not, they are."""
    spool = begin()
    spool.put([sealed_open(), sealed(0)], [sealed(1)], 1)
    assert spool.decide(1, made=True) == {ROMEO: 2}
    spool.put([sealed(2)], [sealed(3)], 2)
    spool.decide(2, made=False)
    assert waiting(spool) == [sealed(1), sealed(2), sealed(3)]


def test_the_database_knows_better(begin):
    """At a start, what the database has of the spool is dropped, and the rest written, in order."""
    begin().put([sealed_open()], [sealed(0)], 6)
    begin().put([sealed(1)], [sealed(2)], 7)
    spool = begin()
    assert spool.resolve(6, 2) == {ROMEO: 2}
    assert waiting(spool) == [sealed(1), sealed(2)]
    assert spool.octets > 0


def test_each_process_is_another_to_the_database(begin):
    """What the database knows of a spool is true of no copy of its file."""
    first = begin().id
    spool = begin()
    assert spool.id == first
    spool.resolve(0, 0)
    assert spool.id != first
    assert begin().id == spool.id != first


def test_a_file_from_a_backup(begin):
    """A file older than the database knows is not written, as it is not known what of it was; it is told."""
    begin().put((), [sealed_open()], 0)
    spool = begin()
    with pytest.raises(SpoolDamaged):
        spool.resolve(0, 2)
    spool.move_aside()
    assert spool.moved.exists()
    assert waiting(spool) == []


def test_full(begin):
    """Beyond its bound nothing is taken, not even a part; when something was written, it takes again."""
    spool = begin(most_octets=1000)
    spool.put((), [sealed_open()], 0)
    with pytest.raises(SpoolFull, match="spool_octets"):
        spool.put((), [sealed(0), sealed(1, cipher=b"x" * 1000)], 0)
    assert waiting(spool) == [sealed_open()]
    spool.forget(1)
    spool.put((), [sealed(0)], 0)
    assert waiting(spool) == [sealed(0)]


def test_a_disk_that_fails_again(begin, monkeypatch):
    """What a failed write left behind is gone after mending, however often that fails before."""
    spool = begin()
    spool.put((), [sealed_open()], 0)
    commit = storage._commit

    def unsure(db):
        commit(db)
        raise SpoolUnsure("SQLITE_IOERR_FSYNC")

    def full(db):
        raise SpoolFull("SQLITE_FULL")

    for fails, do in (
        (unsure, lambda: spool.put((), [sealed(0)], 0)),
        (full, spool.mend),
        (full, spool.mend),
    ):
        monkeypatch.setattr(storage, "_commit", fails)
        with pytest.raises(SpoolFull):
            do()
    monkeypatch.setattr(storage, "_commit", commit)
    spool.mend()
    spool.put((), [sealed(1)], 0)
    assert waiting(spool) == [sealed_open(), sealed(1)]


def test_a_spool_that_was_large(begin, path):
    """Emptied, it is small again."""
    spool = begin(most_octets=10**9)
    spool.put((), [sealed(n, cipher=os.urandom(100_000)) for n in range(150)], 0)
    spool.forget(150)
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 200_000


def test_a_spool_that_stays_large(begin, monkeypatch):
    """A disk that has no room to make it small again is no failure: what was removed is, and is told."""

    def fails(self):
        raise SpoolFull("SQLITE_FULL")

    monkeypatch.setattr(Spool, "_shrink", fails)
    spool = begin()
    spool.put([sealed_open()], (), 1)
    assert spool.decide(1, made=True) == {ROMEO: 1}


def test_what_was_refused(begin):
    """What the database refused is set aside, and tried once more at the next start, before what came later."""
    spool = begin()
    spool.put((), [sealed_open(), sealed(0), sealed(1)], 0)
    spool.park(1)
    assert (waiting(spool), spool.parked()) == ([sealed(0), sealed(1)], 1)
    spool = begin()
    assert spool.waiting == {ROMEO: 3}
    assert spool.resolve(0, 2) == {ROMEO: 1}
    assert (waiting(spool), spool.parked()) == ([sealed_open(), sealed(1)], 0)


def test_one_process(begin, path):
    """Another process may not have it, and is told which one has."""
    begin()
    with pytest.raises(ConfigurationError, match=f"in use by process {os.getpid()}: stop that one"):
        Spool(path, 1).open()


def test_a_foreign_file(begin, path):
    """A file of somebody else's is left alone, and the operator told."""
    path.write_bytes(b"dear diary\n" * 100)
    with pytest.raises(ConfigurationError, match="no spool of archive_crypt: name another file"):
        begin()
    assert path.read_bytes() == b"dear diary\n" * 100


def test_a_foreign_database(begin, path):
    """So is a database of SQLite that is not ours."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE record (text)")
    with pytest.raises(ConfigurationError, match="no spool of archive_crypt"):
        begin()


def test_no_folder(tmp_path):
    """Without its folder the text says so."""
    with pytest.raises(ConfigurationError, match="no file can be kept in .*missing: No such file"):
        Spool(tmp_path / "missing" / "spool", 1).open()


def test_a_broken_file(begin, path):
    """A broken file is moved aside as it is, and another begun."""
    begin().put((), [sealed(n, cipher=os.urandom(5000)) for n in range(50)], 0)
    begin().close()
    broken = path.read_bytes()
    broken = broken[:4096] + os.urandom(len(broken) - 4096)
    path.write_bytes(broken)
    spool = begin()
    assert spool.moved.read_bytes() == broken
    spool.put((), EVERYTHING, 0)
    assert waiting(spool) == EVERYTHING


def test_half_a_spool(begin, path, tmp_path):
    """A file without the one it belongs to is no new spool, and is kept."""
    spool = begin()
    spool.put((), EVERYTHING, 0)
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    shutil.copy(f"{path}-wal", copied / "spool-wal")
    other = Spool(copied / "spool", 1000)
    assert other.open() == Counter()
    assert (copied / f"{other.moved.name}-wal").stat().st_size == path.with_name("spool-wal").stat().st_size
    other.close()


def test_a_look(begin, path):
    """Somebody else may look at it, whoever has it, and changes nothing."""
    spool = begin()
    spool.put((), EVERYTHING, 0)
    spool.park(1)
    assert look(path) == (5, 1, str(os.getpid()))
    spool.close()
    files = sorted(path.parent.iterdir())
    assert look(path) == (5, 1, None)
    assert sorted(path.parent.iterdir()) == files
