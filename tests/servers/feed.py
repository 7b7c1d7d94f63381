"""The feed (docs/feed.rst) as it arrives at a bare component, for tests to wait for and to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from tests.servers.base import COMPONENT, DOMAINS
from tests.servers.component import Component

NS = "urn:x-archive-crypt:feed:1"
MESSAGE = "{jabber:client}message"
BODY = "{jabber:client}body"
DELAY = "{urn:xmpp:delay}delay"

_FORWARDED = "{urn:xmpp:forward:0}forwarded"

#: ``(full JID, event)``
StreamEvent = tuple[str, str]


@dataclass
class Snapshot:
    """What one virtual host said between ``begin`` and ``end``."""

    attributes: dict[str, str]
    streams: list[StreamEvent] = field(default_factory=list)


def element(stanza: Any) -> Any:
    """What the feed says in this stanza; None if it is something else."""
    children = [child for child in stanza if child.tag.startswith(f"{{{NS}}}")]
    return children[0] if children else None


def inner(copy: Any) -> Any:
    """The message that was copied."""
    return copy.find(f"{_FORWARDED}/{MESSAGE}")


def body(copy: Any) -> str | None:
    return inner(copy).findtext(BODY)


def told(component: Component, domain: str | None = None) -> list[Any]:
    """The feed's elements that arrived (from that domain) and that nobody took."""
    stanzas = [s for s in component.inbox.stanzas if domain in (None, s.get("from"))]
    return [found for stanza in stanzas if (found := element(stanza)) is not None]


def copies(component: Component) -> list[tuple[str, str, str]]:
    """Those of `told` that users wrote: stream, direction and body. Left out are errors, and messages without
    a body, as Prosody's mod_privilege sends one to each client."""
    found = [child for child in told(component) if child.tag == f"{{{NS}}}copy" and body(child)]
    found = [copy for copy in found if inner(copy).get("type") != "error"]
    return [(copy.get("jid"), copy.get("direction"), body(copy)) for copy in found]


def copied(component: Component) -> list[Any]:
    """Those of `told`: what was copied, whatever it is."""
    return [child for found in told(component) for child in found.iterfind(f"{_FORWARDED}/*")]


def streams(component: Component, jid: str) -> list[str]:
    """Those of `told`: the events of that stream."""
    found = [child for child in told(component) if child.tag == f"{{{NS}}}stream"]
    return [stream.get("event") for stream in found if stream.get("jid") == jid]


async def take_copy(component: Component, jid: str, direction: str, text: str) -> Any:
    """The copy of the message with that body, at that stream."""
    return await _take(
        component,
        lambda found: (
            found.tag == f"{{{NS}}}copy"
            and (found.get("jid"), found.get("direction")) == (jid, direction)
            and body(found) == text
        ),
    )


async def take_stream(component: Component, jid: str, event: str) -> Any:
    """That event of that stream."""
    return await _take(
        component,
        lambda found: (
            found.tag == f"{{{NS}}}stream" and (found.get("jid"), found.get("event")) == (jid, event)
        ),
    )


async def take_published(component: Component, jid: str) -> str:
    """The node that this user changed."""
    found = await _take(
        component, lambda found: found.tag == f"{{{NS}}}published" and found.get("jid") == jid
    )
    return found.get("node")


async def take_snapshot(component: Component, domain: str = "capulet.lit") -> Snapshot:
    """The snapshot of that host, which must be the very next that it says."""
    begin = await _next(component, domain)
    assert (begin.tag, begin.get("event")) == (f"{{{NS}}}snapshot", "begin")
    snapshot = Snapshot(dict(begin.attrib))
    while (found := await _next(component, domain)).tag == f"{{{NS}}}stream":
        snapshot.streams.append((found.get("jid"), found.get("event")))
    assert (found.tag, found.get("event")) == (f"{{{NS}}}snapshot", "end")
    return snapshot


async def _next(component: Component, domain: str) -> Any:
    """The next stanza of that host, whatever it is about; its part of the feed."""
    stanza = await component.inbox.take(lambda stanza: stanza.get("from") == domain)
    found = element(stanza)
    assert found is not None, "something else came first"
    return found


def _take(component: Component, wanted: Any) -> Deferred[Any]:
    taken = component.inbox.take(lambda stanza: element(stanza) is not None and wanted(element(stanza)))
    return taken.addCallback(element)


async def farewell(component: Component) -> None:
    """Announce that the stream ends; the server holds what happens from now on."""
    for domain in DOMAINS:
        component.send(f"<message from='{COMPONENT}' to='{domain}'><leave xmlns='{NS}'/></message>")
        await component.inbox.take(
            lambda stanza, said=domain: stanza.get("from") == said and _is(stanza, "left")
        )


async def leave(component: Component) -> None:
    """Announce it, and end the component's stream."""
    await farewell(component)
    component.send("</stream:stream>")
    await component.gone


def _is(stanza: Any, name: str) -> bool:
    found = element(stanza)
    return found is not None and found.tag == f"{{{NS}}}{name}"
