"""A user reaches his own archive and no other: every verb, with every way to name somebody else's.

Each attack runs twice: once with a victim whose archive is full of secrets, once with one who has none. The
attacker gets the same answers, and the victim's archive is what it was.
"""

import json
from contextlib import closing

import psycopg2
import pytest
from lxml import etree
from psycopg2.extras import RealDictCursor
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import DIALECTS, F
from tests import attacks
from tests.hosts.test_component import FEED, Scene
from tests.kit import House, element

ROMEO, JULIET = "romeo@montague.lit", "juliet@capulet.lit"
FORBIDDEN = ("forbidden", "bad-request", "service-unavailable")


def text(stanza):
    return etree.tostring(stanza, encoding="unicode")


def condition(answer):
    error = answer.find("{*}error")
    return None if error is None else error[0].tag.partition("}")[2]


def check(answers, without):
    """No answer holds a secret, and all are those that there are without a victim."""
    assert answers
    assert [secret for secret in attacks.SECRETS if any(secret in answer for answer in answers)] == []
    assert list(map(attacks.comparable, answers)) == list(map(attacks.comparable, without))


# In memory, at the handler: what a host passes on unseen.


def kept(house, owner=JULIET):
    """All of an owner's archive, stored and in memory."""
    owned = house.storage._owners.get(owner)
    here = house.archiver._owners.get(owner)
    streams = [vars(one) for one in here.recorders.values()] if here else []
    shown = [(one["auto"], one["keys"], one["lasting"], tuple(one["subscribed"])) for one in streams]
    open_ = [(talk.id, talk.items, talk.state) for talk in here.conversations.recorded()] if here else []
    return owned and owned.copy(0), shown, here and here.preferences, open_


def asks(stream, kind, payload, **attributes):
    """An iq with any attributes; all that the stream got of it."""
    iq = element(attacks.iq(kind, payload))
    iq["from"] = stream.jid.full()
    for name, value in attributes.items():
        iq[name] = value
    before = len(stream.received)
    stream.dispatch(iq)
    stream.house.settle()
    return stream.received[before:]


#: Ways to address an archive, and whether it is the attacker's own.
WAYS = {
    "nobody": ({}, True),
    "himself": ({"to": ROMEO}, True),
    "his stream": ({"to": f"{ROMEO}/a"}, True),
    "his server": ({"to": "montague.lit"}, True),
    "forged sender": ({"from": f"{JULIET}/b"}, True),
    "forged sender to himself": ({"from": JULIET, "to": ROMEO}, True),
    "victim": ({"to": JULIET}, False),
    "victim in capitals": ({"to": JULIET.upper()}, False),
    "victim's stream": ({"to": f"{JULIET}/b"}, False),
    "victim's server": ({"to": "capulet.lit"}, False),
    "victim as resource": ({"to": f"{ROMEO}/{JULIET}"}, False),
    "victim as node": ({"to": f"{JULIET}@montague.lit"}, False),
    "his name elsewhere": ({"to": "romeo@capulet.lit"}, False),
    "sub-server": ({"to": "archive.montague.lit"}, False),
    "nothing": ({"to": ""}, False),
    "no JID": ({"to": "@"}, False),
}


def in_memory(namespace, way, ids=None):
    """Everything tried, one after the other: what the attacker got, and the victim's `ids`. Given those, the
    victim keeps nothing."""
    house = House()
    stream, other = house.stream(f"{ROMEO}/a"), house.stream(f"{JULIET}/b")
    for xml in () if ids else attacks.VICTIMS:
        assert condition(other.ask(xml)) is None
    if not ids:
        other.says(attacks.MESSAGE)
        owned = house.storage._owners[JULIET]
        known = [(one.shown.start, one.shown.id, one.stamp) for one in owned.in_order()]
        ids = attacks.ids_of(known)
    house.passes(1)  # what is made at one moment is in no certain order
    for xml in attacks.ATTACKERS:
        assert condition(stream.ask(xml)) is None
    attributes, is_own = WAYS[way]
    before, heard, got = kept(house), len(other.received), []
    own = kept(house, ROMEO)
    for kind, payload in attacks.verbs(namespace, ids):
        answers = asks(stream, kind, payload, **attributes)
        assert kept(house) == before, payload
        got += map(text, answers)
        if not is_own:
            assert condition(answers[0]) in FORBIDDEN
            assert kept(house, ROMEO) == own
    assert len(other.received) == heard
    assert not is_own or any(attacks.OWN in answer for answer in got)
    return got, ids


@pytest.mark.clause("INT-01")
@pytest.mark.parametrize("namespace", DIALECTS)
@pytest.mark.parametrize("way", WAYS)
def test_in_memory(way, namespace):
    """Whatever address an iq has and whatever it names, it reaches the archive of its stream's user, or none."""
    got, ids = in_memory(namespace, way)
    check(got, in_memory(namespace, way, ids)[0])


# On PostgreSQL, by a real server: what a client can do.

TABLES = ["collection", "change", "data_key", "encrypted_key", "item", "auto", "supplied_key"]
TABLES += [
    "preference_default",
    "preference_item",
    "preference_session",
    "preference_method",
    "published_key",
]


def rows(dsn, owner=JULIET):
    """All rows of an owner, of every table."""
    with (
        closing(psycopg2.connect(dsn, cursor_factory=RealDictCursor)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT to_jsonb(o) AS row FROM owner o WHERE jid = %s", (owner,))
        found = {"owner": [one["row"] for one in cursor.fetchall()]}
        for table in TABLES:
            cursor.execute(
                f"SELECT to_jsonb(t) AS row FROM {table} t JOIN owner o ON o.id = t.owner WHERE o.jid = %s",
                (owner,),
            )
            found[table] = sorted(json.dumps(one["row"], sort_keys=True) for one in cursor.fetchall())
        return found


NURSE = "nurse@capulet.lit"
REAL_WAYS = {
    "nobody": "",
    "himself": f" to='{NURSE}'",
    "server": " to='capulet.lit'",
    "victim": f" to='{JULIET}'",
    "victim in capitals": f" to='{JULIET.upper()}'",
    "victim's lost stream": f" to='{JULIET}/gone'",
    "other server": " to='montague.lit'",
}


async def for_real(house, dsn, namespace, way, ids=None):
    await house.begins()
    try:
        stream, other = await house.stream(f"{NURSE}/a"), await house.stream(f"{JULIET}/b")
        victim = not ids
        if victim:
            for xml in attacks.VICTIMS:
                assert condition(await other.asks(xml)) is None
            await other.says(attacks.MESSAGE)
            known = [json.loads(row) for row in rows(dsn)["change"]]
            ids = attacks.ids_of([(row["start"], row["collection"], row["stamp"]) for row in known])
        await house.passes(1)
        for xml in attacks.ATTACKERS:
            assert condition(await stream.asks(xml)) is None
        before, got = rows(dsn), []
        for number, (kind, payload) in enumerate(attacks.verbs(namespace, ids)):
            xml = attacks.iq(kind, payload, f"a{number}").replace("<iq", f"<iq{REAL_WAYS[way]}", 1)
            got.append(text(await stream.asks(xml)))
            while (unasked := await stream.gets()) is not None:
                got.append(text(unasked))
        assert rows(dsn) == before
        assert not victim or all(before[table] for table in ("item", "encrypted_key", "preference_item"))
        assert await other.gets() is None
        return got, ids
    finally:
        await house.ends()


@pytest.mark.clause("INT-01")
@pytest.mark.parametrize("way", REAL_WAYS)
@ensureDeferred
async def test_for_real(real_house, dsn, way):
    """A neighbour on the same real server gets nothing of another's archive on PostgreSQL, and leaves every row
    of it as it is."""
    got, ids = await for_real(real_house, dsn, F.namespace, way)
    check(got, (await for_real(real_house, dsn, F.namespace, way, ids))[0])


# Beside another server: what it delegates.

CHAMBER = f"{JULIET}/chamber"
#: From which domain a request comes, whom it says it is from, and whether that is somebody with an archive.
DELEGATED = {
    "a user": ("montague.lit", f"{ROMEO}/a", None, True),
    "a user to the victim": ("montague.lit", f"{ROMEO}/a", JULIET, False),
    "a namesake": ("montague.lit", "juliet@montague.lit/chamber", None, True),
    "another's user": ("montague.lit", CHAMBER, None, False),
    "another's user to his own": ("montague.lit", CHAMBER, JULIET, False),
    "a bare user": ("capulet.lit", JULIET, None, False),
    "the domain itself": ("capulet.lit", "capulet.lit", None, False),
    "the domain's resource": ("capulet.lit", "capulet.lit/chamber", JULIET, False),
    "nobody": ("capulet.lit", "", JULIET, False),
    "no JID": ("capulet.lit", "@@/x", JULIET, False),
    "two in one": ("montague.lit", f"{JULIET}@montague.lit/x", None, False),
    "a domain that is not ours": ("verona.lit", CHAMBER, None, False),
    "a user as domain": (JULIET, CHAMBER, None, False),
    "a domain's resource as domain": ("capulet.lit/x", CHAMBER, None, False),
}


def delegated(scene, domain, sender, to, kind, payload):
    """All that the server is sent when it delegates a request."""
    scene.server.delegates(payload, kind, sender, to, domain=domain)
    scene.answers_keys()
    return scene.server.got()


def by_delegation(namespace, way, ids=None):
    scene = Scene(domains=("capulet.lit", "montague.lit"))
    house, (domain, sender, to, may) = scene.house, DELEGATED[way]
    scene.server.snapshot(CHAMBER)
    for event in ("begin", "end"):
        scene.server.says(f"<snapshot xmlns='{FEED}' event='{event}' server='Test 1'/>", "montague.lit")
    house.settle()
    for xml in () if ids else attacks.VICTIMS:
        iq = etree.fromstring(xml)
        delegated(scene, "capulet.lit", CHAMBER, None, iq.get("type"), text(iq[0]))
        assert condition(scene.answer()) is None
    if not ids:
        scene.server.copies("Wherefore?")
        house.settle()
        owned = house.storage._owners[JULIET]
        ids = attacks.ids_of([(one.shown.start, one.shown.id, one.stamp) for one in owned.in_order()])
    house.passes(1)
    for xml in attacks.ATTACKERS if may else ():
        delegated(scene, domain, sender, to, "set", text(etree.fromstring(xml)[0]))
        assert condition(scene.answer()) is None
    before, got = kept(house), []
    for kind, payload in attacks.verbs(namespace, ids):
        answers = delegated(scene, domain, sender, to, kind, payload)
        assert kept(house) == before, payload
        got += map(text, answers)
        (answer,) = [one for one in answers if one.get("id") == "o1"]
        inner = answer.find("{*}delegation/{*}forwarded/{jabber:client}iq")
        if not may:
            assert condition(answer if inner is None else inner) in FORBIDDEN
    assert any(attacks.OWN in answer for answer in got) is may
    return got, ids


@pytest.mark.clause("INT-01")
@pytest.mark.parametrize("way", DELEGATED)
def test_by_delegation(way):
    """What a virtual host delegates reaches the archives of its own users, each his own, and no other."""
    got, ids = by_delegation(F.namespace, way)
    check(got, by_delegation(F.namespace, way, ids)[0])
