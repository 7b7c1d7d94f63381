"""``rearchive``: what was encrypted between two people, sealed with the archive's own keys; the old goes only
when all of it was read back."""

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import cycle

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from archive_crypt.core.dialect import F, T, V
from archive_crypt.core.items import ReadItem
from archive_crypt.errors import ArchiveBusy, QuotaExceeded
from archive_crypt.model import SECOND, Direction, Link, UploadedItem
from archive_crypt.reader import given, ox, rearchiving, ssn, trust
from archive_crypt.reader.opening import Book
from archive_crypt.reader.openpgp import Keyring
from archive_crypt.reader.otr import Logging
from archive_crypt.reader.protocol import Listed, Query
from archive_crypt.reader.rearchiving import CONSENT
from archive_crypt.store.interfaces import Remove, Save
from archive_crypt.xmpp.handler import ArchiveHandler
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, USERS
from tests.reader.pgp import archived, needs_gpg, people, signcrypt
from tests.reader.terminal import AtTerminal

ROMEO, JULIET, NURSE = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", f"nurse@{DOMAIN}"
R, J, OTHER = f"xmpp:{ROMEO}", f"xmpp:{JULIET}", "xmpp:old@x.lit"


@pytest.fixture(scope="module")
def verona(tmp_path_factory):
    """Romeo and Juliet have keys; Romeo has an older one, too."""
    with people(tmp_path_factory.mktemp("pgp")) as found:
        for user_id in (R, J, OTHER):
            found.make(user_id)
        yield found


@pytest.fixture
def keys(key_files, verona):
    """What opens it all."""
    openpgp = ("--openpgp-key", verona.secret(R), "--openpgp-key", verona.public(J))
    return ("--key", key_files["laptop"], *openpgp)


@pytest.fixture
def talks(served, ciphered):
    """A function: romeo says these to Juliet, each encrypted for one of his keys and hers."""

    async def record(*texts, key=R, at=MORNING, served=served):
        await served.hear(*(ciphered(text, key) for text in texts), at=at, to=JULIET)

    return record


@pytest.fixture
def ciphered(verona):
    """A function: what is in a message that romeo signed, encrypted for this key, and Juliet's."""

    def write(text, key=R):
        item = archived(verona.seals(R, signcrypt(JULIET, said=text), key, J))
        return f"<body>{item.bodies[0][1]}</body>{''.join(item.rest)}"

    return write


def texts(done):
    return [line["bodies"][0]["text"] for line in done.lines if line.get("bodies")]


def starts(served):
    """When those began that are there, in milliseconds since the morning."""
    return [kept.shown.start // 1000 - MORNING * 1000 for kept in served.kept]


# OpenPGP


@needs_gpg
@pytest.mark.clause("D374-17", "D218-18")
@ensureDeferred
async def test_openpgp(served, reader, talks, keys, key_files):
    """Collections with OpenPGP messages are there sealed anew, with the same contact, thread and times, and
    the old ones are gone; others stay as they were. The archive's key alone opens all of it."""
    await talks("But soft", "what light")
    await served.record("plain", to=NURSE, at=MORNING + 3600)
    before = (await reader("read", ROMEO, *keys, "--json", at=served)).lines
    done = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
    assert (done.code, done.err) == (0, "")
    assert [(line["with"], line["messages"], line["reason"]) for line in done.lines[:-1]] == [
        (JULIET, 2, None)
    ]
    assert done.lines[-1] == {"rearchived": 1, "left": 0}
    assert starts(served) == [1, 3600_000]
    read = await reader("read", ROMEO, "--key", key_files["laptop"], "--json", at=served)
    assert (read.code, texts(read)) == (0, ["But soft", "what light", "plain"])
    assert [line["utc"] for line in read.lines] == [line["utc"] for line in before]
    assert all(line["encrypted"] for line in read.lines)
    again = await reader("rearchive", ROMEO, *keys, "--yes", at=served)
    assert (again.code, again.out) == (0, "")
    assert "No collection that matches has OpenPGP messages." in again.err


def before(served, kind, do):
    """Before the next change of this kind is made, something happens."""
    apply = served.storage._apply

    def applied(changes, mark):
        if any(isinstance(change, kind) for change in changes):
            served.storage._apply = apply
            do()
        return apply(changes, mark)

    served.storage._apply = applied


@needs_gpg
@pytest.mark.parametrize("dialect", [V, T, F])
@ensureDeferred
async def test_in_each_dialect(serve, reader, talks, keys, dialect):
    """It works in all dialects of the archive."""
    parts = ("auto", "encrypt", "manage", "manual", "pref")
    served = serve(features=[dialect.feature(part) for part in parts])
    await talks("But soft", served=served)
    assert (await reader("rearchive", ROMEO, *keys, "--yes", at=served)).code == 0
    assert starts(served) == [1]
    read = await reader("read", ROMEO, *keys[:2], "--json", at=served)
    assert (read.code, texts(read)) == (0, ["But soft"])


@needs_gpg
@pytest.mark.clause("D374-17")
@ensureDeferred
async def test_what_is_left_out(served, reader, ciphered, keys, verona):
    """Where some of a collection cannot be opened, what can is sealed anew, the old one stays, and which key
    would open more is told. With that key all is there, once, and nothing else."""
    await served.hear(ciphered("a"), ciphered("b", OTHER), ciphered("c"))
    done = await reader("rearchive", ROMEO, *keys, "--yes", at=served)
    assert done.code == 4
    assert "2 message(s) sealed anew, 1 left out; keep the old collection: not all of it" in done.out
    assert "Keys that open more have the ids" in done.out
    assert starts(served) == [0, 1]
    again = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
    assert (again.code, again.lines[0]["reason"], starts(served)) == (4, "left-out", [0, 1])
    more = ("--openpgp-key", verona.secret(OTHER))
    done = await reader("rearchive", ROMEO, *keys, *more, "--yes", "--json", at=served)
    assert (done.code, done.lines[0]["messages"], starts(served)) == (0, 3, [2])
    assert texts(await reader("read", ROMEO, *keys[:2], "--json", at=served)) == ["a", "b", "c"]


@needs_gpg
@pytest.mark.clause("D374-17")
@ensureDeferred
async def test_signatures_that_were_not_checked(served, reader, verona, keys):
    """Where the sender's public key was not given the old collection stays, as only it can show who signed;
    with that key it goes, and nothing is uploaded again."""
    item = archived(verona.seals(J, signcrypt(ROMEO, said="Ay me"), R))
    await served.hear(f"<body>{item.bodies[0][1]}</body>{''.join(item.rest)}", direction=Direction.FROM)
    done = await reader("rearchive", ROMEO, *keys[:4], "--yes", "--json", at=served)
    assert (done.code, done.lines[0]["reason"], starts(served)) == (4, "unsigned", [0, 1])
    before(served, Save, lambda: pytest.fail("it is there already"))
    done = await reader("rearchive", ROMEO, *keys, "--yes", at=served)
    assert (done.code, starts(served)) == (0, [1])
    assert texts(await reader("read", ROMEO, *keys[:2], "--json", at=served)) == ["Ay me"]


@needs_gpg
@ensureDeferred
async def test_nothing_can_be_opened(served, reader, talks, keys):
    """Where no OpenPGP message of a collection can be opened nothing is uploaded."""
    await talks("a", key=OTHER)
    done = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
    assert (done.code, done.lines[0]["reason"], starts(served)) == (4, "nothing", [0])
    assert "Keys that open more have the ids" in done.lines[0]["detail"]


@needs_gpg
@pytest.mark.clause("D374-17")
@ensureDeferred
async def test_the_removal_fails(served, reader, talks, keys):
    """Stopped before the old collection is removed, it goes on there: nothing is uploaded twice."""
    await talks("But soft")

    def fails():
        raise ArchiveBusy

    before(served, Remove, fails)
    done = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
    assert (done.code, done.lines[0]["reason"], starts(served)) == (4, "refused", [0, 1])
    before(served, Save, lambda: pytest.fail("it is there already"))
    done = await reader("rearchive", ROMEO, *keys, "--yes", at=served)
    assert (done.code, starts(served)) == (0, [1])
    assert texts(await reader("read", ROMEO, *keys[:2], "--json", at=served)) == ["But soft"]


@needs_gpg
@pytest.mark.clause("D374-17")
@ensureDeferred
async def test_other_keys_than_before(served, reader, talks, keys, key_files, tmp_path):
    """What an earlier run uploaded for other keys is uploaded anew for those given now, before anything is
    removed; so each of them opens all of it."""
    await talks("a", "b")

    def fails():
        raise ArchiveBusy

    before(served, Remove, fails)
    assert (await reader("rearchive", ROMEO, *keys, "--yes", at=served)).code == 4
    new = tmp_path / "new.pem"
    await reader("keygen", "--out", new, "--no-passphrase", "--bits", "2048")
    done = await reader("rearchive", ROMEO, "--key", new, *keys, "--yes", "--json", at=served)
    assert (done.code, done.err, starts(served)) == (0, "", [2])
    for key in (new, key_files["laptop"]):
        read = await reader("read", ROMEO, "--key", key, "--json", at=served)
        assert (read.code, texts(read)) == (0, ["a", "b"])


@needs_gpg
@pytest.mark.clause("D374-17")
@ensureDeferred
async def test_the_stream_ends(serve, reader, talks, keys):
    """Where the stream ends in the middle, what came of the others is told, and the same command goes on."""
    served = serve()
    await talks("a", served=served)
    await talks("b", at=MORNING + 3600, served=served)
    before(served, Save, lambda: before(served, Save, served.server.close))
    done = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
    assert (done.code, [line["reason"] for line in done.lines]) == (2, [None])
    assert "give the same command again to go on" in done.err
    assert starts(served) == [1, 3600_000, 3600_001]
    again = serve(storage=served.storage)
    before(again, Save, lambda: pytest.fail("it is there already"))
    done = await reader("rearchive", ROMEO, *keys, "--yes", at=again)
    assert (done.code, starts(again)) == (0, [1, 3600_001])


@needs_gpg
@pytest.mark.clause("D374-17")
@ensureDeferred
async def test_half_of_it_is_there(served, reader, talks, keys, using, verona):
    """Stopped in the middle of the upload, it goes on with the rest of it."""
    await talks("a", "b", "c")

    async def begin(archive):
        with Keyring([verona.secret(R), verona.public(J)], bytes) as keyring:
            (old,) = [chat async for chat in archive.collections(Query())]
            book = Book([LAPTOP], inner=ox.Reader(ROMEO, keyring).read)
            book.begin(old)
            entries = [entry async for page in archive.pages(old, book) for entry in book.read(page)]
        plan = rearchiving.plan_openpgp(old, entries, [LAPTOP.public()])
        await archive.save(plan.collection, plan.items[:2], plan.keys, force=True)

    await using(served, begin)
    assert starts(served) == [0, 1]
    assert (await reader("rearchive", ROMEO, *keys, "--yes", at=served)).code == 0
    assert starts(served) == [1]
    read = await reader("read", ROMEO, *keys[:2], "--json", at=served)
    assert (read.code, texts(read)) == (0, ["a", "b", "c"])
    assert [line["utc"][17:19] for line in read.lines] == ["00", "01", "02"]


@needs_gpg
@ensureDeferred
async def test_something_else_is_there(served, reader, talks, keys, using):
    """A collection that happens to be where the new one would be stays, and the new one comes beside it."""
    await talks("But soft")
    at = MORNING * SECOND + 1000
    other = ReadItem("to", at, None, None, ((None, "other"),), None)
    await using(served, lambda archive: archive.save(Listed.named(JULIET, at), [other], [LAPTOP.public()]))
    done = await reader("rearchive", ROMEO, *keys, "--yes", at=served)
    assert (done.code, starts(served)) == (0, [1, 2])


@needs_gpg
@ensureDeferred
async def test_something_closed_is_there(served, reader, talks, keys, using):
    """A collection that cannot be opened, as it is sealed for another key, does not stand in the way."""
    await talks("But soft")
    at = MORNING * SECOND + 1000
    other = ReadItem("to", at, None, None, ((None, "other"),), None)
    await using(served, lambda archive: archive.save(Listed.named(JULIET, at), [other], [PHONE.public()]))
    done = await reader("rearchive", ROMEO, *keys, "--yes", at=served)
    assert (done.code, starts(served)) == (0, [1, 2])


@needs_gpg
@ensureDeferred
async def test_something_odd_is_there(served, reader, talks, keys):
    """Nor does one of other messages, some of which are missing."""
    await served.record("one", "two", at=MORNING + 0.001)
    del served.kept[0].items[0]
    await talks("But soft")
    done = await reader("rearchive", ROMEO, *keys, "--yes", at=served)
    assert (done.code, starts(served)) == (0, [1, 2])


@needs_gpg
@pytest.mark.clause("D374-17")
@ensureDeferred
async def test_it_changes_meanwhile(served, reader, talks, keys):
    """A collection to which something came since it was read stays, and the next time all of it is taken."""
    await talks("But soft")
    kept = served.kept[0]

    def comes():
        kept.shown = replace(kept.shown, version=kept.shown.version + 1)

    before(served, Save, comes)
    done = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
    assert (done.code, done.lines[0]["reason"], starts(served)) == (4, "changed", [0, 1])
    assert (await reader("rearchive", ROMEO, *keys, "--yes", at=served)).code == 0
    assert starts(served) == [1]


@needs_gpg
@pytest.mark.clause("D374-17")
@ensureDeferred
async def test_it_is_being_recorded(served, reader, talks, keys):
    """A collection to which more may come at any moment stays, and nothing is uploaded yet."""
    await talks("But soft", at=int(time.time()) - 60)
    before_it = starts(served)
    done = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
    assert (done.code, done.lines[0]["reason"], starts(served)) == (4, "recent", before_it)


class Uncounted(ArchiveHandler):
    """Answers that count nothing."""

    def send(self, stanza):
        text = stanza if isinstance(stanza, str) else stanza.toXml()
        super().send(re.sub("<count>[0-9]*</count>", "", text))


@needs_gpg
@pytest.mark.parametrize("handler", [ArchiveHandler, Uncounted])
@ensureDeferred
async def test_it_changes_without_a_version(serve, reader, talks, keys, handler):
    """Where the dialect has no versions a change is seen all the same, also if nothing is counted."""
    parts = ("auto", "encrypt", "manage", "manual", "pref")
    served = serve(features=[V.feature(part) for part in parts], handler=handler)
    await talks("But soft", served=served)
    kept = served.kept[0]

    def comes():
        kept.shown = replace(kept.shown, subject="stars")

    before(served, Save, comes)
    done = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
    assert (done.code, done.lines[0]["reason"], starts(served)) == (4, "changed", [0, 1])
    assert (await reader("rearchive", ROMEO, *keys, "--yes", at=served)).code == 0


@needs_gpg
@pytest.mark.clause("D374-17")
@ensureDeferred
async def test_it_does_not_come_back(served, reader, talks, keys):
    """Where what was uploaded does not come back as it was, the old collection stays; and it is not uploaded
    again each time."""
    await talks("a", "b")
    page = served.storage._page

    def without(owner, with_, start, *rest):
        found = page(owner, with_, start, *rest)
        if start == MORNING * SECOND:
            return found
        return replace(found, page=replace(found.page, items=[]))

    served.storage._page = without
    for _ in range(2):
        done = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
        assert (done.code, done.lines[0]["reason"], starts(served)) == (4, "not-verified", [0, 1])


@needs_gpg
@ensureDeferred
async def test_the_server_refuses_one(served, reader, talks, keys):
    """What the server refuses is told, with its words; the others are done."""
    await talks("a")
    await talks("b", at=MORNING + 3600)

    def fails():
        raise QuotaExceeded

    before(served, Save, fails)
    done = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
    assert (done.code, [line.get("reason") for line in done.lines]) == (4, ["refused", None, None])
    assert done.lines[-1] == {"rearchived": 1, "left": 1}
    assert starts(served) == [0, 3600_001]


@needs_gpg
@ensureDeferred
async def test_what_else_a_collection_has(served, reader, talks, keys, using):
    """Its subject, links and form are with the new collection, the form sealed."""
    await talks("a")
    form = '<x xmlns="jabber:x:data" type="submit"><field var="the task"><value>1</value></field></x>'
    links = {"previous": Link(NURSE, (MORNING - 60) * SECOND)}

    async def add(archive):
        (old,) = [chat async for chat in archive.collections(Query())]
        how = {"subject": "stars", "links": links, "form": form, "force": True}
        await archive.save(old, (), [LAPTOP.public()], confirm=lambda _: True, **how)

    await using(served, add)
    assert (await reader("rearchive", ROMEO, *keys, "--yes", at=served)).code == 0
    (kept,) = served.kept
    assert (starts(served), kept.shown.subject, dict(kept.links)) == ([1], "stars", links)
    assert "the task" not in str(kept.form)


@needs_gpg
@ensureDeferred
async def test_off_the_record_now(served, reader, talks, keys):
    """Of whom the user requires by now to be off the record nothing is uploaded, unless he insists."""
    await talks("a")
    await reader("prefs", "contact", ROMEO, JULIET, "--save", "false", "--otr", "require", at=served)
    done = await reader("rearchive", ROMEO, *keys, "--yes", "--json", at=served)
    assert (done.code, done.lines[0]["reason"], starts(served)) == (4, "unwanted", [0])
    assert f"all with {JULIET} off the record" in done.lines[0]["detail"]
    assert (await reader("rearchive", ROMEO, *keys, "--yes", "--force", at=served)).code == 0
    assert starts(served) == [1]


@needs_gpg
@pytest.mark.parametrize(("answer", "then"), [(b"y", [1]), (b"n", [0]), (b"", [0])])
@ensureDeferred
async def test_it_is_asked_first(served, certificate, talks, keys, answer, then):
    """At a terminal what would be replaced is shown; without a yes nothing changes."""
    await talks("But soft")
    where = ["--host", "127.0.0.1", "--port", served.port, "--ca", certificate]
    password = {given.PASSWORD: USERS["romeo"]}

    def answered():
        shell = AtTerminal("rearchive", ROMEO, *keys, *where, **password)
        shell.types(
            answer,
            after=b"Seal this collection anew, and remove the old for good where all of it could be? [y/N] ",
        )
        return shell.ends()

    code, out, err = await deferToThread(answered)
    assert (code, starts(served)) == (0, then), err
    assert JULIET.encode() in out


@needs_gpg
@ensureDeferred
async def test_nobody_to_ask(served, reader, talks, keys):
    """Without a terminal, and without --yes, nothing changes."""
    await talks("But soft")
    done = await reader("rearchive", ROMEO, *keys, at=served)
    assert (done.code, starts(served)) == (1, [0])
    assert "There is no terminal to ask at; give --yes if it is meant." in done.err


@needs_gpg
@pytest.mark.clause("D218-18")
@ensureDeferred
async def test_only_for_confirmed_keys(served, reader, talks, keys):
    """Nothing is sealed for a key that was not confirmed here."""
    await talks("But soft")
    trust.withdraw(trust.default_path(), [LAPTOP.fingerprint])
    done = await reader("rearchive", ROMEO, *keys, "--yes", at=served)
    assert (done.code, starts(served)) == (1, [0])
    assert "is not confirmed to be yours" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--openpgp-key", "x", "--transcript", "y"),
        ("--transcript", "y", "--with", JULIET),
        ("--transcript", "y", "--yes"),
        ("--openpgp-key", "x", "--logging", "may"),
        ("--openpgp-key", "x", "--accept-pfs-loss"),
    ],
)
@ensureDeferred
async def test_what_does_not_go_together(reader, arguments):
    """What is to be archived anew is said once, and what says nothing of it is refused."""
    done = await reader("rearchive", ROMEO, *arguments)
    assert (done.code, done.out) == (1, "")


@ensureDeferred
async def test_a_key_that_opens_nothing(reader, key_files, tmp_path):
    """A public half is not enough, as what is uploaded has to be read back."""
    await reader("keygen", "--out", tmp_path / "new.pem", "--no-passphrase", "--bits", "2048")
    done = await reader("rearchive", ROMEO, "--transcript", "y", "--key", tmp_path / "new.pem.pub")
    assert done.code == 1
    assert "takes one of its private keys: give it with --key." in done.err


@needs_gpg
@pytest.mark.clause("0136-otr-notes-01")
@pytest.mark.parametrize("chosen", [(), ("--start", "2026-11-21T10:00:00Z")])
@ensureDeferred
async def test_it_was_agreed_before(served, reader, ciphered, keys, using, chosen):
    """Where an earlier collection of the thread, of whatever messages, shows that the two agreed to be off the
    record, nothing is sealed anew, also if that collection was not asked for."""
    at = (MORNING - 3600) * SECOND
    sides = zip(("to", "from"), agreed("mustnot"), strict=True)
    items = [ReadItem(side, at, None, None, (), None, rest=(form,)) for side, form in sides]
    there = Listed.named(f"{JULIET}/balcony", at, "t")
    await using(served, lambda archive: archive.save(there, items, [LAPTOP.public()], force=True))
    await served.hear(f"{ciphered('secret')}<thread>t</thread>", to=JULIET)
    done = await reader("rearchive", ROMEO, *keys, *chosen, "--yes", "--force", "--json", at=served)
    assert (done.code, done.lines[0]["reason"], starts(served)) == (4, "unwanted", [-3600_000, 0])
    assert "agreed to keep it off the record" in done.lines[0]["detail"]


# Transcripts of encrypted sessions

OFFER = ssn.write_offer(JULIET, "t", tuple(Logging))


def agreed(logging):
    """The messages of a negotiation that came to this."""
    submit = f"<field var='accept'><value>true</value></field><field var='logging'><value>{logging}</value></field>"
    type_ = "<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:ssn</value></field>"
    form = f"<x xmlns='jabber:x:data' type='submit'>{type_}{submit}</x>"
    offer = OFFER[OFFER.index("<feature") : OFFER.index("</feature>") + len("</feature>")]
    return [offer, f"<feature xmlns='http://jabber.org/protocol/feature-neg'>{form}</feature>"]


@pytest.fixture
def transcript(tmp_path):
    """A function: a file of a conversation with Juliet, of these texts; `negotiation`: what else came before;
    `more`: what the collection has besides."""

    def write(
        *said, name="session", negotiation=(), findings=(), with_=f"{JULIET}/balcony", minute=0, **more
    ):
        start = f"2026-11-21T10:{minute:02}:00Z"
        lines = [{"type": "archive", "version": 1, "owner": ROMEO}]
        lines.append(
            {"type": "collection", "with": with_, "start": start, "told": start, "thread": "t"} | more
        )
        sides = cycle(("to", "from"))
        items = [{"kind": side, "rest": [element]} for side, element in zip(sides, negotiation, strict=False)]
        items += [{"bodies": [{"text": text}], "rest": list(TRAPPINGS)} for text in said]
        for place, item in enumerate(items):
            at = f"2026-11-21T10:{minute:02}:{place:02}Z"
            line = {"type": "message", "place": place, "at": at, "item": {"kind": "to", "utc": at} | item}
            lines.append(line | ({"findings": list(findings)} if place == len(items) - 1 else {}))
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


FORM = '<x xmlns="jabber:x:data" type="submit">{}</x>'
TRAPPINGS = ('<c xmlns="http://www.xmpp.org/extensions/xep-0200.html#ns"><key>S3CRET</key></c>',)


@pytest.fixture
def laptop(key_files):
    return ("--key", key_files["laptop"])


@pytest.mark.clause("D218-16", "D218-17", "D218-18", "0218-3-03")
@ensureDeferred
async def test_a_transcript(served, reader, laptop, transcript):
    """Its messages are uploaded sealed, with the contact's full JID, the session's thread and their times, and
    nothing of the session's keys. Given again, or grown, each is there once."""
    args = ("--transcript", transcript("one more", "two"), "--accept-pfs-loss")
    done = await reader("rearchive", ROMEO, *laptop, *args, "--json", at=served)
    assert (done.code, done.err) == (0, "")
    assert (done.lines[0]["messages"], done.lines[-1]) == (2, {"rearchived": 1, "left": 0})
    (kept,) = served.kept
    assert all(
        isinstance(item, UploadedItem) and "one more" not in item.content for item in kept.items.values()
    )
    for more in ((), ("three",)):
        transcript("one more", "two", *more)
        assert (await reader("rearchive", ROMEO, *laptop, *args, at=served)).code == 0
        (kept,) = served.kept
        assert (kept.shown.with_, kept.shown.thread, kept.shown.crypt) == (f"{JULIET}/balcony", "t", True)
        path = args[1].with_name(f"out{len(more)}.jsonl")
        await reader("export", ROMEO, *laptop, "--format", "jsonl", "--out", path, at=served)
        assert "S3CRET" not in path.read_text()
        read = await reader("read", ROMEO, *laptop, "--json", at=served)
        assert (read.code, texts(read)) == (0, ["one more", "two", *more])
        assert [line["utc"][17:19] for line in read.lines] == ["00", "01", "02"][: len(read.lines)]


@ensureDeferred
async def test_what_else_a_transcript_has(served, reader, laptop, transcript):
    """Its links and its form are uploaded too, the form sealed; that its subject is not, for the server to read,
    is told. Given again, all is known."""
    form = FORM.format('<field var="the task"><value>1</value></field>')
    links = {"previous": {"with": NURSE, "start": "2026-11-21T09:59:00Z"}}
    path = transcript("one", subject="stars", links=links, form=form)
    args = (*laptop, "--transcript", path, "--accept-pfs-loss", "--json")
    for _ in range(2):
        done = await reader("rearchive", ROMEO, *args, at=served)
        assert (done.code, done.lines[0]["reason"]) == (0, None)
        assert "Its subject is left out, as the server could read it" in done.lines[0]["detail"]
    (kept,) = served.kept
    assert dict(kept.links) == {"previous": Link(NURSE, (MORNING - 60) * SECOND)}
    assert (kept.shown.subject, "the task" in str(kept.form)) == (None, False)
    again = path.with_name("again.jsonl")
    await reader("export", ROMEO, *laptop, "--format", "jsonl", "--out", again, at=served)
    assert "the task" in again.read_text()


@ensureDeferred
async def test_a_form_that_is_closed(served, reader, laptop, transcript):
    """A form that could not be opened when the file was written is left out, and that is told."""
    closed = "<EncryptedData xmlns='http://www.w3.org/2001/04/xmlenc#'></EncryptedData>"
    path = transcript("one", form=FORM.format(closed))
    args = (*laptop, "--transcript", path, "--accept-pfs-loss", "--json")
    done = await reader("rearchive", ROMEO, *args, at=served)
    assert (done.code, done.lines[0]["messages"], done.lines[0]["left_out"]) == (4, 1, 1)
    assert (done.lines[0]["reason"], served.kept[0].form) == ("left-out", None)


@ensureDeferred
async def test_less_of_a_transcript_for_other_keys(served, reader, laptop, transcript, tmp_path):
    """Where more of it is there than the file has by now, and not for each key given, nothing is touched."""
    args = ("--transcript", transcript("one", "two"), "--accept-pfs-loss", "--json")
    assert (await reader("rearchive", ROMEO, *laptop, *args, at=served)).code == 0
    await reader("keygen", "--out", tmp_path / "new.pem", "--no-passphrase", "--bits", "2048")
    transcript("one")
    done = await reader("rearchive", ROMEO, *laptop, "--key", tmp_path / "new.pem", *args, at=served)
    assert (done.code, done.lines[0]["reason"], len(served.kept)) == (4, "other-keys", 1)
    assert texts(await reader("read", ROMEO, *laptop, "--json", at=served)) == ["one", "two"]


@ensureDeferred
async def test_more_of_a_transcript(served, reader, laptop, transcript):
    """What an earlier file brought there, which had less of it, is gone once all of it is there."""
    for said, left_out, messages in ((("one", "two", "three"), "two", 2), (("one", "two", "three"), None, 3)):
        path = transcript(*said)
        lesser(path, left_out)
        done = await reader(
            "rearchive", ROMEO, *laptop, "--transcript", path, "--accept-pfs-loss", "--json", at=served
        )
        assert (done.code, done.lines[0]["messages"], len(served.kept)) == (0, messages, 1)
    assert texts(await reader("read", ROMEO, *laptop, "--json", at=served)) == ["one", "two", "three"]


def lesser(path, without):
    """The file without one of its messages."""
    path.write_text("\n".join(line for line in path.read_text().splitlines() if f'"{without}"' not in line))


@pytest.mark.parametrize(("dialect", "handler"), [(F, ArchiveHandler), (V, ArchiveHandler), (V, Uncounted)])
@ensureDeferred
async def test_less_that_changes_meanwhile(serve, reader, laptop, transcript, dialect, handler):
    """What had less of it stays where something came to it since it was read, in every dialect; the next time it
    is looked at anew, and goes if it still has less."""
    parts = ("auto", "encrypt", "manage", "manual", "pref")
    served = serve(features=[dialect.feature(part) for part in parts], handler=handler)
    path = transcript("one", "two", "three")
    args = ("rearchive", ROMEO, *laptop, "--transcript", path, "--accept-pfs-loss", "--json")
    lesser(path, "two")
    assert (await reader(*args, at=served)).code == 0
    (old,) = served.kept
    shown = old.shown

    def comes():
        old.shown = replace(shown, version=shown.version + 1, subject="stars")

    before(served, Save, comes)
    transcript("one", "two", "three")
    done = await reader(*args, at=served)
    assert (done.code, done.lines[0]["reason"], starts(served)) == (4, "changed", [0, 1])
    served.kept[0].shown = shown
    assert (await reader(*args, at=served)).code == 0
    assert starts(served) == [1]


@ensureDeferred
async def test_less_that_is_being_recorded(served, reader, laptop, transcript):
    """What has less of it stays where more may come to it at any moment."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M}"
    path = transcript("one", "two", "three")
    path.write_text(path.read_text().replace("2026-11-21T10:00", now))
    whole = path.read_text()
    args = ("rearchive", ROMEO, *laptop, "--transcript", path, "--accept-pfs-loss", "--json")
    lesser(path, "two")
    assert (await reader(*args, at=served)).code == 0
    path.write_text(whole)
    done = await reader(*args, at=served)
    assert (done.code, done.lines[0]["reason"], len(served.kept)) == (4, "recent", 2)


@pytest.mark.clause("D218-17")
@ensureDeferred
async def test_no_consent(served, reader, laptop, transcript):
    """Without a terminal the user has to say that he means it: else nothing is archived."""
    done = await reader("rearchive", ROMEO, *laptop, "--transcript", transcript("one"), at=served)
    assert (done.code, done.out) == (1, "")
    assert CONSENT in done.err
    assert "give --accept-pfs-loss if it is meant" in done.err
    assert (await reader("list", ROMEO, at=served)).out == ""


@pytest.mark.clause("D218-17")
@pytest.mark.parametrize(("answer", "count"), [(b"y", 2), (b"n", 0)])
@ensureDeferred
async def test_consent(served, certificate, laptop, transcript, answer, count):
    """At a terminal he is asked once for all, and told what it costs; without a yes nothing is archived."""
    where = ["--host", "127.0.0.1", "--port", served.port, "--ca", certificate]
    password = {given.PASSWORD: USERS["romeo"]}
    files = ["--transcript", transcript("one"), "--transcript", transcript("two", name="second", minute=5)]

    def answered():
        shell = AtTerminal("rearchive", ROMEO, *laptop, *files, *where, **password)
        shell.types(answer, after=f"{CONSENT} [y/N] ".encode())
        return shell.ends()

    code, out, err = await deferToThread(answered)
    assert code == 0, err
    assert out.count(b"1 message(s) sealed anew.") == count
    assert (b"Nothing was archived." in err) is not bool(count)
    assert f"romeo@{DOMAIN}" not in served.storage._owners or len(served.kept) == count


@pytest.mark.clause("D218-15", "0136-otr-notes-01")
@pytest.mark.parametrize(
    ("negotiation", "said"), [(agreed("mustnot"), ()), (agreed("mustnot"), ("may",)), ((), ("mustnot",))]
)
@ensureDeferred
async def test_off_the_record(served, reader, laptop, transcript, negotiation, said):
    """What the two agreed to be off the record, as the file shows or the user says, is refused, whatever else
    he says; he is not even asked."""
    path = transcript("one", negotiation=negotiation)
    said = [word for logging in said for word in ("--logging", logging)]
    for how in ((), ("--force", "--accept-pfs-loss")):
        args = (*laptop, "--transcript", path, *said, *how)
        done = await reader("rearchive", ROMEO, *args, "--json", at=served)
        assert (done.code, done.lines[0]["reason"]) == (4, "unwanted")
        assert "agreed to keep it off the record" in done.lines[0]["detail"]
    assert (await reader("list", ROMEO, at=served)).out == ""


@ensureDeferred
async def test_on_the_record(served, reader, laptop, transcript):
    """Where logging was agreed to, it is archived, without the messages that negotiate."""
    path = transcript("one", negotiation=agreed("may"))
    done = await reader("rearchive", ROMEO, *laptop, "--transcript", path, "--accept-pfs-loss", at=served)
    assert done.code == 0
    read = await reader("read", ROMEO, *laptop, "--json", at=served)
    assert texts(read) == ["one"]
    assert len(read.lines) == 1


@ensureDeferred
async def test_what_is_said_beside_a_negotiation(served, reader, laptop, transcript):
    """What a contact says in a message that negotiates is archived with the rest, and nothing is lost unsaid."""
    path = transcript("two", negotiation=agreed("may"))
    path.write_text(
        path.read_text().replace('"rest": ["<feature', '"bodies": [{"text": "one"}], "rest": ["<feature')
    )
    args = (*laptop, "--transcript", path, "--accept-pfs-loss", "--json")
    done = await reader("rearchive", ROMEO, *args, at=served)
    assert (done.code, done.lines[0]["messages"], done.lines[0]["left_out"]) == (0, 3, 0)
    read = await reader("read", ROMEO, *laptop, "--json", at=served)
    assert texts(read) == ["one", "one", "two"]


@ensureDeferred
async def test_a_link_beside_a_negotiation(served, reader, laptop, transcript):
    """Of who saves texts only, a link in a message that negotiates is left out, and counted as such."""
    link = '"<x xmlns=\\"jabber:x:oob\\"><url>https://capulet.lit/bond</url></x>"'
    path = transcript("one", negotiation=agreed("may"))
    path.write_text(path.read_text().replace('"rest": ["<feature', f'"rest": [{link}, "<feature'))
    args = (*laptop, "--transcript", path, "--accept-pfs-loss", "--json")
    done = await reader("rearchive", ROMEO, *args, at=served)
    assert (done.code, done.lines[0]["messages"], done.lines[0]["left_out"]) == (0, 1, 2)


@ensureDeferred
async def test_what_the_file_marks(served, reader, laptop, transcript):
    """What the file marks as suspicious is left out, and that is told: the file is to be kept. A file with
    nothing else is not archived at all."""
    for said, messages, reason in ((("one", "two"), 1, "left-out"), (("three",), 0, "nothing")):
        path = transcript(*said, findings=["out-of-place"], minute=messages)
        args = (*laptop, "--transcript", path, "--accept-pfs-loss", "--json")
        done = await reader("rearchive", ROMEO, *args, at=served)
        assert done.code == 4
        assert (done.lines[0]["messages"], done.lines[0]["left_out"]) == (messages, 1)
        assert done.lines[0]["reason"] == reason
    assert texts(await reader("read", ROMEO, *laptop, "--json", at=served)) == ["one"]
