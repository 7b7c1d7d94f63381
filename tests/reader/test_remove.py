"""``remove``: what was named and shown, and nothing else; never without a yes."""

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from archive_crypt.reader import given
from tests.kit import MORNING
from tests.reader.conftest import DOMAIN, USERS
from tests.reader.terminal import AtTerminal

ROMEO, JULIET, NURSE = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", f"nurse@{DOMAIN}"


@pytest.fixture
def three(served):
    """Three collections: with juliet, the nurse, and juliet again."""

    async def record():
        await served.record("1")
        await served.record("2", to=NURSE, at=MORNING + 3600)
        await served.record("3", thread="a", at=MORNING + 7200)

    return record


def left(served):
    """The hours in which those began that are still there."""
    return [(kept.shown.start // 1_000_000 - MORNING) // 3600 for kept in served.kept]


@pytest.mark.parametrize(
    ("arguments", "stay"),
    [
        (["--with", JULIET], [1]),
        (["--with", JULIET, "--start", "2026-11-21 10:00:00"], [1, 2]),
        (["--start", "2026-11-21 11:00:00"], [0]),
        (["--end", "2026-11-21 12:00:00"], [2]),
        (["--all"], []),
        (["--with", "tybalt@capulet.lit"], [0, 1, 2]),
    ],
)
@ensureDeferred
async def test_remove(served, reader, three, arguments, stay):
    """By contact, by time, one exactly, or all: what matches goes, all else stays."""
    await three()
    done = await reader("remove", ROMEO, *arguments, "--yes", "--json", at=served)
    assert (done.code, left(served)) == (0, stay)
    assert [line["removed"] for line in done.lines] == ([3 - len(stay)] if len(stay) < 3 else [])


@pytest.mark.parametrize("arguments", [[], ["--all", "--with", JULIET]])
@ensureDeferred
async def test_what_to_remove_is_said_once(reader, arguments):
    """All is removed only by --all, and --all by itself."""
    done = await reader("remove", ROMEO, *arguments, "--yes")
    assert done.code == 1
    assert "Say what to remove" in done.err


@ensureDeferred
async def test_nobody_to_ask(served, reader, three):
    """Without a terminal, and without --yes, nothing goes."""
    await three()
    done = await reader("remove", ROMEO, "--all", at=served)
    assert (done.code, left(served)) == (1, [0, 1, 2])
    assert "There is no terminal to ask at; give --yes if it is meant." in done.err


@pytest.mark.parametrize(("answer", "stay"), [(b"y", [1]), (b"n", [0, 1, 2]), (b"", [0, 1, 2])])
@ensureDeferred
async def test_it_is_asked_first(served, certificate, three, answer, stay):
    """At a terminal what would go is shown; only a yes removes it."""
    await three()
    where = ["--host", "127.0.0.1", "--port", served.port, "--ca", certificate]
    password = {given.PASSWORD: USERS["romeo"]}

    def answered():
        shell = AtTerminal("remove", ROMEO, "--with", JULIET, *where, **password)
        shell.types(answer, after=b"Remove 2 collections for good? [y/N] ")
        return shell.ends()

    code, out, err = await deferToThread(answered)
    assert (code, left(served)) == (0, stay), err
    assert out.count(JULIET.encode()) == 2
    assert NURSE.encode() not in out


@ensureDeferred
async def test_one_is_gone_already(served, reader, three):
    """What somebody else removed meanwhile is no failure, and is not counted."""
    await three()
    listed = served.storage.collections

    async def and_one_goes(*request):
        found = await listed(*request)
        kept = served.storage._owners[ROMEO].kept
        del kept[next(iter(kept))]
        return found

    served.storage.collections = lambda *request: Deferred.fromCoroutine(and_one_goes(*request))
    done = await reader("remove", ROMEO, "--all", "--yes", "--json", at=served)
    assert (done.code, done.lines, left(served)) == (0, [{"removed": 2}], [])
