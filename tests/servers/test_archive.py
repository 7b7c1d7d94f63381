"""What users get from the archive beside a real server, from their own clients, whatever the server."""

import socket

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import DIALECTS, F, T
from tests.e2e.test_published_keys import pubkey
from tests.kit import LAPTOP, PHONE, key_info
from tests.servers.archive import collections, page, record, refused, until, words

PUBSUB = "http://jabber.org/protocol/pubsub"
NODE, OLDER = "urn:xmpp:pubkey:2", "urn:xmpp:tmp:pubkey"
AUTO = f"<auto xmlns='{F.namespace}' save='true' encrypt='true'/>"


@pytest.fixture
def pair(login, account):
    """A function that logs two users in, one on each of the server's domains."""

    async def start(**options):
        juliet = await login(account("juliet"), **options)
        return juliet, await login(account("romeo", "montague.lit"))

    return start


async def exchange(sender, receiver, *texts, to=None):
    """Messages that arrive."""
    for text in texts:
        sender.say(to or receiver.bare, text)
        await receiver.message(text)


async def publish(client, payload, node=NODE, access="whitelist"):
    """Put a key on a node of one's own, which only its owner can read."""
    option = f"<field var='pubsub#access_model'><value>{access}</value></field>"
    form = "<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>"
    answer = await client.ask(
        f"<pubsub xmlns='{PUBSUB}'><publish node='{node}'><item id='current'>{payload}</item></publish>"
        f"<publish-options><x xmlns='jabber:x:data' type='submit'>{form}{option}</x></publish-options></pubsub>",
        "set",
    )
    assert refused(answer) is None


async def recipients(client):
    """The public keys for which each collection has EncryptedKeys, oldest first."""
    return [
        [key.find(".//{*}KeyName").text for key in (await page(client, shown)).findall("{*}EncryptedKey")]
        for shown in await collections(client)
    ]


@pytest.mark.clause("INT-08")
@ensureDeferred
async def test_a_sealed_conversation(archive, pair):
    """What both say is archived on both sides, each on its own terms, under full JIDs; what is sealed for a
    supplied key is readable to its owner."""
    juliet, romeo = await pair()
    await record(juliet, (LAPTOP, "laptop"))
    await record(romeo, encrypt=False)
    await exchange(romeo, juliet, "She speaks.")
    await exchange(juliet, romeo, "O speak again!", to=romeo.jid)
    await until(lambda: archive.archived() == 4)
    assert await words(juliet, LAPTOP) == [("from", "She speaks."), ("to", "O speak again!")]
    assert sorted(await words(romeo)) == [("from", "O speak again!"), ("to", "She speaks.")]
    (shown,) = await collections(juliet)
    assert shown.get("with") == romeo.jid


@ensureDeferred
async def test_published_keys(archive, pair):
    """A key on a node that only its owner can read is enough; one published later is wrapped for at once, one
    retracted no more from the next collection on."""
    juliet, romeo = await pair()
    assert refused(await juliet.ask(AUTO, "set")) == "not-acceptable"
    await publish(juliet, pubkey(LAPTOP, "laptop", juliet.bare))
    assert refused(await juliet.ask(AUTO, "set")) is None
    await exchange(juliet, romeo, "one", to=romeo.jid)
    await until(lambda: archive.archived() == 1)
    await publish(juliet, key_info(PHONE, "phone"), OLDER)
    owner = archive.archiver._owners[juliet.bare]
    await until(lambda: len(owner.sealing.keys) == 2)
    assert sorted((await recipients(juliet))[0]) == ["laptop", "phone"]
    retract = f"<retract node='{NODE}' notify='true'><item id='current'/></retract>"
    await juliet.ask(f"<pubsub xmlns='{PUBSUB}'>{retract}</pubsub>", "set")
    await until(lambda: [key.name for key in owner.sealing.keys] == ["phone"])
    message = juliet.xmpp.make_message(romeo.jid, "two", mtype="chat")
    message["thread"] = "another"
    message.send()
    await until(lambda: archive.archived() == 2)
    assert (await recipients(juliet))[1] == ["phone"]


@ensureDeferred
async def test_no_key_left(archive, pair):
    """When the last key is retracted nothing is archived any more: it is counted, and the user hears of it from
    his server, once."""
    juliet, romeo = await pair()
    await publish(juliet, pubkey(LAPTOP, "laptop", juliet.bare))
    assert refused(await juliet.ask(AUTO, "set")) is None
    await juliet.ask(f"<pubsub xmlns='{PUBSUB}#owner'><delete node='{NODE}'/></pubsub>", "set")
    owner = archive.archiver._owners[juliet.bare]
    await until(lambda: not owner.sealing.keys)
    await exchange(romeo, juliet, "one", "two")
    notice = await juliet.inbox.take(lambda stanza: "was not archived" in str(stanza))
    assert notice["from"] == "capulet.lit"
    await until(lambda: archive.archiver.counts["not archived: no key"] == 2)
    assert archive.archived() == 0
    await juliet.settled()
    assert not [s for s in juliet.inbox.stanzas if "was not archived" in str(s)]


@ensureDeferred
async def test_offline(archive, login, account):
    """What waited on the server for its receiver is archived when it is delivered, with the time at which it was
    sent, once."""
    bare = account("juliet")
    juliet, romeo = await login(bare), await login(account("romeo", "montague.lit"))
    await record(juliet, encrypt=False, scope="global")
    await juliet.close()
    romeo.say(bare, "Art thou gone so?")
    await romeo.settled()
    juliet = await login(bare)
    await juliet.message("Art thou gone so?")
    await until(lambda: archive.archived() == 1)
    assert await words(juliet) == [("from", "Art thou gone so?")]


@ensureDeferred
async def test_two_resources(archive, login, account):
    """A message that reaches two recording resources, and the carbons of what one of them sends, are archived
    once."""
    bare = account("juliet")
    phone, laptop = await login(f"{bare}/phone"), await login(f"{bare}/laptop")
    romeo = await login(account("romeo", "montague.lit"))
    for client in (phone, laptop):
        await record(client, encrypt=False)
        await client.ask("<enable xmlns='urn:xmpp:carbons:2'/>", "set")
    romeo.say(bare, "to both")
    await phone.message("to both")
    await laptop.message("to both")
    phone.say(romeo.jid, "from one")
    await romeo.message("from one")
    await laptop.inbox.take(lambda stanza: "carbons" in str(stanza) and "from one" in str(stanza))
    await laptop.settled()
    await until(lambda: archive.archived() == 2)
    assert sorted(await words(phone)) == [("from", "to both"), ("to", "from one")]


@pytest.mark.clause("INT-02")
@pytest.mark.parametrize("namespace", DIALECTS)
@ensureDeferred
async def test_management(archive, pair, namespace):
    """List, retrieve and remove work in each dialect, asked of the own account or of the server."""
    juliet, romeo = await pair()
    await record(juliet, encrypt=False)
    await exchange(juliet, romeo, "words", to=romeo.jid)
    await until(lambda: archive.archived() == 1)
    for to in (None, juliet.bare, "capulet.lit"):
        answer = await juliet.ask(f"<list xmlns='{namespace}'/>", to=to)
        assert refused(answer) is None
        assert answer.get("from") in (to, juliet.bare)
        (shown,) = answer.findall(f".//{{{namespace}}}chat")
    where = f"with='{shown.get('with')}' start='{shown.get('start')}'"
    answer = await juliet.ask(f"<retrieve xmlns='{namespace}' {where}/>")
    assert answer.findtext(".//{*}body") == "words"
    assert refused(await juliet.ask(f"<remove xmlns='{namespace}' {where} open='true'/>", "set")) is None
    assert await collections(juliet) == []


@pytest.mark.clause("INT-03", "INT-04")
@pytest.mark.parametrize("namespace", DIALECTS)
@ensureDeferred
async def test_errors(archive, login, account, namespace):
    """An error of the archive's reaches the client as it is, from the address that was asked."""
    juliet = await login(account("juliet"))
    retrieve = f"<retrieve xmlns='{namespace}' with='romeo@montague.lit' start='2026-11-21T10:00:00Z'/>"
    for to in (None, juliet.bare, "capulet.lit"):
        answer = await juliet.ask(retrieve, to=to)
        assert refused(answer) == "item-not-found"
        assert answer.find("{*}error").get("type") == "cancel"
        assert answer.get("from") in (to, juliet.bare)


@ensureDeferred
async def test_keys_and_replication(archive, pair):
    """Keys are listed, supplied for another public key and deleted, and changes are replicated, through delegation."""
    juliet, romeo = await pair()
    await record(juliet, (LAPTOP, "laptop"), (PHONE, "phone"))
    await exchange(juliet, romeo, "words", to=romeo.jid)
    await until(lambda: archive.archived() == 1)
    name = "<KeyName xmlns='http://www.w3.org/2000/09/xmldsig#'>laptop</KeyName>"
    keys = await juliet.ask(f"<keys xmlns='{T.namespace}'>{name}</keys>")
    assert keys.find(".//{*}EncryptedKey") is not None
    changed = await juliet.ask(f"<modified xmlns='{T.namespace}' start='2020-01-01T00:00:00Z'/>")
    assert [one.get("with") for one in changed.findall(".//{*}changed")] == [romeo.jid]
    where = f"with='{romeo.jid}' start='{(await collections(juliet))[0].get('start')}'"
    delete = f"<delete xmlns='{T.namespace}' {where}>{name}</delete>"
    assert refused(await juliet.ask(delete, "set")) is None
    assert (await juliet.ask(f"<keys xmlns='{T.namespace}'>{name}</keys>")).find(".//{*}EncryptedKey") is None


@pytest.mark.clause("INT-06")
@ensureDeferred
async def test_pushes(archive, login, account):
    """A change of preferences is pushed to the other resource that asked for them, from its own bare JID."""
    bare = account("juliet")
    phone, laptop = await login(f"{bare}/phone"), await login(f"{bare}/laptop")
    await laptop.ask(f"<pref xmlns='{F.namespace}'/>")
    change = f"<pref xmlns='{F.namespace}'><default otr='concede' save='body' expire='604800'/></pref>"
    assert refused(await phone.ask(change, "set")) is None
    push = await laptop.iq("set", F.namespace)
    assert push["from"] in ("", bare)
    assert push.xml.find(".//{*}default").get("expire") == "604800"


@pytest.mark.clause("INT-05")
@ensureDeferred
async def test_discovery(archive, login, account):
    """The server and each account announce all of the archive's features, in all three namespaces."""
    juliet = await login(account("juliet"))
    for to in ("capulet.lit", juliet.bare):
        info = await juliet.ask("<query xmlns='http://jabber.org/protocol/disco#info'/>", to=to)
        features = {feature.get("var") for feature in info.findall(".//{*}feature")}
        for dialect in DIALECTS.values():
            for name in ("auto", "encrypt", "manage", "manual", "pref"):
                assert dialect.feature(name) in features


@ensureDeferred
async def test_other_archives(archive, pair):
    """Nobody reaches another user's archive, of the same domain or another, whatever he asks."""
    juliet, romeo = await pair()
    await record(juliet, encrypt=False)
    await exchange(juliet, romeo, "words", to=romeo.jid)
    await until(lambda: archive.archived() == 1)
    remove = f"<remove xmlns='{F.namespace}'/>"
    for to in (juliet.bare, "capulet.lit"):
        assert refused(await romeo.ask(f"<list xmlns='{F.namespace}'/>", to=to)) == "forbidden"
        assert refused(await romeo.ask(remove, "set", to=to)) == "forbidden"
    assert len(await collections(juliet)) == 1


@ensureDeferred
async def test_connection_reset(archive, pair):
    """A stream whose connection breaks is closed with all it had open: its keys are gone."""
    juliet, romeo = await pair()
    await record(juliet, (LAPTOP, "laptop"))
    await exchange(juliet, romeo, "words", to=romeo.jid)
    await until(lambda: archive.archived() == 1)
    assert len(archive.archiver._works.keyring) == 1
    await juliet.abort()
    await until(lambda: not archive.archiver.has_streams(juliet.bare))
    await until(lambda: len(archive.archiver._works.keyring) == 0)


@ensureDeferred
async def test_resumed_stream(archive, pair):
    """A stream that is resumed goes on in the same collection; what came meanwhile is archived once."""
    juliet, romeo = await pair(resumes=True)
    await record(juliet, (LAPTOP, "laptop"))
    await exchange(romeo, juliet, "one", to=juliet.jid)
    await juliet.abort()
    recorder = archive.archiver._owners[juliet.bare].recorders[juliet.jid]
    await until(lambda: recorder.pending)
    romeo.say(juliet.jid, "two")
    await until(lambda: archive.archived() == 2)
    await juliet.connect("session_resumed")
    await juliet.message("two")
    await exchange(romeo, juliet, "three", to=juliet.jid)
    await until(lambda: archive.archived() == 3)
    assert [body for _, body in await words(juliet, LAPTOP)] == ["one", "two", "three"]
    assert len(await collections(juliet)) == 1


@pytest.mark.parametrize("scope", ["stream", "global"])
@ensureDeferred
async def test_restart(archive, pair, scope):
    """While the archive restarts in mid-conversation nothing is lost, and recording goes on without a word from the
    client, whether he asked for it once or for good."""
    juliet, romeo = await pair()
    await record(juliet, (LAPTOP, "laptop"), scope=scope)
    await exchange(romeo, juliet, "one", to=juliet.jid)
    await until(lambda: archive.archived() == 1)
    await archive.stop()
    await exchange(romeo, juliet, "two", to=juliet.jid)
    await archive.start()
    await exchange(romeo, juliet, "three", to=juliet.jid)
    await until(lambda: archive.archived() == 2)
    assert [body for _, body in await words(juliet, LAPTOP)] == ["one", "two", "three"]


@ensureDeferred
async def test_closed_while_away(archive, pair, login):
    """What streams asked for is forgotten with them, though they end while the archive restarts; a new stream with
    the same resource is not recorded."""
    juliet, romeo = await pair()
    for client in (juliet, romeo):
        await record(client, encrypt=False)
    jid = juliet.jid
    assert len((await archive.service._storage.state(juliet.bare)).streams) == 1
    await archive.stop()
    await juliet.close()
    await archive.start()
    stored = archive.service._storage.state
    for _ in range(100):
        if not (await stored(juliet.bare)).streams:
            break
        await romeo.settled()
    assert not (await stored(juliet.bare)).streams
    assert len((await stored(romeo.bare)).streams) == 1
    again = await login(jid)
    await exchange(romeo, again, "words", to=jid)
    await until(lambda: archive.archived() == 1)
    assert await words(again) == []
    assert await words(romeo) == [("to", "words")]


@pytest.mark.parametrize("end", ["replaced", "timed out"])
@ensureDeferred
async def test_a_dead_stream(archive, server, login, account, end):
    """What was sent to a stream that nobody came back to is delivered again at the next login, and archived once."""
    bare = account("juliet")
    juliet = await login(f"{bare}/phone", resumes=True, resumable=1)
    romeo = await login(account("romeo", "montague.lit"))
    await record(juliet, (LAPTOP, "laptop"), scope="global")
    await exchange(romeo, juliet, "one", to=juliet.jid)
    await juliet.abort()
    owner = archive.archiver._owners[bare]
    await until(lambda: owner.recorders[juliet.jid].pending)
    romeo.say(juliet.jid, "two")
    await until(lambda: archive.archived() == 2)
    if end == "timed out" and server.target.name == "ejabberd":  # Prosody hears no client's wish for less
        await until(lambda: not archive.archiver.has_streams(bare))
    again = await login(f"{bare}/phone")
    late = await again.message("two")
    assert late.xml.find("{urn:xmpp:delay}delay") is not None
    await exchange(romeo, again, "three", to=again.jid)
    await until(lambda: archive.archived() >= 3)
    assert [body for _, body in await words(again, LAPTOP)] == ["one", "two", "three"]


@ensureDeferred
async def test_a_server_that_vanishes(archive):
    """The system is told to look for a server that says nothing, as one whose machine is gone says nothing either."""
    connection = archive.host._link._stream.transport.getHandle()
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
