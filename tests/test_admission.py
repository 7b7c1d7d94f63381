"""What one user asks never keeps another waiting; and he himself is told when it is too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from archive_crypt.admission import Admission, Admissions
from archive_crypt.core.dialect import DIALECTS, F
from archive_crypt.crypto import opening
from archive_crypt.errors import StorageRefused, StorageUnavailable, TooManyRequests
from archive_crypt.model import UserLimits
from tests.kit import LAPTOP, PHONE, House, key_info
from tests.test_hostile import JULIET, ROMEO, Held, auto, chat, told

LIST = f"<iq type='get' id='l'><list xmlns='{F.namespace}'/></iq>"
SAVE = (
    f"<iq type='set' id='s'><save xmlns='{F.namespace}'><chat with='a@b' start='2026-01-01T00:00:00Z'>"
    "{}</chat></save></iq>"
)
SAID = "<to secs='0'><body>x</body></to>"


def kinds(stream):
    """What the answers are: 'result', or the condition."""
    return [told(one) for one in stream.received if one.tag.endswith("iq")]


def test_others_do_not_wait():
    """However much one user asks, the database has no more than two of his requests, so that another's finds a
    free connection at once; his are answered in their order."""
    house = House()
    one, other = house.stream(f"{ROMEO}/a"), house.stream(f"{JULIET}/b")
    held = Held(house.storage, "collections")
    for _ in range(50):
        assert one.ask(LIST) is None
    assert len(held.waiting) == 2
    assert other.ask(LIST) is None
    assert len(held.waiting) == 3
    held.waiting.pop().callback(None)
    house.settle()
    assert (kinds(one), kinds(other)) == ([], ["result"])
    held.go(house)
    assert kinds(one) == ["result"] * 50


def test_uploads_of_one_user_do_not_fill_the_line():
    """Of one user's uploads no more than two are in the line of changes, whatever he sends."""
    house = House()
    one, other = house.stream(f"{ROMEO}/a"), house.stream(f"{JULIET}/b")
    held = Held(house.storage, "apply")
    for _ in range(50):
        one.ask(SAVE.format(SAID))
    other.ask(SAVE.format(SAID))
    assert [entry.change.owner for entry in (*house.writer._batch, *house.writer._queue)].count(ROMEO) in (
        1,
        2,
    )
    held.go(house)
    assert (kinds(one), kinds(other)) == (["result"] * 50, ["result"])


def test_a_full_archive_costs_others_nothing():
    """What would be recorded of a user whose archive is full is not even tried: the database hears nothing of it."""
    house = House(limits=UserLimits(octets=100))
    one, other = house.stream(f"{ROMEO}/a"), house.stream(f"{JULIET}/b")
    for stream in (one, other):
        auto(stream, encrypt="true", keys=key_info(LAPTOP, "laptop"))
    one.says(chat("x" * 200, to=JULIET)).addErrback(lambda _: None)
    assert house.archiver._owners[ROMEO].full
    held = Held(house.storage, "apply")
    for _ in range(500):
        one.says(chat("hi", to=JULIET)).addErrback(lambda _: None)
    assert held.waiting == []


def test_too_many_waiting():
    """Whoever sends too many requests without waiting for answers gets policy-violation (wait); what waited is
    answered all the same, and then he may go on."""
    house = House(limits=UserLimits(requests_waiting=3))
    stream = house.stream(f"{ROMEO}/a")
    held = Held(house.storage, "collections")
    for _ in range(5):
        assert stream.ask(LIST) is None
    answer = stream.ask(LIST)
    assert (told(answer), answer.find("{*}error").get("type")) == ("policy-violation", "wait")
    held.go(house)
    assert kinds(stream) == ["policy-violation", *["result"] * 5]


def test_all_streams_of_a_user_count():
    """It does not help to ask on several streams."""
    house = House(limits=UserLimits(requests_waiting=1))
    streams = [house.stream(f"{ROMEO}/{n}") for n in range(4)]
    held = Held(house.storage, "collections")
    answers = [stream.ask(LIST) for stream in streams]
    assert [told(answer) for answer in answers] == [None, None, None, "policy-violation"]
    held.go(house)


def test_coming_back():
    """It does not help to come back: who left while his requests were worked on has no more of them than before,
    and gets no new burst."""
    house = House(limits=UserLimits(requests_per_second=1, requests_burst=12))
    held = Held(house.storage, "collections")
    for n in range(5):
        stream = house.stream(f"{ROMEO}/{n}")
        for _ in range(5):
            stream.ask(LIST)
        stream.closes()
        house.settle()
    assert ROMEO not in house.archiver._owners
    assert len(held.waiting) == 2
    held.go(house)
    stream = house.stream(f"{ROMEO}/z")
    stream.ask(LIST)
    assert (held.waiting, kinds(stream)) == ([], [])
    for _ in range(14):
        house.passes(1)
        held.go(house)
    assert kinds(stream) == ["result"]


def test_nobody_here():
    """The requests of who has no stream are limited like others'."""
    admit = House().archiver.management.admit
    begun = []
    for _ in range(5):
        admit(ROMEO, lambda: begun.append(Deferred()) or begun[-1])
    assert len(begun) == 2


def test_who_is_forgotten():
    """Who waits for nothing and may ask for as much as anybody is forgotten: memory is taken by those only who
    asked just now."""
    clock = Clock()
    admissions = Admissions(UserLimits(), clock)
    held = [Deferred() for _ in range(10)]
    for n, one in enumerate(held):
        admissions.admit(f"held{n}@montague.lit", lambda one=one: one)
    for n in range(5000):
        admissions.admit(f"{n}@montague.lit", succeed, None)
        clock.advance(0.01)
    assert 10 < len(admissions) < 2000
    begun = []
    for _ in range(2):
        admissions.admit("held0@montague.lit", lambda: begun.append(Deferred()) or begun[-1])
    assert len(begun) == 1


def test_requests_of_all():
    """However many users ask: beyond what the whole server may have unanswered, requests get resource-constraint
    (wait); when some are answered, others are taken again."""
    house = House(limits=UserLimits(server_requests=6))
    streams = [house.stream(f"{n}@montague.lit/a") for n in range(4)]
    held = Held(house.storage, "collections")
    answers = [stream.ask(LIST) for stream in streams for _ in range(2)]
    assert [told(answer) for answer in answers] == [None] * 6 + ["resource-constraint"] * 2
    assert answers[-1].find("{*}error").get("type") == "wait"
    held.go(house)
    assert told(streams[3].ask(LIST)) is None
    held.go(house)
    assert kinds(streams[3])[-1] == "result"


def test_a_flood_costs_its_owner():
    """One user's flood while the database is away is refused from his part of what may wait on, and counted; of
    others every copy is archived."""
    house = House()
    one, other = house.stream(f"{ROMEO}/a"), house.stream(f"{JULIET}/b")
    for stream in (one, other):
        auto(stream, encrypt="true", keys=key_info(LAPTOP, "laptop"))
    house.storage.failing = StorageUnavailable()
    for n in range(400):
        flood = chat("x" * 180_000, **{"from": f"stranger{n}@flood.lit/x", "id": f"{n}"})
        one.hears(flood).addErrback(lambda _: None)
    said = [other.says(chat(f"{n}", to=ROMEO)) for n in range(20)]
    refused = house.archiver.counts["not archived: ArchiveBusy"]
    assert 250 < refused < 400
    house.storage.failing = None
    house.passes(10)
    assert all(done.result is True for done in said)
    assert house.archiver.counts["archived"] == 400 - refused + 20


def test_open_collections_of_all():
    """However many users talk: no more collections are open, and no more data keys alive, than the whole server
    may have; whichever was silent for longest is closed, and nothing is lost."""
    house = House(limits=UserLimits(server_open_collections=5))
    streams = [house.stream(f"{n}@montague.lit/a") for n in range(4)]
    for stream in streams:
        auto(stream, encrypt="true", keys=key_info(LAPTOP, "laptop"))
    said = [stream.says(chat("hi", to=f"{n}@capulet.lit")) for n in range(4) for stream in streams]
    assert len(house.keyring) == 5
    assert [len(house.archiver._owners[f"{n}@montague.lit"].conversations) for n in range(4)] == [1, 1, 1, 2]
    assert all(done.result is True for done in said)


def test_so_many_a_second():
    """After a burst requests are answered at the pace that the operator allows, one after the other: who waits
    for answers is slowed, never refused."""
    house = House(limits=UserLimits(requests_per_second=2, requests_burst=3))
    stream, other = house.stream(f"{ROMEO}/a"), house.stream(f"{JULIET}/b")
    for _ in range(6):
        stream.ask(LIST)
    assert kinds(stream) == ["result"] * 3
    assert told(other.ask(LIST)) == "result"
    house.passes(0.5)
    assert kinds(stream) == ["result"] * 4
    house.clock.pump([0.5] * 20)
    for _ in range(4):
        stream.ask(LIST)
    assert kinds(stream) == ["result"] * 9


@given(st.lists(st.sampled_from(["ask", "answer", "fail", "wait"]), max_size=60))
def test_everybody_has_his_turn(steps):
    """Whatever comes: no more than may are worked on, each has its turn in order, and none is forgotten."""
    clock = Clock()
    limits = UserLimits(requests_per_second=1, requests_burst=2, requests_at_once=2, requests_waiting=5)
    admission, begun, running, ended, admitted = Admission(limits, clock), [], [], [], 0

    def work(number):
        begun.append(number)
        running.append(Deferred())
        return running[-1]

    for step in steps:
        if step == "ask":
            try:
                admission.admit(work, admitted).addBoth(ended.append)
                admitted += 1
            except TooManyRequests:
                assert admitted - len(begun) == 5
        elif step == "wait":
            clock.advance(1)
        elif running:
            d = running.pop(0)
            d.callback(None) if step == "answer" else d.errback(StorageRefused())
        assert len(running) <= 2
        assert len(begun) <= 2 + clock.seconds()
    while len(ended) < admitted:
        clock.advance(1)
        while running:
            running.pop(0).callback(None)
    assert begun == list(range(admitted))


def test_many_that_are_answered_at_once():
    """A thousand that waited and need no work are answered, not stacked on each other."""
    clock = Clock()
    admission, ended = Admission(UserLimits(requests_waiting=1000, requests_burst=2000), clock), []
    first = [Deferred(), Deferred()]
    for d in first:
        admission.admit(lambda d=d: d).addCallback(ended.append)
    for n in range(1000):
        admission.admit(lambda n=n: n).addCallback(ended.append)
    first[0].callback(None)
    assert len(ended) == 1001


def test_items_of_an_upload():
    """More messages than may be uploaded at once are not-acceptable, and none is kept."""
    house = House(limits=UserLimits(items_an_upload=3))
    stream = house.stream(f"{ROMEO}/a")
    assert told(stream.ask(SAVE.format(SAID * 4))) == "not-acceptable"
    assert ROMEO not in house.storage._owners
    assert told(stream.ask(SAVE.format(SAID * 3))) == "result"


def test_keys_of_one_request():
    """More public keys than may be supplied at once are not-acceptable; the setting stays what it was."""
    house = House(limits=UserLimits(keys_supplied=1))
    stream = house.stream(f"{ROMEO}/a")
    both = key_info(LAPTOP, "laptop") + key_info(PHONE, "phone")
    assert auto(stream, encrypt="true", keys=both) == "not-acceptable"
    assert not house.archiver._owners[ROMEO].recorders[f"{ROMEO}/a"].recording
    assert auto(stream, encrypt="true", keys=key_info(LAPTOP, "laptop")) == "result"


def test_keys_of_all_streams():
    """All streams of a user together supply so many public keys; one that another supplied already is none
    more."""
    house = House(limits=UserLimits(keys=2))
    one, two = house.stream(f"{ROMEO}/a"), house.stream(f"{ROMEO}/b")
    both = key_info(LAPTOP, "laptop") + key_info(PHONE, "phone")
    assert auto(one, encrypt="true", keys=both) == "result"
    assert auto(two, encrypt="true", keys=key_info(PHONE, "phone")) == "result"
    assert auto(two, encrypt="true", keys=key_info(opening.generate(2048), "third")) == "not-acceptable"
    assert auto(one, save="false") == "result"
    assert auto(two, encrypt="true", keys=key_info(opening.generate(2048), "third")) == "result"


def test_subscriptions():
    """So many streams are told of preferences, each in so many dialects; one more gets resource-constraint, until
    another is closed."""
    house = House(limits=UserLimits(subscriptions=2))
    one, two = house.stream(f"{ROMEO}/a"), house.stream(f"{ROMEO}/b")
    first, second, third = (f"<iq type='get' id='p'><pref xmlns='{ns}'/></iq>" for ns in DIALECTS)
    assert [told(one.ask(xml)) for xml in (first, second, first, third)] == [
        *["result"] * 3,
        "resource-constraint",
    ]
    assert told(two.ask(first)) == "resource-constraint"
    one.closes()
    assert told(two.ask(first)) == "result"


@pytest.mark.parametrize("limit", ["octets", "collections", "requests_at_once", "keys"])
def test_defaults_are_sane(limit):
    """The defaults leave room for what users do: a year of much talk, many devices, whole archives read."""
    assert (
        getattr(UserLimits(), limit)
        >= {"octets": 2**28, "collections": 50_000, "requests_at_once": 1, "keys": 10}[limit]
    )
