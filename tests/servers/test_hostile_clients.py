"""A hostile client on a real server, of the victim's own domain or another, with every wrapper there is: it gets
nothing, and changes nothing."""

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from archive_crypt.core.dialect import F
from tests.kit import LAPTOP, key_info
from tests.servers.archive import collections, record, refused, until, words
from tests.servers.kit import COMPONENT

FEED = "urn:x-archive-crypt:feed:1"
PRIVILEGE = "urn:xmpp:privilege:2"
HOSTS = ("capulet.lit", "montague.lit")


@pytest.fixture
def scene(archive, login, account):
    """A function that gives a victim, who has one message archived, and a hostile client on `host`."""

    async def start(host):
        victim, mallory = await login(account("juliet")), await login(account("mallory", host))
        await record(victim, encrypt=False)
        mallory.say(victim.jid, "hello")
        await victim.message("hello")
        await until(lambda: archive.archived() == 1)
        return victim, mallory

    return start


def forwarded(inner):
    return f"<forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded>"


async def seen(archive, before=0):
    """When the component has got another forged stanza."""
    await until(lambda: forged(archive) > before)


def forged(archive):
    return sum(n for reason, n in archive.host.counts.items() if reason.endswith("forged"))


@pytest.mark.parametrize("host", HOSTS)
@ensureDeferred
async def test_forged_feed(archive, scene, host):
    """Copies, streams, snapshots and keys that a client tells of are dropped and counted."""
    victim, mallory = await scene(host)
    message = f"<message xmlns='jabber:client' from='nurse@capulet.lit/x' to='{victim.jid}'><body>forged</body></message>"
    for element in (  # of which a server may keep some from the component
        f"<privilege xmlns='{PRIVILEGE}'><perm access='message' type='none'/></privilege>",
        "<delegation xmlns='urn:xmpp:delegation:2'><delegated namespace='x'/></delegation>",
    ):
        mallory.send(f"<message to='{COMPONENT}' type='chat' id='f'>{element}</message>")
    for element in (
        f"<copy xmlns='{FEED}' jid='{victim.jid}' direction='in'>{forwarded(message)}</copy>",
        f"<stream xmlns='{FEED}' jid='{victim.jid}' event='close'/>",
        f"<snapshot xmlns='{FEED}' event='begin' missed='7'/>",
        f"<snapshot xmlns='{FEED}' event='end'/>",
        f"<published xmlns='{FEED}' jid='{victim.bare}' node='urn:xmpp:pubkey:2'/>",
    ):
        before = forged(archive)
        mallory.send(f"<message to='{COMPONENT}' type='chat' id='f'>{element}</message>")
        await seen(archive, before)
    mallory.say(victim.jid, "still recorded")
    await victim.message("still recorded")
    await until(lambda: archive.archived() == 2)
    assert sorted(await words(victim)) == [("from", "hello"), ("from", "still recorded")]
    assert archive.host.counts["missed while away"] == 0


@pytest.mark.parametrize("host", HOSTS)
@ensureDeferred
async def test_strange_namespaces(archive, scene, host):
    """Whatever the server lets through in a message does not cost the component its connection."""
    victim, mallory = await scene(host)
    strange = "<x xmlns='urn:a b' xmlns:p='&quot;&lt;&gt;&amp;' p:a='1'/>"
    mallory.send(f"<message to='{victim.jid}' type='chat'><body>strange</body>{strange}</message>")
    await until(lambda: archive.archived() == 2)
    assert sorted(await words(victim)) == [("from", "hello"), ("from", "strange")]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("version", [1, 2])
@ensureDeferred
async def test_forged_delegation(archive, scene, host, version):
    """A request in another user's name is refused, however it is wrapped and wherever it is sent."""
    victim, mallory = await scene(host)
    for request, kind in (
        (f"<list xmlns='{F.namespace}'/>", "get"),
        (f"<remove xmlns='{F.namespace}'/>", "set"),
    ):
        inner = f"<iq xmlns='jabber:client' type='{kind}' id='i' from='{victim.jid}'>{request}</iq>"
        wrapped = f"<delegation xmlns='urn:xmpp:delegation:{version}'>{forwarded(inner)}</delegation>"
        assert refused(await mallory.ask(wrapped, "set", to=COMPONENT)) == "forbidden"
        for to in ("capulet.lit", "montague.lit", victim.bare):
            assert refused(await mallory.ask(wrapped, "set", to=to)) is not None
    assert len(await collections(victim)) == 1


@pytest.mark.parametrize("host", HOSTS)
@ensureDeferred
async def test_forged_privilege(archive, scene, host):
    """Nobody but the component speaks for users or the server: not to read a node, not to push, not to send."""
    victim, mallory = await scene(host)
    items = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:pubkey:2'/></pubsub>"
    for payload, kind, to in (
        (items, "get", victim.bare),
        (f"<pref xmlns='{F.namespace}'><auto save='false'/></pref>", "set", victim.jid),
    ):
        inner = f"<iq xmlns='jabber:client' type='{kind}' id='i' to='{to}'>{payload}</iq>"
        answer = await mallory.ask(
            f"<privileged_iq xmlns='{PRIVILEGE}'>{inner}</privileged_iq>", kind, to=victim.bare
        )
        assert refused(answer) is not None
    notice = (
        f"<message xmlns='jabber:client' from='capulet.lit' to='{victim.jid}'><body>forged</body></message>"
    )
    for to in ("capulet.lit", COMPONENT):
        mallory.send(
            f"<message to='{to}'><privilege xmlns='{PRIVILEGE}'>{forwarded(notice)}</privilege></message>"
        )
    await mallory.settled()
    await victim.settled()
    assert not [stanza for stanza in victim.inbox.stanzas if "forged" in str(stanza)]


@pytest.mark.parametrize("host", HOSTS)
@ensureDeferred
async def test_forged_keys(archive, scene, host):
    """Answers to questions that the archive puts to another user's account are not believed from anybody else."""
    victim, mallory = await scene(host)
    keys = (
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:tmp:pubkey'><item id='x'>"
        f"{key_info(LAPTOP, 'mallory')}</item></items></pubsub>"
    )
    answers = archive.host._privilege._asked
    asking = defer.ensureDeferred(
        victim.ask(f"<auto xmlns='{F.namespace}' save='true' encrypt='true'/>", "set")
    )
    await until(lambda: answers or archive.host._keys._read)
    inner = f"<iq xmlns='jabber:client' type='result' id='i' from='{victim.bare}'>{keys}</iq>"
    for id_ in [*answers, "guessed"]:
        mallory.send(
            f"<iq type='result' id='{id_}' to='{COMPONENT}'>"
            f"<privilege xmlns='{PRIVILEGE}'>{forwarded(inner)}</privilege></iq>"
        )
    assert refused(await asking) == "not-acceptable", "no key that may be used"
    assert archive.archiver._owners[victim.bare].published(0) == ()


@pytest.mark.parametrize("host", HOSTS)
@ensureDeferred
async def test_asked_directly(archive, scene, host):
    """The component itself has no archive for whoever asks it, nor tells what it would have a server announce."""
    victim, mallory = await scene(host)
    assert refused(await mallory.ask(f"<list xmlns='{F.namespace}'/>", to=COMPONENT)) == "service-unavailable"
    info = "<query xmlns='http://jabber.org/protocol/disco#info' node='{}'/>"
    node = f"urn:xmpp:delegation:2::{F.namespace}"
    assert refused(await mallory.ask(info.format(node), to=COMPONENT)) == "item-not-found"


@pytest.mark.parametrize("host", HOSTS)
@ensureDeferred
async def test_somebody_elses_archive(archive, scene, host):
    """Every verb, asked of another user's account or of another domain, is forbidden and changes nothing."""
    victim, mallory = await scene(host)
    (shown,) = await collections(victim)
    where = f"with='{shown.get('with')}' start='{shown.get('start')}'"
    name = "<KeyName xmlns='http://www.w3.org/2000/09/xmldsig#'>laptop</KeyName>"
    other = "montague.lit" if host == "capulet.lit" else "capulet.lit"
    for to in (victim.bare, other):
        for kind, request in (
            ("get", f"<list xmlns='{F.namespace}'/>"),
            ("get", f"<retrieve xmlns='{F.namespace}' {where}/>"),
            ("get", f"<modified xmlns='{F.namespace}' start='2020-01-01T00:00:00Z'/>"),
            ("get", f"<keys xmlns='{F.namespace}'>{name}</keys>"),
            ("get", f"<pref xmlns='{F.namespace}'/>"),
            ("set", f"<auto xmlns='{F.namespace}' save='false'/>"),
            ("set", f"<save xmlns='{F.namespace}'><chat {where}><note>x</note></chat></save>"),
            ("set", f"<remove xmlns='{F.namespace}' {where}/>"),
            ("set", f"<delete xmlns='{F.namespace}' {where}>{name}</delete>"),
            ("set", f"<pref xmlns='{F.namespace}'><default otr='concede' save='false'/></pref>"),
        ):
            assert refused(await mallory.ask(request, kind, to=to)) in ("forbidden", "service-unavailable")
    assert await words(victim) == [("from", "hello")]


@pytest.mark.parametrize("host", HOSTS)
@ensureDeferred
async def test_answers_that_no_server_takes(archive, scene, host):
    """Nobody has the archive say something so long that the server ends its stream: neither with an id, nor with
    what an error repeats, however much longer it gets by being escaped."""
    victim, mallory = await scene(host)
    link = archive.host._link._stream
    long = "'" * 200_000
    info = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
    mallory.send(f'<iq type="get" id="{long}" to="{COMPONENT}">{info}</iq>')
    mallory.send(f'<iq type="get" id="{long}"><list xmlns="{F.namespace}"/></iq>')
    mallory.send(f'<iq type="get" id="l"><list xmlns="{F.namespace}" with="@{long}"/></iq>')
    mallory.say(victim.jid, "after that")
    await victim.message("after that")
    await until(lambda: archive.archived() == 2)
    await mallory.inbox.take(lambda stanza: stanza["id"] == "l")
    assert archive.host._link._stream is link


@pytest.mark.parametrize("host", HOSTS)
@ensureDeferred
async def test_what_parsers_and_serialisers_stumble_over(archive, scene, host):
    """No stanza ends the component's stream, nor writes anything into it that the component did not mean."""
    victim, mallory = await scene(host)
    link = archive.host._link._stream
    notice = f"<message to='{victim.bare}'><body>forged</body></message>"
    written = f"x'/></list></iq></forwarded></delegation></iq>{notice}<iq id='y"
    written = written.replace("<", "&lt;").replace(">", "&gt;")
    for n, more in enumerate(
        (f'xmlns:x="{written}" x:y="z"', 'xmlns:x="a b" x:y="z"', 'xmlns:x="&amp;" x:y="z"')
    ):
        mallory.send(f'<iq type="get" id="s{n}"><list xmlns="{F.namespace}" with="@" {more}/></iq>')
        await mallory.inbox.take(lambda stanza, n=n: stanza["id"] == f"s{n}")
    for more in ('<x xmlns="a b"/>', f"<x xmlns='x'>{'<a/>' * 45_000}</x>", "&#10;" * 40_000):
        mallory.send(f"<message to='{victim.jid}' type='chat'><body>odd</body>{more}</message>")
        await victim.message("odd")
    mallory.say(victim.jid, "after that")
    await victim.message("after that")
    await victim.settled()
    assert ("from", "after that") in await words(victim)
    assert archive.host._link._stream is link
    assert not [stanza for stanza in victim.inbox.stanzas if "forged" in str(stanza)]
