"""What nobody means to happen to a record: forgers, floods, keys that fail, and a database that goes away."""

import pytest
from twisted.internet.defer import Deferred, fail

from archive_crypt.core.dialect import F
from archive_crypt.errors import StorageRefused, StorageUnavailable
from archive_crypt.model import AutoState, SuppliedKey, UserLimits
from archive_crypt.store.interfaces import SetAuto
from archive_crypt.store.memory import MemoryStorage
from tests.kit import LAPTOP, PHONE, House, key_info

ROMEO = "romeo@montague.lit"
JULIET = "juliet@capulet.lit"


def auto(stream, save="true", keys="", **more):
    """Ask for automatic archiving; what was answered: 'result', or the condition."""
    extra = "".join(f" {name}='{value}'" for name, value in more.items())
    answer = stream.ask(
        f"<iq type='set' id='a'><auto xmlns='{F.namespace}' save='{save}'{extra}>{keys}</auto></iq>"
    )
    return told(answer)


def told(answer):
    if answer is None or answer.get("type") == "result":
        return None if answer is None else "result"
    return answer.find("{*}error")[0].tag.partition("}")[2]


def chat(text, **attributes):
    extra = "".join(f" {name}='{value}'" for name, value in attributes.items())
    return f"<message type='chat'{extra}><body>{text}</body></message>"


def rows(house, owner=ROMEO):
    """(collection, its items) of an owner."""
    owned = house.storage._owners.get(owner)
    return (
        [(kept.shown, list(kept.items.values()), kept.keys) for kept in owned.kept.values()] if owned else []
    )


class Held:
    """Makes a method of the storage wait until it is let go, or fail."""

    def __init__(self, storage, name):
        self.waiting, self.real = [], getattr(storage, name)
        setattr(storage, name, self.call)

    def call(self, *args, **more):
        d = Deferred()
        self.waiting.append(d)
        return d.addCallback(lambda error: fail(error) if error else self.real(*args, **more))

    def go(self, house, error=None):
        while self.waiting:
            self.waiting.pop(0).callback(error)
            house.settle()


def laptop():
    return SuppliedKey("laptop", LAPTOP.public("laptop").der)


def test_nothing_is_sealed_for_nobody():
    """A lasting setting whose keys may no longer be used seals nothing: what another stream recorded in
    clear stays as it is, and nothing more is recorded."""
    storage = MemoryStorage()
    storage.apply([SetAuto(ROMEO, AutoState(True, True, F.namespace, (laptop(),)))])
    house = House(storage, minimum_bits=4096)
    storage.apply([SetAuto(ROMEO, AutoState(True))])
    first = house.stream(f"{ROMEO}/a")
    first.says(chat("in clear", to=JULIET))
    storage.apply([SetAuto(ROMEO, AutoState(True, True, F.namespace, (laptop(),)))])
    house.stream(f"{ROMEO}/b")
    first.says(chat("more", to=JULIET))
    ((shown, items, keys),) = rows(house)
    assert (shown.crypt, len(items), keys) == (False, 1, [])


def test_unusable_keys_are_not_confirmed():
    """Encryption asked for again by a stream whose keys cannot be used is refused."""
    storage = MemoryStorage()
    storage.apply([SetAuto(ROMEO, AutoState(True, True, F.namespace, (laptop(),)))])
    stream = House(storage, minimum_bits=4096).stream(f"{ROMEO}/a")
    assert auto(stream, encrypt="true") == "not-acceptable"


def test_shutdown_waits_for_what_is_being_sealed():
    """A shutdown that comes while a collection is sealed anew waits for it, streams gone or not."""
    house = House()
    stream = house.stream(f"{ROMEO}/a")
    auto(stream)
    stream.says(chat("in clear", to=JULIET))
    held = Held(house.storage, "plain_items")
    auto(stream, encrypt="true", keys=key_info(LAPTOP, "laptop"))
    stream.says(chat("meanwhile", to=JULIET))
    stream.closes()
    lost = []
    house.archiver.close().addCallback(lost.append)
    house.settle()
    assert lost == []
    held.go(house)
    held.go(house)
    assert lost == [0]
    ((shown, items, _),) = rows(house)
    assert shown.crypt
    assert len(items) == 2
    assert all(hasattr(item, "cipher") for item in items)


def test_all_are_told_that_sealing_failed():
    """Of two streams that ask for encryption while it fails, both are told so."""
    house = House()
    one, two = house.stream(f"{ROMEO}/a"), house.stream(f"{ROMEO}/b")
    auto(one)
    one.says(chat("in clear", to=JULIET))
    held = Held(house.storage, "plain_items")
    key = key_info(LAPTOP, "laptop")
    for stream in (one, two):
        auto(stream, encrypt="true", keys=key)
    held.go(house, StorageRefused())
    answers = [told(stanza) for stream in (one, two) for stanza in stream.received if stanza.get("id") == "a"]
    assert answers == ["result", "internal-server-error", "internal-server-error"]


def test_endless_threads_tell_nothing_apart():
    """A thread of many octets is not kept: its sender would fill every list with it."""
    house = House()
    stream = house.stream(f"{ROMEO}/a")
    auto(stream)
    stream.hears(
        f"<message from='{JULIET}/x' type='chat'><body>hi</body><thread>{'t' * 5000}</thread></message>"
    )
    ((shown, _, _),) = rows(house)
    assert shown.thread is None


def test_open_conversations_are_bounded():
    """However many threads others begin, only so many data keys live; nothing is lost."""
    assert UserLimits().open_collections == 500
    house = House(limits=UserLimits(open_collections=20))
    stream = house.stream(f"{ROMEO}/a")
    auto(stream, encrypt="true", keys=key_info(LAPTOP, "laptop"))
    for n in range(23):
        stream.hears(f"<message from='{JULIET}/x' type='chat'><body>hi</body><thread>{n}</thread></message>")
    assert len(house.archiver._owners[ROMEO].conversations) == 20
    assert len(rows(house)) == 23


def test_keys_of_a_collection_are_bounded():
    """However often keys are supplied, a collection carries a bounded number of EncryptedKeys, each once."""
    house = House()
    stream = house.stream(f"{ROMEO}/a")
    for n in range(40):
        auto(stream, encrypt="true", keys=key_info(LAPTOP, f"key{n}"))
        stream.says(chat("hi", to=JULIET))
    auto(stream, encrypt="true", keys=key_info(LAPTOP, "key39"))
    found = rows(house)
    assert len(found) == 2
    for _, _, keys in found:
        assert len(keys) == len({key.recipient for key in keys}) <= 32


def test_nobody_dates_what_others_archive():
    """A sender's own <delay/> does not date a message in the archive of who receives it."""
    house = House()
    stream = house.stream(f"{ROMEO}/a")
    auto(stream)
    delay = f"<delay xmlns='urn:xmpp:delay' from='{JULIET}' stamp='1999-01-01T00:00:00Z'/>"
    stream.hears(f"<message from='{JULIET}/x' type='chat'><body>hi</body>{delay}</message>")
    ((shown, _, _),) = rows(house)
    assert shown.start // 1000 == house.now() // 1000


def test_the_same_said_twice_is_said_twice():
    """The same words to two resources, one after the other, are two messages."""
    house = House()
    one, two = house.stream(f"{ROMEO}/a"), house.stream(f"{ROMEO}/b")
    auto(one), auto(two)
    one.hears(chat("ok", **{"from": f"{JULIET}/x"}))
    house.passes(30)
    two.hears(chat("ok", **{"from": f"{JULIET}/x"}))
    assert sum(len(items) for _, items, _ in rows(house)) == 2


@pytest.mark.parametrize(
    "request_",
    [
        "<auto xmlns='{ns}' save='true' scope='global'/>",
        "<pref xmlns='{ns}'><default save='body' otr='concede'/></pref>",
        "<save xmlns='{ns}'><chat with='a@b' start='2026-01-01T00:00:00Z'><to><body>x</body></to></chat></save>",
        "<remove xmlns='{ns}'/>",
    ],
)
def test_requests_do_not_wait_for_a_database(request_):
    """With the database away a request soon fails, changes nothing, and the next may be another."""
    house = House()
    stream = house.stream(f"{ROMEO}/a")
    house.storage.failing = StorageUnavailable()
    answer = stream.ask(f"<iq type='set' id='q'>{request_.format(ns=F.namespace)}</iq>")
    house.passes(3)
    answer = answer if answer is not None else next(s for s in stream.received if s.get("id") == "q")
    assert told(answer) == "internal-server-error"
    assert answer.find("{*}error").get("type") == "wait"
    assert auto(stream, save="false") == "result"
    house.storage.failing = None
    house.passes(10)
    assert rows(house) == []


def test_a_second_device_adds_its_key():
    """A second stream's key is added to what is being sealed, once."""
    house = House()
    one, two = house.stream(f"{ROMEO}/a"), house.stream(f"{ROMEO}/b")
    auto(one, encrypt="true", keys=key_info(LAPTOP, "laptop"))
    one.says(chat("hi", to=JULIET))
    auto(two, encrypt="true", keys=key_info(PHONE, "phone"))
    auto(one, encrypt="true", keys=key_info(LAPTOP, "laptop"))
    ((_, _, keys),) = rows(house)
    assert sorted(key.recipient for key in keys) == ["laptop", "phone"]


ROOM = "garden@chat.capulet.lit"


def in_room(text, stamp=None, **attributes):
    delay = f"<delay xmlns='urn:xmpp:delay' from='{ROOM}' stamp='{stamp}'/>" if stamp else ""
    extra = "".join(f" {name}='{value}'" for name, value in attributes.items())
    return f"<message type='groupchat' from='{ROOM}/nurse'{extra}><body>{text}</body>{delay}</message>"


def test_a_room_tells_its_history_again():
    """What a room replays to whoever enters it again is not archived again; what was missed is."""
    house = House()
    stream = house.stream(f"{ROMEO}/a")
    auto(stream)
    stream.hears(in_room("before", "2026-11-21T09:00:00Z", id="m1"))
    stream.hears(in_room("also before", "2026-11-21T09:00:00Z"))
    stream.hears(in_room("while I am here"))
    stream.closes()
    house.passes(60)
    stream = house.stream(f"{ROMEO}/a")
    auto(stream)
    stream.hears(in_room("before", "2026-11-21T09:00:00Z", id="m1"))
    stream.hears(in_room("also before", "2026-11-21T09:00:00Z"))
    stream.hears(in_room("while I am here", "2026-11-21T09:59:59Z"))
    stream.hears(in_room("missed", "2026-11-21T10:00:30Z"))
    texts = [item.content for _, items, _ in rows(house) for item in items]
    assert sorted(text.split("body>")[1][:-2] for text in texts) == [
        "also before",
        "before",
        "missed",
        "while I am here",
    ]
