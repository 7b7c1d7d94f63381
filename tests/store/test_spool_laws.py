"""Any interleaving of outages, crashes and restarts: what was acknowledged is there, once and in order."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.outages import Database, Process, Talk

OWNERS = ["romeo@montague.lit", "juliet@capulet.lit", "nurse@capulet.lit"]

STEPS = st.one_of(
    st.tuples(st.just("says"), st.sampled_from(OWNERS), st.sampled_from([True, True, True, False])),
    st.tuples(st.just("says"), st.sampled_from(OWNERS), st.just(True)),
    st.tuples(st.just("asks"), st.sampled_from(OWNERS)),
    st.tuples(st.just("passes"), st.sampled_from([0, 0.2, 2, 7])),
    st.tuples(st.just("goes"), st.sampled_from(["away", "up", "quiet"])),
    st.tuples(st.just("answers"), st.sampled_from(["made", "away", "lost", "broken"])),
    st.tuples(st.just("disk"), st.sampled_from(["holds", "steps", "flows"])),
    st.tuples(st.just("stops")),
    st.tuples(st.just("killed")),
)


class World:
    """One spool after the other process; `do` one step of a plan."""

    def __init__(self, folder):
        self.folder, self.numbers = folder, count()
        self.database, self.talk = Database(), Talk()
        self.process = Process(self.database, self._next())
        self.processes = [self.process]

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

    def _passes(self, seconds):
        self.process.passes(seconds)

    def _goes(self, how):
        self.database.up, self.database.holding = how != "away", how == "quiet"
        while self.database.held and not self.database.holding:
            self.database.answer("made" if self.database.up else "away")

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
        """All is well again: what is true then."""
        self.process.recovers()
        self._killed()
        self.process.recovers()
        self.talk.check(self.database)
        for process in self.processes:
            spooling = process.spooling
            assert (spooling.parked, spooling.late, spooling.damaged, process.writer.parked) == (0, 0, 0, 0)
        assert self.process.spooling.records == self.process.spool.octets == self.process.writer.octets == 0
        self.process.spool.close()


@settings(deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_nothing_acknowledged_is_lost_or_doubled(plan):
    """Whatever the database, the disk and the killer do: each acknowledged message is in the archive once,
    in its owner's order."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        for step in plan:
            world.do(*step)
        world.ends()
