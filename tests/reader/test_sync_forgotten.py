"""End to end: a server that forgot what the mirror has. Nothing of it goes here but by the user's word."""

import os

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.words.protocols.jabber.error import StanzaError

from archive_crypt.reader import cli
from archive_crypt.xmpp.handler import ArchiveHandler
from tests.kit import MORNING
from tests.reader.conftest import DOMAIN, USERS
from tests.reader.terminal import AtTerminal

ROMEO, JULIET, NURSE = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", f"nurse@{DOMAIN}"
HOUR = 3600


class Forgetful(ArchiveHandler):
    """It does not know the first cursor that it is asked about."""

    asked = False

    def onRequest(self, iq):
        cls = type(self)
        if not cls.asked and iq.modified is not None and "<after>" in iq.toXml():
            cls.asked = iq.handled = True
            self.send(StanzaError("item-not-found").toResponse(iq))
        else:
            super().onRequest(iq)


class Uncounted(ArchiveHandler):
    """It does not list collections."""

    def onRequest(self, iq):
        if "<list" in iq.toXml():
            iq.handled = True
            self.send(StanzaError("internal-server-error").toResponse(iq))
        else:
            super().onRequest(iq)


@pytest.fixture
def romeo(reader, key_files):
    """A function that runs a command as romeo, with his laptop's key."""

    async def run(command, *arguments, at=None):
        return await reader(command, ROMEO, *arguments, "--key", key_files["laptop"], at=at)

    return run


@pytest.fixture
def emptied(serve, romeo, monkeypatch):
    """A function that gives a server in place of one that was synced, which has nothing of what that had."""

    async def start():
        before = serve()
        await before.record("But soft!")
        await before.record("Good night", to=NURSE, at=MORNING + HOUR)
        assert (await romeo("sync", at=before)).code == 0
        monkeypatch.setattr(Forgetful, "asked", False)
        return serve(handler=Forgetful)

    return start


@ensureDeferred
async def test_what_a_server_forgot_is_kept(romeo, emptied):
    """What was forgotten is there, and is shown as such by sync, list, read and search; code 4 tells of it
    once."""
    after = await emptied()
    await after.record("Good morrow", at=MORNING + 2 * HOUR)
    synced = await romeo("sync", at=after)
    assert synced.code == 4
    assert "1 collection(s) fetched, 0 removed; the mirror has 3, with 3 messages." in synced.out
    assert "2 collection(s) of the mirror are not on the server any more" in synced.err
    assert "archive-reader sync --forget removes them here" in synced.err
    again = await romeo("sync", "--json", at=after)
    assert (again.code, again.lines[0]["unlisted"], again.lines[0]["suspicious"]) == (0, 2, 0)
    for command in (("list", "--offline"), ("read", "--offline"), ("search", "good")):
        shown, lines = await romeo(*command), (await romeo(*command, "--json")).lines
        marked = [line["with"] for line in lines if line.get("unlisted")]
        assert marked == ([NURSE] if "search" in command else [JULIET, NURSE])
        assert len(lines) == len(marked) + 1
        assert shown.out.count("NOT ON THE SERVER ANY MORE") == len(marked)


@pytest.mark.parametrize("anew", [0, 1, 2])
@ensureDeferred
async def test_a_server_that_was_emptied(serve, romeo, anew):
    """It is found out though it knows nothing of what it had, and takes any cursor, whether it has anything
    anew or not: code 4 tells of it once, and nothing goes."""
    before, after = serve(), serve()
    for hour in range(3):
        await before.record("But soft!", at=MORNING + hour * HOUR)
    assert (await romeo("sync", at=before)).code == 0
    for hour in range(anew):
        await after.record("Good morrow", at=MORNING + (4 + hour) * HOUR)
    synced = await romeo("sync", "--json", at=after)
    assert (synced.code, synced.lines[0]["unlisted"], synced.lines[0]["collections"]) == (4, 3, 3 + anew)
    assert (await romeo("sync", at=after)).code == 0


@ensureDeferred
async def test_a_server_that_does_not_count(serve, romeo):
    """What it tells to have changed is fetched all the same."""
    server = serve(handler=Uncounted)
    await server.record("But soft!")
    synced = await romeo("sync", at=server)
    assert (synced.code, synced.err) == (0, "")
    assert "1 collection(s) fetched, 0 removed; the mirror has 1, with 1 messages." in synced.out


@ensureDeferred
async def test_a_conversation_that_was_set_back(serve, romeo):
    """A server that has less of a conversation than it had takes no message from the mirror; code 4 tells
    of it, and the marks where it is shown."""
    before, after = serve(), serve()
    await before.record("But soft!", "what light", "through yonder")
    assert (await romeo("sync", at=before)).code == 0
    await after.record("But soft!")
    synced = await romeo("sync", at=after)
    assert synced.code == 4
    assert "1 collection(s) of the mirror are not on the server any more, or not all of what is" in synced.err
    lines = (await romeo("read", "--offline", "--json")).lines
    assert [line["unlisted"] for line in lines] == [True] * 3
    assert (await romeo("sync", at=after)).code == 0


@ensureDeferred
async def test_forgotten_without_a_question(romeo, emptied):
    """sync --forget --yes removes what the server forgot, and nothing else; without a terminal, and without
    --yes, nothing goes."""
    after = await emptied()
    await after.record("Good morrow", at=MORNING + 2 * HOUR)
    refused = await romeo("sync", "--forget", at=after)
    assert refused.code == 1
    assert "There is no terminal to ask at; give --yes if it is meant." in refused.err
    assert len((await romeo("list", "--offline", "--json")).lines) == 3
    synced, forgotten = (await romeo("sync", "--forget", "--yes", "--json", at=after)).lines
    assert (synced["unlisted"], forgotten) == (2, {"forgotten": 2})
    assert len((await romeo("list", "--offline", "--json")).lines) == 1
    assert len((await romeo("sync", "--forget", "--json", at=after)).lines) == 1


@ensureDeferred
async def test_forgotten_just_now(romeo, emptied):
    """What the server forgot since the last sync does not go without a question, but with the next sync."""
    after = await emptied()
    synced, forgotten = (await romeo("sync", "--forget", "--yes", "--json", at=after)).lines
    assert (synced["unlisted"], forgotten) == (2, {"forgotten": 0})
    assert len((await romeo("list", "--offline", "--json")).lines) == 2
    synced = await romeo("sync", "--forget", "--yes", at=after)
    assert "2 collection(s) forgotten." in synced.out
    assert (await romeo("list", "--offline", "--json")).lines == []


@pytest.mark.parametrize("more", [(), ("--json",)])
@pytest.mark.parametrize(("answer", "stay"), [(b"y", 0), (b"n", 2), (b"", 2)])
@ensureDeferred
async def test_it_is_asked_before_it_is_forgotten(
    romeo, emptied, certificate, key_files, tmp_path, answer, stay, more
):
    """At a terminal what would go is shown, also in JSON; only a yes removes it."""
    after = await emptied()
    where = ["--host", "127.0.0.1", "--port", after.port, "--ca", certificate]
    variables = {cli.PASSWORD: USERS["romeo"], "XDG_DATA_HOME": os.environ["XDG_DATA_HOME"]}

    def answered():
        shell = AtTerminal(
            "sync", ROMEO, "--forget", *more, "--key", key_files["laptop"], *where, **variables
        )
        shell.types(
            answer, after=b"Remove 2 collection(s) from the mirror, which may be the last copy? [y/N] "
        )
        return shell.ends()

    code, out, err = await deferToThread(answered)
    assert code == 4, err
    assert out.count(JULIET.encode()) == out.count(NURSE.encode()) == 1
    assert len((await romeo("list", "--offline", "--json")).lines) == stay
