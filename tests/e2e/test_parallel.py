"""Many clients of one user who all mean the same collection at once: one after the other, nothing is lost."""

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults

from archive_crypt.core.dialect import RSM, F
from archive_crypt.core.xmlenc import XMLDSIG, XMLENC
from tests.e2e.conftest import DOMAIN

IDENTITY = f"with='juliet@{DOMAIN}/chamber' start='1469-07-21T02:56:15Z'"
RETRIEVE = f"<retrieve xmlns='{F.namespace}' {IDENTITY}/>"
REMOVE = f"<remove xmlns='{F.namespace}' {IDENTITY}/>"


def save(inner, where=IDENTITY):
    return f"<save xmlns='{F.namespace}'><chat {where}>{inner}</chat></save>"


def said(text):
    return f"<to secs='0'><body>{text}</body></to>"


def key(recipient, name="dataKey1"):
    info = f"<KeyInfo xmlns='{XMLDSIG}'><KeyName>{recipient}</KeyName></KeyInfo>"
    return f"<EncryptedKey xmlns='{XMLENC}'>{info}<CarriedKeyName>{name}</CarriedKeyName></EncryptedKey>"


def data(text, name="dataKey1"):
    info = f"<KeyInfo xmlns='{XMLDSIG}'><KeyName>{name}</KeyName></KeyInfo>"
    cipher = f"<CipherData><CipherValue>{text}</CipherValue></CipherData>"
    return f"<EncryptedData xmlns='{XMLENC}'>{info}{cipher}</EncryptedData>"


def delete(recipient):
    name = f"<KeyName xmlns='{XMLDSIG}'>{recipient}</KeyName>"
    return f"<delete xmlns='{F.namespace}' {IDENTITY}>{name}</delete>"


@pytest.fixture
def several(service, login):
    """A function that logs romeo in with several clients."""

    async def start(count):
        return [await login(service, "romeo", f"client{n}") for n in range(count)]

    return start


async def at_once(clients, requests):
    """The answers to requests that go out from all clients in turn, none waiting for another."""
    asked = [clients[n % len(clients)].ask(request, "set") for n, request in enumerate(requests)]
    return await gatherResults([Deferred.fromCoroutine(one) for one in asked])


def kinds(answers):
    return [answer.get("type") for answer in answers]


@pytest.mark.clause("INT-11")
@ensureDeferred
async def test_saves(several):
    """Of 50 saves to one collection each counts: the version is 49, all items are there."""
    clients = await several(5)
    texts = [f"text {n}" for n in range(50)]
    answers = await at_once(clients, [save(said(text)) for text in texts])
    assert kinds(answers) == ["result"] * 50
    versions = sorted(int(answer[0][0].get("version")) for answer in answers)
    assert versions == list(range(50))
    (chat,) = await clients[0].ask(RETRIEVE)
    assert chat.get("version") == "49"
    assert sorted(body.text for body in chat.iter("{*}body")) == sorted(texts)


@pytest.mark.clause("INT-11")
@ensureDeferred
async def test_saves_and_deletions_of_keys(several):
    """Of saves and deletions of keys in one collection each counts, and each has its effect."""
    clients = await several(4)
    names = [f"key{n}" for n in range(20)]
    await clients[0].ask(save("".join(map(key, ["laptop", *names]))), "set")
    requests = [request for n, name in enumerate(names) for request in (save(data(f"{n:04}")), delete(name))]
    answers = await at_once(clients, requests)
    assert kinds(answers) == ["result"] * 40
    (chat,) = await clients[0].ask(RETRIEVE)
    assert chat.get("version") == "40"
    assert sorted(value.text for value in chat.iter("{*}CipherValue")) == [f"{n:04}" for n in range(20)]
    assert [k.findtext(f".//{{{XMLDSIG}}}KeyName") for k in chat.iter(f"{{{XMLENC}}}EncryptedKey")] == [
        "laptop"
    ]


@pytest.mark.clause("INT-11")
@ensureDeferred
async def test_removals(several):
    """Of several removals of one collection one removes it, the others do not find it."""
    clients = await several(4)
    await clients[0].ask(save(said("text")), "set")
    answers = await at_once(clients, [REMOVE] * 8)
    assert sorted(kinds(answers)) == ["error"] * 7 + ["result"]
    assert await clients[0].collections() == []


@pytest.mark.clause("INT-11")
@ensureDeferred
async def test_saves_and_removals(several):
    """Saves and removals of one collection leave what was saved since the last removal, no version lost."""
    clients = await several(4)
    requests = [REMOVE if n % 5 == 4 else save(said(f"text {n}")) for n in range(40)]
    answers = await at_once(clients, requests)
    assert kinds(answers[n] for n in range(40) if n % 5 < 4) == ["result"] * 32
    page = await clients[0].ask(RETRIEVE)
    versions = [int(a[0][0].get("version")) for a in answers if a.find("{*}save") is not None]
    removals = versions.count(0) - (page.get("type") == "result")
    assert removals == kinds(answers).count("result") - 32
    if page.get("type") == "result":
        assert len(list(page.iter("{*}body"))) == int(page[0].get("version")) + 1


@pytest.mark.clause("INT-11")
@ensureDeferred
async def test_saves_to_what_is_being_recorded(several):
    """What is recorded and what is saved meanwhile in the same collection is all there."""
    clients = await several(3)
    await clients[0].record(encrypt=False)
    await clients[0].says(f"juliet@{DOMAIN}/chamber", "said 0")
    (shown,) = await clients[0].collections()
    where = f"with='{shown.get('with')}' start='{shown.get('start')}'"
    saving = at_once(clients[1:], [save(said(f"saved {n}"), where) for n in range(20)])
    saved = Deferred.fromCoroutine(saving)
    await clients[0].says(f"juliet@{DOMAIN}/chamber", *(f"said {n}" for n in range(1, 20)))
    assert kinds(await saved) == ["result"] * 20
    page = await clients[0].page(shown, f"<set xmlns='{RSM}'><max>100</max></set>")
    texts = [body.text for body in page.iter("{*}body")]
    assert sorted(texts) == sorted(f"{how} {n}" for how in ("said", "saved") for n in range(20))
    assert [text for text in texts if text.startswith("said")] == [f"said {n}" for n in range(20)]
