"""The archive when things are late, full, away or forbidden; the rest is in tests/dialogues."""

import gc

import pytest
from lxml import etree
from twisted.internet.defer import fail

from archive_crypt import conversations
from archive_crypt.core import policy
from archive_crypt.core.dialect import DIALECTS, F
from archive_crypt.crypto.keyring import KeyRing
from archive_crypt.errors import (
    ArchiveBusy,
    LockedMemoryUnavailable,
    NotAcceptable,
    NoUsableKey,
    StorageRefused,
    StorageUnavailable,
)
from archive_crypt.model import SECOND, AutoState, SuppliedKey
from archive_crypt.recorder import MOST_WAITING
from archive_crypt.store.interfaces import Open, Reseal, SetAuto
from archive_crypt.store.memory import MemoryStorage
from tests.kit import LAPTOP, House, key_info, opened

ROMEO, ORCHARD = "romeo@montague.lit", "romeo@montague.lit/orchard"
CHAMBER = "juliet@capulet.lit/chamber"
LIST = f"<iq type='get' id='l'><list xmlns='{F.namespace}'/></iq>"
PLAIN = f"<iq type='set' id='a'><auto xmlns='{F.namespace}' save='true'/></iq>"
SEALED = f"<iq type='set' id='a'><auto xmlns='{F.namespace}' save='true' encrypt='true'>{key_info(LAPTOP, 'laptop')}</auto></iq>"
RETRIEVE = f"<iq type='get' id='r'><retrieve xmlns='{F.namespace}' with='{CHAMBER}' start='2026-11-21T10:00:00Z'/></iq>"


def said(text="hi"):
    return f"<message to='{CHAMBER}' type='chat'><body>{text}</body></message>"


def outcome(d):
    """What a Deferred has come to: a value, the class of its failure, or None."""
    if not hasattr(d, "come_to"):
        d.come_to = []
        d.addCallbacks(d.come_to.append, lambda f: d.come_to.append(f.type))
    return d.come_to[0] if d.come_to else None


def condition(answer):
    """The condition of an error stanza."""
    error = answer.find("{*}error")
    return etree.QName(error[0]).localname, error.get("type")


def count(answer):
    text = answer.findtext(".//{*}count")
    return int(text) if text else 0


def notices(stream):
    """The texts that the server told the user of a stream."""
    return [stanza.findtext("{*}body") for stanza in stream.received if stanza.tag.endswith("message")]


class LateStorage(MemoryStorage):
    """Tells settings only when it is allowed to."""

    def __init__(self):
        super().__init__()
        self.late = True

    def state(self, owner):
        self.failing = StorageUnavailable() if self.late else None
        found = super().state(owner)
        self.failing = None
        return found


def house_with_lasting_key(storage):
    house = House(storage)
    key = SuppliedKey("laptop", LAPTOP.public("laptop").der)
    auto = AutoState(True, True, F.namespace, (key,))
    storage.apply([SetAuto(ROMEO, auto)])
    return house


def test_messages_wait_for_the_setting():
    """A message that comes before the stream's setting is loaded is archived, sealed, with its own time."""
    storage = LateStorage()
    house = house_with_lasting_key(storage)
    stream = house.stream(ORCHARD)
    done = stream.says(said("early"))
    house.passes(2)
    assert outcome(done) is None
    storage.late = False
    house.passes(1)
    assert outcome(done) is True
    (item,) = opened(stream.ask(RETRIEVE)[0], LAPTOP)
    assert (item.bodies, item.at) == (((None, "early"),), house.now() - 3 * SECOND)


def test_requests_wait_for_the_setting():
    """A list asked for before the setting is loaded shows what waited for it."""
    storage = LateStorage()
    house = house_with_lasting_key(storage)
    stream = house.stream(ORCHARD)
    stream.says(said("early"))
    assert stream.ask(LIST) is None
    storage.late = False
    house.passes(1)
    assert count(stream.received[-1]) == 1


def test_waiting_ends():
    """After five seconds without the setting nothing waits, in memory or elsewhere; the user is told once."""
    storage = LateStorage()
    house = house_with_lasting_key(storage)
    stream = house.stream(ORCHARD)
    done = [stream.says(said("one")), stream.says(said("two"))]
    house.passes(5)
    done.append(stream.says(said("three")))
    assert [outcome(d) for d in done] == [StorageUnavailable, StorageUnavailable, ArchiveBusy]
    assert len(notices(stream)) == 1
    assert house.archiver.counts["not archived: setting not loaded"] == 3
    storage.late = False
    house.passes(1)
    assert outcome(stream.says(said("four"))) is True


def test_waiting_is_bounded():
    """What waits for the setting never takes more than its bound."""
    house = house_with_lasting_key(LateStorage())
    stream = house.stream(ORCHARD)
    text = "x" * (MOST_WAITING // 2)
    done = [stream.says(said(text)) for _ in range(2)]
    assert outcome(done[0]) is None
    assert outcome(done[1]) is not None


def test_seen_by_the_next_request():
    """A list sent right after a message shows it, though the writer was busy."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)
    gate = house.storage.apply
    waiting = []
    house.storage.apply = lambda changes, again=False: _hold(waiting, gate, changes)
    stream.says(said("one"))
    stream.says(said("two"))
    assert stream.ask(RETRIEVE) is None
    while waiting:
        waiting.pop(0).callback(None)
        house.settle()
    assert count(stream.received[-1]) == 2


def _hold(waiting, gate, changes):
    from twisted.internet.defer import Deferred

    d = Deferred()
    waiting.append(d)
    return d.addCallback(lambda _: gate(changes))


def test_database_away():
    """With the database away requests fail for now, messages wait, and are written when it returns."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(SEALED)
    house.storage.failing = StorageUnavailable()
    done = stream.says(said())
    house.passes(1)
    assert condition(stream.ask(LIST)) == ("internal-server-error", "wait")
    assert condition(stream.ask(SEALED)) == ("internal-server-error", "wait")
    assert outcome(done) is None
    house.storage.failing = None
    house.passes(5)
    assert outcome(done) is True
    assert count(stream.ask(LIST)) == 1


def test_full_queue():
    """What the writer cannot take any more is not archived, counted, and told once."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)
    house.storage.failing = StorageUnavailable()
    house.writer._most_waiting = 3_000
    results = [outcome(stream.says(said(str(n)))) for n in range(10)]
    assert results[:4] == [None] * 4
    assert len(notices(stream)) == 1
    assert house.archiver.counts["not archived: ArchiveBusy"] == 6


def test_too_large():
    """A message beyond its bound is not archived, counted, and told once; the next one is."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)
    huge = said("x" * policy.MOST_CONTENT)
    assert [outcome(stream.says(huge)) for _ in range(2)] == [NotAcceptable, NotAcceptable]
    assert len(notices(stream)) == 1
    assert outcome(stream.says(said())) is True


def test_bound_counts_octets():
    """The bound of a message is one of octets, not of characters."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)
    assert outcome(stream.says(said("\U0001f600" * (policy.MOST_CONTENT // 3)))) is NotAcceptable


def test_no_locked_memory():
    """Where no memory can be locked, encryption is refused, and nothing is archived in its stead."""

    def refuse():
        raise LockedMemoryUnavailable

    house = House()
    object.__setattr__(house.archiver._works, "keyring", KeyRing(refuse))
    stream = house.stream(ORCHARD)
    assert condition(stream.ask(SEALED)) == ("internal-server-error", "cancel")
    assert outcome(stream.says(said())) is False
    assert count(stream.ask(LIST)) == 0


def test_memory_runs_out_later():
    """If memory for a key runs out later, the message is not archived, and told; never in clear."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(SEALED)

    def refuse(*_):
        raise LockedMemoryUnavailable

    house.keyring.create = refuse
    assert outcome(stream.says(said())) is LockedMemoryUnavailable
    assert len(notices(stream)) == 1
    assert count(stream.ask(LIST)) == 0
    del house.keyring.create
    assert outcome(stream.says(said())) is True


@pytest.mark.clause("0241-3-07")
def test_lasting_keys_that_are_too_short_now():
    """If no lasting key may be used any more, nothing is archived, least of all in clear."""
    storage = MemoryStorage()
    house_with_lasting_key(storage)
    house = House(storage, minimum_bits=4096)
    stream = house.stream(ORCHARD)
    assert outcome(stream.says(said())) is NoUsableKey
    assert len(notices(stream)) == 1
    assert count(stream.ask(LIST)) == 0


@pytest.mark.clause("0241-3-09")
@pytest.mark.parametrize("end", ["silence", "off", "plain", "leave", "close"])
def test_keys_die_with_their_collections(end):
    """A data key is destroyed by silence, auto off, encryption off, the last stream's end, and shutdown."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(SEALED)
    stream.says(said())
    assert len(house.keyring) == 1
    if end == "silence":
        house.passes(600)
    elif end == "off":
        stream.ask(PLAIN.replace("true", "false"))
    elif end == "plain":
        stream.ask(PLAIN)
    elif end == "leave":
        stream.closes()
    else:
        house.archiver.close()
    assert len(house.keyring) == 0


def test_another_stream_keeps_it_open():
    """While another stream of the user still records, a collection and its key live on."""
    house = House()
    orchard, balcony = house.stream(ORCHARD), house.stream(f"{ROMEO}/balcony")
    orchard.ask(SEALED)
    balcony.ask(SEALED)
    orchard.says(said("one"))
    orchard.closes()
    assert len(house.keyring) == 1
    balcony.says(said("two"))
    assert count(balcony.ask(RETRIEVE)) == 2


@pytest.mark.parametrize(("limit", "value"), [("MOST_ITEMS", 2), ("MOST_OCTETS", 300)])
def test_collections_end_at_their_limit(monkeypatch, limit, value):
    """A collection that has reached its items or octets is closed, and its key destroyed."""
    monkeypatch.setattr(conversations, limit, value)
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(SEALED)
    stream.says(said("one"))
    stream.says(said("two"))
    assert len(house.keyring) == 0
    stream.says(said("three"))
    assert count(stream.ask(LIST)) == 2


def test_resealing_while_the_database_is_slow():
    """What comes while old items are being sealed is sealed too, in order, and the answer waits for all."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)
    for n in range(500):
        stream.says(said(f"plain {n}"))
    read = house.storage.plain_items
    waiting = []

    def slow(*args):
        from twisted.internet.defer import Deferred

        d = Deferred()
        waiting.append(d)
        return d.addCallback(lambda _: read(*args))

    house.storage.plain_items = slow
    assert stream.ask(SEALED) is None
    done = stream.says(said("sealed meanwhile"))
    assert stream.ask(LIST) is None
    while waiting:
        waiting.pop(0).callback(None)
        house.settle()
    assert outcome(done) is True
    answers = {stanza.get("id"): stanza for stanza in stream.received}
    assert answers["a"].get("type") == "result"
    assert count(answers["l"]) == 1
    last = stream.ask(
        RETRIEVE.replace(
            "/></iq>", "><set xmlns='http://jabber.org/protocol/rsm'><before/></set></retrieve></iq>"
        )
    )
    assert count(last) == 501
    read_items = opened(last[0], LAPTOP)
    assert read_items[-1].bodies == ((None, "sealed meanwhile"),)
    assert [item.bound.number for item in read_items] == list(range(501 - len(read_items), 501))


@pytest.mark.parametrize("scope", ["stream", "global"])
def test_sealing_anew_fails(scope):
    """If what was recorded cannot be sealed the request fails, and all is as it was before it."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)
    stream.says(said("in clear"))
    apply = house.storage.apply

    def refuse(changes, again=False):
        if any(isinstance(change, Reseal) for change in changes):
            return fail(StorageRefused())
        return apply(changes, again)

    house.storage.apply = refuse
    answer = stream.ask(SEALED.replace("save=", f"scope='{scope}' save="))
    assert condition(answer) == ("internal-server-error", "cancel")
    assert len(house.keyring) == 0
    assert outcome(stream.says(said("still in clear"))) is True
    house.storage.apply = apply
    assert not any(chat.get("crypt") for chat in stream.ask(LIST).iter("{*}chat"))
    stream.closes()
    assert outcome(house.storage.state(ROMEO)).auto == AutoState()


def test_a_setting_that_cannot_be_loaded():
    """If a setting cannot be loaded at all, requests are answered, and nothing waits."""
    house = House()
    house.storage.failing = StorageRefused()
    stream = house.stream(ORCHARD)
    house.storage.failing = None
    assert stream.ask(LIST).get("type") == "result"
    assert condition(stream.ask(PLAIN)) == ("internal-server-error", "wait")


def test_stream_leaves_while_resealing():
    """If the stream leaves while its old items are being sealed, they are sealed, and then the key dies."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)
    stream.says(said("in clear"))
    house.storage.failing = StorageUnavailable()
    house.writer.unavailable = False
    assert stream.ask(SEALED) is None
    stream.closes()
    assert len(house.keyring) == 1
    house.storage.failing = None
    house.passes(2)
    assert len(house.keyring) == 0
    (item,) = opened(house.stream(ORCHARD).ask(RETRIEVE)[0], LAPTOP)
    assert item.bodies == ((None, "in clear"),)


def test_close_writes_what_waits():
    """A shutdown waits for what is unwritten, and loses nothing."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(SEALED)
    house.storage.failing = StorageUnavailable()
    stream.says(said())
    lost = []
    house.archiver.close().addCallback(lost.append)
    house.passes(1)
    assert lost == []
    house.storage.failing = None
    house.passes(1)
    assert lost == [0]


def test_close_does_not_wait_for_ever():
    """A shutdown without a database ends after its time, and says how much was lost."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(SEALED)
    house.storage.failing = StorageUnavailable()
    stream.says(said())
    lost = []
    house.archiver.close(10).addCallback(lost.append)
    for _ in range(11):
        house.passes(1)
    assert lost == [2]  # the collection and its item
    gc.collect()


@pytest.mark.clause("0136-manage-retrieve-05")
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=["V", "T", "F"])
def test_an_empty_collection(dialect):
    """A collection without items is an empty <chat/> with its attributes, and no <set/>."""
    house = House()
    stream = house.stream(ORCHARD)
    house.storage.apply([Open(ROMEO, 1, CHAMBER, house.now())])
    page = stream.ask(RETRIEVE.replace(F.namespace, dialect.namespace))[0]
    assert (page.tag, len(page)) == (f"{{{dialect.namespace}}}chat", 0)
    assert (page.get("with"), page.get("start")) == (CHAMBER, "2026-11-21T10:00:00Z")
    assert page.get("version") == ("0" if dialect.versioned else None)


@pytest.mark.clause("rsm-15")
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=["V", "T", "F"])
def test_paging_while_the_archive_grows(dialect):
    """Paging forwards shows everything that was there exactly once, though more comes meanwhile."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)

    def say(n):
        stream.says(f"<message to='peer{n}@capulet.lit' type='chat'><body>x</body></message>")
        house.passes(1)

    for n in range(20):
        say(n)
    seen, after = [], ""
    while True:
        page = stream.ask(
            f"<iq type='get' id='p'><list xmlns='{dialect.namespace}'>"
            f"<set xmlns='http://jabber.org/protocol/rsm'><max>3</max>{after}</set></list></iq>"
        )[0]
        seen += [chat.get("with") for chat in page.findall(f"{{{dialect.namespace}}}chat")]
        if not page.findtext(".//{*}last"):
            break
        after = f"<after>{page.findtext('.//{*}last')}</after>"
        if len(seen) < 20:
            say(100 + len(seen))
    assert seen[:20] == [f"peer{n}@capulet.lit" for n in range(20)]
    assert len(set(seen)) == len(seen)


@pytest.mark.clause("INT-14")
def test_results_come_after_commit():
    """The result of a lasting change is sent when it is durable, not before."""
    house = House()
    stream = house.stream(ORCHARD)
    gate, waiting = house.storage.apply, []
    house.storage.apply = lambda changes, again=False: _hold(waiting, gate, changes)
    lasting = PLAIN.replace("save='true'", "save='true' scope='global'")
    assert stream.ask(lasting) is None
    waiting.pop().callback(None)
    house.settle()
    assert stream.received[-1].get("type") == "result"


def test_no_plaintext_in_what_waits():
    """Of a sealed message nothing in clear is left in the archive's queue."""
    house = House()
    stream = house.stream(ORCHARD)
    stream.ask(SEALED)
    house.storage.failing = StorageUnavailable()
    stream.says(said("Wherefore art thou"))
    assert b"Wherefore" not in repr([entry.change for entry in house.writer._batch]).encode()
    assert "Wherefore" not in repr(house.archiver.__dict__)


def test_one_that_fails_among_those_that_waited(monkeypatch):
    """A message that cannot be dealt with, whatever it has, takes none with it that waited beside it for the
    stream's setting, nor the stream's load."""
    house = House(LateStorage())
    stream = house.stream(f"{ROMEO}/orchard")
    judge = policy.judge

    def stumbling(message, *args):
        if message.type == "headline":
            raise ValueError
        return judge(message, *args)

    monkeypatch.setattr(policy, "judge", stumbling)
    kinds = ("chat", "headline", "chat")
    done = [
        stream.hears(f"<message from='juliet@capulet.lit/x' type='{kind}'><body>x</body></message>")
        for kind in kinds
    ]
    house.storage.late = False
    lasting = SetAuto(ROMEO, AutoState(save=True), {})
    house.storage.apply([lasting])
    house.passes(1)
    assert [isinstance(one.result, bool) for one in done] == [True, False, True]
    done[1].addErrback(lambda failure: failure.trap(ValueError))
    assert house.archiver.counts["archived"] == 2
    assert house.archiver.load == 0
