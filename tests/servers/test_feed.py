"""mod_archive_feed: what the server tells the component of messages and streams (docs/feed.rst)."""

from __future__ import annotations

from pytest_twisted import ensureDeferred

from tests.servers.feed import DELAY, MESSAGE, copied, copies, inner, streams, take_copy, take_stream, told


@ensureDeferred
async def test_sent(server, component, account, login):
    """What a client sends is copied with the stream it came on, and as the server routes it."""
    archive, juliet = await component(), await login(account("juliet") + "/chamber")
    juliet.say("romeo@montague.lit", "wherefore")
    copy = await take_copy(archive, juliet.jid, "out", "wherefore")
    assert (inner(copy).get("from"), inner(copy).get("to")) == (juliet.jid, "romeo@montague.lit")
    assert copy.get("held") is None


@ensureDeferred
async def test_received(server, component, account, login):
    """What a client is sent is copied with its stream, between users of one host and of two."""
    archive, juliet = await component(), await login(account("juliet"))
    for writer in (await login(account("nurse")), await login("romeo@montague.lit")):
        writer.say(juliet.jid, f"from {writer.jid}")
        copy = await take_copy(archive, juliet.jid, "in", f"from {writer.jid}")
        assert (inner(copy).get("from"), inner(copy).get("to")) == (writer.jid, juliet.jid)


@ensureDeferred
async def test_no_receiver(server, component, account, login):
    """A message without a receiver is one to the sender's own account."""
    archive, juliet = await component(), await login(account("juliet"))
    juliet.send("<message type='chat'><body>to myself</body></message>")
    for direction in ("out", "in"):
        copy = await take_copy(archive, juliet.jid, direction, "to myself")
        assert inner(copy).get("to") == juliet.bare


@ensureDeferred
async def test_two_resources(server, component, account, login):
    """A message to a bare JID is copied at each stream that gets it."""
    archive, nurse = await component(), await login(account("nurse"))
    juliet = account("juliet")
    here = [(await login(f"{juliet}/{resource}")).jid for resource in ("chamber", "balcony")]
    nurse.say(juliet, "Ay me")
    for jid in here:
        assert inner(await take_copy(archive, jid, "in", "Ay me")).get("to") == juliet


@ensureDeferred
async def test_offline(server, component, account, login):
    """A message that had to wait for its receiver is copied when he gets it, and says since when."""
    archive, nurse, juliet = await component(), await login(account("nurse")), account("juliet")
    nurse.say(juliet, "madam")
    await nurse.settled()
    jid = (await login(juliet)).jid
    assert inner(await take_copy(archive, jid, "in", "madam")).find(DELAY).get("stamp")


@ensureDeferred
async def test_blocked(server, component, account, login):
    """What the server keeps from a user is not copied (XEP-0191), neither coming nor going."""
    archive, juliet, nurse = await component(), await login(account("juliet")), await login(account("nurse"))
    await juliet.ask(
        f"<block xmlns='urn:xmpp:blocking'><item jid='{nurse.bare}'/></block>", kind="set", to=None
    )
    nurse.say(juliet.jid, "blocked")
    await nurse.settled()
    juliet.say(nurse.jid, "blocked")
    juliet.say(juliet.jid, "last")
    await take_copy(archive, juliet.jid, "in", "last")
    assert ("blocked", juliet.jid) not in [(text, jid) for jid, _, text in copies(archive)]


@ensureDeferred
async def test_messages_only(server, component, account, login):
    """Presences and iqs are not copied, messages of each type are."""
    archive, juliet, nurse = await component(), await login(account("juliet")), await login(account("nurse"))
    nurse.xmpp.send_presence(pto=juliet.jid)
    await nurse.ask("<ping xmlns='urn:xmpp:ping'/>", to=juliet.jid)
    for kind in ("normal", "chat", "headline", "groupchat"):
        nurse.say(juliet.jid, kind, kind=kind)
        await take_copy(archive, nurse.jid, "out", kind)
        await take_copy(archive, juliet.jid, "in", kind)
    assert copies(archive) == []
    assert {stanza.tag for stanza in copied(archive)} <= {MESSAGE}


@ensureDeferred
async def test_verbatim(server, component, account, login):
    """Any text and any size that the server takes is copied as it is, elements of others included."""
    archive, juliet = await component(), await login(account("juliet"))
    text = "Ξενοφῶν \U0001f339 <&>'\" \u200f٭" + "0123456789" * 20000
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    juliet.send(
        f"<message to='{juliet.jid}' type='chat' id='m&lt;1' xml:lang='el'><body>{escaped}</body>"
        "<x xmlns='urn:x'><y a='&apos;&quot;'/>z</x><thread parent='p'>t</thread></message>"
    )
    for direction in ("out", "in"):
        message = inner(await take_copy(archive, juliet.jid, direction, text))
        assert message.get("id") == "m<1"
        assert message.get("{http://www.w3.org/XML/1998/namespace}lang") == "el"
        assert message.find("{urn:x}x/{urn:x}y").attrib == {"a": "'\""}
        assert message.find("{urn:x}x/{urn:x}y").tail == "z"
        assert message.find("{jabber:client}thread").get("parent") == "p"


@ensureDeferred
async def test_open_and_closed(server, component, account, login):
    """A stream is open before the first copy of it comes, and closed after the last."""
    archive, juliet = await component(), await login(account("juliet"), presence=False)
    juliet.say(juliet.jid, "soon over")
    await juliet.settled()
    await juliet.close()
    await take_stream(archive, juliet.jid, "close")
    said = [
        child.get("event") or child.get("direction")
        for child in told(archive)
        if child.get("jid") == juliet.jid
    ]
    assert said == ["open", "out", "in"]


@ensureDeferred
async def test_reset(server, component, account, login):
    """A stream whose connection is reset is closed."""
    archive, juliet = await component(), await login(account("juliet"))
    await take_stream(archive, juliet.jid, "open")
    await juliet.abort()
    await take_stream(archive, juliet.jid, "close")


@ensureDeferred
async def test_replaced(server, component, account, login):
    """A stream that takes the place of another of the same name is open after that."""
    archive, jid = await component(), account("juliet") + "/chamber"
    await login(jid)
    await take_stream(archive, jid, "open")
    second = await login(jid)
    await take_stream(archive, jid, "open")
    second.say(jid, "last")
    await take_copy(archive, jid, "in", "last")
    assert streams(archive, jid)[1:] == []
    assert streams(archive, jid) in ([], ["close"])


@ensureDeferred
async def test_resumed(server, component, account, login):
    """A stream that lost its connection is pending, then resumed; what came meanwhile is copied once."""
    archive, juliet = await component(), await login(account("juliet"), resumes=True)
    nurse = await login(account("nurse"))
    await take_stream(archive, juliet.jid, "open")
    await juliet.abort()
    await take_stream(archive, juliet.jid, "pending")
    nurse.say(juliet.jid, "meanwhile")
    await take_copy(archive, juliet.jid, "in", "meanwhile")
    await juliet.connect(until="session_resumed")
    await juliet.message("meanwhile")
    await take_stream(archive, juliet.jid, "resume")
    nurse.say(juliet.jid, "afterwards")
    await take_copy(archive, juliet.jid, "in", "afterwards")
    assert [copy for copy in copies(archive) if copy[0] == juliet.jid] == []
    assert set(streams(archive, juliet.jid)) <= {"open"}


@ensureDeferred
async def test_unacknowledged(server, component, account, login):
    """What was sent before the connection was lost, and is sent again on the resumed stream, is copied once."""
    archive, juliet = await component(), await login(account("juliet"), resumes=True)
    nurse = await login(account("nurse"))
    juliet.xmpp.transport.pause_reading()
    nurse.say(juliet.jid, "unseen")
    await take_copy(archive, juliet.jid, "in", "unseen")
    await juliet.abort()
    await take_stream(archive, juliet.jid, "pending")
    await juliet.connect(until="session_resumed")
    await juliet.message("unseen")
    nurse.say(juliet.jid, "last")
    await take_copy(archive, juliet.jid, "in", "last")
    assert [copy for copy in copies(archive) if copy[0] == juliet.jid] == []
