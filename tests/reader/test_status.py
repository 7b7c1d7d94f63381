"""``status`` and ``disable``: whether messages are archived, and how that ends."""

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import F, T, V
from archive_crypt.model import Automatic
from tests.kit import MORNING
from tests.reader.conftest import DOMAIN

ROMEO, JULIET = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}"


async def status(reader, served):
    done = await reader("status", ROMEO, "--json", at=served)
    assert (done.code, done.err) == (0, "")
    return done.lines[0]


@ensureDeferred
async def test_status(served, reader, key_files):
    """What is offered, what a client that logs in now has archived, how many collections there are."""
    await served.record("one")
    await served.record("two", thread="t", at=MORNING + 3600)
    told = await status(reader, served)
    assert told["offered"]["urn:xmpp:archive"] == ["auto", "encrypt", "manage", "manual", "pref"]
    assert not told["preferences"]["auto"]["save"]
    assert (told["collections"], told["last"]) == (2, {"with": JULIET, "start": "2026-11-21T11:00:00Z"})
    await reader("enable", ROMEO, "--key", key_files["laptop"], at=served)
    done = await reader("status", ROMEO, at=served)
    lines = [line.split(None, 1) for line in done.out.splitlines()]
    assert ["archiving", "on, encrypted, for every connection"] in lines
    assert ["collections", f"2, the last with {JULIET}, 2026-11-21 11:00:00+00:00"] in lines


@ensureDeferred
async def test_status_of_an_empty_archive(served, reader):
    """Nothing there is nothing there, and no error."""
    told = await status(reader, served)
    assert (told["collections"], told["last"]) == (0, None)


@ensureDeferred
async def test_status_in_clear(served, reader):
    """That the server can read what it archives is written large."""
    await reader("enable", ROMEO, "--plain", at=served)
    assert "on, IN CLEAR, for every connection" in (await reader("status", ROMEO, at=served)).out


@ensureDeferred
async def test_status_without_preferences(serve, reader):
    """Where the server keeps no preferences, nobody can tell, and that is said."""
    served = serve(features=[F.feature("manage")])
    assert (await status(reader, served))["preferences"] is None
    assert "archiving    not told" in (await reader("status", ROMEO, at=served)).out


@ensureDeferred
async def test_disable(served, reader, talk, key_files):
    """From the next login on nothing is archived; what was, stays."""
    await reader("enable", ROMEO, "--key", key_files["laptop"], at=served)
    await talk("one")
    done = await reader("disable", ROMEO, at=served)
    assert (done.code, done.err) == (0, "")
    assert "are not archived" in done.out
    await talk("two")
    assert not (await status(reader, served))["preferences"]["auto"]["save"]
    read = await reader("read", ROMEO, "--key", key_files["laptop"], "--json", at=served)
    assert [line["bodies"][0]["text"] for line in read.lines] == ["one"]


@pytest.mark.parametrize("dialect", [V, T])
@ensureDeferred
async def test_disable_where_nothing_lasts(serve, reader, dialect):
    """Where a setting ends with its connection, that is said."""
    offered = [dialect.feature(part) for part in ("auto", "manage")]
    done = await reader("disable", ROMEO, at=serve(features=offered))
    assert done.code == 0
    assert "each client says" in done.out.replace("\n", " ")


@ensureDeferred
async def test_disable_where_archiving_is_compulsory(serve, reader):
    """The operator's decision is told as such; exit code 3."""
    done = await reader("disable", ROMEO, at=serve(automatic=Automatic.REQUIRED_BODY))
    assert (done.code, done.out) == (3, "")
    assert "Its operator decided that" in done.err


@ensureDeferred
async def test_enable_what_is_forbidden(served, reader, key_files):
    """Who prefers that the server archives nothing has to say that he means it."""
    await reader("prefs", "methods", ROMEO, "--auto", "forbid", at=served)
    done = await reader("enable", ROMEO, "--key", key_files["laptop"], at=served)
    assert (done.code, done.out) == (1, "")
    assert "Your preferences forbid automatic archiving" in done.err
    assert not (await status(reader, served))["preferences"]["auto"]["save"]
    await reader("enable", ROMEO, "--key", key_files["laptop"], "--force", at=served)
    assert (await status(reader, served))["preferences"]["auto"]["save"]
