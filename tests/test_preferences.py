"""Of preferences what no dialogue can say; the rest is in tests/dialogues."""

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from archive_crypt.core.dialect import DIALECTS, F
from archive_crypt.demo import search_tables
from tests.kit import House

dialects = pytest.mark.parametrize("namespace", DIALECTS, ids=["V", "T", "F"])


def hold(storage):
    """From now on no change is applied until its Deferred in the list returned is fired."""
    apply, held = storage.apply, []

    def wait(changes, **more):
        done = Deferred()
        held.append(done)
        return done.addCallback(lambda _: apply(changes, **more))

    storage.apply = wait
    return held


@pytest.mark.clause("INT-06", "INT-14", "0136-pref-default-02")
@dialects
def test_the_result_comes_before_the_pushes(namespace):
    """Who changes preferences has his answer before the push; pushes name no sender, and have ids of
    their own."""
    house = House()
    orchard, balcony = (house.stream(f"romeo@montague.lit/{name}") for name in ("orchard", "balcony"))
    for stream in (orchard, balcony):
        stream.ask(f"<iq type='get' id='p1'><pref xmlns='{namespace}'/></iq>")
        stream.received.clear()
    orchard.ask(
        f"<iq type='set' id='p2'><pref xmlns='{namespace}'><default save='false' otr='prefer'/></pref></iq>"
    )
    assert [(iq.get("type"), iq.get("to")) for iq in orchard.received + balcony.received] == [
        ("result", "romeo@montague.lit/orchard"),
        ("set", "romeo@montague.lit/orchard"),
        ("set", "romeo@montague.lit/balcony"),
    ]
    pushes = orchard.received[1:] + balcony.received
    assert all(push.get("from") is None for push in pushes)
    assert len({push.get("id") for push in pushes} | {"p2"}) == 3


@pytest.mark.clause("INT-14")
@dialects
def test_the_result_comes_after_the_change_is_durable(namespace):
    """While the storage does not answer, a preference is neither acknowledged nor pushed."""
    house = House()
    stream = house.stream("romeo@montague.lit/orchard")
    stream.ask(f"<iq type='get' id='p1'><pref xmlns='{namespace}'/></iq>")
    held = hold(house.storage)
    asked = f"<iq type='set' id='p2'><pref xmlns='{namespace}'><method type='auto' use='prefer'/></pref></iq>"
    assert stream.ask(asked) is None
    before = len(stream.received)
    held.pop().callback(None)
    house.settle()
    assert [iq.get("type") for iq in stream.received[before:]] == ["result", "set"]


@pytest.mark.clause("0136f-session-03")
def test_a_session_is_not_shortened_by_coming_back_at_once():
    """Whose last stream ended just now has what that left to be stored, however long that takes."""
    house = House(session_timeout=3600)
    message = "<message to='juliet@capulet.lit' type='chat'><body>unsaid</body><thread>T</thread></message>"
    stream = house.stream("romeo@montague.lit/orchard")
    stream.ask(
        f"<iq type='set' id='p1'><pref xmlns='{F.namespace}'><session thread='T' save='false'/></pref></iq>"
    )
    house.passes(800)
    stream.says(message)
    held = hold(house.storage)
    stream.closes()
    stream = house.stream("romeo@montague.lit/orchard")
    held.pop().callback(None)
    house.settle()
    del house.storage.apply
    stream.ask(f"<iq type='set' id='a1'><auto xmlns='{F.namespace}' save='true'/></iq>")
    house.passes(3500)
    stream.says(message)
    assert not len(stream.ask(f"<iq type='get' id='l1'><list xmlns='{F.namespace}'/></iq>")[0])


@pytest.mark.clause("0136-pref-determine-03")
@dialects
@ensureDeferred
async def test_nothing_of_what_is_not_to_be_saved_is_stored(namespace, real_house, postgres):
    """No table holds a word of it, nor whom it was exchanged with."""
    await real_house.begins()
    try:
        romeo = await real_house.stream("romeo@montague.lit/orchard")
        await romeo.asks(
            f"<iq type='set' id='p1'><pref xmlns='{namespace}'>"
            "<default save='false' otr='concede'/><item jid='nurse@capulet.lit' save='body' otr='concede'/>"
            "</pref></iq>"
        )
        await romeo.asks(f"<iq type='set' id='a1'><auto xmlns='{namespace}' save='true'/></iq>")
        await romeo.says("<message to='juliet@capulet.lit' type='chat'><body>unsaid</body></message>")
        await romeo.hears("<message from='juliet@capulet.lit/x' type='chat'><body>unheard</body></message>")
        await romeo.says("<message to='nurse@capulet.lit' type='chat'><body>control</body></message>")
        assert search_tables(postgres, ["unsaid", "unheard", "juliet"])[1] == []
        assert search_tables(postgres, ["control"])[1]
    finally:
        await real_house.ends()
