"""What was encrypted between two people, archived anew: what is uploaded, and what keeps from it."""

from dataclasses import replace

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core import times
from archive_crypt.core.items import ReadItem
from archive_crypt.model import SECOND, UploadedItem
from archive_crypt.reader.agreed import OffTheRecord
from archive_crypt.reader.archive import Archive
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.connection import Account, Connection
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.opening import Book, Entry
from archive_crypt.reader.otr import Logging
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.rearchiving import (
    CONSENT,
    ConsentNeeded,
    Session,
    begun,
    is_newer,
    is_older,
    is_there,
    plan_openpgp,
    plan_session,
)
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, USERS, awaited

START = MORNING * SECOND
BOB, THREAD = "bob@example.com/laptop", "ffd7076498744578d10edabfe7f4a866"
KEYS = (LAPTOP.public(), PHONE.public())
CREATED = '<headers xmlns="http://jabber.org/protocol/shim"><header name="Created">2005-02-10T03:01:52Z</header></headers>'


def item(text, kind="from", second=0, rest=()):
    return ReadItem(kind, START + second * SECOND, None, None, ((None, text),), None, rest=tuple(rest))


def session(*items, logging=None):
    return Session(BOB, THREAD, logging, items)


@pytest.mark.clause("0218-3-03", "D218-16", "0136-manual-intro-03")
def test_a_session():
    """With the contact's full JID and the session's thread, each message when it was received; from the first
    one's time on, and sealed."""
    plan = plan_session(session(item("Hello", second=3), item("Alice!", "to", 7)), KEYS, consent=True)
    assert plan.collection == Listed(
        BOB, START + 3 * SECOND, "2026-11-21T10:00:03Z", thread=THREAD, crypt=True
    )
    assert [(one.kind, one.bodies[0][1], one.at - START) for one in plan.items] == [
        ("from", "Hello", 3 * SECOND),
        ("to", "Alice!", 7 * SECOND),
    ]
    assert plan.replaces is None


@pytest.mark.clause("D218-16")
def test_an_offline_session():
    """A message that waited is dated by the header that was encrypted with it."""
    plan = plan_session(session(item("Hello, Alice!", rest=[CREATED])), KEYS, consent=True)
    assert times.render(plan.items[0].at) == "2005-02-10T03:01:52Z"
    assert plan.collection.told == "2005-02-10T03:01:52Z"


@pytest.mark.clause("D218-16")
@pytest.mark.parametrize(
    "header",
    [
        CREATED.replace("2005", "2027"),
        CREATED.replace("2005-02-10", "10.2.2005"),
        f"<reply xmlns='urn:xmpp:reply:0'>{CREATED}</reply>",
        "<headers xmlns='http://jabber.org/protocol/shim'></headers>",
    ],
)
def test_a_date_that_is_none(header):
    """What is said to be written after it was received, or in what is only quoted, is no date of it."""
    plan = plan_session(session(item("Hello", second=3, rest=[header])), KEYS, consent=True)
    assert plan.items[0].at == START + 3 * SECOND


@pytest.mark.clause("D218-15", "0136-otr-notes-01")
@pytest.mark.parametrize("forced", [False, True])
def test_off_the_record(forced):
    """What was agreed to be off the record is not archived, not even encrypted, whatever the user wants."""
    agreed = session(item("x"), logging=Logging.MUSTNOT)
    with pytest.raises(OffTheRecord, match="off the record"):
        plan_session(agreed, KEYS, consent=True, forced=forced)


@pytest.mark.clause("D218-17")
def test_consent():
    """Without the user's consent nothing is archived, and the question says what it costs."""
    with pytest.raises(ConsentNeeded) as refused:
        plan_session(session(item("x"), logging=Logging.MAY), KEYS, consent=False)
    assert str(refused.value) == CONSENT
    assert "whoever gets hold of one of your private keys can read it" in CONSENT


@pytest.mark.clause("D218-18", "D218-17")
def test_only_what_is_given():
    """It is sealed for the keys given and no other; nothing of the session's own keys or trappings goes along."""
    trappings = [
        '<c xmlns="http://www.xmpp.org/extensions/xep-0200.html#ns"><key>x</key></c>',
        '<init xmlns="http://www.xmpp.org/extensions/xep-0116.html#ns-init"></init>',
        '<store xmlns="urn:xmpp:hints"></store>',
        CREATED,
        '<html xmlns="http://jabber.org/protocol/xhtml-im"></html>',
    ]
    plan = plan_session(session(item("x", rest=trappings)), KEYS[:1], consent=True)
    assert plan.keys == KEYS[:1]
    assert plan.items[0].rest == (trappings[-1],)
    with pytest.raises(Problem, match="no public key"):
        plan_session(session(item("x")), (), consent=True)


@pytest.mark.clause("D374-06")
@pytest.mark.parametrize("hint", ["no-store", "no-permanent-store"])
def test_what_is_not_to_be_stored(hint):
    """Messages whose senders asked for that are left out and counted, unless the user insists."""
    some = session(item("kept"), item("not", rest=[f'<{hint} xmlns="urn:xmpp:hints"></{hint}>']))
    plan = plan_session(some, KEYS, consent=True)
    assert ([one.bodies[0][1] for one in plan.items], plan.left_out) == (["kept"], 1)
    assert plan_session(some, KEYS, consent=True, forced=True).left_out == 0
    with pytest.raises(Problem, match="no message"):
        plan_session(session(some.items[1]), KEYS, consent=True)


@pytest.mark.clause("D218-16", "0218-3-03")
@ensureDeferred
async def test_on_a_real_server(served, certificate):
    """The plugins upload what was planned; the server gets nothing but what is sealed, and each of the
    keys alone opens it, all of it."""
    plan = plan_session(session(item("Hello", second=3), item("Alice!", "to", 7)), KEYS, consent=True)

    async def use():
        account = Account(f"romeo@{DOMAIN}", "127.0.0.1", served.port, certificate)
        async with Connection(account, USERS["romeo"]) as connection:
            archive = Archive(connection)
            await archive.save(plan.collection, plan.items, plan.keys)
            (listed,) = [chat async for chat in archive.collections(Query())]
            read = []
            for key in (LAPTOP, PHONE):
                book = Book([key])
                book.begin(listed)
                read.append([one async for page in archive.pages(listed, book) for one in book.read(page)])
            return listed, read

    listed, read = await awaited(use())
    assert (listed.with_, listed.start, listed.thread) == (BOB, START + 3 * SECOND, THREAD)
    assert [is_there(plan, entries) for entries in read] == [True, True]
    (kept,) = served.kept
    assert all(isinstance(one, UploadedItem) and "Alice" not in one.content for one in kept.items.values())


def test_every_message_has_a_time():
    """A message that tells no time has that of the one before, as uploads need one."""
    undated = replace(item("b"), at=None)
    plan = plan_session(session(item("a", second=3), undated), KEYS, consent=True)
    assert [one.at for one in plan.items] == [START + 3 * SECOND] * 2


# OpenPGP

OLD = Listed(BOB, START, "2026-11-21T10:00:00Z", thread=THREAD)
OPENPGP = '<openpgp xmlns="urn:xmpp:openpgp:0">QUJD</openpgp>'


def opened(text, finding=Finding.OPENPGP_VALID, place=0):
    one = item(text, second=place, rest=[OPENPGP])
    return Entry(place, False, one, one.at, (finding,))


@pytest.mark.clause("D374-17")
def test_openpgp():
    """The new collection has the same contact and thread and another start; it replaces the old one."""
    plain = Entry(1, False, item("plain", second=1), START + SECOND, ())
    plan = plan_openpgp(OLD, [opened("secret"), plain], KEYS)
    assert (plan.collection.with_, plan.collection.thread, plan.collection.crypt) == (BOB, THREAD, True)
    assert plan.collection.start == START + 1000
    assert [(one.bodies[0][1], one.rest) for one in plan.items] == [("secret", ()), ("plain", ())]
    assert plan.replaces == OLD


@pytest.mark.clause("D374-17")
def test_what_plain_messages_have():
    """Of messages that were not encrypted nothing is taken off, as the old collection may go."""
    said = ('<encryption xmlns="urn:xmpp:eme:0" namespace="x"></encryption>', CREATED)
    plain = Entry(1, False, item("plain", second=1, rest=said), START + SECOND, ())
    plan = plan_openpgp(OLD, [opened("secret"), plain], KEYS)
    assert [one.rest for one in plan.items] == [(), said]
    assert plan.replaces == OLD


@pytest.mark.clause("D374-17")
@pytest.mark.parametrize(
    "bad",
    [
        opened("x", Finding.OPENPGP_INVALID, 1),
        opened("x", Finding.OPENPGP_CLOSED, 1),
        Entry(1, True, None, None, (Finding.NO_KEY,)),
        replace(opened("x", place=1), missing=1),
    ],
)
def test_what_cannot_be_vouched_for(bad):
    """What could not be opened or is suspicious is left out, and then the old collection stays."""
    plan = plan_openpgp(OLD, [opened("secret"), bad], KEYS)
    assert (len(plan.items), plan.left_out, plan.replaces) == (1, 1, None)
    with pytest.raises(Problem, match="no OpenPGP message"):
        plan_openpgp(OLD, [bad], KEYS)


@pytest.mark.clause("D374-17")
def test_who_signed_is_not_known():
    """Then all is planned, and the old collection stays: it alone could ever show who signed."""
    plan = plan_openpgp(OLD, [opened("a"), opened("b", Finding.OPENPGP_UNKNOWN, 1)], KEYS)
    assert (len(plan.items), plan.left_out, plan.replaces) == (2, 0, None)


def test_what_would_not_come_back():
    """A message that says nothing, or would not come back as it is, is left out, and then the old one stays."""
    silent = replace(opened("", place=1), item=item("", second=1))
    child = replace(item("x", "note", 1), rest=('<x xmlns="urn:x"></x>',))
    for odd in (silent, replace(silent, item=child)):
        plan = plan_openpgp(OLD, [opened("a"), odd], KEYS)
        assert ([one.bodies[0][1] for one in plan.items], plan.left_out, plan.replaces) == (["a"], 1, None)


def test_what_an_earlier_run_left():
    """What is there is told apart: the first of what is planned, some of it, more than it, something else."""
    plan = plan_openpgp(OLD, [opened(text, place=n) for n, text in enumerate("abc")], KEYS)
    every = read_back(plan)
    less = replace(plan, items=plan.items[1:])
    assert [begun(plan, every[:n]) for n in range(4)] == [None, 1, 2, 3]
    assert (begun(plan, every[1:]), is_older(plan, every[1:]), is_newer(plan, every[1:])) == (
        None,
        True,
        False,
    )
    assert (begun(less, every), is_older(less, every), is_newer(less, every)) == (None, False, True)
    other = [replace(every[0], item=item("other"))]
    dubious = [replace(every[0], findings=(Finding.OUT_OF_PLACE,))]
    for found in (other, dubious):
        assert (begun(plan, found), is_older(plan, found), is_newer(plan, found)) == (None, False, False)


def read_back(plan):
    return [Entry(n, True, one, one.at, (Finding.UNBOUND,)) for n, one in enumerate(plan.items)]


@pytest.mark.clause("D374-17")
def test_only_then_removed():
    """The old collection may go only when all of the new one was read back as it was planned."""
    plan = plan_openpgp(OLD, [opened("a"), opened("b", place=1)], KEYS)
    found = read_back(plan)
    assert is_there(plan, found)
    assert not is_there(plan, found[:1])
    assert not is_there(plan, found[::-1])
    assert not is_there(plan, [found[0], replace(found[1], findings=(Finding.OUT_OF_PLACE,))])
    assert not is_there(plan, [found[0], replace(found[1], item=None)])
    assert not is_there(plan, [found[0], replace(found[1], item=replace(found[1].item, bodies=()))])
    assert not is_there(plan, [found[0], replace(found[1], at=None)])
