"""mod_archive_feed: what the component is told first, and what becomes of copies while it is away (docs/feed.rst)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor, threads
from twisted.internet.task import deferLater

from tests.servers.feed import (
    NS,
    body,
    copies,
    farewell,
    leave,
    streams,
    take_copy,
    take_snapshot,
    take_stream,
    told,
)
from tests.servers.kit import DOMAINS


def held(component, domain="capulet.lit"):
    """The copies of `told` that had to wait: stream, direction, body, and when they were made."""
    found = [child for child in told(component, domain) if child.tag == f"{{{NS}}}copy" and child.get("held")]
    return [
        (copy.get("jid"), copy.get("direction"), body(copy), datetime.fromisoformat(copy.get("held")))
        for copy in found
    ]


@ensureDeferred
async def test_first(server, component, account, login):
    """The first that a virtual host says is its snapshot, which names the streams that there are."""
    juliet, nurse, romeo = account("juliet"), account("nurse"), account("romeo", "montague.lit")
    here = [(await login(jid)).jid for jid in (juliet, juliet, nurse)]
    there = (await login(romeo)).jid
    archive = await component()
    snapshots = {domain: await take_snapshot(archive, domain) for domain in DOMAINS}
    assert sorted(snapshots["capulet.lit"].streams) == [(jid, "open") for jid in sorted(here)]
    assert snapshots["montague.lit"].streams == [(there, "open")]
    for snapshot in snapshots.values():
        name, version = snapshot.attributes["server"].split(" ", 1)
        assert (name.lower(), version.startswith(server.target.version)) == (server.target.name, True)


@ensureDeferred
async def test_privilege(server, component):
    """ejabberd's module takes privileged iqs itself, and says so; Prosody's does not, mod_privilege does."""
    snapshot = await take_snapshot(await component())
    expected = {"ejabberd": "urn:xmpp:privilege:2", "prosody": None}
    assert snapshot.attributes.get("privilege") == expected[server.target.name]


@ensureDeferred
async def test_pending(server, component, account, login):
    """A stream that may be resumed is open and pending."""
    juliet = await login(account("juliet"), resumes=True)
    first = await component()
    await juliet.abort()
    await take_stream(first, juliet.jid, "pending")
    await leave(first)
    events = [(juliet.jid, "open"), (juliet.jid, "pending")]
    assert (await take_snapshot(await component())).streams == events
    await juliet.connect(until="session_resumed")


@ensureDeferred
async def test_held(server, component, account, login):
    """A component that was away for a moment gets the copies of that time, in order, with when they were made."""
    first, juliet = await component(), await login(account("juliet"))
    await leave(first)
    started = datetime.now(UTC)
    for number in range(20):
        juliet.say(juliet.jid, f"held {number}")
    await juliet.message("held 19")
    await deferLater(reactor, 1)  # it is away for that long
    ended = datetime.now(UTC)
    second = await component()
    snapshot = await take_snapshot(second)
    assert snapshot.attributes["missed"] == "0"
    juliet.say(juliet.jid, "last")
    await take_copy(second, juliet.jid, "in", "last")
    for direction in ("out", "in"):
        texts = [text for _, towards, text, _ in held(second) if towards == direction]
        assert texts == [f"held {number}" for number in range(20)]
    for *_, when in held(second):
        assert started - timedelta(milliseconds=2) <= when <= ended
    assert [copy for copy in copies(second) if copy[2] == "last"] == copies(second)[-1:]


@ensureDeferred
async def test_leave(server, component, account, login):
    """A component that says that it leaves gets nothing more; what happens then is for the next stream, even
    if this one goes on."""
    first, juliet = await component(), await login(account("juliet"))
    juliet.say(juliet.jid, "before")
    await juliet.message("before")
    await farewell(first)
    before = copies(first)
    juliet.say(juliet.jid, "after")
    await juliet.message("after")
    await deferLater(reactor, 1.2)  # ejabberd's module looks for a component every second
    first.send("</stream:stream>")
    await first.gone
    assert [text for _, _, text in before] == ["before"] * 2
    assert copies(first) == before
    second = await component()
    await take_snapshot(second)
    juliet.say(juliet.jid, "last")
    await take_copy(second, juliet.jid, "in", "last")
    assert [text for _, _, text, _ in held(second)] == ["after"] * 2


@ensureDeferred
async def test_leave_forged(server, component, account, login):
    """Only the component can have its feed held."""
    first, juliet = await component(), await login(account("juliet"))
    juliet.send(f"<message to='capulet.lit'><leave xmlns='{NS}'/></message>")
    juliet.say(juliet.jid, "still here")
    await take_copy(first, juliet.jid, "in", "still here")


@ensureDeferred
async def test_held_and_over(server, component, account, login):
    """A stream that ended while the component was away is open until its held copies have come."""
    first, juliet = await component(), await login(account("juliet"))
    await leave(first)
    juliet.say(juliet.jid, "farewell")
    await juliet.message("farewell")
    await juliet.close()
    second = await component()
    assert (juliet.jid, "open") in (await take_snapshot(second)).streams
    await take_stream(second, juliet.jid, "close")
    assert [text for _, _, text, _ in held(second)] == ["farewell"] * 2


@ensureDeferred
async def test_too_late(server, component, account, login):
    """Copies that waited for 5 seconds are dropped, later ones are not held, and both are counted once."""
    first, juliet = await component(), await login(account("juliet"))
    await leave(first)
    juliet.say(juliet.jid, "dropped")
    await juliet.message("dropped")
    await deferLater(reactor, 5.2)  # what is measured: there is no event to wait for
    juliet.say(juliet.jid, "not held")
    await juliet.message("not held")
    second = await component()
    assert (await take_snapshot(second)).attributes["missed"] == "4"
    juliet.say(juliet.jid, "last")
    await take_copy(second, juliet.jid, "in", "last")
    assert [text for _, _, text in copies(second)] == ["last"]
    await leave(second)
    assert (await take_snapshot(await component())).attributes["missed"] == "0"


@pytest.mark.parametrize(("count", "size"), [(501, 10), (12, 200_000)], ids=["1000 copies", "4 MiB"])
@ensureDeferred
async def test_too_many(server, component, account, login, count, size):
    """More than 1,000 copies or 4 MiB are dropped altogether, and counted."""
    first, juliet = await component(), await login(account("juliet"))
    await leave(first)
    for _ in range(count):
        juliet.say(juliet.jid, "x" * size)
    juliet.say(juliet.jid, "the end")
    await juliet.message("the end")
    second = await component()
    assert (await take_snapshot(second)).attributes["missed"] == str(2 * (count + 1))
    juliet.say(juliet.jid, "last")
    await take_copy(second, juliet.jid, "in", "last")
    assert held(second) == []


@ensureDeferred
async def test_nowhere_else(server, component, account, login):
    """While the component is away nothing is sent to it by s2s, and nobody gets an error."""
    first, juliet, nurse = await component(), await login(account("juliet")), await login(account("nurse"))
    await leave(first)
    printed = len(server.process.lines)
    nurse.say(juliet.jid, "good night")
    await juliet.message("good night")
    await juliet.close()
    await nurse.settled()
    assert [stanza for stanza in nurse.inbox.stanzas if stanza["type"] == "error"] == []
    assert [line for line in server.process.lines[printed:] if "s2s" in line] == []


@ensureDeferred
async def test_reset(server, component, account, login):
    """A component whose connection was reset is told all anew."""
    first, juliet = await component(), await login(account("juliet"))
    await take_stream(first, juliet.jid, "open")
    await first.abort()
    second = await component()
    assert (juliet.jid, "open") in (await take_snapshot(second)).streams
    assert streams(second, juliet.jid) == []


@ensureDeferred
async def test_taken_over(server, component, account, login):
    """A component that connects again while its lost connection still stands is told all, and takes its place."""
    first, juliet = await component(), await login(account("juliet"))
    await take_stream(first, juliet.jid, "open")
    second = await component()
    assert (juliet.jid, "open") in (await take_snapshot(second)).streams
    await first.gone
    if server.target.name == "ejabberd":
        await second.announce("capulet.lit", "urn:xmpp:archive")
    juliet.send("<iq type='get' id='list'><list xmlns='urn:xmpp:archive'/></iq>")
    await second.take("{*}delegation/{*}forwarded/{*}iq/{urn:xmpp:archive}list")


@ensureDeferred
async def test_started_late(server, component, account, login):
    """A module that is started while component and clients are there tells all, and goes on from there once."""
    archive, juliet = await component(), await login(account("juliet"))
    await take_stream(archive, juliet.jid, "open")
    archive.inbox.stanzas.clear()
    await threads.deferToThread(server.restart_feed, "capulet.lit")
    assert (juliet.jid, "open") in (await take_snapshot(archive)).streams
    juliet.say(juliet.jid, "last")
    await take_copy(archive, juliet.jid, "out", "last")
    await take_copy(archive, juliet.jid, "in", "last")
    await juliet.close()
    await take_stream(archive, juliet.jid, "close")
    assert copies(archive) == []
