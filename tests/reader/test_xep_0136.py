"""The plugin for XEP-0136: a slixmpp client over TLS, a real server, a real archive."""

import asyncio
import time
import types

import pytest
from lxml import etree
from pytest_twisted import ensureDeferred
from twisted.words.protocols.jabber.error import StanzaError

from archive_crypt.core.dialect import F, T, V, features
from archive_crypt.core.items import ReadItem
from archive_crypt.model import SECOND, Automatic, ContactModes, Link, Modes, Otr, PageRequest, SaveMode, Use
from archive_crypt.reader.errors import (
    CannotAsk,
    FeatureNotImplemented,
    Forbidden,
    NoAnswer,
    NotAcceptable,
    NotAllowed,
    NotFound,
    NotOffered,
    NotUnderstood,
    NotWanted,
    PolicyViolation,
    Refused,
)
from archive_crypt.reader.opening import Book
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.xep_0136.preferences import SessionModes
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, PATIENCE, awaited
from tests.reader.scripted import SILENCE, Scripted, speaks

JULIET = f"juliet@{DOMAIN}"
START, HOUR = MORNING * SECOND, 3600 * SECOND
EVERYTHING = ("auto", "encrypt", "manage", "manual", "pref")


async def all_of(iterator):
    return [one async for one in iterator]


@pytest.fixture
def scripted(serve, login):
    """A function: a client of an archive that answers by a script; the plugin, and what the archive heard."""

    async def start(script, announced=(), **config):
        heard = []
        served = serve(features=announced, handler=lambda archiver, jid: Scripted(script, heard))
        client = await login(served, **config)
        return client.plugin["xep_0136"], heard

    return start


# Preferences


@ensureDeferred
@pytest.mark.clause("0136-pref-reqs-01", "0136-pref-reqs-02", "0136-pref-reqs-03", "0136-pref-determine-07")
async def test_preferences(served, login):
    """What is preferred is told as it was set; no mode that is not asked for saves more than bodies."""
    archive = (await login(served)).plugin["xep_0136"]
    first = await awaited(archive.get_preferences())
    assert (first.unset, first.default, first.items) == (True, Modes(SaveMode.BODY, Otr.CONCEDE), ())
    assert (first.auto.save, first.methods["auto"]) == (False, Use.CONCEDE)
    await awaited(archive.set_default(otr=Otr.PREFER, expire=3600))
    await awaited(archive.set_item(JULIET, SaveMode.FALSE, Otr.REQUIRE))
    await awaited(archive.set_item("capulet.lit", exact=True))
    await awaited(archive.set_methods(auto=Use.FORBID, manual=Use.PREFER))
    await awaited(archive.set_session("ffd7", SaveMode.FALSE, Otr.PREFER))
    told = await awaited(archive.get_preferences())
    assert (told.unset, told.default) == (False, Modes(SaveMode.BODY, Otr.PREFER, 3600))
    assert set(told.items) == {
        ContactModes(JULIET, Modes(SaveMode.FALSE, Otr.REQUIRE)),
        ContactModes("capulet.lit", Modes(SaveMode.BODY, Otr.CONCEDE), exact=True),
    }
    assert told.methods == {"auto": Use.FORBID, "local": Use.CONCEDE, "manual": Use.PREFER}
    assert told.sessions == (SessionModes("ffd7", SaveMode.FALSE, Otr.PREFER, 3600),)
    await awaited(archive.remove_items("capulet.lit"))
    await awaited(archive.remove_sessions("ffd7"))
    left = await awaited(archive.get_preferences())
    assert ([item.jid for item in left.items], left.sessions) == ([JULIET], ())


@ensureDeferred
async def test_what_is_in_effect(served, login):
    """How much is saved is said by the thread, the contact or the default, in this order; all else by
    the contact or the default."""
    archive = (await login(served)).plugin["xep_0136"]
    assert await awaited(archive.wanted_modes(JULIET, "ffd7")) == Modes(SaveMode.BODY, Otr.CONCEDE)
    await awaited(archive.set_default(otr=Otr.PREFER, expire=3600))
    await awaited(archive.set_session("ffd7", SaveMode.FALSE))
    assert await awaited(archive.wanted_modes(JULIET, "ffd7")) == Modes(SaveMode.FALSE, Otr.PREFER, 3600)
    await awaited(archive.set_item(JULIET, otr=Otr.FORBID))
    assert await awaited(archive.wanted_modes(JULIET)) == Modes(SaveMode.BODY, Otr.FORBID)
    assert await awaited(archive.wanted_modes(JULIET, "ffd7")) == Modes(SaveMode.FALSE, Otr.FORBID)


@ensureDeferred
@pytest.mark.clause("0136-pref-determine-13")
async def test_off_the_record_is_not_saved(scripted):
    """Nobody is asked to save what is always to be off the record."""
    archive, heard = await scripted(speaks(F))
    for preferred in (archive.set_default(otr=Otr.REQUIRE), archive.set_item(JULIET, otr=Otr.REQUIRE)):
        with pytest.raises(CannotAsk, match="save='false'"):
            await awaited(preferred)
    assert heard == []


@ensureDeferred
@pytest.mark.clause("0136-auto-toggle-07", "0136f-auto-02", "0136f-auto-03", "0136f-auto-04", "0136f-auto-05")
async def test_auto(served, login):
    """Archiving goes on and off at any time, for a stream or for good."""
    here = (await login(served)).plugin["xep_0136"]
    there = (await login(served, resource="orchard")).plugin["xep_0136"]

    async def is_on(archive):
        return (await awaited(archive.get_preferences())).auto.save

    assert await awaited(here.set_auto(True)) is False
    assert [await is_on(archive) for archive in (here, there)] == [True, False]
    assert await awaited(here.set_auto(True, lasting=True)) is True
    later = (await login(served, resource="tomb")).plugin["xep_0136"]
    assert await is_on(later)
    await awaited(later.set_auto(False))
    assert [await is_on(archive) for archive in (here, later)] == [True, False]


@ensureDeferred
@pytest.mark.clause("0136f-otr-02")
async def test_whether_it_can_be_stopped(serve, login):
    """Where the operator wants all recorded, turning it off is refused, and that can be asked."""
    for automatic, can in ((Automatic.ALLOWED, True), (Automatic.REQUIRED_BODY, False)):
        archive = (await login(serve(automatic=automatic))).plugin["xep_0136"]
        assert await awaited(archive.can_stop_auto()) is can
    with pytest.raises(NotAllowed):
        await awaited(archive.set_auto(False))


@ensureDeferred
@pytest.mark.clause("0136-pref-contact-02")
async def test_items_are_for_bare_jids(served, login):
    """A contact's modes are for all its resources, unless one is meant."""
    archive = (await login(served)).plugin["xep_0136"]
    await awaited(archive.set_item(f"{JULIET}/orchard"))
    await awaited(archive.set_item(f"{JULIET}/tomb", full=True))
    told = await awaited(archive.get_preferences())
    assert {item.jid for item in told.items} == {JULIET, f"{JULIET}/tomb"}


@ensureDeferred
@pytest.mark.clause("INT-07")
async def test_pushes(served, login):
    """Changes that another client made come as events; those that anybody else tells do not."""
    here = await login(served)
    there = await login(served, resource="orchard")
    stranger = await login(served, "juliet")
    await awaited(here.plugin["xep_0136"].get_preferences())
    heard = []
    here.add_event_handler("archive_preferences", heard.append)
    fake = stranger.make_iq_set(ito=here.boundjid.full)
    fake.enable("archive_pref")
    answer = await awaited(asyncio.wait({fake.send()}))
    (error,) = [task.exception() for task in answer[0]]
    assert error.condition == "service-unavailable"
    replies = []
    here.add_filter("out", lambda stanza: replies.append(stanza["type"]) or stanza)
    told = awaited(here.wait_until("archive_preferences", PATIENCE))
    await awaited(there.plugin["xep_0136"].set_item(JULIET, SaveMode.FALSE))
    changed = await told
    await awaited(here.plugin["xep_0136"].set_methods(auto=Use.CONCEDE))  # sent after what was answered
    assert "result" in replies
    assert heard[0] is changed
    assert changed.items == (ContactModes(JULIET, Modes(SaveMode.FALSE, Otr.CONCEDE)),)
    told = awaited(here.wait_until("archive_preferences", PATIENCE))
    await awaited(there.plugin["xep_0136"].remove_items(JULIET))
    assert (await told).removed_items == (JULIET,)


# Collections


@ensureDeferred
@pytest.mark.clause("0136-manage-list-06", "0136-manage-retrieve-02")
async def test_collections_and_pages(served, login):
    """Whatever the pages' size, each collection and each item comes once, in order."""
    for hour in range(5):
        await served.record(*"01234", keys=(), at=MORNING + 3600 * hour, thread=str(hour))
    archive = (await login(served, list_page=2, item_page=2)).plugin["xep_0136"]
    found = await awaited(all_of(archive.collections()))
    assert [collection.thread for collection in found] == list("01234")
    pages = await awaited(all_of(archive.pages(found[0])))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [page.index for page in pages] == [0, 2, 4]
    last = await awaited(archive.page(found[0], PageRequest(before="")))
    assert last.index == 3
    before = await awaited(archive.page(found[0], PageRequest(max=1, before=last.info.first)))
    assert before.index == 2
    assert await awaited(all_of(archive.collections(Query("nurse@capulet.lit")))) == []


@ensureDeferred
@pytest.mark.clause("0136-manage-02", "0136-manage-retrieve-01", "rsm-07")
async def test_any_page(served, login):
    """A page is had by its place, before or after another, from the end; and how many there are, alone."""
    await served.record(*"0123456", keys=())
    archive = (await login(served)).plugin["xep_0136"]
    (chat,) = await awaited(all_of(archive.collections()))

    async def page(**wanted):
        shown = await awaited(archive.page(chat, PageRequest(**wanted)))
        return shown.index, len(shown), shown.info

    assert (await page(max=3))[:2] == (0, 3)
    *_, info = await page(index=2, max=2)
    assert (info.index, info.count) == (2, 7)
    assert (await page(after=info.last, max=2))[:2] == (4, 2)
    assert (await page(before=info.first, max=2))[:2] == (0, 2)
    assert (await page(before="", max=2))[:2] == (5, 2)
    _, length, info = await page(max=0)
    assert (length, info.count) == (0, 7)


@ensureDeferred
@pytest.mark.clause(
    "0136-manage-list-01", "0136-manage-list-02", "0136-manage-remove-03", "0136f-list-01", "0136f-remove-01"
)
async def test_which_collections(served, login):
    """By contact, who may be anybody at a domain or one alone, and by time; to list or to remove."""
    for hour, contact in enumerate(["capulet.lit", "nurse@capulet.lit", "nurse@capulet.lit/x", JULIET]):
        await served.record("x", keys=(), to=contact, at=MORNING + 3600 * hour)
    archive = (await login(served)).plugin["xep_0136"]

    async def found(*query, **how):
        return [one.with_ for one in await awaited(all_of(archive.collections(Query(*query, **how))))]

    every = await found()
    assert await found("capulet.lit") == every[:3]
    assert await found("nurse@capulet.lit") == every[1:3]
    assert await found("capulet.lit", exact=True) == every[:1]
    assert await found(None, START + 3600 * SECOND, START + 3 * 3600 * SECOND) == every[1:3]
    await awaited(archive.remove_matching(Query("capulet.lit", exact=True)))
    assert await found() == every[1:]
    await awaited(archive.remove_matching(Query("capulet.lit")))
    assert await found() == every[3:]
    with pytest.raises(NotFound):
        await awaited(archive.remove_matching(Query(), recording=True))


@ensureDeferred
async def test_what_is_meant_exactly(scripted):
    """Where one JID alone cannot be meant, more than that is neither listed nor removed nor preferred."""
    archive, heard = await scripted(speaks(V), features(EVERYTHING)[:6])
    for asked in (
        all_of(archive.collections(Query("capulet.lit", exact=True))),
        archive.remove_matching(Query("capulet.lit", exact=True)),
        archive.set_item("capulet.lit", exact=True),
    ):
        with pytest.raises(NotOffered):
            await awaited(asked)
    assert heard == []


@ensureDeferred
@pytest.mark.clause(
    "0136-manage-remove-01",
    "0136-manage-remove-02",
)
async def test_removal(served, login):
    """One collection is removed, or all that match; what is not there is NotFound; `modified` tells it."""
    for hour in range(3):
        await served.record("x", keys=(), at=MORNING + 3600 * hour)
    archive = (await login(served)).plugin["xep_0136"]
    first, second, third = await awaited(all_of(archive.collections()))
    await awaited(archive.remove(first))
    with pytest.raises(NotFound):
        await awaited(archive.remove(first))
    await awaited(archive.remove_matching(Query(JULIET, second.start, third.start)))
    assert await awaited(all_of(archive.collections())) == [third]
    (page,) = await awaited(all_of(archive.modified()))
    assert [change.removed for change in page.changes] == [False, True, True]
    assert {change.collection.start for change in page.changes[1:]} == {first.start, second.start}
    assert await awaited(changes(archive, page.cursor)) == []
    await awaited(archive.remove(third))
    assert await awaited(changes(archive, page.cursor)) == [True]


async def changes(archive, after):
    return [change.removed async for page in archive.modified(after=after) for change in page.changes]


# Dialects


@ensureDeferred
@pytest.mark.clause("SDK-06")
@pytest.mark.parametrize("announced", [(), features(EVERYTHING)], ids=["silent", "boasting"])
async def test_fallback(scripted, announced):
    """Whatever it announces: where only 0.13 is understood, that is found out once, and remembered."""
    empty = f"<list xmlns='{V.namespace}'/>"
    archive, heard = await scripted(speaks(V, script=lambda element: empty), announced)
    for _ in range(2):
        assert await awaited(all_of(archive.collections())) == []
    asked = [element.uri for element in heard]
    assert asked == [F.namespace, T.namespace, V.namespace, V.namespace]


@ensureDeferred
@pytest.mark.clause("0136-disco-04")
@pytest.mark.parametrize("dialect", [V, T, F])
async def test_the_dialect_that_is_announced(scripted, dialect):
    """A server is asked in no dialect that it does not announce."""
    empty = f"<list xmlns='{dialect.namespace}'/>"
    announced = [dialect.feature(part) for part in EVERYTHING]
    archive, heard = await scripted(speaks(V, T, F, script=lambda element: empty), announced)
    await awaited(all_of(archive.collections()))
    assert [element.uri for element in heard] == [dialect.namespace]


@ensureDeferred
async def test_what_a_dialect_lacks(scripted):
    """What a dialect has no words for is not asked in it."""
    archive, heard = await scripted(speaks(V), [V.feature("pref")])
    with pytest.raises(NotOffered, match=DOMAIN):
        await awaited(archive.remove_items(JULIET))
    with pytest.raises(NotOffered):
        await awaited(archive.set_session("ffd7", SaveMode.FALSE))
    assert heard == []


# Errors


@ensureDeferred
@pytest.mark.clause("SDK-07")
@pytest.mark.parametrize(
    ("condition", "type_", "kind"),
    [
        ("item-not-found", "cancel", NotFound),
        ("not-acceptable", "modify", NotAcceptable),
        ("not-allowed", "cancel", NotAllowed),
        ("forbidden", "auth", Forbidden),
        ("feature-not-implemented", "cancel", FeatureNotImplemented),
        ("policy-violation", "wait", PolicyViolation),
        ("gone", "modify", Refused),
        ("undefined-condition", "cancel", Refused),
    ],
)
async def test_errors(scripted, condition, type_, kind):
    """An error answer is an exception of its condition's class, with type and text; also where slixmpp
    does not know the condition."""
    archive, _ = await scripted(lambda element: StanzaError(condition, type_, text="Wherefore?"))
    with pytest.raises(kind, match="Wherefore") as caught:
        await awaited(archive.get_preferences())
    error = caught.value
    assert (error.condition, error.type, error.text) == (condition, type_, "Wherefore?")


@ensureDeferred
async def test_no_answer(scripted):
    """A server that does not answer, a stream that ends, and none at all are not waited for."""
    archive, _ = await scripted(lambda element: SILENCE, timeout=0.1)
    with pytest.raises(NoAnswer, match="does not answer"):
        await awaited(archive.get_preferences())
    archive.timeout = PATIENCE
    asked = awaited(archive.get_preferences())
    await awaited(archive.xmpp.disconnect())
    with pytest.raises(NoAnswer, match="ended"):
        await asked
    with pytest.raises(NoAnswer, match="no connection"):
        await awaited(archive.get_preferences())


@ensureDeferred
@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "empty"),
        ("<list xmlns='jabber:client'/>", "where <list/> was expected"),
        ("<list xmlns='urn:xmpp:archive'><chat with='a@b'/></list>", "without its contact or start"),
    ],
)
async def test_answers_that_make_no_sense(scripted, said, why):
    """An answer that makes no sense is an error of its own."""
    archive, _ = await scripted(lambda element: said)
    with pytest.raises(NotUnderstood, match=why):
        await awaited(all_of(archive.collections()))


def rsm(first, last, more=""):
    return (
        f"<set xmlns='http://jabber.org/protocol/rsm'><first {more}>{first}</first><last>{last}</last></set>"
    )


@ensureDeferred
async def test_a_server_that_repeats_itself(scripted):
    """A page that comes again, or a collection that is listed twice, ends the reading of it."""
    chats = iter(range(100))

    def script(element):
        chat = "<chat with='a@b' start='2026-11-21T10:00:00Z'/>"
        return f"<list xmlns='{element.uri}'>{chat}{rsm('a', next(chats))}</list>"

    archive, heard = await scripted(script)
    with pytest.raises(NotUnderstood, match="one collection twice"):
        await awaited(all_of(archive.collections()))
    assert len(heard) == 2


# Uploads


def said(text, after=0, kind="to", rest=()):
    return ReadItem(kind, START + after, None, None, ((None, text),), None, None, rest)


async def read(archive, collection):
    """The entries of a collection in clear."""
    book, entries = Book([]), []
    book.begin(collection)
    async for page in archive.pages(collection):
        entries += book.read(page)
    return entries


@ensureDeferred
@pytest.mark.clause(
    "0136-manual-upload-05",
    "0136-impl-bandwidth-02",
)
async def test_save(served, login):
    """A long conversation goes up in several uploads, and comes back whole; more can be added later."""
    archive = (await login(served, largest_stanza=8192, most_items=7)).plugin["xep_0136"]
    chat = Listed.named(JULIET, START, thread="ffd7")
    texts = [str(number) * 99 for number in range(40)]
    items = [said(text, number * SECOND) for number, text in enumerate(texts)]
    counts = []
    saved = await awaited(archive.save(chat, items, subject="She speaks!", progress=counts.append))
    assert (saved.items, saved.collection.subject, saved.collection.thread) == (40, "She speaks!", "ffd7")
    assert counts == [7, 14, 21, 28, 35, 40]
    note = said("I think she might fancy me.", 99 * SECOND, "note")
    await awaited(archive.save(saved.collection, [note], since=items[-1].at))
    (collection,) = await awaited(all_of(archive.collections()))
    entries = await awaited(read(archive, collection))
    assert [entry.item.bodies[0][1] for entry in entries] == [*texts, note.bodies[0][1]]
    assert [entry.at for entry in entries] == [*(one.at for one in items), note.at]
    assert [entry.item.kind for entry in entries][-2:] == ["to", "note"]


@ensureDeferred
@pytest.mark.clause(
    "0136-impl-bandwidth-01",
    "0136-manual-collection-01",
    "0136-manual-collection-07",
    "0136-manual-collection-08",
    "0136-manual-collection-10",
)
async def test_what_makes_a_collection(served, login):
    """Contact and start are a collection, whatever its thread; a finished conversation is one upload, in
    which each note is by itself."""
    client = await login(served)
    archive, sent = client.plugin["xep_0136"], []
    client.add_filter("out", lambda stanza: sent.append(str(stanza)) or stanza)
    items = [said(str(second), second * SECOND, "note" if second > 17 else "to") for second in range(20)]
    first, second = (Listed.named(JULIET, START + hour, thread="ffd7 x") for hour in range(2))
    for chat in (first, second):
        await awaited(archive.save(chat, items))
    await awaited(archive.save(Listed.named(JULIET, START), [said("more", HOUR)], since=items[17].at))
    assert [text.count("<save") for text in sent if "<save" in text] == [1, 1, 1]
    assert sent[-1].count("<note") == 0
    assert "thread" not in sent[-1]
    listed = await awaited(all_of(archive.collections()))
    assert [(one.start, one.thread) for one in listed] == [(START, "ffd7 x"), (START + 1, "ffd7 x")]
    pages = [await awaited(archive.page(one)) for one in listed]
    assert [len(page) for page in pages] == [21, 20]
    assert [etree.QName(part).localname for part in pages[1].parts] == ["to"] * 18 + ["note"] * 2


@ensureDeferred
async def test_the_servers_clock(served, login, monkeypatch):
    """How far the server's clock is ahead of ours is asked of it."""
    archive = (await login(served)).plugin["xep_0136"]
    assert abs(await awaited(archive.clock_offset())) < 60 * SECOND
    late = types.SimpleNamespace(time_ns=lambda: time.time_ns() - 3600 * 10**9)
    monkeypatch.setattr("archive_crypt.reader.xep_0136.archive.time", late)
    assert abs(await awaited(archive.clock_offset()) - HOUR) < 60 * SECOND


@ensureDeferred
async def test_no_upload_is_too_large(served, login):
    """Each stanza is smaller than was configured, in clear and sealed, whatever is in it; and not much
    smaller than it could be."""
    client = await login(served, largest_stanza=20_000)
    sizes = []
    client.add_filter("out", lambda stanza: sizes.append(len(str(stanza).encode())) or stanza)
    items = [said("\"'<>&\u1f600" * 50, second * SECOND) for second in range(60)]
    await awaited(client.plugin["xep_0136"].save(Listed.named(JULIET, START), items))
    keys = [LAPTOP.public(), PHONE.public()]
    await awaited(client.plugin["xep_0241"].save(Listed.named(JULIET, START + 1), items, keys))
    assert 15_000 < max(sizes) <= 20_000
    assert sum(size > 10_000 for size in sizes) > 5


@ensureDeferred
@pytest.mark.clause(
    "0136-impl-link-01",
    "0136-impl-link-06",
    "0136-impl-form-07",
    "0136-manual-collection-04",
)
async def test_links_and_forms(served, login):
    """Links, a form and a subject come with each page, and are removed by empty ones."""
    archive = (await login(served)).plugin["xep_0136"]
    chat, link = Listed.named(JULIET, START), Link("balcony@house.capulet.com", START - SECOND)
    form = archive.xmpp.plugin["xep_0004"].make_form("submit")
    form.add_field("task", value="1")
    how = {"subject": "x", "links": {"previous": link}, "form": str(form)}
    await awaited(archive.save(chat, [said("y")], **how))
    page = await awaited(archive.page(chat))
    assert (page.links, page.collection.subject) == ({"previous": link}, "x")
    assert page.form.find("{*}field").get("var") == "task"
    await awaited(
        archive.save(
            chat, [], subject="", links={"previous": None}, form="<x xmlns='jabber:x:data' type='submit'/>"
        )
    )
    page = await awaited(archive.page(chat))
    assert (page.links, page.form, page.collection.subject, len(page)) == ({}, None, None, 1)


@ensureDeferred
@pytest.mark.clause("0136-pref-reqs-04", "0136-pref-determine-03", "0136-pref-determine-16")
async def test_preferences_are_obeyed(served, login):
    """What the user does not want saved, or not so, is not asked for; unless it is meant."""
    client = await login(served)
    archive = client.plugin["xep_0136"]
    chat = Listed.named(JULIET, START, thread="ffd7")
    await awaited(archive.set_item(JULIET, SaveMode.FALSE))
    with pytest.raises(NotWanted, match=JULIET):
        await awaited(archive.save(chat, [said("x")]))
    assert await awaited(all_of(archive.collections())) == []
    await awaited(archive.set_session("ffd7", SaveMode.BODY))
    assert (await awaited(archive.save(chat, [said("x")]))).items == 1
    await awaited(archive.remove_sessions("ffd7"))
    assert (await awaited(archive.save(chat, [said("x")], force=True))).items == 1
    await awaited(archive.set_methods(auto=Use.FORBID, manual=Use.FORBID))
    await awaited(archive.remove_items(JULIET))
    with pytest.raises(NotWanted, match="forbid uploads"):
        await awaited(archive.save(chat, [said("x")]))
    with pytest.raises(NotWanted, match="forbid automatic archiving"):
        await awaited(archive.set_auto(True))
    with pytest.raises(NotWanted, match="forbid automatic archiving"):
        await awaited(client.plugin["xep_0241"].enable())
    assert await awaited(archive.set_auto(False)) is False
    assert await awaited(archive.set_auto(True, force=True, lasting=True))


@ensureDeferred
async def test_without_preferences(serve, login):
    """Where no preferences can be stored none are obeyed, and that is found out once."""
    served = serve(features=[F.feature("manage"), F.feature("manual")])
    client = await login(served)
    sent = []
    client.add_filter("out", lambda stanza: sent.append(str(stanza)) or stanza)
    for second in range(2):
        await awaited(
            client.plugin["xep_0136"].save(Listed.named(JULIET, START), [said("x", second * SECOND)])
        )
    assert not any("<pref" in text for text in sent)
    boasting = await login(serve(features=features(EVERYTHING), handler=without_preferences))
    boasting.add_filter("out", lambda stanza: sent.append(str(stanza)) or stanza)
    for second in range(2):
        await awaited(
            boasting.plugin["xep_0136"].save(Listed.named(JULIET, START), [said("x", second * SECOND)])
        )
    assert sum("<pref" in text for text in sent) == 3  # in three dialects


def without_preferences(archiver, jid):
    """An archive that announces preferences, and has none."""

    def script(element):
        if element.name == "pref":
            return StanzaError("service-unavailable")
        return f"<save xmlns='{element.uri}'><chat with='{JULIET}' start='2026-11-21T10:00:00Z'/></save>"

    return Scripted(script, [])


@ensureDeferred
async def test_what_another_client_prefers_is_obeyed_at_once(served, login):
    """Preferences are asked for once; but what changes them elsewhere counts."""
    here = await login(served)
    there = await login(served, resource="orchard")
    archive, chat = here.plugin["xep_0136"], Listed.named(JULIET, START)
    await awaited(archive.save(chat, [said("x")]))
    told = awaited(here.wait_until("archive_preferences", PATIENCE))
    await awaited(there.plugin["xep_0136"].set_default(SaveMode.FALSE))
    await told
    with pytest.raises(NotWanted):
        await awaited(archive.save(chat, [said("x")]))


@ensureDeferred
async def test_what_is_left_out(served, login):
    """What its sender wanted not to be stored is not uploaded, and told."""
    archive = (await login(served)).plugin["xep_0136"]
    secret = said("secret", rest=("<no-store xmlns='urn:xmpp:hints'/>",))
    saved = await awaited(archive.save(Listed.named(JULIET, START), [said("x"), secret]))
    assert (saved.items, saved.left_out) == (1, (secret,))
    nothing = await awaited(archive.save(Listed.named(JULIET, START + HOUR), [secret]))
    assert (nothing.items, nothing.left_out) == (0, (secret,))
    assert [one.start for one in await awaited(all_of(archive.collections()))] == [START]


@ensureDeferred
@pytest.mark.clause("0241-2-12")
async def test_mixing(served, login):
    """In clear onto what is sealed, or the other way round, is NotAcceptable, and changes nothing."""
    client = await login(served)
    archive, sealed = client.plugin["xep_0136"], client.plugin["xep_0241"]
    plain, crypt = Listed.named(JULIET, START), Listed.named(JULIET, START + SECOND)
    await awaited(archive.save(plain, [said("x")]))
    await awaited(sealed.save(crypt, [said("x")], [LAPTOP.public()]))
    with pytest.raises(NotAcceptable):
        await awaited(archive.save(crypt, [said("y")]))
    with pytest.raises(NotAcceptable):
        await awaited(sealed.save(plain, [said("y")], [LAPTOP.public()]))
    assert [len(await awaited(archive.page(chat))) for chat in (plain, crypt)] == [1, 1]
