"""Any interleaving of outages, crashes and restarts: what was acknowledged is there, once and in order."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive_crypt.store import records, spool, spooling, writer
from archive_crypt.store.interfaces import Append
from archive_crypt.store.records import Record
from archive_crypt.store.spoolfile import SpoolDamaged, SpoolFull, SpoolUnsure
from tests.store.outages import UNHEARD, Database, Process, Talk

#: Where a disk need not be waited for: that it holds what it was given is another test's promise.
MEMORY = Path("/dev/shm")
_PARKED = "SELECT owner, kind, detail, content FROM parked"
OWNERS = ["romeo@montague.lit", "juliet@capulet.lit", "nurse@capulet.lit"]

WHO = st.sampled_from(OWNERS)
HOW = st.sampled_from(["made", "away", "lost", "broken"])
SAYS = st.tuples(st.just("says"), WHO, st.sampled_from([True, True, True, False]))
PASSES = st.tuples(st.just("passes"), st.sampled_from([0, 0.2, 2, 7]))
STEPS = st.one_of(
    SAYS,
    SAYS,
    SAYS,
    PASSES,
    st.tuples(st.just("answers"), HOW),
    st.tuples(st.just("goes"), st.sampled_from(["away", "up", "quiet"])),
    st.tuples(st.just("freezes"), WHO),
    st.tuples(st.just("thaws"), HOW),
    st.tuples(st.just("disk"), st.sampled_from(["holds", "steps", "flows"])),
    st.sampled_from([("stops",), ("killed",), ("killed",)]),
    st.tuples(st.sampled_from(["asks", "seals", "errs", "begins_badly"]), WHO),
    st.tuples(st.just("fills"), st.sampled_from([None, 15, 30, 60])),
    st.tuples(st.just("tells"), st.booleans()),
    st.tuples(st.just("disk_is"), st.sampled_from(["good", "good", "full", "unsure"])),
)


class World:
    """One spool after the other process; `do` one step of a plan."""

    def __init__(self, folder):
        self.folder, self.numbers = folder, count()
        self.database, self.talk = Database(), Talk()
        self.process = Process(self.database, self._next())
        self.processes = [self.process]
        self.disk = "good"
        self._commits = spool._commit

    def commits(self, connection):
        """What a disk does that is full, or that does not say whether it wrote."""
        if self.disk == "full":
            raise SpoolFull("SQLITE_FULL")
        self._commits(connection)
        if self.disk == "unsure":
            raise SpoolUnsure("SQLITE_IOERR_FSYNC")

    def do(self, step, *matter):
        getattr(self, f"_{step}")(*matter)

    def _next(self):
        folder = self.folder / str(next(self.numbers))
        if not self.numbers or folder.name == "0":
            folder.mkdir()
        return folder

    def _says(self, owner, sealed):
        self.talk.says(self.process, owner, sealed)

    def _asks(self, owner):
        self.talk.asks(self.process, owner)

    def _seals(self, owner):
        self.talk.seals(self.process, owner)

    def _errs(self, owner):
        self.talk.errs(self.process, owner)

    def _begins_badly(self, owner):
        self.talk.begins_badly(self.process, owner)

    def _fills(self, octets):
        self.database.fills(octets)

    def _tells(self, what):
        """Whether the database says what it has of a spool."""
        self.database.refusing = not what

    def _disk_is(self, how):
        self.disk = how

    def _passes(self, seconds):
        self.process.passes(seconds)

    def _goes(self, how):
        self.database.up, self.database.holding = how != "away", how == "quiet"
        while self.database.held and not self.database.holding:
            self.database.answer("made" if self.database.up else "away")

    def _freezes(self, owner):
        """The database stops in the middle of somebody's message, and it is noticed."""
        self._goes("quiet")
        self._says(owner, True)
        self._passes(2)

    def _thaws(self, how):
        """It goes on, one way or the other."""
        self._answers(how)
        self._goes("up")
        self._passes(7)

    def _answers(self, how):
        self.database.answer(how)

    def _disk(self, how):
        thread = self.process.thread
        thread.holding = how != "flows"
        thread.step()
        while thread.waiting and not thread.holding:
            thread.step()

    def _stops(self):
        """A graceful end that takes too long; then the next process."""
        self.process.thread.holding = False
        self._disk("flows")
        self.process.writer.abandon()
        self.process.passes(3)
        self._killed()

    def _killed(self):
        self.database.held.clear()
        self.process = self.process.killed(self._next())
        self.processes.append(self.process)

    def ends(self):
        """All is well again: what is true then, in this process and in the next."""
        self.database.refusing, self.disk = False, "good"
        for _ in range(2):
            self.process.recovers()
            left = self.process.spooling
            assert (left.records, left.behind, self.process.writer.octets) == (0, False, 0)
            parked = [records.read(Record(*row)) for row in self.process.spool._db.execute(_PARKED)]
            assert self.process.spool.octets == 0 or parked
            self._killed()
        self.process.recovers()
        assert all(isinstance(one, Append) or one.thread == UNHEARD for one in parked)
        self.talk.check(self.database, [one for one in parked if isinstance(one, Append)])
        assert sum(process.spooling.late + process.spooling.damaged for process in self.processes) == 0
        self.process.spool.close()


@settings(deadline=None, max_examples=300)
@given(st.lists(STEPS, min_size=5, max_size=60))
def test_nothing_acknowledged_is_lost_or_doubled(plan):
    """Whatever the database, the disk and the killer do: each acknowledged message is in the archive once,
    in its owner's order."""
    place = MEMORY if MEMORY.is_dir() else None
    with TemporaryDirectory(dir=place) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spooling, "_MOST_CHANGES", 2)  # so that few messages are many batches
        patch.setattr(writer, "MOST_CHANGES", 3)
        world = World(Path(folder))
        patch.setattr(spool, "_commit", world.commits)
        for step in plan:
            world.do(*step)
        world.ends()


def test_a_refusal_while_the_database_is_slow(tmp_path):
    """What went into the spool from a batch that is refused then is not overtaken by the rest of the batch."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    process = Process(database, tmp_path / "0")
    talk.says(process, OWNERS[0], sealed=True)
    talk.says(process, OWNERS[0], sealed=False)
    process.passes(1)
    database.holding = True
    talk.says(process, OWNERS[0], sealed=True)
    talk.says(process, OWNERS[0], sealed=False)
    talk.errs(process, OWNERS[0])
    process.passes(2)
    assert process.spooling.records == 1
    database.answer("made")
    process.recovers()
    talk.check(database)
    assert [change for change in database.made if change in talk.said] == talk.said
    process.spool.close()


def test_nobody_fills_the_spool(tmp_path):
    """In an outage one owner's part of the spool is a quarter, however much time he has: what is more of his is
    refused, and others' is taken, spooled and written; when all is, he may have as much again."""
    process, talk = Process(Database(), tmp_path, most_spooled=100_000), Talk()
    process.passes(1)
    for _ in range(2):
        process.database.up = False
        for _ in range(40):
            for _ in range(10):
                talk.says(process, OWNERS[0], True)
            process.passes(1)
        assert not process.spooling.full
        before = len(talk.acknowledged)
        assert before < len(talk.said)
        assert process.spool.octets <= 25_000
        for owner in OWNERS[1:]:
            talk.says(process, owner, True)
        process.passes(1)
        assert len(talk.acknowledged) == before + 2
        process.recovers()
        talk.check(process.database)
    assert before > 70


@pytest.mark.parametrize("how", ["made", "lost"])
@pytest.mark.parametrize("killed", [True, False])
def test_a_quota_that_is_full_while_the_database_is_slow(tmp_path, how, killed):
    """What was acknowledged, as it is in the spool, is written, though there was no room for it in the batch of
    which it is a copy; also by the next process."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    database.fills(20)
    process = Process(database, tmp_path / "0")
    process.passes(1)
    database.holding = True
    for _ in range(10):
        talk.says(process, OWNERS[0], sealed=True)
    process.passes(3)
    assert talk.acknowledged == talk.said
    process.thread.holding = killed
    database.answer(how)
    if killed:
        process = process.killed(tmp_path / "1")
    process.recovers()
    assert database.made == talk.said
    assert process.spooling.records == 0
    process.spool.close()


def test_what_follows_a_collection_that_found_no_room(tmp_path):
    """It is refused with it, and not acknowledged in the spool, where it would have no place to go to."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    database.fills(5)
    process = Process(database, tmp_path / "0")
    process.passes(1)
    database.holding = True
    talk.says(process, OWNERS[0], sealed=True)
    process.passes(0.5)
    talk.says(process, OWNERS[0], sealed=True)
    database.answer("made")
    database.up = False
    process.passes(5)
    process.recovers()
    assert (talk.acknowledged, process.spooling.parked, process.writer.octets) == ([], 0, 0)
    process.spool.close()


def test_a_database_restored_from_a_backup(tmp_path):
    """What is in the spool for a collection that the older database does not have is kept."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    process = Process(database, tmp_path / "0")
    talk.says(process, OWNERS[0], sealed=True)
    process.passes(1)
    database.up = False
    talk.says(process, OWNERS[0], sealed=True)
    process.passes(5)
    assert talk.acknowledged == talk.said
    process.database = Database()
    for number in ("1", "2"):
        process = process.killed(tmp_path / number)
        process.recovers()
        assert (process.spool.parked(), process.spooling.parked, process.spooling.late) == (1, 1, 0)
    process.database = database
    process = process.killed(tmp_path / "3")
    process.recovers()
    assert database.made == talk.said
    process.spool.close()


def test_a_database_that_does_not_tell(tmp_path):
    """One that refuses to say what it has of the spool (its tables are not migrated, say) is like one that is
    away: what is sealed is spooled, and written once that is mended."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    database.refusing = True
    process = Process(database, tmp_path / "0")
    process.passes(5)
    talk.says(process, OWNERS[0], sealed=True)
    process.passes(5)
    assert talk.acknowledged == talk.said
    assert process.spooling.records == 2
    database.refusing = False
    process.recovers()
    assert database.made == talk.said
    process.spool.close()


def test_an_end_beside_a_database_that_does_not_tell(tmp_path):
    """It ends nevertheless."""
    (tmp_path / "0").mkdir()
    database = Database()
    database.refusing = True
    process = Process(database, tmp_path / "0")
    process.passes(5)
    ended = process.writer.abandon()
    process.passes(5)
    assert ended.called
    process.spool.close()


def test_an_end_beside_a_disk_that_fails(tmp_path, monkeypatch):
    """It ends nevertheless, and counts what is lost by it."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    process = Process(database, tmp_path / "0")
    process.passes(1)
    database.up = False

    def fails(*_):
        raise SpoolUnsure("SQLITE_IOERR_FSYNC")

    monkeypatch.setattr(process.spool, "put", fails)
    monkeypatch.setattr(process.spool, "mend", fails)
    talk.says(process, OWNERS[0], sealed=True)
    process.passes(3)
    ended = process.writer.abandon()
    process.passes(5)
    assert ended.called
    assert (process.writer.lost, process.spooling.records, talk.acknowledged) == (2, 0, [])
    process.spool.close()


def test_a_file_that_breaks_while_it_is_used(tmp_path):
    """It is moved aside, what it held is counted, and what follows is safe again."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    process = Process(database, tmp_path / "0")
    database.up = False
    for _ in range(20):
        talk.says(process, OWNERS[0], sealed=True)
    process.passes(2)
    lost, spool = len(talk.acknowledged), process.spool
    assert lost == 20
    spool._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spool._db.execute("PRAGMA shrink_memory")
    size = spool.path.stat().st_size
    with spool.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\x5a" * (size - 4096))
    process.recovers()
    assert process.spooling.damaged == 21  # and the Open
    assert spool.moved.stat().st_size == size
    database.up = False
    talk.says(process, OWNERS[1], sealed=True)
    process.passes(2)
    assert process.spooling.records == 2
    process.recovers()
    assert database.made == talk.said[20:]
    spool.close()


def breaks_once(monkeypatch, spool, *names):
    """The next call of each of these finds the file damaged."""

    def breaks(name, real):
        def once(*_):
            monkeypatch.setattr(spool, name, real)
            raise SpoolDamaged

        monkeypatch.setattr(spool, name, once)

    for name in names:
        breaks(name, getattr(spool, name))


def until_moved_aside(process):
    """The disk goes on until a file is about to be moved aside."""
    for _ in range(1000):
        if any(what == process.spool.move_aside for what, *_ in process.thread.waiting):
            return
        process.passes(0.1)
        process.thread.step()
    raise AssertionError


def test_what_is_said_while_a_broken_file_is_moved_aside(tmp_path, monkeypatch):
    """It goes into the next file, and from there into the database, in order."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    process = Process(database, tmp_path / "0")
    database.up = False
    for _ in range(2):
        talk.says(process, OWNERS[0], sealed=True)
        process.passes(3)
    breaks_once(monkeypatch, process.spool, "first")
    process.thread.holding, database.up = True, True
    until_moved_aside(process)
    database.up = False
    process.writer.unavailable = True
    talk.says(process, OWNERS[1], sealed=True)
    process.passes(0.1)
    process.thread.holding = False
    while process.thread.waiting:
        process.thread.step()
    assert (process.spooling.damaged, process.spooling.records) == (3, 2)
    assert talk.acknowledged == talk.said
    process.recovers()
    talk.says(process, OWNERS[1], sealed=True)
    process.recovers()
    assert process.spooling.records == 0
    assert [change for change in database.made if change.owner == OWNERS[1]] == talk.said[2:]
    process.spool.close()


def test_a_file_that_breaks_for_two_at_once(tmp_path, monkeypatch):
    """It is moved aside once; what was about to be written to it is written to the next."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    process = Process(database, tmp_path / "0")
    database.up = False
    talk.says(process, OWNERS[0], sealed=True)
    process.passes(3)
    breaks_once(monkeypatch, process.spool, "first", "put")
    process.thread.holding, database.up = True, True
    while not any(what == process.spool.first for what, *_ in process.thread.waiting):
        process.passes(0.1)
        if process.thread.waiting and process.thread.waiting[0][0] != process.spool.first:
            process.thread.step()
    process.writer.unavailable = True
    talk.says(process, OWNERS[1], sealed=True)
    process.passes(0.1)
    process.recovers()
    assert (process.spooling.damaged, process.spooling.records) == (2, 0)
    assert database.made == talk.said[1:]
    assert len(list((tmp_path / "0").glob("spool.damaged-*[0-9Z]"))) == 1
    process.spool.close()


@pytest.mark.parametrize("ends", [("", "-wal", "-shm"), ("",), ("-wal",)])
def test_a_file_that_is_removed_while_it_is_used(tmp_path, ends):
    """What it held, and what comes then, is in a file of that name again before anything more is acknowledged."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    process = Process(database, tmp_path / "0")
    process.passes(1)
    database.up = False
    talk.says(process, OWNERS[0], sealed=True)
    process.passes(3)
    for end in ends:
        process.spool.path.with_name(f"spool{end}").unlink()
    talk.says(process, OWNERS[0], sealed=True)
    process.passes(5)
    assert talk.acknowledged == talk.said
    assert process.spool.path.stat().st_mode & 0o777 == 0o600
    process = process.killed(tmp_path / "1")
    process.recovers()
    assert database.made == talk.said
    assert process.spooling.damaged == 0
    process.spool.close()


def test_a_file_that_is_replaced_while_it_is_used(tmp_path):
    """Like one that was removed; what took its place is kept."""
    (tmp_path / "0").mkdir()
    database, talk = Database(), Talk()
    process = Process(database, tmp_path / "0")
    process.passes(1)
    database.up = False
    talk.says(process, OWNERS[0], sealed=True)
    process.passes(3)
    other = tmp_path / "other"
    other.write_text("another file")
    other.rename(process.spool.path)
    talk.says(process, OWNERS[0], sealed=True)
    process.passes(5)
    assert (tmp_path / "0" / "spool.found").read_text() == "another file"
    process.recovers()
    assert database.made == talk.said
    process.spool.close()
