"""What the component may send in the name of users and of the server (XEP-0356), and what it may not.

On ejabberd mod_archive_feed sees to that, on Prosody mod_privilege does: the component finds the same.
"""

from __future__ import annotations

from itertools import count

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as ensured

from archive_crypt.core.dialect import DIALECTS
from tests.servers.feed import copies, take_copy
from tests.servers.kit import COMPONENT, targets

PRIVILEGE = "urn:xmpp:privilege:2"
PUBSUB = "http://jabber.org/protocol/pubsub"
NODE = "urn:xmpp:pubkey:2"
ITEMS = f"<pubsub xmlns='{PUBSUB}'><items node='{NODE}'/></pubsub>"

_FORWARDED = "{urn:xmpp:forward:0}forwarded"
_FORBIDDEN = "{*}error/{urn:ietf:params:xml:ns:xmpp-stanzas}forbidden"
_EJABBERDS = pytest.mark.parametrize(
    "target", [target for target in targets() if target.name == "ejabberd"], indirect=True, ids=str
)
_ids = count(1)


async def ask(archive, user, payload, kind="get", sender=COMPONENT, **inner):
    """The outer answer to a privileged iq in the user's name; `inner` are attributes of the iq within."""
    number = next(_ids)
    attributes = "".join(f" {name}='{value}'" for name, value in inner.items())
    archive.send(
        f"<iq type='{kind}' id='outer-{number}' from='{sender}' to='{user}'><privileged_iq xmlns='{PRIVILEGE}'>"
        f"<iq xmlns='jabber:client' type='{kind}' id='inner-{number}'{attributes}>{payload}</iq></privileged_iq></iq>"
    )
    answer = await archive.inbox.take(lambda stanza: stanza.get("id") == f"outer-{number}")
    assert (answer.get("from"), answer.get("to")) == (user, sender)
    found = answer.find(f"{{{PRIVILEGE}}}privilege/{_FORWARDED}/{{jabber:client}}iq")
    assert found is None or found.get("id") == f"inner-{number}"
    return answer


def answered(answer):
    """What the iq within got for an answer."""
    assert answer.get("type") == "result"
    return answer.find(f"{{{PRIVILEGE}}}privilege/{_FORWARDED}/{{jabber:client}}iq")


def forbidden(answer):
    return answer.get("type") == "error" and answer.find(_FORBIDDEN) is not None


def notice(sender, to, text="Your key has expired."):
    """A message of the server to one of its users."""
    return (
        f"<message from='{COMPONENT}' to='capulet.lit' id='notice'><privilege xmlns='{PRIVILEGE}'>"
        f"<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='{sender}' to='{to}'>"
        f"<body>{text}</body></message></forwarded></privilege></message>"
    )


@pytest.mark.parametrize("inner_to", [True, False], ids=["to", "no to"])
@ensureDeferred
async def test_published_keys(server, component, account, login, inner_to):
    """The component reads what a user published for himself alone, whether he is there or not."""
    archive, juliet = await component(), await login(account("juliet"))
    form = (
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>"
        f"<value>{PUBSUB}#publish-options</value></field>"
        "<field var='pubsub#access_model'><value>whitelist</value></field></x>"
    )
    published = await juliet.ask(
        f"<pubsub xmlns='{PUBSUB}'><publish node='{NODE}'><item id='1'><key xmlns='urn:x'>k</key></item></publish>"
        f"<publish-options>{form}</publish-options></pubsub>",
        kind="set",
    )
    assert published.get("type") == "result"
    await juliet.close()
    answer = answered(await ask(archive, juliet.bare, ITEMS, **({"to": juliet.bare} if inner_to else {})))
    assert answer.get("type") == "result"
    assert answer.find("{*}pubsub/{*}items/{*}item/{urn:x}key").text == "k"


@ensureDeferred
async def test_nothing_published(server, component, account):
    """An error within is an answer like another."""
    answer = answered(await ask(await component(), account("juliet"), ITEMS))
    assert answer.get("type") == "error"
    assert answer.find("{*}error/{*}item-not-found") is not None


@pytest.mark.parametrize("namespace", DIALECTS)
@ensureDeferred
async def test_push(server, component, account, login, namespace):
    """The component pushes preferences to one of a user's resources, in his name."""
    archive, juliet = await component(), await login(account("juliet"))
    push = f"<pref xmlns='{namespace}'><auto save='true'/></pref>"
    answer = ensured(ask(archive, juliet.bare, push, kind="set", to=juliet.jid))
    pushed = await juliet.iq("set", namespace)
    assert pushed["from"] == juliet.bare
    pushed.reply().send()
    assert answered(await answer).get("type") == "result"


@pytest.mark.parametrize(
    "namespace", ["jabber:iq:roster", "vcard-temp", "urn:xmpp:ping", "urn:xmpp:archive:other"]
)
@ensureDeferred
async def test_other_namespaces(server, component, account, namespace):
    """Nothing but what an archive needs is done in a user's name."""
    assert forbidden(await ask(await component(), account("juliet"), f"<query xmlns='{namespace}'/>"))


@pytest.mark.parametrize("payload", ["", "<pubsub/>", "text"])
@ensureDeferred
async def test_no_payload(server, component, account, payload):
    """An iq that asks for nothing is refused."""
    assert (await ask(await component(), account("juliet"), payload)).get("type") == "error"


@_EJABBERDS
@ensureDeferred
async def test_two_payloads(server, component, account):
    """A payload that is allowed does not hide another."""
    archive, juliet = await component(), account("juliet")
    assert forbidden(await ask(archive, juliet, ITEMS + "<query xmlns='jabber:iq:roster'/>"))


@_EJABBERDS
@pytest.mark.parametrize(
    "inner",
    [
        {"to": "nurse@capulet.lit"},
        {"to": "romeo@montague.lit"},
        {"to": "somebody@elsewhere.example"},
        {"to": "capulet.lit"},
        {"from": "nurse@capulet.lit"},
        {"from": "capulet.lit"},
        {"to": "@"},
    ],
    ids=str,
)
@ensureDeferred
async def test_other_accounts(server, component, account, inner):
    """What is done in a user's name is done to his account only, and never leaves the server."""
    archive, juliet = await component(), account("juliet")
    printed = len(server.process.lines)
    assert forbidden(await ask(archive, juliet, ITEMS, **inner))
    assert [line for line in server.process.lines[printed:] if "s2s" in line] == []


@_EJABBERDS
@pytest.mark.parametrize("to", ["capulet.lit", "nurse@elsewhere.example", "juliet@capulet.lit/chamber"])
@ensureDeferred
async def test_not_a_user(server, component, to):
    """Only the users of the component's virtual hosts have it act for them."""
    assert forbidden(await ask(await component(), to, ITEMS))


@_EJABBERDS
@ensureDeferred
async def test_not_the_archive(serve, component):
    """Another component of the server has no such rights, nor the archive where a host did not give them."""
    other = "other.capulet.lit"

    def edit(text):
        text = text.replace("    hosts:\n", f"    hosts:\n      {other}: {{password: x}}\n")
        return text.replace("  montague.lit:\n    modules: ARCHIVE_MODULES\n", "")

    server = serve(edit)
    archive = await component(at=server)
    assert answered(await ask(archive, "juliet@capulet.lit", ITEMS)) is not None
    assert forbidden(await ask(archive, "juliet@capulet.lit", ITEMS, sender=other))
    assert forbidden(await ask(archive, "romeo@montague.lit", ITEMS))


@ensureDeferred
async def test_notice(server, component, account, login):
    """The component tells a user something in the name of his server, and gets no copy of that."""
    archive, juliet = await component(), await login(account("juliet"))
    archive.send(notice("capulet.lit", juliet.jid))
    received = await juliet.message("Your key has expired.")
    assert received["from"] == "capulet.lit"
    juliet.say(juliet.jid, "last")
    await take_copy(archive, juliet.jid, "in", "last")
    assert [text for _, _, text in copies(archive)] == ["last"]


MAM = {
    "ejabberd": ("  ARCHIVE_MODULES:\n", "  ARCHIVE_MODULES:\n    mod_mam: {default: always}\n"),
    "prosody": ('"archive_feed"', '"archive_feed", "mam"'),
}


@ensureDeferred
async def test_notice_archived(target, serve, component, login):
    """What the server's own archive (XEP-0313) makes of such a message is not copied either."""
    server = serve(lambda text: text.replace(*MAM[target.name]))
    archive, juliet = await component(at=server), await login("juliet@capulet.lit", at=server)
    archive.send(notice("capulet.lit", juliet.jid))
    assert (await juliet.message("Your key has expired.")).xml.find("{urn:xmpp:sid:0}stanza-id") is not None
    juliet.say(juliet.jid, "last")
    await take_copy(archive, juliet.jid, "in", "last")
    assert [text for _, _, text in copies(archive)] == ["last"]


@ensureDeferred
async def test_notice_of_its_own(server, component, account, login):
    """What the component says in its own name is not copied back either."""
    archive, juliet = await component(), await login(account("juliet"))
    archive.send(f"<message from='{COMPONENT}' to='{juliet.jid}'><body>As myself.</body></message>")
    assert (await juliet.message("As myself."))["from"] == COMPONENT
    juliet.say(juliet.jid, "last")
    await take_copy(archive, juliet.jid, "in", "last")
    assert [text for _, _, text in copies(archive)] == ["last"]


@_EJABBERDS
@pytest.mark.parametrize(
    ("sender", "to"),
    [
        ("montague.lit", "{juliet}"),
        ("nurse@capulet.lit", "{juliet}"),
        ("capulet.lit/x", "{juliet}"),
        ("capulet.lit", "romeo@montague.lit"),
        ("capulet.lit", "romeo@elsewhere.example"),
        ("capulet.lit", "capulet.lit"),
    ],
)
@ensureDeferred
async def test_other_notices(server, component, account, login, sender, to):
    """The component speaks in the server's name only, and to its users only."""
    archive, juliet = await component(), await login(account("juliet"))
    archive.send(notice(sender, to.format(juliet=juliet.jid)))
    assert forbidden(await archive.inbox.take(lambda stanza: stanza.get("id") == "notice"))


@ensureDeferred
async def test_users_have_none(server, component, account, login):
    """A user who sends what the component may send has nothing of it."""
    await component()
    juliet, nurse = await login(account("juliet")), await login(account("nurse"))
    juliet.send(notice("capulet.lit", nurse.jid).replace(f"from='{COMPONENT}' ", "", 1))
    payload = f"<privileged_iq xmlns='{PRIVILEGE}'><iq xmlns='jabber:client' type='get' id='i'>{ITEMS}</iq></privileged_iq>"
    assert (await juliet.ask(payload, to=nurse.bare)).get("type") == "error"
    await juliet.settled()
    juliet.say(nurse.jid, "last")
    await nurse.message("last")
    assert [stanza for stanza in nurse.inbox.stanzas if "expired" in str(stanza)] == []
