"""The plugin for XEP-0155: two slixmpp clients over TLS negotiate; a real server archives, or must not."""

import asyncio
from dataclasses import replace

import pytest
from lxml import etree
from pytest_twisted import ensureDeferred
from twisted.words.protocols.jabber.error import StanzaError

from archive_crypt.core.dialect import F, T, V
from archive_crypt.core.items import ReadItem
from archive_crypt.model import SECOND, Automatic, ContactModes, Modes, Otr, SaveMode
from archive_crypt.reader import ssn, xep_0155
from archive_crypt.reader.errors import CannotAsk, NotWanted, ResourceConstraint
from archive_crypt.reader.otr import Outcome
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.ssn import Form
from archive_crypt.reader.xep_0136.preferences import SessionModes
from archive_crypt.reader.xep_0155 import inforce
from tests.kit import MORNING
from tests.reader.conftest import DOMAIN, PATIENCE, awaited
from tests.reader.scripted import Scripted, Trouble
from tests.reader.sides import ACCEPTED, MAY, NOT, THREAD

BARE = f"juliet@{DOMAIN}"


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


def recorded(text="", *more, requests=False):
    """A message of juliet's, as a server would have it that records all: it says something, or requests that
    it is off the record, or both, and has `more` in it."""
    bodies = ((None, text),) if text else ()
    rest = (REQUEST, *more) if requests else more
    return ReadItem("from", MORNING * SECOND, None, None, bodies, None, None, rest)


#: Without its hint, as of what asks for that nothing is uploaded.
REQUEST = etree.tostring(
    etree.fromstring(ssn.write_offer("romeo@capulet.lit", THREAD, (NOT,))).find(ssn.ELEMENT),
    encoding="unicode",
)
SAID, REQUESTED = recorded("Good morrow"), recorded(requests=True)
LINK = "<x xmlns='jabber:x:oob'><url>https://capulet.lit/feast</url></x>"
PAYLOAD = "<openpgp xmlns='urn:xmpp:openpgp:0'>QUJD</openpgp>"


async def has_recorded(one, other, *items, minute=0):
    collection = Listed.named(other.jid, (MORNING + 60 * minute) * SECOND)
    await awaited(one.archive.save(collection, items, force=True))


@ensureDeferred
@pytest.mark.clause("0136-otr-notes-02")
@pytest.mark.parametrize("dialect", [V, T, F])
async def test_the_request_is_removed(serve, pair, dialect):
    """What a server has recorded of the negotiation, and of nothing else, goes before it is accepted. What was
    said before stays."""
    parts = [dialect.feature(part) for part in ("auto", "manage", "manual", "pref")]
    romeo, juliet = await pair(Otr.CONCEDE, Otr.PREFER, at=serve(features=parts))
    await has_recorded(romeo, juliet, SAID)
    await has_recorded(romeo, juliet, REQUESTED, REQUESTED, minute=1)
    assert await awaited(romeo.kept()) == [1, 2]
    assert await juliet.offers(romeo) is Outcome.MUSTNOT
    assert await awaited(romeo.kept()) == [1]
    order = [word for sent in romeo.sent for word in ('save="false"', "<remove", "submit") if word in sent]
    assert order == ['save="false"', "<remove", "submit"]


@ensureDeferred
@pytest.mark.parametrize(
    "items",
    [
        [SAID],
        [SAID, REQUESTED],
        [REQUESTED, SAID],
        [recorded("Die!", requests=True)],
        [recorded("", LINK, requests=True)],
        [recorded("", PAYLOAD, requests=True)],
        [REQUESTED] * 101,
    ],
    ids=["said", "said first", "said then", "said with it", "a link with it", "OpenPGP with it", "too many"],
)
async def test_what_is_not_removed(pair, items):
    """No offer takes from the archive what else was said, not even where that is with the offer itself. Of more
    than a hundred messages it is not asked."""
    romeo, juliet = await pair(Otr.CONCEDE, Otr.PREFER)
    await has_recorded(romeo, juliet, *items)
    assert await juliet.offers(romeo) is Outcome.MUSTNOT
    assert await awaited(romeo.kept()) == [len(items)]


@ensureDeferred
@pytest.mark.parametrize("dialect", [V, T, F])
async def test_what_comes_meanwhile_is_not_removed(serve, pair, dialect):
    """Where something comes to the collection while it is looked at, all of it stays."""
    parts = [dialect.feature(part) for part in ("auto", "manage", "manual", "pref")]
    served = serve(features=parts)
    romeo, juliet = await pair(Otr.CONCEDE, Otr.PREFER, at=served)
    await has_recorded(romeo, juliet, REQUESTED)
    look = served.storage._page

    def comes(*asked):
        served.storage._page = look
        found = look(*asked)
        (kept,) = served.kept
        ((number, item),) = kept.items.items()
        kept.items[2 * number] = item._replace(number=2 * number)
        kept.shown = replace(kept.shown, version=kept.shown.version + 1)
        return found

    served.storage._page = comes
    assert await juliet.offers(romeo) is Outcome.MUSTNOT
    assert await awaited(romeo.kept()) == [2]


@ensureDeferred
async def test_another_thread_is_not_removed(pair):
    """A collection that is of another thread stays, whatever is in it."""
    romeo, juliet = await pair(Otr.CONCEDE, Otr.PREFER)
    other = Listed.named(juliet.jid, MORNING * SECOND, "another")
    await awaited(romeo.archive.save(other, [REQUESTED], force=True))
    assert await juliet.offers(romeo) is Outcome.MUSTNOT
    assert await awaited(romeo.kept()) == [1]


@ensureDeferred
async def test_what_is_sealed_is_not_removed(pair, served):
    """What the plugin cannot read is not known to be of the negotiation."""
    await served.record("Good morrow", to=f"{BARE}/balcony")
    romeo, juliet = await pair(Otr.CONCEDE, Otr.PREFER)
    assert await juliet.offers(romeo) is Outcome.MUSTNOT
    assert await awaited(romeo.kept()) == [1]


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
async def test_archiving_that_is_not_put_back(serve, side, monkeypatch):
    """Where the server does not put back what was turned off to try, the program is told, and it is tried on
    until archiving is on again."""
    monkeypatch.setattr(inforce, "AGAIN", 0.1)
    trouble = Trouble()
    served = serve(handler=trouble)
    romeo = await side(served, "romeo", "orchard", able=False)
    romeo.client.register_plugin("xep_0155", module=xep_0155)
    romeo.plugin = romeo.client.plugin["xep_0155"]
    juliet = await side(served, "juliet", "balcony")
    await romeo.prefers(Otr.PREFER)
    left_off = awaited(romeo.client.wait_until("otr_left_off", PATIENCE))
    trouble.refuses.add(("orchard", "set", "auto", "true"))
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await left_off
    assert not (await awaited(romeo.archive.get_preferences())).auto.save
    trouble.refused.clear()
    await romeo.until(lambda: trouble.refused)
    trouble.refuses.clear()
    await romeo.sees(lambda preferences: preferences.auto.save)


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


@ensureDeferred
@pytest.mark.clause("0136-otr-notes-01", "0136f-session-05")
async def test_a_rule_that_lapsed(serve, pair, side, monkeypatch):
    """Where the server did not answer in time to renew a rule, it is set again once the server does that."""
    monkeypatch.setattr(inforce, "AGAIN", 0.1)
    trouble = Trouble(silent=True)
    served = serve(session_timeout=2, handler=trouble)
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE, at=served)
    phone = await side(served, "romeo", "phone", able=False)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    romeo.archive.timeout = 1
    trouble.refuses.add(("orchard", "set", "pref", ""))
    await phone.sees(lambda preferences: not preferences.sessions)
    trouble.refused.clear()
    await romeo.until(lambda: trouble.refused)
    trouble.refuses.clear()
    rule = SessionModes(THREAD, SaveMode.FALSE, None, 2)
    await phone.sees(lambda preferences: preferences.sessions == (rule,))


@ensureDeferred
@pytest.mark.clause("0136-otr-notes-01")
async def test_a_rule_that_is_refused(serve, pair, monkeypatch):
    """Where a rule lapsed, and the server refuses to set it again, the conversation ends, and both know."""
    monkeypatch.setattr(inforce, "AGAIN", 0.1)
    trouble = Trouble()
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE, at=serve(session_timeout=2, handler=trouble))
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    trouble.refuses.add(("orchard", "set", "pref", ""))
    await romeo.hears("otr_ended", None)
    await juliet.hears("otr_ended", None)
    assert (await awaited(romeo.archive.get_preferences())).sessions == ()
    assert await romeo.logs(juliet) is MAY


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


@ensureDeferred
async def test_a_rule_that_would_never_lapse(serve, side):
    """Where rules do not lapse, that of a thread goes at the end: nobody would ever remove it."""
    rules = {}

    def script(element):
        sessions = [child for child in element.elements() if child.name == "session"]
        for session in sessions:
            rules[session["thread"]] = session.getAttribute("save")
        if element.name == "sessionremove":
            rules.clear()
        if element.name == "pref" and not sessions:
            told = "".join(f"<session thread='{thread}' save='{save}'/>" for thread, save in rules.items())
            return f"<pref xmlns='{F.namespace}'><default save='body' otr='prefer'/>{told}</pref>"
        return f"<list xmlns='{F.namespace}'/>" if element.name == "list" else None

    parts = [F.feature(part) for part in ("auto", "manage", "pref")]
    served = serve(features=parts, handler=lambda archiver, jid: Scripted(script, []))
    romeo, juliet = [await side(served, user, "orchard", auto=False) for user in ("romeo", "juliet")]
    juliet.client.plugin.disable("xep_0155")
    juliet.sends(ssn.write_offer(romeo.jid, THREAD, (NOT,)))
    await juliet.gets(ACCEPTED)
    juliet.sends(ssn.write_completion(romeo.jid, THREAD))
    await romeo.hears("otr_agreed", Outcome.MUSTNOT)
    assert rules == {THREAD: "false"}
    await awaited(romeo.plugin.end(juliet.jid, THREAD))
    assert rules == {}
    assert romeo.plugin.negotiated(juliet.jid, THREAD) is None


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
async def test_older_dialects_with_both(serve, pair):
    """There a contact's setting is set back when nothing with him is private any more, also while another
    thread is on the record; but what the user has changed meanwhile, stays."""
    parts = [T.feature(part) for part in ("auto", "manage", "manual", "pref")]
    romeo, juliet = await pair(Otr.CONCEDE, Otr.FORBID, at=serve(features=parts))
    assert await romeo.offers(juliet) is Outcome.MAY
    await juliet.prefers(Otr.PREFER)
    for items in ((), (ContactModes(BARE, Modes(SaveMode.MESSAGE, Otr.APPROVE)),)):
        assert await romeo.offers(juliet, "second") is Outcome.MUSTNOT
        assert (await awaited(romeo.archive.wanted_modes(BARE))).save is SaveMode.FALSE
        for item in items:
            romeo.sent.clear()
            await awaited(romeo.archive.set_item(item.jid, item.modes.save, item.modes.otr))
            await romeo.until(lambda: any('save="false"' in sent for sent in romeo.sent))
        await awaited(romeo.plugin.end(juliet.jid, "second"))
        assert (await awaited(romeo.archive.get_preferences())).items == items
    assert await romeo.logs(juliet) is MAY


@ensureDeferred
async def test_older_dialects_before_one_goes(serve, pair, side):
    """There a program that closes before it disconnects leaves a contact's setting as it was, whether what was
    accepted was opened yet or not; contacts are told, and get no more answers."""
    served = serve(features=[T.feature(part) for part in ("auto", "manage", "manual", "pref")])
    romeo, juliet = await pair(Otr.CONCEDE, Otr.PREFER, at=served)
    assert await juliet.offers(romeo) is Outcome.MUSTNOT
    await romeo.hears("otr_agreed", Outcome.MUSTNOT)
    juliet.sends(ssn.write_offer(romeo.jid, "second", (NOT,)))
    await romeo.until(lambda: any("second" in sent for sent in romeo.sent))
    await awaited(romeo.plugin.close())
    await juliet.hears("otr_ended", None)
    assert romeo.told == [("otr_ended", None), ("otr_failed", Outcome.UNANSWERED)]
    juliet.sends(ssn.write_offer(romeo.jid, "third", (NOT,)))
    await juliet.says(romeo, "Good night")
    assert not any("third" in sent for sent in romeo.sent)
    await awaited(romeo.client.disconnect())
    again = await side(served, "romeo", "later", able=False)
    assert (await awaited(again.archive.get_preferences())).items == ()


@ensureDeferred
@pytest.mark.parametrize("dialect", [V, T])
async def test_older_dialects_on_the_record(serve, pair, dialect):
    """There no offer of a contact, to log one thread, has more archived of what else is said with him."""
    parts = [dialect.feature(part) for part in ("auto", "manage", "manual", "pref")]
    romeo, juliet = await pair(Otr.FORBID, Otr.CONCEDE, at=serve(features=parts))
    await awaited(juliet.archive.set_item(romeo.jid, SaveMode.FALSE))
    assert await romeo.offers(juliet) is Outcome.MAY
    await juliet.hears("otr_agreed", Outcome.MAY)
    (item,) = (await awaited(juliet.archive.get_preferences())).items
    assert item.modes.save is SaveMode.FALSE


@ensureDeferred
@pytest.mark.clause("0136-otr-nego-02")
async def test_a_stronger_preference(serve, pair):
    """Where a preference that is more special than what could be set goes on saving, nothing private is
    agreed."""
    parts = [T.feature(part) for part in ("auto", "manage", "pref")]
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE, at=serve(features=parts))
    await awaited(juliet.archive.set_item(romeo.jid, full=True))
    assert await romeo.offers(juliet) is Outcome.MAY
