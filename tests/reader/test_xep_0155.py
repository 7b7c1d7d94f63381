"""The plugin for XEP-0155: two slixmpp clients over TLS negotiate; a real server archives, or must not."""

import asyncio
from functools import partial

import pytest
import pytest_twisted
from lxml import etree
from pytest_twisted import ensureDeferred
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath
from twisted.words.protocols.jabber.error import StanzaError

from archive_crypt.core.dialect import F, T, V
from archive_crypt.model import SECOND, Automatic, ContactModes, Modes, Otr, SaveMode
from archive_crypt.reader import ssn, xep_0136, xep_0155
from archive_crypt.reader.errors import CannotAsk, NoAnswer, NotWanted, ResourceConstraint
from archive_crypt.reader.otr import Logging, Outcome
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.ssn import Form
from archive_crypt.reader.xep_0136.preferences import SessionModes
from archive_crypt.reader.xep_0155.talks import LONGEST_THREAD, MOST_TALKS
from tests.kit import MORNING
from tests.reader.conftest import DOMAIN, PATIENCE, awaited, leave, logged_in
from tests.reader.scripted import Scripted

MAY, NOT = Logging.MAY, Logging.MUSTNOT
BARE = f"juliet@{DOMAIN}"
THREAD = "ffd7076498744578d10edabfe7f4a866"
OFFER = Form("form", THREAD, accept=True, logging=(NOT, MAY))
ACCEPTED = Form("submit", THREAD, accept=True, logging=(NOT,))
ENDED = Form("submit", THREAD, terminate=True)
EVENTS = ("otr_agreed", "otr_failed", "otr_ended")


class Side:
    """One who negotiates: `plugin`; `told`, the events there were; `sent`, all that went out; `heard`, what
    came of negotiations."""

    def __init__(self, client):
        self.client, self.told, self.sent, self.heard = client, [], [], []
        self.jid = str(client.boundjid)
        self.archive = client.plugin["xep_0136"]
        self.plugin = client.plugin.get("xep_0155", None)
        self._news = asyncio.Event()
        client.add_filter("out", self._on_sent)
        client.register_handler(
            Callback("heard", MatchXPath(f"{{jabber:client}}message/{ssn.ELEMENT}"), self._on_form)
        )
        for name in EVENTS:
            client.add_event_handler(name, partial(self._on_event, name))

    def _on_sent(self, stanza):
        self.sent.append(str(stanza))
        self._news.set()
        return stanza

    def _on_form(self, message):
        form = ssn.read(etree.fromstring(str(message)))
        self.heard.append(form or message["error"]["condition"])
        self._news.set()

    def _on_event(self, name, negotiated):
        self.told.append((name, negotiated.outcome))
        self._news.set()

    async def until(self, condition):
        """Something was said or heard that makes this true."""

        async def wait():
            while not condition():
                self._news.clear()
                await self._news.wait()

        await awaited(asyncio.wait_for(wait(), PATIENCE))

    async def hears(self, name, outcome):
        """Until it was told of an event."""
        await self.until(lambda: (name, outcome) in self.told)
        self.told.remove((name, outcome))

    async def gets(self, *forms):
        """Until these came, and no others."""
        await self.until(lambda: len(self.heard) >= len(forms))
        assert self.heard == list(forms)
        self.heard.clear()

    async def prefers(self, mode, save=SaveMode.BODY):
        save = SaveMode.FALSE if mode is Otr.REQUIRE else save
        await awaited(self.archive.set_default(save, mode))

    async def offers(self, to, thread=THREAD):
        return (await awaited(self.plugin.offer(to.jid, thread))).outcome

    async def logs(self, with_, thread=THREAD):
        return await awaited(self.plugin.logging(with_.jid, thread))

    async def may_send(self, to, thread=THREAD):
        return await awaited(self.plugin.may_send(to.jid, thread))

    async def says(self, to, text, thread=THREAD):
        message = self.client.make_message(to.jid, text, mtype="chat")
        message["thread"] = thread
        heard = awaited(to.client.wait_until("message", PATIENCE))
        message.send()
        await heard

    async def kept(self):
        """How many messages of each conversation its archive holds."""
        found = []
        async for collection in self.archive.collections():
            found.append(sum([len(page) async for page in self.archive.pages(collection)]))
        return found

    def sends(self, text):
        """What `ssn` wrote, or anything else, whatever the plugin thinks of it."""
        self.client.send_raw(text)

    async def answered(self):
        """By now the server has seen all that was sent before."""
        await awaited(self.archive.get_preferences())


@pytest.fixture
def side(certificate):
    """A function that logs somebody in who negotiates."""
    clients = []

    async def start(served, user, resource, *, able=True, roster=True, auto=True, asks=True, **config):
        def prepare(client):
            client.register_plugin("xep_0136", module=xep_0136)
            if able:
                client.register_plugin("xep_0155", config, module=xep_0155)

        client = await logged_in(served, certificate, user, resource, prepare=prepare, roster=roster)
        clients.append(client)
        one = Side(client)
        if asks:
            await one.answered()
        if auto:
            await awaited(one.archive.set_auto(True))
        return one

    yield start
    for client in clients:
        pytest_twisted.blockon(awaited(leave(client)))


@pytest.fixture
def pair(served, side):
    """A function: romeo and juliet, both archiving, who prefer this and that."""

    async def start(his, hers, at=served, **config):
        romeo = await side(at, "romeo", "orchard", **config)
        juliet = await side(at, "juliet", "balcony", **config)
        await romeo.prefers(his)
        await juliet.prefers(hers)
        return romeo, juliet

    return start


@ensureDeferred
@pytest.mark.clause(
    "0136-otr-nego-01",
    "0136-otr-nego-02",
    "0136-otr-nego-03",
    "0136-otr-notes-01",
    "0136-otr-notes-02",
    "0136-otr-notes-03",
    "0218-2-01",
    "0218-2-02",
)
async def test_off_the_record(pair):
    """Two who want it agree, and from then on neither archive holds anything of the conversation, nor of how
    it was negotiated; another thread goes on being archived."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await romeo.hears("otr_agreed", Outcome.MUSTNOT)
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    for one, other in ((romeo, juliet), (juliet, romeo)):
        assert await one.logs(other) is NOT
        assert await one.may_send(other)
        await one.says(other, "By yonder blessed moon I swear")
        rule = SessionModes(THREAD, SaveMode.FALSE, None, 3600)
        assert (await awaited(one.archive.get_preferences())).sessions == (rule,)
    assert [await awaited(one.kept()) for one in (romeo, juliet)] == [[], []]
    with pytest.raises(NotWanted):
        await awaited(romeo.archive.save(Listed.named(juliet.jid, MORNING * SECOND, thread=THREAD), []))
    assert await romeo.logs(juliet, "another") is MAY
    await romeo.says(juliet, "Good morrow", "another")
    assert [await awaited(one.kept()) for one in (romeo, juliet)] == [[1], [1]]


@ensureDeferred
@pytest.mark.clause("0136-otr-notes-02")
async def test_the_request_is_removed(pair):
    """Each asks its server to remove what it is recording of the conversation, before anything private is
    said; what was said on the record before the offer stays."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    await romeo.says(juliet, "With love's light wings")
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    for one, other in ((romeo, juliet), (juliet, romeo)):
        (removal,) = [etree.fromstring(sent)[0] for sent in one.sent if "<remove" in sent]
        assert dict(removal.attrib) == {"with": other.jid, "open": "true"}
        assert await awaited(one.kept()) == [1]
    order = [word for sent in juliet.sent for word in ("<remove", "<session", "submit") if word in sent]
    assert order == ["<remove", "<session", "submit"]


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-08")
async def test_on_the_record(pair):
    """Where logging is agreed, both archive; nothing is set for the thread."""
    romeo, juliet = await pair(Otr.OPPOSE, Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MAY
    await juliet.hears("otr_agreed", Outcome.MAY)
    assert await romeo.logs(juliet) is await juliet.logs(romeo) is MAY
    await romeo.says(juliet, "Good morrow")
    assert [await awaited(one.kept()) for one in (romeo, juliet)] == [[1], [1]]
    assert (await awaited(juliet.archive.get_preferences())).sessions == ()


@ensureDeferred
@pytest.mark.clause("0136-otr-notes-03")
async def test_logging_of_who_saves_nothing(pair):
    """Who agrees to log, and saves nothing of the contact otherwise, saves this thread."""
    romeo, juliet = await pair(Otr.FORBID, Otr.CONCEDE)
    await juliet.prefers(Otr.CONCEDE, SaveMode.FALSE)
    assert await romeo.offers(juliet) is Outcome.MAY
    await juliet.hears("otr_agreed", Outcome.MAY)
    (rule,) = (await awaited(juliet.archive.get_preferences())).sessions
    assert (rule.thread, rule.save) == (THREAD, SaveMode.BODY)


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-09")
async def test_failure(pair):
    """Where both want what the other does not, nothing may be sent; the other may begin anew."""
    romeo, juliet = await pair(Otr.REQUIRE, Otr.FORBID)
    assert await romeo.offers(juliet) is Outcome.FAILED
    await romeo.hears("otr_failed", Outcome.FAILED)
    await juliet.hears("otr_failed", Outcome.FAILED)
    for one, other in ((romeo, juliet), (juliet, romeo)):
        assert await one.logs(other) is None
        assert not await one.may_send(other)
    (refusal,) = [sent for sent in juliet.sent if "<not-acceptable" in sent]
    assert 'var="logging"' in refusal
    await juliet.prefers(Otr.APPROVE)
    assert await juliet.offers(romeo) is Outcome.MUSTNOT


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-04", "0136-otr-nego-07")
@pytest.mark.parametrize(("mode", "logging"), [(Otr.PREFER, MAY), (Otr.REQUIRE, None)])
async def test_no_answer(side, served, mode, logging):
    """When nobody answers, who requires privacy sends nothing, and all others go on as if logging was
    agreed."""
    romeo = await side(served, "romeo", "orchard", timeout=1)
    juliet = await side(served, "juliet", "balcony", able=False)
    await romeo.prefers(mode)
    assert (await awaited(romeo.plugin.offer(BARE, THREAD))).outcome is Outcome.UNANSWERED
    await romeo.hears("otr_failed", Outcome.UNANSWERED)
    assert sum(THREAD in sent for sent in romeo.sent) == 1
    assert await romeo.logs(juliet) is logging
    assert await romeo.may_send(juliet) is (logging is MAY)


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-07")
async def test_a_contact_that_cannot(served, side):
    """A client that does not announce this is asked nothing else; one that is gone neither."""
    romeo = await side(served, "romeo", "orchard")
    juliet = await side(served, "juliet", "balcony", able=False)
    await romeo.prefers(Otr.PREFER)
    assert await romeo.offers(juliet) is Outcome.UNANSWERED
    gone = await awaited(romeo.plugin.offer(f"{BARE}/tomb"))
    assert gone.outcome is Outcome.UNANSWERED
    assert await romeo.logs(juliet) is MAY
    assert not any("feature-neg" in sent for sent in romeo.sent)


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-07")
async def test_an_error(served, side):
    """An offer that nobody can take is answered by an error: as if there were no answer."""
    romeo = await side(served, "romeo", "orchard")
    await romeo.prefers(Otr.PREFER)
    nobody = await awaited(romeo.plugin.offer(f"nobody@{DOMAIN}", THREAD))
    assert nobody.outcome is Outcome.UNANSWERED


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-05")
async def test_who_need_not_begin(pair):
    """Who rather logs begins no negotiation, and archives until the contact does."""
    romeo, juliet = await pair(Otr.CONCEDE, Otr.PREFER)
    assert not await awaited(romeo.plugin.negotiates_first(juliet.jid))
    assert await awaited(juliet.plugin.negotiates_first(romeo.jid))
    assert await romeo.logs(juliet) is MAY
    await romeo.says(juliet, "Good morrow")
    assert await awaited(romeo.kept()) == [1]
    assert not any("feature-neg" in sent for sent in romeo.sent)


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-01", "0136-otr-nego-06")
async def test_to_whichever_client(pair):
    """An offer to a contact holds with the client of his that accepts it."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    agreed = await awaited(romeo.plugin.offer(BARE))
    assert (agreed.jid, agreed.outcome) == (juliet.jid, Outcome.MUSTNOT)
    assert await romeo.logs(juliet, agreed.thread) is NOT
    assert romeo.plugin.negotiated(BARE, agreed.thread) == agreed
    assert sum("<required" in sent for sent in romeo.sent) == 1


# What the user may have


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-02", "0136f-otr-01", "0136f-otr-02")
async def test_compulsory_archiving(serve, pair):
    """Where the server archives all, off the record is neither offered nor accepted; who requires it cannot
    begin."""
    romeo, juliet = await pair(
        Otr.PREFER, Otr.PREFER, at=serve(automatic=Automatic.REQUIRED_BODY), auto=False
    )
    assert await romeo.offers(juliet) is Outcome.MAY
    assert not any("mustnot" in sent for sent in romeo.sent + juliet.sent)
    juliet.sends(ssn.write_offer(romeo.jid, "another", (NOT,)))
    await romeo.hears("otr_failed", Outcome.FAILED)
    (refusal,) = [sent for sent in romeo.sent if "<not-acceptable" in sent]
    assert "another" in refusal


@ensureDeferred
@pytest.mark.clause("0136f-otr-01")
async def test_archiving_by_wish_can_be_off(pair):
    """Where the server does not say that it archives by itself, archiving is by the user's own wish: to find
    that out turns nothing off."""
    romeo, juliet = await pair(Otr.PREFER, Otr.PREFER)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    assert not any("<auto" in sent and "false" in sent for sent in romeo.sent + juliet.sent)


@ensureDeferred
@pytest.mark.clause("0136f-otr-02")
async def test_registered_late(served, side):
    """A plugin that did not hear what the server said at the login tries whether archiving can be off, and
    puts it back."""
    romeo = await side(served, "romeo", "orchard", able=False)
    romeo.client.register_plugin("xep_0155", module=xep_0155)
    romeo.plugin = romeo.client.plugin["xep_0155"]
    juliet = await side(served, "juliet", "balcony")
    await romeo.prefers(Otr.PREFER)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    assert [("true" in sent) for sent in romeo.sent if "<auto" in sent] == [True, False, True]
    assert (await awaited(romeo.archive.get_preferences())).auto.save


@ensureDeferred
@pytest.mark.clause("0136f-default-02")
@pytest.mark.parametrize(("says", "outcome"), [(True, Outcome.MUSTNOT), (False, Outcome.MAY)])
async def test_approval(served, side, says, outcome):
    """Who wants to approve is asked before anything is accepted."""
    asked = []

    async def approve(jid, thread):
        asked.append((str(jid), thread, any("submit" in sent for sent in juliet.sent)))
        return says

    romeo = await side(served, "romeo", "orchard")
    juliet = await side(served, "juliet", "balcony", approve=approve)
    await romeo.prefers(Otr.PREFER)
    await juliet.prefers(Otr.APPROVE)
    assert await romeo.offers(juliet) is outcome
    assert asked == [(romeo.jid, THREAD, False)]


@ensureDeferred
@pytest.mark.clause("0136f-default-02")
async def test_nobody_to_approve(pair):
    """Where nobody can be asked, nothing is approved."""
    romeo, juliet = await pair(Otr.REQUIRE, Otr.APPROVE)
    assert await romeo.offers(juliet) is Outcome.FAILED


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-10")
async def test_an_offer_without_logging(pair):
    """Who requires privacy declines what does not speak of it, and can offer himself; all others accept that."""
    romeo, juliet = await pair(Otr.PREFER, Otr.REQUIRE)
    silent = ssn.write_offer(juliet.jid, THREAD, (MAY,))
    start, end = silent.index("<field var='logging'"), silent.index("</x>")
    romeo.sends(silent[:start] + silent[end:])
    await juliet.hears("otr_failed", Outcome.FAILED)
    assert [ssn.read(etree.fromstring(sent)) for sent in juliet.sent if "feature-neg" in sent] == [
        Form("submit", THREAD, accept=False)
    ]
    assert await juliet.offers(romeo) is Outcome.MUSTNOT


# Anew, and over


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-11")
async def test_a_preference_that_changes(pair):
    """Who comes to require privacy renegotiates at once, and the other's archive obeys, too."""
    romeo, juliet = await pair(Otr.OPPOSE, Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MAY
    await juliet.hears("otr_agreed", Outcome.MAY)
    await juliet.prefers(Otr.REQUIRE)
    await romeo.hears("otr_agreed", Outcome.MUSTNOT)
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    await romeo.says(juliet, "Wilt thou be gone?")
    assert [await awaited(one.kept()) for one in (romeo, juliet)] == [[], []]
    (offer,) = [sent for sent in juliet.sent if "renegotiate" in sent]
    assert "accept" not in offer


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-11")
async def test_a_preference_that_cannot_be_had(pair):
    """Where the other cannot go along with what is preferred now, the conversation ends, and the user is
    not left to believe that it is private."""
    romeo, juliet = await pair(Otr.OPPOSE, Otr.FORBID)
    assert await romeo.offers(juliet) is Outcome.MAY
    await juliet.hears("otr_agreed", Outcome.MAY)
    await romeo.prefers(Otr.REQUIRE)
    await romeo.hears("otr_ended", None)
    await juliet.hears("otr_ended", None)
    assert await romeo.logs(juliet) is None
    assert not await romeo.may_send(juliet)
    assert await juliet.logs(romeo) is MAY


@ensureDeferred
async def test_a_renegotiation(pair):
    """New terms are offered at any time; when they are on the record again, the server archives as it did
    before."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    await romeo.prefers(Otr.CONCEDE)
    anew = await awaited(romeo.plugin.renegotiate(juliet.jid, THREAD))
    assert anew.outcome is Outcome.MAY
    await juliet.hears("otr_agreed", Outcome.MAY)
    await romeo.says(juliet, "Good morrow")
    assert [await awaited(one.kept()) for one in (romeo, juliet)] == [[1], [1]]
    assert [(await awaited(one.archive.get_preferences())).sessions for one in (romeo, juliet)] == [(), ()]


@ensureDeferred
async def test_new_terms_that_are_rejected(pair):
    """What cannot be met leaves what was agreed in force."""
    romeo, juliet = await pair(Otr.OPPOSE, Otr.FORBID)
    assert await romeo.offers(juliet) is Outcome.MAY
    await juliet.hears("otr_agreed", Outcome.MAY)
    romeo.heard.clear()
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT,), renegotiate=True))
    await romeo.gets(Form("submit", THREAD, renegotiate=False))
    assert await juliet.logs(romeo) is MAY
    assert await awaited(romeo.plugin.renegotiate(juliet.jid, THREAD)) == romeo.plugin.negotiated(
        juliet.jid, THREAD
    )


@ensureDeferred
@pytest.mark.clause("0136-otr-notes-01")
async def test_the_end(pair):
    """When one ends it, both know; the server's rule for the thread is left to lapse, as something may be on
    its way still."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    await awaited(juliet.plugin.end(romeo.jid, THREAD))
    for one in (juliet, romeo):
        await one.hears("otr_ended", None)
        assert await one.logs(juliet if one is romeo else romeo) is MAY
        (rule,) = (await awaited(one.archive.get_preferences())).sessions
        assert (rule.thread, rule.save) == (THREAD, SaveMode.FALSE)
    with pytest.raises(CannotAsk, match="Nothing is agreed"):
        await awaited(juliet.plugin.end(romeo.jid, THREAD))
    with pytest.raises(CannotAsk, match="Nothing is agreed"):
        await awaited(juliet.plugin.renegotiate(romeo.jid, THREAD))


@ensureDeferred
@pytest.mark.clause("0136f-session-05")
async def test_a_rule_is_kept(serve, pair):
    """However long nothing is said, the server's rule for a private thread does not lapse."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE, at=serve(session_timeout=2))
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await romeo.until(lambda: sum("<session" in sent for sent in romeo.sent) >= 3)
    await romeo.says(juliet, "It is my lady")
    assert await awaited(romeo.kept()) == []


@ensureDeferred
@pytest.mark.clause("0136-otr-notes-01")
async def test_a_rule_that_another_client_removes(pair, side, served):
    """Nobody's other client makes what was agreed be archived: the rule is set again."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    phone = await side(served, "romeo", "phone", able=False)
    told, told_again = [asyncio.get_event_loop().create_future() for _ in range(2)]

    def on_preferences(changed):
        if changed.removed_sessions:
            told.set_result(None)
        elif changed.sessions and told.done():
            told_again.set_result(changed.sessions[0].save)

    romeo.client.add_event_handler("archive_preferences", on_preferences)
    await awaited(phone.archive.remove_sessions(THREAD))
    assert await awaited(asyncio.wait_for(told_again, PATIENCE)) is SaveMode.FALSE


# Where the server cannot do all that


def answering(answers):
    """What makes archives that answer as `answers` has it, by the name of the request; with service-unavailable
    what is not there."""

    def script(element):
        said = answers.get(element.name, "service-unavailable")
        return said if said.startswith("<") else StanzaError(said)

    return lambda archiver, jid: Scripted(script, [])


@ensureDeferred
async def test_without_an_archive(serve, side):
    """Where no archive is, nothing is archived: that can be promised without asking it anything."""
    nothing = serve(features=[], handler=answering({}))
    romeo, juliet = [
        await side(nothing, user, "orchard", auto=False, asks=False) for user in ("romeo", "juliet")
    ]
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT,)))
    await romeo.gets(ACCEPTED)
    romeo.sends(ssn.write_completion(juliet.jid, THREAD))
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    assert await juliet.logs(romeo) is NOT


@ensureDeferred
async def test_an_archive_in_trouble(serve, side):
    """While the user's own server does not tell what he prefers, nothing is answered; and who asks whether he
    may send is told that."""
    answers = {"pref": "<pref xmlns='urn:xmpp:archive'><default save='body' otr='concede'/></pref>"}
    parts = [F.feature("pref")]
    busy = serve(features=parts, handler=answering(answers))
    romeo, juliet = [await side(busy, user, "orchard", auto=False) for user in ("romeo", "juliet")]
    answers["pref"] = "resource-constraint"
    juliet.archive.forget()
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT,)))
    await juliet.hears("otr_failed", Outcome.UNANSWERED)
    for asked in (juliet.may_send, juliet.logs, juliet.offers):
        with pytest.raises(ResourceConstraint):
            await asked(romeo)
    assert romeo.heard == []


# Where there are no rules for threads


@ensureDeferred
@pytest.mark.clause("0136-otr-notes-01")
@pytest.mark.parametrize("dialect", [V, T])
@pytest.mark.parametrize("before", [None, ContactModes(BARE, Modes(SaveMode.BODY, Otr.PREFER, 604800))])
async def test_older_dialects(serve, pair, dialect, before):
    """There a contact's own setting is changed, and set back when it is over."""
    parts = [dialect.feature(part) for part in ("auto", "manage", "manual", "pref")]
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE, at=serve(features=parts))
    if before is not None:
        await awaited(romeo.archive.set_item(BARE, before.modes.save, before.modes.otr, before.modes.expire))
    expected = await awaited(romeo.archive.wanted_modes(BARE))
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    (item,) = (await awaited(romeo.archive.get_preferences())).items
    assert item == ContactModes(BARE, Modes(SaveMode.FALSE, expected.otr, expected.expire))
    assert await romeo.offers(juliet, "second") is Outcome.MUSTNOT
    await romeo.says(juliet, "Wilt thou be gone?")
    assert await awaited(romeo.kept()) == []
    await awaited(romeo.plugin.end(juliet.jid, THREAD))
    assert (await awaited(romeo.archive.wanted_modes(BARE))).save is SaveMode.FALSE
    await awaited(romeo.plugin.end(juliet.jid, "second"))
    left = (await awaited(romeo.archive.get_preferences())).items
    removed = before is None and dialect is T
    assert left == (() if removed else (ContactModes(BARE, expected),))


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-02")
async def test_a_stronger_preference(serve, pair):
    """Where a preference that is more special than what could be set goes on saving, nothing private is
    agreed."""
    parts = [T.feature(part) for part in ("auto", "manage", "pref")]
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE, at=serve(features=parts))
    await awaited(juliet.archive.set_item(romeo.jid, full=True))
    assert await romeo.offers(juliet) is Outcome.MAY


# Who means no good


@ensureDeferred
async def test_strangers(served, side):
    """Who does not see that the user is there gets no answer, and costs nothing."""
    romeo = await side(served, "romeo", "orchard")
    juliet = await side(served, "juliet", "balcony", roster=False)
    for text in (
        ssn.write_offer(juliet.jid, THREAD, (NOT, MAY)),
        ssn.write_offer(juliet.jid, THREAD, (NOT,), renegotiate=True),
        ssn.write_completion(juliet.jid, THREAD),
        ssn.write_end(juliet.jid, THREAD),
    ):
        romeo.sends(text)
    await romeo.says(juliet, "Good morrow")
    assert list(juliet.plugin._talks) == []
    assert not any("feature-neg" in sent for sent in juliet.sent)


@pytest.fixture
def visited(served, side):
    """A function: juliet, who prefers this, and romeo, who says whatever he likes."""

    async def start(mode, **config):
        romeo = await side(served, "romeo", "orchard", able=False)
        juliet = await side(served, "juliet", "balcony", **config)
        await juliet.prefers(mode)
        romeo.client.plugin["xep_0030"].add_feature(ssn.FEATURE)
        return romeo, juliet

    return start


@ensureDeferred
async def test_offers_in_a_loop(visited):
    """Of however many conversations a contact offers a few are known, and he gets no more answers than
    those; when he opened them, each one more ends his oldest."""
    romeo, juliet = await visited(Otr.CONCEDE)
    threads = [f"loop {number}" for number in range(3 * MOST_TALKS)]
    for thread in threads:
        romeo.sends(ssn.write_offer(juliet.jid, thread, (NOT, MAY)))
    await romeo.until(lambda: len(romeo.heard) == MOST_TALKS)
    await romeo.says(juliet, "Good morrow", "another")
    assert {form.thread for form in romeo.heard} == set(threads[:MOST_TALKS])
    for form in romeo.heard:
        romeo.sends(ssn.write_completion(juliet.jid, form.thread))
        await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    romeo.heard.clear()
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT, MAY)))
    await romeo.gets(Form("submit", threads[0], terminate=True), ACCEPTED)
    await juliet.hears("otr_ended", None)
    await juliet.until(lambda: any("<sessionremove" in sent for sent in juliet.sent))
    sessions = [one.thread for one in (await awaited(juliet.archive.get_preferences())).sessions]
    assert set(sessions) == {*threads[1:MOST_TALKS], THREAD}
    assert len(list(juliet.plugin._talks)) == MOST_TALKS


@ensureDeferred
async def test_what_makes_no_sense(visited):
    """What has no thread or too long a one, comes as an error or from a room, answers nothing, or is no
    negotiation, gets no answer and changes nothing."""
    romeo, juliet = await visited(Otr.CONCEDE)
    offer = ssn.write_offer(juliet.jid, THREAD, (NOT, MAY))
    for text in (
        ssn.write_offer(juliet.jid, "", (NOT, MAY)),
        ssn.write_offer(juliet.jid, "x" * (LONGEST_THREAD + 1), (NOT, MAY)),
        offer.replace("type='normal'", "type='error'"),
        offer.replace("type='normal'", "type='groupchat'"),
        offer.replace("type='form'", "type='nonsense'"),
        offer.replace("type='form'", "type='submit'"),
        offer.replace(ssn.FEATURE, "jabber:iq:register"),
        offer.replace("<x ", "<y ").replace("</x>", "</y>"),
        ssn.write_cancel(juliet.jid, THREAD),
        ssn.write_end(juliet.jid, THREAD),
        offer.replace("<thread>", "<thread>" + "<a>" * 40).replace("</thread>", "</a>" * 40 + "</thread>"),
    ):
        romeo.sends(text)
    await romeo.says(juliet, "Good morrow")
    assert (romeo.heard, juliet.told, list(juliet.plugin._talks)) == ([], [], [])
    assert await juliet.logs(romeo) is MAY


@ensureDeferred
async def test_an_offer_that_wants_more(visited):
    """An offer of an encrypted session, which is more than logging, is answered by an error that names what is
    wanted; nothing is accepted."""
    romeo, juliet = await visited(Otr.CONCEDE)
    more = "<field var='security' type='list-single'><value>e2e</value><required/></field></x>"
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT, MAY)).replace("</x>", more))
    await romeo.gets("feature-not-implemented")
    assert juliet.plugin.negotiated(romeo.jid, THREAD) is None


@ensureDeferred
async def test_who_speaks_of_what_is_not(visited):
    """A contact who believes in a conversation that is not known any more is told that it has ended."""
    romeo, juliet = await visited(Otr.CONCEDE)
    romeo.sends(ssn.write_completion(juliet.jid, THREAD))
    await romeo.gets(ENDED)
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (MAY,), renegotiate=True))
    await romeo.gets(ENDED)
    assert juliet.plugin.negotiated(romeo.jid, THREAD) is None


@ensureDeferred
@pytest.mark.parametrize("how", ["cancelled", "ended", "never opened"])
async def test_what_is_not_opened(visited, how):
    """What was accepted and is not opened then is private until it is given up; who opens it later is told that
    it has ended. The rule at the server is left to lapse."""
    romeo, juliet = await visited(Otr.CONCEDE, timeout=1 if how == "never opened" else 30)
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT, MAY)))
    await romeo.gets(ACCEPTED)
    if how != "never opened":
        assert await juliet.logs(romeo) is NOT
    if how == "cancelled":
        romeo.sends(ssn.write_cancel(juliet.jid, THREAD))
    elif how == "ended":
        romeo.sends(ssn.write_end(juliet.jid, THREAD))
    await juliet.hears("otr_failed", Outcome.UNANSWERED)
    assert await juliet.logs(romeo) is MAY
    (rule,) = (await awaited(juliet.archive.get_preferences())).sessions
    assert rule.save is SaveMode.FALSE
    romeo.sends(ssn.write_completion(juliet.jid, THREAD))
    await romeo.gets(ENDED)


@ensureDeferred
async def test_a_rule_of_the_user_comes_back(visited):
    """Where the user had a rule for the thread, it is that again when nothing comes of it."""
    romeo, juliet = await visited(Otr.CONCEDE)
    await awaited(juliet.archive.set_session(THREAD, SaveMode.BODY, Otr.PREFER))
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT,)))
    await romeo.gets(ACCEPTED)
    romeo.sends(ssn.write_cancel(juliet.jid, THREAD))
    await juliet.until(lambda: sum("<session" in sent for sent in juliet.sent) == 3)
    (rule,) = (await awaited(juliet.archive.get_preferences())).sessions
    assert (rule.save, rule.otr) == (SaveMode.BODY, Otr.PREFER)


@ensureDeferred
@pytest.mark.parametrize(
    ("mode", "answers", "outcome", "reply"),
    [
        (Otr.PREFER, Form("form", THREAD, logging=(NOT,)), Outcome.MUSTNOT, True),
        (Otr.PREFER, None, Outcome.MUSTNOT, True),
        (Otr.FORBID, Form("form", THREAD, logging=(NOT,)), Outcome.FAILED, False),
        (Otr.REQUIRE, Form("form", THREAD, logging=(MAY,)), Outcome.UNANSWERED, False),
    ],
)
async def test_what_is_accepted(visited, mode, answers, outcome, reply):
    """An answer counts if it is among what was offered; who accepts and does not speak of logging takes the
    default. Else it is taken back, and where the contact wanted it private nothing may be said."""
    romeo, juliet = await visited(mode)
    offering = asyncio.ensure_future(juliet.plugin.offer(romeo.jid, THREAD))
    await romeo.until(lambda: romeo.heard)
    romeo.heard.clear()
    value = answers.logging[0].value if answers else "may"
    text = ssn.write_answer(
        juliet.jid, Form("form", THREAD, logging=(Logging(value),)), Otr.CONCEDE, switchable=True
    )
    if answers is None:
        text = text.replace("<field var='logging'><value>may</value></field>", "")
    romeo.sends(text)
    assert (await awaited(offering)).outcome is outcome
    await romeo.gets(Form("result", THREAD, accept=reply))
    assert await juliet.may_send(romeo) is (outcome is Outcome.MUSTNOT)


@ensureDeferred
async def test_an_answer_that_comes_late(visited):
    """What is accepted after it was not waited for any more is agreed all the same."""
    romeo, juliet = await visited(Otr.PREFER, timeout=1)
    offered = await awaited(juliet.plugin.offer(f"romeo@{DOMAIN}", THREAD))
    assert offered.outcome is Outcome.UNANSWERED
    romeo.sends(ssn.write_answer(juliet.jid, OFFER, Otr.CONCEDE, switchable=True))
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    assert await juliet.logs(romeo) is NOT
    await romeo.gets(OFFER, Form("result", THREAD, accept=True))


@ensureDeferred
async def test_an_offer_that_is_declined(visited):
    """A contact who does not want to negotiate is as one who does not answer."""
    romeo, juliet = await visited(Otr.PREFER)
    offering = asyncio.ensure_future(juliet.plugin.offer(romeo.jid, THREAD))
    await romeo.until(lambda: romeo.heard)
    silent = Form("form", THREAD, accept=True)
    romeo.sends(ssn.write_answer(juliet.jid, silent, Otr.REQUIRE, switchable=True))
    assert (await awaited(offering)).outcome is Outcome.UNANSWERED
    assert await juliet.logs(romeo) is MAY


@ensureDeferred
async def test_the_second_of_two_clients(visited, side, served):
    """Where two clients of a contact accept, the first counts, and the other is told."""
    romeo, juliet = await visited(Otr.PREFER)
    phone = await side(served, "romeo", "phone", able=False)
    offering = asyncio.ensure_future(juliet.plugin.offer(f"romeo@{DOMAIN}", THREAD))
    for one in (romeo, phone):
        await one.gets(OFFER)
    accepted = ssn.write_answer(juliet.jid, OFFER, Otr.CONCEDE, switchable=True)
    romeo.sends(accepted)
    assert (await awaited(offering)).outcome is Outcome.MUSTNOT
    phone.sends(accepted)
    await romeo.gets(Form("result", THREAD, accept=True))
    await phone.gets(Form("result", THREAD, accept=False))


@ensureDeferred
@pytest.mark.clause("0136-otr-notes-01")
async def test_two_clients_that_both_accept(pair, side, served):
    """Where two clients of a user accept, what one agreed is not archived because the other was too late."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    phone = await side(served, "juliet", "phone")
    agreed = await awaited(romeo.plugin.offer(BARE, THREAD))
    first, second = (juliet, phone) if str(agreed.jid) == juliet.jid else (phone, juliet)
    await first.hears("otr_agreed", Outcome.MUSTNOT)
    await second.hears("otr_failed", Outcome.UNANSWERED)
    await romeo.says(first, "Wilt thou be gone?")
    assert await awaited(first.kept()) == []
    assert not any("<sessionremove" in sent for sent in first.sent + second.sent)


@ensureDeferred
async def test_an_offer_that_comes_twice(visited):
    """What was accepted is not answered again, nor taken back in passing."""
    romeo, juliet = await visited(Otr.CONCEDE)
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT, MAY)))
    await romeo.gets(ACCEPTED)
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (MAY,)))
    romeo.sends(ssn.write_completion(juliet.jid, THREAD))
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    assert romeo.heard == []


@ensureDeferred
async def test_on_the_record_again(pair):
    """A thread that was private once, and in which logging is agreed later, is archived as it was before."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    await awaited(romeo.plugin.end(juliet.jid, THREAD))
    await juliet.hears("otr_ended", None)
    await romeo.prefers(Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MAY
    await juliet.hears("otr_agreed", Outcome.MAY)
    await romeo.says(juliet, "Good morrow")
    assert [await awaited(one.kept()) for one in (romeo, juliet)] == [[1], [1]]
    assert [(await awaited(one.archive.get_preferences())).sessions for one in (romeo, juliet)] == [(), ()]


@ensureDeferred
async def test_a_thread_of_another(visited, side, served):
    """Who offers the thread of a conversation with another cannot decide over that."""
    romeo, juliet = await visited(Otr.PREFER)
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT,)))
    await romeo.gets(ACCEPTED)
    romeo.sends(ssn.write_completion(juliet.jid, THREAD))
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    phone = await side(served, "romeo", "phone", able=False)
    phone.sends(ssn.write_offer(juliet.jid, THREAD, (MAY,)))
    await phone.says(juliet, "Good morrow", "another")
    assert phone.heard == []
    assert await juliet.logs(romeo) is NOT
    with pytest.raises(CannotAsk, match="somebody else"):
        await awaited(juliet.plugin.offer(phone.jid, THREAD))


@ensureDeferred
async def test_offers_that_cross(pair):
    """Two who offer the same thread at once agree on one of the two."""
    romeo, juliet = await pair(Otr.PREFER, Otr.OPPOSE)
    his, hers = (
        asyncio.ensure_future(one.plugin.offer(other.jid, THREAD))
        for one, other in ((romeo, juliet), (juliet, romeo))
    )
    await awaited(asyncio.wait([his, hers]))
    await romeo.until(lambda: romeo.plugin.negotiated(juliet.jid, THREAD).outcome is not Outcome.PENDING)
    outcomes = {
        one.plugin.negotiated(other.jid, THREAD).outcome for one, other in ((romeo, juliet), (juliet, romeo))
    }
    assert outcomes in ({Outcome.MUSTNOT}, {Outcome.MAY})


@ensureDeferred
async def test_what_is_negotiated_already(pair):
    """What is agreed is renegotiated or ended, not offered again; not even by the contact."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    with pytest.raises(CannotAsk, match="negotiated already"):
        await romeo.offers(juliet)
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (MAY,)))
    await romeo.says(juliet, "Good morrow", "another")
    assert await juliet.logs(romeo) is NOT


@ensureDeferred
@pytest.mark.clause("0136-otr-notes-01")
async def test_a_stream_that_breaks(pair, side, served):
    """What was agreed outlives the stream, and the server's rule is looked after on the next one."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    phone = await side(served, "romeo", "phone", able=False)
    await awaited(romeo.client.disconnect())
    await awaited(phone.archive.remove_sessions(THREAD))
    romeo.sent.clear()
    started = awaited(romeo.client.wait_until("session_start", PATIENCE))
    romeo.client.connect(host="127.0.0.1", port=served.port)
    await started
    await romeo.until(lambda: any("<session" in sent for sent in romeo.sent))
    await romeo.answered()
    await romeo.says(juliet, "Wilt thou be gone?")
    assert await awaited(romeo.kept()) == []


@ensureDeferred
async def test_under_another_name(pair, served):
    """Contacts know a stream with another resource as somebody else: nothing is in force there."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await awaited(romeo.client.disconnect())
    romeo.client.requested_jid.resource = "tomb"
    started = awaited(romeo.client.wait_until("session_start", PATIENCE))
    romeo.client.connect(host="127.0.0.1", port=served.port)
    await started
    await romeo.hears("otr_ended", None)
    assert await romeo.logs(juliet) is MAY


@ensureDeferred
async def test_without_a_connection(pair):
    """Without a stream nothing is offered."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    await awaited(leave(romeo.client))
    with pytest.raises(NoAnswer):
        await romeo.offers(juliet)


@ensureDeferred
async def test_a_plugin_that_goes(pair):
    """A plugin that is taken out announces nothing, and answers nothing."""
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE)
    juliet.client.plugin.disable("xep_0155")
    assert await romeo.offers(juliet) is Outcome.UNANSWERED
