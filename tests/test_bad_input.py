"""Names, numbers, times and texts at the ends of what they can be: in memory, and with a real server and PostgreSQL."""

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from archive_crypt.core import times
from archive_crypt.core.dialect import RSM, F
from tests.kit import House
from tests.test_hostile import ROMEO, told

START = "1469-07-21T02:56:15Z"


@pytest_twisted.async_yield_fixture(params=["memory", "real"])
async def asks(request):
    """A function that asks as romeo; in each house in turn."""
    if request.param == "memory":
        stream = House().stream(f"{ROMEO}/a")

        async def ask(payload, kind="get"):
            return stream.ask(f"<iq type='{kind}' id='a'>{payload}</iq>")

        yield ask
        return
    request.getfixturevalue("dsn")
    house = request.getfixturevalue("real_house")
    await house.begins()
    stream = await house.stream(f"{ROMEO}/a")

    async def ask(payload, kind="get"):
        return await stream.asks(f"<iq type='{kind}' id='a'>{payload}</iq>")

    yield ask
    await house.ends()


def save(with_, text="hi", start=START):
    chat = f"<chat with='{with_}' start='{start}'><to secs='0'><body>{text}</body></to></chat>"
    return f"<save xmlns='{F.namespace}'>{chat}</save>"


def retrieve(with_, start=START):
    return f"<retrieve xmlns='{F.namespace}' with='{with_}' start='{start}'/>"


def list_(more="", page=""):
    return f"<list xmlns='{F.namespace}'{more}><set xmlns='{RSM}'>{page}</set></list>"


def shown(answer):
    return [chat.get("with") for chat in answer.iterfind("{*}list/{*}chat")]


def long_jid(octets):
    """A JID of so many octets, each part as long as may be."""
    domain = ".".join(["d" * 63] * 15 + ["lit"])
    return f"{'n' * 1023}@{domain}/".ljust(octets, "r")


@pytest.mark.parametrize(
    "other",
    ["ANNÉ@CAPULET.LIT/Chamber", "anne\u0301@capulet.lit/Chamber", "ａｎｎé@ｃapulet。lit/Chamber"],
    ids=["case", "decomposed", "wide"],
)
@ensureDeferred
async def test_one_name_in_many_forms(asks, other):
    """JIDs that differ only in case or normalisation are one contact, whichever way it is written."""
    assert told(await asks(save("anné@capulet.lit/Chamber"), "set")) == "result"
    assert (await asks(retrieve(other))).findtext(".//{*}body") == "hi"
    assert shown(await asks(list_(f" with='{other.partition('/')[0]}'"))) == ["anné@capulet.lit/Chamber"]
    assert told(await asks(save(other, "twice"), "set")) == "result"  # adds to the same collection
    assert len(shown(await asks(list_()))) == 1


@pytest.mark.parametrize(
    "other", ["anne@capulet.lit/chamber", "ann\u0435@capulet.lit/Chamber"], ids=["case", "Cyrillic"]
)
@ensureDeferred
async def test_names_that_only_look_alike(asks, other):
    """Resources that differ in case, and letters that only look alike, are different contacts."""
    assert told(await asks(save("anne@capulet.lit/Chamber"), "set")) == "result"
    assert told(await asks(retrieve(other))) == "item-not-found"


@ensureDeferred
async def test_long_names(asks):
    """The longest JID that RFC 7622 allows is refused as a whole; one of 2048 octets is kept, found and removed."""
    for payload, kind in ((save(long_jid(3071)), "set"), (retrieve(long_jid(3071)), "get")):
        assert told(await asks(payload, kind)) == "bad-request"
    jid = long_jid(2048)
    assert told(await asks(save(jid), "set")) == "result"
    assert shown(await asks(list_(f" with='{jid}'"))) == [jid]
    assert (await asks(retrieve(jid))).findtext(".//{*}body") == "hi"
    assert (
        told(await asks(f"<remove xmlns='{F.namespace}' with='{jid}' start='{START}'/>", "set")) == "result"
    )
    assert shown(await asks(list_())) == []


MOST = 2**63 - 1
PAGES = [
    f"<max>{10**18 - 1}</max>",
    f"<index>{10**18 - 1}</index>",
    f"<max>{10**18 - 1}</max><index>{10**18 - 1}</index>",
    f"<after>{MOST}:{MOST}</after>",
    f"<before>-{MOST}:-{MOST}</before>",
    f"<after>-{MOST}:0</after>",
    f"<before>{MOST}:0</before>",
]


@pytest.mark.parametrize("page", PAGES)
@ensureDeferred
async def test_huge_numbers(asks, page):
    """The largest numbers that can be asked for give a page, if an empty one, of every set there is."""
    await asks(save("a@b"), "set")
    info = f"<KeyName xmlns='http://www.w3.org/2000/09/xmldsig#'>k</KeyName><set xmlns='{RSM}'>{page}</set>"
    paged = f"><set xmlns='{RSM}'>{page}</set></retrieve>"
    assert told(await asks(list_(page=page))) == "result"
    for payload in (
        retrieve("a@b").replace("/>", paged),
        f"<keys xmlns='{F.namespace}'>{info}</keys>",
        f"<modified xmlns='{F.namespace}' start='{START}'><set xmlns='{RSM}'>{page}</set></modified>",
    ):
        assert told(await asks(payload)) in ("result", "item-not-found")  # an id of another set


@pytest.mark.parametrize("number", ["-1", "1" + "0" * 18, "9" * 5000], ids=["negative", "large", "monstrous"])
@ensureDeferred
async def test_numbers_that_are_none(asks, number):
    """Beyond that a number is a bad request."""
    assert told(await asks(list_(page=f"<max>{number}</max>"))) == "bad-request"


@pytest.mark.parametrize("start", [times.render(times.EARLIEST), times.render(times.LATEST)])
@ensureDeferred
async def test_the_ends_of_time(asks, start):
    """The first and the last moment that can be written are times like any other."""
    assert told(await asks(save("a@b", start=start), "set")) == "result"
    assert shown(await asks(list_(f" start='{start}'"))) == ["a@b"]
    assert (await asks(retrieve("a@b", start))).findtext(".//{*}body") == "hi"


@ensureDeferred
async def test_any_text(asks):
    """Whatever XML can say comes back as it was: beyond the first plane, right to left, what means something to SQL."""
    text = "\U0001f339\U0010ffff\u202e\ufffd\\x00 %s $1 ' \" ;-- \x7f\x85\u2028"
    escaped = text.replace("'", "&apos;")
    assert told(await asks(save("a@b", escaped), "set")) == "result"
    assert (await asks(retrieve("a@b"))).findtext(".//{*}body") == text
