"""The plugin for XEP-0155, and contacts who mean no good, come late, twice or at once, or go."""

import asyncio

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.model import Otr, SaveMode
from archive_crypt.reader import ssn
from archive_crypt.reader.errors import CannotAsk, NoAnswer
from archive_crypt.reader.otr import Logging, Outcome
from archive_crypt.reader.ssn import Form
from archive_crypt.reader.xep_0155 import inforce
from archive_crypt.reader.xep_0155.talks import LONGEST_THREAD, MOST_TALKS
from tests.reader.conftest import DOMAIN, PATIENCE, awaited, leave
from tests.reader.scripted import Trouble
from tests.reader.sides import ACCEPTED, ENDED, MAY, NOT, OFFER, THREAD

BARE = f"juliet@{DOMAIN}"


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
@pytest.mark.parametrize("thread", ["", "another"])
async def test_what_an_offer_takes(visited, thread):
    """However often a contact offers, what he said before in other threads, or in none, stays archived, also
    while it is being recorded."""
    romeo, juliet = await visited(Otr.CONCEDE)
    await romeo.says(juliet, "I will kill thee", thread)
    for offered in (THREAD, "second"):
        romeo.sends(ssn.write_offer(juliet.jid, offered, (NOT,)))
        await romeo.gets(Form("submit", offered, accept=True, logging=(NOT,)))
    await romeo.says(juliet, "I mean it", thread)
    assert await awaited(juliet.kept()) == [2]


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
@pytest.mark.parametrize("how", ["cancelled", "ended", "ended by him", "closed"])
async def test_a_rule_of_the_user_comes_back(visited, how):
    """Where the user had a rule for the thread, it is that again when nothing comes of it, or it is over."""
    romeo, juliet = await visited(Otr.CONCEDE)
    await awaited(juliet.archive.set_session(THREAD, SaveMode.BODY, Otr.PREFER))
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT,)))
    await romeo.gets(ACCEPTED)
    if how != "cancelled":
        romeo.sends(ssn.write_completion(juliet.jid, THREAD))
        await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    if how == "ended":
        await awaited(juliet.plugin.end(romeo.jid, THREAD))
    elif how == "closed":
        await awaited(juliet.plugin.close())
    else:
        write = ssn.write_cancel if how == "cancelled" else ssn.write_end
        romeo.sends(write(juliet.jid, THREAD))
        await juliet.until(lambda: sum("<session" in sent for sent in juliet.sent) == 3)
    (rule,) = (await awaited(juliet.archive.get_preferences())).sessions
    assert (rule.save, rule.otr) == (SaveMode.BODY, Otr.PREFER)


@ensureDeferred
async def test_new_terms_that_cannot_be_had(serve, pair):
    """Where the server does not do its part of new terms, it goes on doing that of those in force."""
    trouble = Trouble()
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE, at=serve(handler=trouble))
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    romeo.heard.clear()
    trouble.refuses.add(("balcony", "get", "list", ""))
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT,), renegotiate=True))
    await romeo.gets(Form("submit", THREAD, renegotiate=False))
    (rule,) = (await awaited(juliet.archive.get_preferences())).sessions
    assert (rule.thread, rule.save) == (THREAD, SaveMode.FALSE)
    assert await juliet.logs(romeo) is NOT


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
@pytest.mark.parametrize("troubled", [False, True])
async def test_a_stream_that_breaks(serve, pair, side, monkeypatch, troubled):
    """What was agreed outlives the stream, and the server's rule is looked after on the next one, also where
    the server does not tell at first what is in force."""
    monkeypatch.setattr(inforce, "AGAIN", 0.1)
    trouble = Trouble()
    served = serve(handler=trouble)
    romeo, juliet = await pair(Otr.PREFER, Otr.CONCEDE, at=served)
    assert await romeo.offers(juliet) is Outcome.MUSTNOT
    await juliet.hears("otr_agreed", Outcome.MUSTNOT)
    phone = await side(served, "romeo", "phone", able=False)
    await awaited(romeo.client.disconnect())
    await awaited(phone.archive.remove_sessions(THREAD))
    romeo.sent.clear()
    if troubled:
        trouble.refuses.add(("orchard", "get", "pref", ""))
    started = awaited(romeo.client.wait_until("session_start", PATIENCE))
    romeo.client.connect(host="127.0.0.1", port=served.port)
    await started
    if troubled:
        await romeo.until(lambda: trouble.refused)
        trouble.refuses.clear()
    await romeo.until(lambda: any("<session" in sent for sent in romeo.sent))
    await romeo.answered()
    (rule,) = (await awaited(phone.archive.get_preferences())).sessions
    assert (rule.thread, rule.save) == (THREAD, SaveMode.FALSE)


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
async def test_under_another_name_before_it_is_opened(visited, served):
    """What was accepted under another name, and not opened yet, leaves no rule at the server."""
    romeo, juliet = await visited(Otr.CONCEDE)
    romeo.sends(ssn.write_offer(juliet.jid, THREAD, (NOT,)))
    await romeo.gets(ACCEPTED)
    await awaited(juliet.client.disconnect())
    juliet.client.requested_jid.resource = "tomb"
    started = awaited(juliet.client.wait_until("session_start", PATIENCE))
    juliet.client.connect(host="127.0.0.1", port=served.port)
    await started
    await juliet.until(lambda: any("<sessionremove" in sent for sent in juliet.sent))
    assert (await awaited(juliet.archive.get_preferences())).sessions == ()
    assert juliet.plugin.negotiated(romeo.jid, THREAD) is None


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
