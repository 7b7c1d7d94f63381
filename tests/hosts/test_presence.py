"""Who sees whom: presence between users who are all each other's contacts (RFC 6121 4)."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.hosts.kit import CLIENT, condition

ROMEO, JULIET = "romeo@capulet.example", "juliet@capulet.example"


def presences(elements):
    """(from, type, show) of the presence stanzas."""
    found = [e for e in elements if e.tag == CLIENT + "presence"]
    return [(e.get("from"), e.get("type"), e.findtext(CLIENT + "show")) for e in found]


@ensureDeferred
async def test_presence_is_broadcast(server, connect):
    """Who becomes available sees who is there, and is seen; changes and the end are seen too."""
    juliet, romeo, silent = [await connect(server) for _ in range(3)]
    await silent.login("nurse", presence="")
    await juliet.login("juliet", presence="<presence><show>dnd</show></presence>")
    await romeo.login("romeo")
    seen = await romeo.next("presence")
    assert seen.get("to") == ROMEO + "/balcony"
    assert presences([seen]) == [(JULIET + "/balcony", None, "dnd")]
    romeo.say("<presence><show>away</show></presence>")
    romeo.say("<presence type='unavailable'/>")
    await romeo.ping()
    at = ROMEO + "/balcony"
    assert presences(await juliet.ping()) == [(at, None, None), (at, None, "away"), (at, "unavailable", None)]
    assert presences(await silent.ping()) == []


@pytest.mark.parametrize("ending", ["</stream:stream>", None])
@ensureDeferred
async def test_presence_ends_with_the_stream(server, connect, ending):
    """Whoever leaves without a word is unavailable to the others."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet")
    await romeo.login("romeo")
    await juliet.next("presence")
    romeo.say(ending) if ending else romeo.transport.abortConnection()
    assert presences([await juliet.next("presence")]) == [(ROMEO + "/balcony", "unavailable", None)]


@ensureDeferred
async def test_directed_presence(server, connect):
    """Presence sent to one reaches that one, who also learns of the end."""
    juliet, romeo, nurse = [await connect(server) for _ in range(3)]
    await juliet.login("juliet", presence="")
    await romeo.login("romeo")
    await nurse.login("nurse")
    await romeo.ping()
    await nurse.ping()
    juliet.say(f"<presence to='{ROMEO}'/>")
    juliet.say("<presence type='unavailable'/>")
    juliet.say(f"<presence to='{ROMEO}'><show>xa</show></presence>")
    juliet.say("</stream:stream>")
    await juliet.end()
    at, over = JULIET + "/balcony", (JULIET + "/balcony", "unavailable", None)
    assert presences(await romeo.ping()) == [(at, None, None), over, (at, None, "xa"), over]
    assert presences(await nurse.ping()) == []


@ensureDeferred
async def test_directed_presence_is_taken_back_once(server, connect):
    """Whom a session has told that it is gone is not told again at its end."""
    juliet, romeo = await connect(server), await connect(server)
    await juliet.login("juliet", presence="")
    await romeo.login("romeo")
    juliet.say(f"<presence to='{ROMEO}'/><presence type='unavailable'/></stream:stream>")
    await juliet.end()
    at = JULIET + "/balcony"
    assert presences(await romeo.ping()) == [(at, None, None), (at, "unavailable", None)]


@pytest.mark.parametrize(
    ("presence", "answer"),
    [
        (f"<presence type='probe' to='{ROMEO}'/>", [(ROMEO + "/balcony", None, "chat")]),
        (
            "<presence type='probe' to='nurse@capulet.example'/>",
            [("nurse@capulet.example", "unavailable", None)],
        ),
        ("<presence type='probe' to='mercutio@capulet.example'/>", []),
        (f"<presence type='subscribe' to='{ROMEO}'/>", [(ROMEO, "subscribed", None)]),
        (f"<presence type='unsubscribe' to='{ROMEO}'/>", []),
        ("<presence type='error' to='mercutio@capulet.example'/>", []),
        ("<presence to='capulet.example'/>", []),
        ("<presence type='unavailable' to='room@montague.example/me'/>", []),
        ("<presence to='room@montague.example/me'/>", "cancel/remote-server-not-found"),
        ("<presence type='visible'/>", "modify/bad-request"),
        (f"<presence type='visible' to='{ROMEO}'/>", "modify/bad-request"),
        ("<presence><priority>128</priority></presence>", "modify/bad-request"),
        ("<presence><priority>high</priority></presence>", "modify/bad-request"),
    ],
)
@ensureDeferred
async def test_other_presence(server, connect, presence, answer):
    """Probes and subscriptions are answered for the contact; what is not valid is refused."""
    juliet, romeo = await connect(server), await connect(server)
    await romeo.login("romeo", presence="<presence><show>chat</show></presence>")
    await juliet.login("juliet")
    await juliet.ping()
    juliet.say(presence)
    got = await juliet.ping()
    assert (
        ([condition(e) for e in got] == [answer]) if isinstance(answer, str) else (presences(got) == answer)
    )
