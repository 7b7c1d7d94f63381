"""A mirror becomes as the archive is, whatever happens on the way."""

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive_crypt.core.dialect import DIALECTS, F, V
from archive_crypt.core.times import EARLIEST
from archive_crypt.model import SECOND, Link
from archive_crypt.reader.errors import NoAnswer, NotFound, NotUnderstood
from archive_crypt.reader.mirror import Sync
from archive_crypt.reader.mirrordb import Mirror
from archive_crypt.reader.mirrorrows import Head
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.xep_0136 import requests as plain
from tests.kit import LAPTOP, PHONE, House
from tests.reader.desk import Desk
from tests.reader.kit import found, law, recording

KEY = bytes(32)
NOW = 1_795_255_200 * SECOND
PEERS = ("juliet@capulet.lit", "nurse@capulet.lit", "tybalt@capulet.lit")


class Scene:
    """An archive to which things happen, and its mirror."""

    def __init__(self, folder, dialect=F, key=LAPTOP):
        self.house = House()
        self.stream = recording(*([key] if key else []), house=self.house)
        self.desk = Desk(self.stream, dialect)
        self.path = Path(folder) / "mirror.db"

    def talk(self, peer, full=False):
        """Romeo says something to somebody's bare JID, or full one."""
        to = PEERS[peer] + ("/balcony" if full else "")
        self.stream.says(f"<message to='{to}' type='chat'><body>to {peer}</body></message>")

    def hear(self, peer):
        """An answer: a conversation that began with a bare JID is renamed."""
        self.stream.hears(f"<message from='{PEERS[peer]}/balcony' type='chat'><body>from</body></message>")

    def silence(self):
        """What is said next begins another conversation."""
        self.house.passes(700)

    def remove(self, nth):
        """One of the collections goes."""
        there = run(listed(Desk(self.stream, self.desk.dialect)))
        if there:
            request = plain.remove(self.desk.dialect, there[nth % len(there)])
            self.stream.ask(f"<iq type='set' id='r'>{request}</iq>")

    def link(self, nth, other):
        """One of the collections is said to follow another."""
        there = run(listed(Desk(self.stream, self.desk.dialect)))
        if there:
            first, second = there[nth % len(there)], there[other % len(there)]
            links = {"previous": Link(second.with_, second.start)}
            request = plain.save(self.desk.dialect, first, (), links=links)
            assert self.stream.ask(f"<iq type='set' id='s'>{request}</iq>").get("type") == "result"

    def sync(self, *private_keys, now=NOW, programs=1, **disturbing):
        """A sync; its report. By several programs at once: theirs, and errors of those that failed."""
        self.desk.reset(**disturbing)

        async def sync():
            with Mirror(self.path, KEY) as mirror:
                book = Book(private_keys or [LAPTOP])
                return await Sync(self.desk, mirror, book, lambda done, of: None).run(now)

        async def syncs():
            return await asyncio.gather(*(sync() for _ in range(programs)), return_exceptions=True)

        return run(sync() if programs == 1 else syncs())

    def archive(self, *private_keys):
        """All there is in the archive, read from it anew."""
        return run(all_of(Desk(self.stream, self.desk.dialect), Book(private_keys or [LAPTOP])))

    def unlisted(self):
        """What is in the mirror only."""
        with Mirror(self.path, KEY) as mirror:
            return mirror.unlisted()

    def forget(self):
        """That goes; how many collections it was."""
        with Mirror(self.path, KEY) as mirror:
            return mirror.forget(mirror.unlisted())

    def mirrored(self):
        """All there is in the mirror."""
        with Mirror(self.path, KEY) as mirror:
            return [(kept.head, [entry for _, entry in mirror.entries(kept)]) for kept in all_in(mirror)]


def run(coroutine):
    """What it gives. In a thread, as pytest-twisted runs a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


async def listed(desk):
    return [collection async for collection in desk.collections()]


async def all_of(desk, book):
    found = []
    for collection in sorted(await listed(desk), key=lambda one: (one.start, one.with_)):
        book.begin(collection)
        pages, entries = [page async for page in desk.pages(collection, book)], []
        for page in pages:
            entries += book.read(page)
        missing = book.end(pages[-1].info.count)
        found.append((Head(collection, pages[-1].links, None, missing), entries))
    return found


def all_in(mirror):
    return mirror.collections(Query())


peers = st.integers(0, len(PEERS) - 1)
changes = st.one_of(
    st.tuples(st.just("talk"), peers, st.booleans()),
    st.tuples(st.just("hear"), peers),
    st.tuples(st.just("silence")),
    st.tuples(st.just("remove"), st.integers(0, 9)),
    st.tuples(st.just("link"), st.integers(0, 9), st.integers(0, 9)),
)
#: What happens just before which of a sync's requests; before which it is interrupted; how its requests
#: and others' meet.
disturbances = st.tuples(
    st.dictionaries(st.integers(1, 12), changes), st.none() | st.integers(1, 12), st.integers(0, 99)
)
syncs = st.tuples(st.just("sync"), disturbances)
undisturbed = ({}, None, 0)


def disturbing(scene, happens, interrupted, seed):
    def disturb(number):
        if number in happens:
            name, *how = happens[number]
            getattr(scene, name)(*how)
        if number == interrupted:
            raise NoAnswer("The connection to the server ended.")

    return {"disturb": disturb, "seed": seed}


@pytest.mark.clause("0136-repl-01", "0136-repl-02", "0136-repl-10", "0136-repl-11", "0136-repl-12")
@given(st.sampled_from(list(DIALECTS.values())), st.lists(changes | syncs, max_size=12))
@settings(law, max_examples=60)
def test_mirrors_are_exact(dialect, story):
    """After any changes, also while it is synced, and any interrupted syncs: a sync that ends makes the
    mirror what the archive is: collections, order, attributes, messages, what is to be said of them."""
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(folder, dialect)
        for name, *how in [*story, ("sync", undisturbed)]:
            if name != "sync":
                getattr(scene, name)(*how)
                continue
            try:
                report = scene.sync(**disturbing(scene, *how[0]))
            except NoAnswer:
                continue
            assert report.settled
            assert (report.unfetched, report.troubles) == ([], 0)
            assert scene.mirrored() == scene.archive()


@given(st.lists(changes, min_size=1, max_size=4), disturbances)
@settings(law, max_examples=20)
def test_syncs_at_the_same_time(story, disturbance):
    """Several programs that sync one mirror at once, also if one of them is interrupted, make it exact:
    none undoes what another did."""
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(folder)
        for name, *how in story:
            getattr(scene, name)(*how)
        reports = scene.sync(programs=3, **disturbing(scene, *disturbance))
        assert all(isinstance(report, NoAnswer) or report.settled for report in reports)
        scene.sync()
        assert scene.mirrored() == scene.archive()


# Cursors (XEP-0136 10)


@pytest.mark.clause("0136-repl-03", "0136-repl-09", "0136-repl-12")
@pytest.mark.parametrize("dialect", list(DIALECTS.values()))
def test_from_where_on(tmp_path, dialect):
    """The first sync asks for everything, and the next one for what came after the server's last id; nothing
    is fetched twice."""
    scene = Scene(tmp_path, dialect)
    scene.talk(0)
    scene.sync()
    first, fetched, second = (asked for asked in scene.desk.asked if "<list" not in asked)
    everything = "<after>0001-01-01T00:00:00Z</after>" if dialect is V else "start='0001-01-01T00:00:00Z'"
    assert everything in first.replace('"', "'")
    assert "<retrieve" in fetched
    with Mirror(scene.path, KEY) as mirror:
        assert mirror.synced == NOW
        after = f"<after>{mirror.cursor}</after>"
    assert after in second
    report = scene.sync()
    count, only = scene.desk.asked
    assert "<list" in count
    assert after in only
    assert (report.fetched, report.removed, report.settled) == ({}, 0, True)


def interrupting(number):
    def disturb(asked):
        if asked == number:
            raise NoAnswer("The connection to the server ended.")

    return disturb


def test_resumed(tmp_path):
    """What was fetched before an interruption is not fetched again."""
    scene = Scene(tmp_path)
    for peer in range(3):
        scene.talk(peer)
    retrieved = []
    for number in range(1, 9):
        try:
            scene.sync(disturb=interrupting(number))
        except NoAnswer:
            scene.desk.asked.pop()  # it had no answer
        retrieved += [asked for asked in scene.desk.asked if "<retrieve" in asked]
    assert scene.mirrored() == scene.archive()
    assert len(retrieved) == len(set(retrieved)) == 3


class Forgetful(Desk):
    """It knows no cursor but its own, forgot what was removed, and counts nothing."""

    def __init__(self, *how):
        super().__init__(*how)
        self.known, self.troubles = set(), []

    async def count(self):
        return None

    async def modified(self, start=EARLIEST, after=None):
        if after is not None and after not in self.known:
            raise NotFound("item-not-found")
        async for page in super().modified(start, after):
            if self.troubles:
                raise self.troubles.pop()
            self.known.add(page.cursor)
            yield replace(page, changes=[change for change in page.changes if not change.removed])


def test_a_cursor_that_is_lost(tmp_path):
    """Where the server does not know the cursor any more it is asked for everything: what it does not tell of
    then is kept and marked, and told once as suspicious; before it has told everything nothing is."""
    scene = Scene(tmp_path)
    for peer in range(3):
        scene.talk(peer)
    scene.sync()
    scene.remove(1)
    scene.desk = Forgetful(scene.stream)
    scene.desk.troubles.append(NotUnderstood("The server lists one collection twice."))
    with pytest.raises(NotUnderstood):
        scene.sync()
    before = scene.mirrored()
    assert (len(before), scene.unlisted()) == (3, [])
    report = scene.sync()
    assert (len(report.fetched), report.removed, report.unlisted, report.troubles) == (2, 0, 1, 1)
    assert scene.mirrored() == before
    there = [head.collection for head, _ in scene.archive()]
    assert scene.unlisted() == [head.collection for head, _ in before if head.collection not in there]
    report = scene.sync()
    assert (report.fetched, report.unlisted, report.troubles) == ({}, 0, 0)
    assert len(scene.unlisted()) == 1
    assert scene.forget() == 1
    assert scene.mirrored() == scene.archive()


def test_a_server_that_was_emptied(tmp_path):
    """A server that forgot everything, cursor and all, takes nothing from the mirror; what it has anew comes
    beside it."""
    scene = Scene(tmp_path)
    for peer in range(3):
        scene.talk(peer)
    scene.sync()
    before = scene.mirrored()
    emptied = Scene(tmp_path)
    emptied.desk = Forgetful(emptied.stream)
    report = emptied.sync()
    assert (report.fetched, report.removed, report.unlisted, report.settled) == ({}, 0, 3, True)
    assert emptied.mirrored() == before
    emptied.silence()
    emptied.talk(1)
    assert len(emptied.sync().fetched) == 1
    assert emptied.mirrored() == before + emptied.archive()
    assert emptied.unlisted() == [head.collection for head, _ in before]
    assert (emptied.forget(), emptied.mirrored()) == (3, emptied.archive())


@pytest.mark.parametrize("dialect", list(DIALECTS.values()))
def test_a_server_that_takes_any_cursor(tmp_path, dialect):
    """One that was emptied and says nothing of it is found out by its count, also when it has something anew,
    and asked for everything once: what it does not have is kept and marked."""
    scene = Scene(tmp_path, dialect)
    for peer in range(3):
        scene.talk(peer)
    scene.sync()
    before = scene.mirrored()
    emptied = Scene(tmp_path, dialect)
    emptied.silence()
    emptied.talk(1)
    report = emptied.sync()
    assert (len(report.fetched), report.removed, report.unlisted, report.settled) == (1, 0, 3, True)
    assert emptied.mirrored() == before + emptied.archive()
    assert sum("<modified" in asked for asked in emptied.desk.asked) <= 4
    report = emptied.sync()
    assert (report.fetched, report.troubles, report.settled) == ({}, 0, True)


class Guessing(Desk):
    """It counts fewer than it has, as far as that goes."""

    fewer = 0

    async def count(self):
        return max(0, await super().count() - self.fewer)


def test_a_server_that_counts_by_guess(tmp_path):
    """One that lists more than it counts is asked for everything once, and not at every sync; and again if more is
    wanting than before."""
    scene = Scene(tmp_path)
    for peer in range(3):
        scene.talk(peer)
    scene.desk = Guessing(scene.stream)
    scene.sync()
    for fewer, fetched in ((1, 3), (1, 0), (0, 0), (1, 0), (2, 3), (2, 0), (1, 0)):
        scene.desk.fewer = fewer
        report = scene.sync()
        assert (len(report.fetched), report.troubles, report.settled) == (fetched, 0, True)
    assert scene.mirrored() == scene.archive()


def test_a_server_that_counts_by_guess_and_was_emptied(tmp_path):
    """One that always counted too few is found out all the same when it has lost more than that."""
    scene = Scene(tmp_path)
    for peer in range(3):
        scene.talk(peer)
    scene.desk = Guessing(scene.stream)
    scene.desk.fewer = 1
    scene.sync()
    before = scene.mirrored()
    emptied = Scene(tmp_path)
    assert emptied.sync().unlisted == 3
    assert emptied.mirrored() == before
    assert emptied.sync().troubles == 0


def test_a_server_that_was_set_back(tmp_path):
    """What a server has less of than it had takes nothing from the mirror, also when it goes on; that is told
    whenever it does. What it has comes when the other is forgotten."""
    scene = Scene(tmp_path)
    for _ in range(3):
        scene.talk(0)
    scene.sync()
    before = scene.mirrored()
    back = Scene(tmp_path)
    back.desk = Forgetful(back.stream)
    for _ in range(5):
        back.talk(0)
        report = back.sync()
        assert (report.fetched, report.unlisted, report.troubles, report.settled) == ({}, 1, 1, True)
        assert back.mirrored() == before
    assert back.sync().troubles == 0
    assert back.unlisted() == [head.collection for head, _ in before]
    assert back.forget() == 1
    assert len(back.sync().fetched) == 1
    assert back.mirrored() == back.archive()


def test_a_server_that_remembers_again(tmp_path):
    """What was kept as forgotten is as on the server once it is told of again, also what was not fetched, or
    could not be opened, before; and what it says is removed goes."""
    scene = Scene(tmp_path, key=PHONE)
    for peer in range(3):
        scene.talk(peer, full=True)
    scene.sync()
    honest, emptied = scene.desk, Scene(tmp_path)
    emptied.desk = Forgetful(emptied.stream)
    assert emptied.sync().unlisted == 3
    report = emptied.sync(LAPTOP, PHONE)
    assert (report.fetched, report.unfetched) == ({}, [])
    scene.desk = Forgetful(scene.stream)
    with Mirror(scene.path, KEY) as mirror:
        mirror.restart(mirror.cursor)
    assert len(scene.sync(LAPTOP, PHONE).fetched) == 3
    assert scene.unlisted() == []
    assert scene.mirrored() == scene.archive(PHONE)
    scene.desk = honest
    scene.remove(0)
    assert (scene.sync(PHONE).removed, scene.forget()) == (1, 0)
    assert scene.mirrored() == scene.archive(PHONE)


def test_a_mirror_of_long_ago(tmp_path):
    """After most of a year removals may be forgotten, so everything is asked for anew; what is not told of
    then may have been removed, or lost, and is kept."""
    scene = Scene(tmp_path)
    scene.talk(0)
    scene.talk(1)
    scene.sync()
    scene.remove(0)
    scene.desk = Forgetful(scene.stream)
    with Mirror(scene.path, KEY) as mirror:
        scene.desk.known.add(mirror.cursor)
    day = 24 * 3600 * SECOND
    assert len(scene.sync(now=NOW + 299 * day).fetched) == 0
    assert len(scene.mirrored()) == 2
    report = scene.sync(now=NOW + 600 * day)
    assert (report.removed, report.unlisted, len(scene.mirrored())) == (0, 1, 2)
    assert scene.forget() == 1
    assert scene.mirrored() == scene.archive()


# Servers that contradict themselves


class Refusing(Desk):
    """It tells of collections, and gives some of them not."""

    refused: Exception | None = None

    async def pages(self, collection, wanted):
        if self.refused and collection.with_.startswith("nurse"):
            raise self.refused
        async for page in super().pages(collection, wanted):
            yield page


@pytest.mark.parametrize(
    "refused", [NotFound("item-not-found"), NotUnderstood("The server gives the same page again and again.")]
)
def test_a_collection_that_is_not_given(tmp_path, refused):
    """What the server tells of and does not give is reported by name; what the mirror has of it stays, all
    others are fetched, and it is asked for again next time."""
    scene = Scene(tmp_path)
    scene.desk = Refusing(scene.stream)
    for peer in range(3):
        scene.talk(peer, full=True)
    scene.sync()
    before = scene.mirrored()
    for peer in range(3):
        scene.talk(peer, full=True)
    scene.desk.refused = refused
    for fetched in (2, 0):
        report = scene.sync()
        ((collection, reason),) = report.unfetched
        assert collection.with_.startswith("nurse")
        assert reason in ("the server tells of it, but it is not there", str(refused))
        assert (len(report.fetched), report.troubles, report.settled) == (fetched, 1, True)
    assert [len(entries) for _, entries in scene.mirrored()] == [2, 1, 2]
    assert scene.mirrored()[1] == before[1]
    scene.desk.refused = None
    assert scene.sync().unfetched == []
    assert scene.mirrored() == scene.archive()


class Changing(Desk):
    """Whenever it is asked what changed, something did; `cursor`: what its pages say of where to go on."""

    cursor = "given"

    async def modified(self, start=EARLIEST, after=None):
        self.stream.says(f"<message to='{PEERS[0]}' type='chat'><body>and</body></message>")
        async for page in super().modified(start, after if self.cursor == "given" else None):
            info = page.info if self.cursor == "given" else replace(page.info, last=self.cursor)
            yield replace(page, info=info)


def test_an_archive_that_never_rests(tmp_path):
    """Where something changes all the time sync ends all the same, and says that there is more."""
    scene = Scene(tmp_path)
    scene.desk = Changing(scene.stream)
    report = scene.sync()
    assert not report.settled
    assert len(report.fetched) == 1
    scene.desk = Desk(scene.stream)
    assert scene.sync().settled
    assert scene.mirrored() == scene.archive()


@pytest.mark.parametrize("cursor", [None, "always the same"])
def test_no_cursor(tmp_path, cursor):
    """A server that tells of changes and gives no id to go on from is not asked again and again."""
    scene = Scene(tmp_path)
    scene.desk = Changing(scene.stream)
    scene.desk.cursor = cursor
    with pytest.raises(NotUnderstood):
        scene.sync()


class Confused(Desk):
    """What it gives calls itself something else."""

    async def pages(self, collection, wanted):
        async for page in super().pages(collection, wanted):
            yield replace(page, collection=replace(page.collection, with_="mercutio@capulet.lit"))


def test_an_answer_of_another_name(tmp_path):
    """A collection is kept as what it was asked for as, whatever its pages call themselves."""
    scene = Scene(tmp_path)
    scene.desk = Confused(scene.stream)
    scene.talk(0)
    scene.sync()
    assert scene.mirrored() == scene.archive()


# What is kept of it


def test_a_key_that_comes_later(tmp_path):
    """What none of the keys opened is fetched again with a new key, and with that only."""
    scene = Scene(tmp_path, key=PHONE)
    scene.talk(0)
    report = scene.sync(LAPTOP)
    assert report.troubles == 1
    assert found(scene.mirrored()[0][1]) == [["no-key"]]
    assert scene.sync(LAPTOP).fetched == {}
    assert len(scene.sync(LAPTOP, PHONE).fetched) == 1
    assert scene.mirrored() == scene.archive(PHONE)
    assert scene.sync(PHONE).fetched == {}


class Repeating(Desk):
    """In a thread it repeats what was said outside of it, where that would belong as well."""

    async def pages(self, collection, wanted):
        first, *_ = await listed(Desk(self.stream))
        (before,) = [page async for page in super().pages(first, wanted)]
        async for page in super().pages(collection, wanted):
            if page.collection.thread:
                page = replace(page, parts=page.parts + before.parts, keys=page.keys + before.keys)
            yield page


def test_a_key_from_elsewhere(tmp_path):
    """A data key that belongs to an earlier collection is found out, in whatever order they were fetched; and
    where that collection is not there any more nothing is found."""
    scene = Scene(tmp_path)
    scene.desk = Repeating(scene.stream)
    for thread in ("", "<thread>rope ladder</thread>"):
        scene.stream.says(f"<message to='{PEERS[0]}' type='chat'><body>come</body>{thread}</message>")
    assert sorted(scene.sync().fetched.values()) == [0, 1]
    findings = [found(entries) for _, entries in scene.mirrored()]
    assert findings == [[[]], [[], ["out-of-place", "key-elsewhere"]]]
    scene.remove(0)
    scene.sync()
    assert [found(entries) for _, entries in scene.mirrored()] == [[[], ["out-of-place"]]]


def test_what_is_missing_at_the_end(tmp_path):
    """That the server counts more than it gives is kept, and told once."""
    scene = Scene(tmp_path)
    scene.desk = Withholding(scene.stream)
    scene.talk(0)
    scene.talk(0)
    assert scene.sync().troubles == 1
    assert scene.sync().troubles == 0
    ((head, entries),) = scene.mirrored()
    assert (head.missing, len(entries)) == (1, 1)


class Withholding(Desk):
    """It gives all items but the last."""

    async def pages(self, collection, wanted):
        async for page in super().pages(collection, wanted):
            yield replace(page, parts=page.parts[:-1])


def test_links_and_form(tmp_path):
    """Links to other collections are kept, and the attributes form."""
    scene = Scene(tmp_path, key=None)
    form = ElementTree.fromstring(
        "<x xmlns='jabber:x:data' type='submit'><field var='task'><value>1</value></field></x>"
    )
    collection = Listed.named(PEERS[0], NOW, "thread")
    links = {"previous": Link(PEERS[1], NOW - SECOND), "next": Link(PEERS[2], NOW + SECOND)}
    request = plain.save(F, collection, [form], "subject", links)
    assert scene.stream.ask(f"<iq type='set' id='s'>{request}</iq>").get("type") == "result"
    scene.sync()
    ((head, entries),) = scene.mirrored()
    assert (head.collection.thread, head.collection.subject, entries) == ("thread", "subject", [])
    assert head.links == links
    assert "<value>1</value>" in head.form
