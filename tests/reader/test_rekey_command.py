"""archive-reader rekey: one command from the old key to the new one, against a real server."""

import pytest
from lxml import etree
from pytest_twisted import ensureDeferred
from twisted.words.protocols.jabber.error import StanzaError
from twisted.words.protocols.jabber.jid import JID

from archive_crypt.core.published import NODES
from archive_crypt.crypto import opening
from archive_crypt.hosts.pep import Pep
from archive_crypt.reader import cli, trust
from archive_crypt.reader.publishing import Publisher
from archive_crypt.reader.rewrapping import Evidence, Holder, may_open
from tests.kit import LAPTOP, MORNING, PHONE, key_info
from tests.reader.conftest import DOMAIN, awaited
from tests.reader.test_given import put
from tests.reader.test_publishing import put as put_item
from tests.reader.test_rekey import NEW, OLD, data, key, upload, wrapped_for

ROMEO, JULIET = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}"


@pytest.fixture
def given(environment):
    """The options that name the two keys, of which the new one is confirmed."""
    trust.confirm(trust.default_path(), [OLD, NEW])
    return ("--old", put("old.pem", LAPTOP), "--new", put("new.pem", PHONE))


async def published(client):
    return [item.fingerprint for item in await awaited(Publisher(client).fetch())]


@pytest.mark.clause("0241-6-01")
@ensureDeferred
async def test_from_old_to_new(served, reader, login, talk, given):
    """The new key is published, reads all there was and all there will be; the old one is retired, as told."""
    client = await login(served)
    await awaited(Publisher(client).publish(LAPTOP.public()))
    await served.record("But soft", at=MORNING - 3600)
    await awaited(client.plugin["xep_0241"].enable(lasting=True))
    await talk("O Romeo")
    done = await reader("rekey", ROMEO, *given, "--retire", "--json", at=served)
    (told,) = done.lines
    assert (done.code, done.err) == (0, "")
    assert told == {
        "replaced": 2,
        "left": 0,
        "empty": True,
        "retired": True,
        "published": False,
        "names": [OLD],
        "left_out": [],
        "found_by": [],
    }
    assert await published(client) == [NEW]
    assert list(trust.load(trust.default_path())) == [NEW]
    await talk("Deny thy father")
    read = await reader("read", ROMEO, "--key", given[3], "--json", at=served)
    assert [line["bodies"][0]["text"] for line in read.lines] == ["But soft", "O Romeo", "Deny thy father"]
    assert wrapped_for(served, OLD) == [0] * len(served.kept)


@ensureDeferred
async def test_not_retired_unless_told(served, reader, login, given):
    """Without --retire the old key stays published and confirmed, and what that means is said."""
    client = await login(served)
    await awaited(Publisher(client).publish(LAPTOP.public()))
    await served.record("But soft")
    done = await reader("rekey", ROMEO, *given, at=served)
    assert (done.code, done.err) == (0, "")
    assert "1 collection(s) have the new key in place of the old one." in done.out
    assert "The archive has nothing for the old key any more." in done.out
    assert "The old key is still published" in done.out
    assert await published(client) == [OLD, NEW]
    assert set(trust.load(trust.default_path())) == {OLD, NEW}


@ensureDeferred
async def test_what_is_left_is_told(served, reader, login, given):
    """What has to stay is named with its reason, the old key is not retired, and the exit code is 4."""
    client = await login(served)
    await awaited(Publisher(client).publish(LAPTOP.public()))
    await served.record("But soft", at=MORNING - 3600)
    await upload(client, JULIET, data(), key(), key(bytes(32), id_="decoy"))
    done = await reader("rekey", ROMEO, *given, "--retire", "--json", at=served)
    left, told = done.lines
    assert done.code == 4
    assert (left["with"], left["start"], left["reason"]) == (JULIET, "2026-11-21T10:00:00Z", "opens-nothing")
    assert told == {
        "replaced": 1,
        "left": 1,
        "empty": False,
        "retired": False,
        "published": True,
        "names": [OLD],
        "left_out": [],
        "found_by": [],
    }
    assert await published(client) == [OLD, NEW]
    shown = await reader("rekey", ROMEO, *given, at=served)
    assert (
        f"! with {JULIET}, 2026-11-21 10:00:00+00:00: EncryptedKeys for the old key stay: one opens nothing"
        in shown.out
    )
    assert "1 collection(s) still have the old key: see above. Keep it." in shown.out


# By which names the old key is called.


@pytest.fixture
def called_mine(served, login, talk):
    """A function: the old key is published by a name of its own, and the server encrypted for it; the client."""

    async def start():
        client = await login(served)
        await put_item(client, NODES[1], key_info(LAPTOP, "my-own"))
        await awaited(client.plugin["xep_0241"].enable(lasting=True))
        await talk("O Romeo")
        assert wrapped_for(served, "my-own") == [1]
        return client

    return start


@ensureDeferred
async def test_retired_before(served, reader, called_mine, given):
    """What was published by another name, and was retired since, is looked for by that name all the same."""
    await called_mine()
    await reader("keys", "retire", ROMEO, OLD, at=served)
    done = await reader("rekey", ROMEO, *given, "--json", at=served)
    (told,) = done.lines
    assert (done.code, told["replaced"], told["names"]) == (0, 1, [OLD, "my-own"])
    assert wrapped_for(served, "my-own") == [0]


@ensureDeferred
async def test_seen_once(served, reader, called_mine, given):
    """It is enough that a name was ever seen, before the key was confirmed and before another device retired it."""
    client = await called_mine()
    trust.withdraw(trust.default_path(), [OLD])
    await reader("keys", "list", ROMEO, at=served)
    await reader("keys", "confirm", OLD)
    await awaited(Publisher(client).retract(OLD))
    listed = await reader("keys", "list", ROMEO, "--json", at=served)
    assert [line["collections"] for line in listed.lines if line["fingerprint"] == OLD] == [1]
    assert (await reader("rekey", ROMEO, *given, "--json", at=served)).lines[0]["replaced"] == 1


@ensureDeferred
async def test_a_name_that_is_told(served, reader, login, given):
    """A name that this computer never saw may be told; without it, it is said what was looked for."""
    await upload(await login(served), JULIET, data(), key(recipient="my-own"))
    done = await reader("rekey", ROMEO, *given, at=served)
    assert f"by these names; if it was ever published by another: --old-name\n    {OLD}\n" in done.out
    names = ("--old-name", " my-own", "--old-name", "his")
    done = await reader("rekey", ROMEO, *given, *names, "--json", at=served)
    assert (done.lines[0]["replaced"], done.lines[0]["names"]) == (1, [OLD, "my-own", "his"])
    assert wrapped_for(served, "my-own") == [0]


@pytest.mark.parametrize("whose", ["new", "confirmed", "in the folder"])
@ensureDeferred
async def test_by_another_keys_name(served, reader, login, given, whose):
    """Whoever publishes the old key by the fingerprint of another cannot have the other's EncryptedKeys deleted,
    nor keep the old one's from being replaced; that he did it is told."""
    other = PHONE if whose == "new" else opening.generate(2048)
    if whose == "confirmed":
        trust.confirm(trust.default_path(), [other.fingerprint])
    if whose == "in the folder":
        put("other.pem", other)
    client = await login(served)
    await put_item(client, NODES[1], key_info(LAPTOP, other.fingerprint))
    assert (await reader("status", ROMEO, at=served)).code == 0
    await awaited(Publisher(client).retract(OLD))  # he is gone, and the name is kept
    await served.record("But soft", keys=(LAPTOP, other))
    done = await reader("rekey", ROMEO, *given, "--json", at=served)
    (told,) = done.lines
    assert (done.code, told["replaced"], told["names"]) == (0, 1, [OLD])
    assert (told["left_out"], told["found_by"], told["empty"]) == ([other.fingerprint], [], True)
    assert [wrapped_for(served, one) for one in (OLD, NEW, other.fingerprint)] == [[0], [1], [1]]
    done = await reader("rekey", ROMEO, *given, at=served)
    assert (
        f"  ! {other.fingerprint}  not by this one: it is {'the new' if whose == 'new' else 'another'} key's"
        in done.out
    )


@ensureDeferred
async def test_a_name_of_the_new_key_that_is_told(served, reader, given):
    """Who tells the new key's name as one of the old key's is told to leave it out, and nothing is done."""
    await served.record("But soft")
    done = await reader("rekey", ROMEO, *given, "--old-name", NEW, at=served)
    assert (done.code, done.out) == (1, "")
    assert (
        "cannot be looked for by the name of the new one: leave that out, or take another new key."
        in done.err
    )
    assert "to go on" not in done.err
    assert wrapped_for(served, OLD) == [1]


@ensureDeferred
async def test_very_many_names(serve, reader, login, given):
    """Whoever publishes the old key by very many long names does not end rekeying; what is not kept of
    them is told, and that nothing is there by it."""
    client = await login(served := serve())
    await put_item(client, NODES[1], key_info(LAPTOP, "my-own"))
    node = served.server._pep._nodes(JID(ROMEO))[NODES[1]]
    for number in range(20, 70):
        named = key_info(LAPTOP, "my-own").replace("my-own", "&amp;" * 500 + str(number))
        node.items[str(number)] = named
    await served.record("But soft")
    done = await reader("rekey", ROMEO, *given, "--json", at=served)
    assert (done.code, done.lines[0]["replaced"]) == (0, 1)
    assert (len(done.lines[0]["names"]), len(done.lines[0]["left_out"])) == (1 + 32, 51 - 32)
    assert (done.lines[0]["found_by"], done.lines[0]["empty"]) == ([], True)
    assert done.err.count(f"{OLD} has too many names") == 51 - 32
    assert f"takes --old-name: {'&' * 500}69" in done.err


@pytest.mark.parametrize("whose", ["one too many", "the new key's", "another key's"])
@ensureDeferred
async def test_left_out_and_there(served, reader, login, given, whose):
    """Where something for the old key is there by a name that is left out, that is told, by its name; nothing is said to
    be empty, the old key is not retired, and the exit code is 4."""
    other = NEW if whose == "the new key's" else opening.generate(2048).fingerprint
    if whose == "one too many":
        trust.remember(trust.default_path(), [(OLD, f"decoy {number}") for number in range(32)])
    if whose == "another key's":
        trust.confirm(trust.default_path(), [other])
    client = await login(served)
    await put_item(client, NODES[1], key_info(LAPTOP, other))
    await upload(client, JULIET, data(), key(recipient=other))
    done = await reader("rekey", ROMEO, *given, "--retire", "--json", at=served)
    told = done.lines[-1]
    assert (done.code, told["empty"], told["retired"], told["found_by"]) == (4, False, False, [other])
    assert OLD in trust.load(trust.default_path())
    assert OLD in await published(client)
    assert wrapped_for(served, other) == [1]
    done = await reader("rekey", ROMEO, *given, at=served)
    assert done.code == 4
    assert f"  ! {other}  not by this one: it is {whose}" in done.out
    assert "something for the old key is there by it: --old-name\n" in done.out
    assert "has nothing for the old key any more" not in done.out


@pytest.mark.parametrize("anothers", [False, True])
@ensureDeferred
async def test_left_out_and_told(served, reader, login, given, anothers):
    """What was left out, as it is one name too many or another key's, is replaced once it is told; then the old
    key is retired."""
    trust.remember(trust.default_path(), [(OLD, f"decoy {number}") for number in range(32)])
    name = opening.generate(2048).fingerprint if anothers else "my-own"
    if anothers:
        trust.confirm(trust.default_path(), [name])
    client = await login(served)
    await put_item(client, NODES[1], key_info(LAPTOP, name))
    await upload(client, JULIET, data(), key(recipient=name))
    done = await reader("rekey", ROMEO, *given, "--old-name", name, "--retire", "--json", at=served)
    (told,) = done.lines
    assert (done.code, told["empty"], told["retired"], told["left_out"]) == (0, True, True, [])
    assert wrapped_for(served, name) == [0]


@pytest.mark.parametrize("recipient", ["the name", None])
def test_may_open(recipient):
    """What cannot be read, or is not shown, may be for the key; what it does not unwrap is not."""
    seen = Evidence(Holder(LAPTOP, ("the name",)))
    whole, others = (etree.fromstring(key(private=one, recipient=recipient)) for one in (LAPTOP, PHONE))
    cut = etree.fromstring(key(private=PHONE, recipient=recipient).replace("CipherValue", "Other"))
    assert [may_open(one, seen) for one in ([whole], [others], [others, whole])] == [True, False, True]
    assert [may_open(one, seen) for one in ([], [cut], [others, cut])] == [True, True, True]


# What else may be.


@ensureDeferred
async def test_given_to_enable(served, reader, given, environment):
    """Where the old key may have been given to enable, that is said: only the server knows."""
    await reader("enable", ROMEO, "--key", given[1], at=served)
    done = await reader("rekey", ROMEO, *given, at=served)
    assert "enable again with the new one" in done.out


@pytest.mark.clause("0241-2-05")
@ensureDeferred
async def test_the_new_key_must_be_confirmed(served, reader, login, given):
    """Nothing is wrapped for a key that is not confirmed, nor for the old key itself: nobody is even asked."""
    await served.record("But soft")
    trust.withdraw(trust.default_path(), [NEW])
    done = await reader("rekey", ROMEO, *given, at=served)
    assert (done.code, done.out) == (1, "")
    assert f"new.pem is not confirmed to be yours: archive-reader keys confirm {given[3]}" in done.err
    done = await reader("rekey", ROMEO, "--old", given[1], "--new", given[1], at=served)
    assert "The old key and the new one are the same." in done.err
    assert (wrapped_for(served, OLD), wrapped_for(served, NEW)) == ([1], [0])
    assert await published(await login(served)) == []


@ensureDeferred
async def test_where_no_key_can_be_published(serve, reader, given, monkeypatch):
    """Where users have no nodes the archive is replaced all the same, and that is said."""

    def answer(self, asker, iq, account):
        raise StanzaError("service-unavailable")

    monkeypatch.setattr(Pep, "answer", answer)
    served = serve()
    await served.record("But soft")
    done = await reader("rekey", ROMEO, *given, "--retire", at=served)
    assert done.code == 0
    assert "The new key could not be published: " in done.err
    assert "Give it to archive-reader enable." in done.err
    assert wrapped_for(served, OLD) == [0]


@pytest.mark.parametrize("refused", ["<publish ", "<pubsub "])
@ensureDeferred
async def test_not_retired_where_the_new_key_is_not_published(
    serve, reader, login, given, monkeypatch, refused
):
    """Where the server refuses the new key, or to tell what is published, the old one stays published and
    confirmed: else what comes then would be archived for nobody."""
    client = await login(served := serve())
    await awaited(Publisher(client).publish(LAPTOP.public()))
    await served.record("But soft")

    answer = Pep.answer

    def refuse(self, asker, iq, account):
        if refused in iq.toXml():
            raise StanzaError("not-allowed")
        return answer(self, asker, iq, account)

    with monkeypatch.context() as refusing:
        refusing.setattr(Pep, "answer", refuse)
        done = await reader("rekey", ROMEO, *given, "--retire", "--json", at=served)
    assert (done.code, done.lines[0]["empty"], done.lines[0]["retired"]) == (4, True, False)
    assert "The old key is not retired: the new one is not published in its place" in done.err
    assert await published(client) == [OLD]
    assert set(trust.load(trust.default_path())) == {OLD, NEW}
    assert wrapped_for(served, NEW) == [1]
    assert (await reader("rekey", ROMEO, *given, "--retire", at=served)).code == 0
    assert await published(client) == [NEW]


@ensureDeferred
async def test_not_retired_where_that_is_refused(serve, reader, login, given, monkeypatch):
    """Where the server does not let the old key be retracted, what was done is told all the same."""
    client = await login(served := serve())
    await awaited(Publisher(client).publish(LAPTOP.public()))
    await served.record("But soft")
    answer = Pep.answer

    def refuse(self, asker, iq, account):
        if "<retract " in iq.toXml():
            raise StanzaError("not-allowed")
        return answer(self, asker, iq, account)

    monkeypatch.setattr(Pep, "answer", refuse)
    done = await reader("rekey", ROMEO, *given, "--retire", "--json", at=served)
    assert (done.code, done.lines[0]["replaced"], done.lines[0]["retired"]) == (4, 1, False)
    assert "The old key is not retired: " in done.err
    assert set(trust.load(trust.default_path())) == {OLD, NEW}


@ensureDeferred
async def test_a_server_that_goes_away(serve, reader, given, environment):
    """Where the connection ends, it is said how to go on."""
    served = serve()
    for hour in range(3):
        await served.record("x", at=MORNING + 3600 * hour)
    environment.setattr(type(served.archiver.management), "delete", lambda self, *_: served.server.close())
    done = await reader("rekey", ROMEO, *given, at=served)
    assert done.code == 2
    assert "give the same command again to go on" in done.err


@ensureDeferred
async def test_a_passphrase_for_each(served, reader, given, environment, tmp_path):
    """Both keys may be encrypted; a wrong passphrase ends it before anything is done."""
    put("old.pem", LAPTOP, b"secret")
    put("new.pem", PHONE, b"secret")
    await served.record("But soft")
    environment.setenv(cli.PASSPHRASE, "wrong")
    assert (await reader("rekey", ROMEO, *given, at=served)).code == 1
    environment.setenv(cli.PASSPHRASE, "secret")
    assert (await reader("rekey", ROMEO, *given, at=served)).code == 0
