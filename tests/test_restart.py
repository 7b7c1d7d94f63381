"""What streams that live on in a server find when the archive's process was replaced: as if nothing had
been, whatever they asked for and whenever it ended."""

from functools import partial

import pytest
from twisted.internet.defer import fail

from archive_crypt.core.dialect import DIALECTS, F
from archive_crypt.errors import StorageUnavailable
from archive_crypt.hosts.component.clients import Clients
from archive_crypt.hosts.component.complaints import Complaints
from archive_crypt.hosts.component.feed import NS_FEED, Feed
from archive_crypt.model import Automatic
from archive_crypt.store.interfaces import OwnerState, SetAuto
from archive_crypt.store.memory import MemoryStorage
from archive_crypt.xmpp.handler import ArchiveHandler
from tests.kit import LAPTOP, PHONE, House, element, key_info, opened
from tests.test_archiver import CHAMBER, ORCHARD, PLAIN, RETRIEVE, ROMEO, condition, outcome, said

GARDEN, CELL, HALL = (f"{ROMEO}/{resource}" for resource in ("garden", "cell", "hall"))
OFF = PLAIN.replace("'true'", "'false'")
LASTING_PLAIN = "<iq type='set' id='a'><auto xmlns='urn:xmpp:archive' save='true' scope='global'/></iq>"


def sealed(key=LAPTOP, namespace=F.namespace, more=""):
    """A request for encryption, for a key or those known."""
    info = key_info(key, "key") if key else ""
    return (
        f"<iq type='set' id='a'><auto xmlns='{namespace}' save='true' encrypt='true'{more}>{info}</auto></iq>"
    )


def lasting(key=LAPTOP):
    """A request for encryption, for later streams as well."""
    return sealed(key, "urn:xmpp:archive", " scope='global'")


def restarted(house):
    """Another process in place of the one that `house` is; it was killed."""
    return House(house.storage, streams_outlive=True)


def kept(house, owner=ROMEO):
    """What is stored of each stream of a user."""
    return outcome(house.storage.state(owner)).streams


@pytest.fixture
def house():
    """The archive of users whose streams live in a server beside it."""
    return House(streams_outlive=True)


@pytest.mark.parametrize("namespace", sorted(DIALECTS))
def test_sealed_on(house, namespace):
    """A stream that was recorded sealed goes on to be, for the key it gave, without being asked again."""
    assert house.stream(ORCHARD).ask(sealed(namespace=namespace)).get("type") == "result"
    stream = restarted(house).stream(ORCHARD, known=True)
    assert outcome(stream.says(said("after"))) is True
    (item,) = opened(stream.ask(RETRIEVE)[0], LAPTOP)
    assert item.bodies == ((None, "after"),)


def test_more_asked_of_it(house):
    """The keys that a stream gave before a restart are those that a request without keys means after it."""
    house.stream(ORCHARD).ask(sealed())
    stream = restarted(house).stream(ORCHARD, known=True)
    assert stream.ask(sealed(key=None)).get("type") == "result"
    assert stream.ask(OFF).get("type") == "result"
    assert condition(stream.ask(sealed(key=None))) == ("not-acceptable", "modify")


def test_recorded_on(house):
    """A stream that was recorded in clear goes on to be; another one of its user is not."""
    house.stream(ORCHARD).ask(PLAIN)
    after = restarted(house)
    stream, other = after.stream(ORCHARD, known=True), after.stream(GARDEN, known=True)
    assert outcome(stream.says(said())) is True
    assert outcome(other.says(said("else"))) is False


def test_scope_is_told(house):
    """Asked how it archives, a stream hears the same before and after a restart."""
    ask = "<iq type='get' id='p'><pref xmlns='urn:xmpp:archive'/></iq>"
    scopes = []
    for jid, request in ((ORCHARD, sealed()), (GARDEN, LASTING_PLAIN)):
        stream = house.stream(jid)
        stream.ask(request)
        again = restarted(house).stream(jid, known=True)
        before, after = (dict(one.ask(ask).find(".//{*}auto").attrib) for one in (stream, again))
        assert before == after
        scopes.append(before["scope"])
    assert scopes == ["stream", "global"]


def test_a_new_stream(house):
    """A new stream with the resource of an earlier one is not recorded, now or after a restart."""
    house.stream(ORCHARD).ask(PLAIN)
    after = restarted(house)
    assert outcome(after.stream(ORCHARD).says(said())) is False
    assert kept(after) == {}
    assert outcome(restarted(after).stream(ORCHARD, known=True).says(said())) is False


def test_a_new_stream_while_the_database_is_away(house):
    """The setting of an earlier stream is removed before anything of the new one is judged."""
    house.stream(ORCHARD).ask(PLAIN)
    after = restarted(house)
    apply = after.storage.apply
    after.storage.apply = lambda changes, again=False: fail(StorageUnavailable())
    stream = after.stream(ORCHARD)
    done = stream.says(said())
    after.passes(2)
    assert outcome(done) is None
    after.storage.apply = apply
    after.passes(2)
    assert outcome(done) is False
    assert kept(after) == {}


def test_turned_off(house):
    """A stream that was turned off stays off, though the lasting setting is on."""
    house.stream(GARDEN).ask(lasting())
    stream = house.stream(ORCHARD)
    stream.ask(OFF)
    assert outcome(stream.says(said())) is False
    assert outcome(restarted(house).stream(ORCHARD, known=True).says(said())) is False


def test_lasting_in_place_of_its_own(house):
    """A lasting setting takes the place of the stream's own."""
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)
    stream.ask(lasting(PHONE))
    assert kept(house) == {}
    again = restarted(house).stream(ORCHARD, known=True)
    assert outcome(again.says(said())) is True
    assert len(opened(again.ask(RETRIEVE)[0], PHONE)) == 1


def test_lasting_of_another_stream(house):
    """A lasting setting is for later streams: the others go on as they were, sealed or not at all."""
    house.stream(GARDEN)
    house.stream(CELL).ask(lasting())
    house.stream(ORCHARD)
    house.stream(HALL).ask(LASTING_PLAIN)
    after = restarted(house)
    assert outcome(after.stream(GARDEN, known=True).says(said("not asked for"))) is False
    stream = after.stream(ORCHARD, known=True)
    assert outcome(stream.says(said("sealed"))) is True
    (item,) = opened(stream.ask(RETRIEVE)[0], LAPTOP)
    assert item.bodies == ((None, "sealed"),)


def test_closed_streams_leave_nothing(house):
    """With a stream what it asked for is gone, whichever process had it; and so is what was said of others
    by the way."""
    for asked in (PLAIN, OFF, sealed()):
        house.stream(ORCHARD).ask(asked)
        after = restarted(house)
        after.stream(ORCHARD, known=True).closes()
        assert kept(after) == {}
    stream, other = house.stream(ORCHARD), house.stream(GARDEN)
    stream.ask(lasting())
    assert set(kept(house)) == {"garden"}
    stream.closes()
    other.closes()
    assert kept(house) == {}


def test_closed_before_it_was_loaded(house):
    """A known stream that ends before its setting is loaded leaves nothing either."""
    house.stream(ORCHARD).ask(PLAIN)
    after = restarted(house)
    after.storage.failing = StorageUnavailable()
    stream = after.stream(ORCHARD, known=True)
    after.storage.failing = None
    stream.closes()
    after.passes(1)
    assert kept(after) == {}


def test_closed_while_it_is_switched(house):
    """What a stream asked for and did not live to see done is not stored."""
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)
    stream.says(said())
    read, held = house.storage.plain_items, []

    def wait(*args):
        held.append(read(*args))
        held[0].pause()
        return held[0]

    house.storage.plain_items = wait
    assert stream.ask(sealed()) is None
    stream.closes()
    held[0].unpause()
    house.settle()
    assert kept(house) == {}


class Counting(MemoryStorage):
    """Remembers the settings it was to store."""

    def __init__(self):
        super().__init__()
        self.set = []

    def apply(self, changes, again=False):
        self.set += [change for change in changes if isinstance(change, SetAuto)]
        return super().apply(changes, again)


@pytest.mark.parametrize("outlive", [True, False])
def test_nothing_is_written_in_vain(outlive):
    """Nothing is written for a stream that asked for nothing, nor for one that dies with the process."""
    house = House(Counting(), streams_outlive=outlive)
    for known in (True, False):
        house.stream(ORCHARD, known=known).closes()
    if not outlive:
        stream = house.stream(ORCHARD)
        stream.ask(PLAIN)
        stream.ask(sealed())
        stream.closes()
    assert house.storage.set == []
    assert outcome(house.storage.state(ROMEO)) == OwnerState()


def test_not_stored_not_changed(house):
    """If the setting of a stream cannot be stored its request fails, and the stream goes on as before."""
    stream = house.stream(ORCHARD)
    stream.ask(PLAIN)
    house.storage.failing = StorageUnavailable()
    assert stream.ask(OFF) is None
    house.passes(5)
    assert condition(stream.received[-1]) == ("internal-server-error", "wait")
    house.storage.failing = None
    house.passes(5)
    assert outcome(stream.says(said())) is True
    assert outcome(restarted(house).stream(ORCHARD, known=True).says(said("after"))) is True


def test_closed_while_away(house):
    """When all open streams of a domain were told of, what others of it had asked for is forgotten."""
    for jid in (ORCHARD, GARDEN, CHAMBER):
        house.stream(jid).ask(PLAIN)
    after = restarted(house)
    stream = after.stream(ORCHARD, known=True)
    after.archiver.switching.forget_streams("montague.lit")
    assert set(kept(after)) == {"orchard"}
    assert set(kept(after, "juliet@capulet.lit")) == {"chamber"}
    assert outcome(stream.says(said())) is True
    assert outcome(after.stream(GARDEN, known=True).says(said())) is False


def test_forgetting_while_settings_are_loaded(house):
    """Streams whose settings are not loaded yet keep them."""
    house.stream(ORCHARD).ask(PLAIN)
    after = restarted(house)
    after.storage.failing = StorageUnavailable()
    stream = after.stream(ORCHARD, known=True)
    after.archiver.switching.forget_streams("montague.lit")
    after.storage.failing = None
    after.archiver.switching.forget_streams("montague.lit")
    after.passes(1)
    assert outcome(stream.says(said())) is True
    assert set(kept(after)) == {"orchard"}


def test_required(house):
    """Where everything is to be archived it is, whatever a stream asked for before that."""
    house.stream(ORCHARD).ask(OFF)
    after = House(house.storage, streams_outlive=True, automatic=Automatic.REQUIRED_BODY)
    assert outcome(after.stream(ORCHARD, known=True).says(said())) is True


def test_a_snapshot_tells(house):
    """A server's snapshot settles it for its own domain: streams that are open go on as they were, and of
    those that are not nothing is kept."""
    for jid in (ORCHARD, GARDEN, CHAMBER):
        house.stream(jid).ask(PLAIN)
    after = restarted(house)
    clients = Clients(after.archiver, partial(ArchiveHandler, after.archiver), print, after.clock)
    complaints = Complaints(after.clock.seconds)
    feed = Feed("montague.lit", after.archiver, clients, after.now, complaints, bool, print)
    said = "<snapshot event='begin'/>", f"<stream jid='{ORCHARD}' event='open'/>", "<snapshot event='end'/>"
    for xml in said:
        feed.receive(element(xml, NS_FEED))
    after.settle()
    assert set(kept(after)) == {"orchard"}
    assert set(kept(after, "juliet@capulet.lit")) == {"chamber"}
    assert after.archiver._owners[ROMEO].recorders[ORCHARD].recording
