"""End to end: sync and search, list and read offline, against a real server over TLS, as a user gives them."""

import os
import signal
import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer, protocol
from twisted.internet.error import ProcessTerminated

from archive_crypt.core.dialect import DIALECTS
from archive_crypt.model import SECOND
from archive_crypt.reader import cli
from archive_crypt.reader.errors import refusal
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.xep_0136 import XEP_0136
from archive_crypt.xmpp.handler import ArchiveHandler
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, USERS, awaited

ROMEO, JULIET, NURSE = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", f"nurse@{DOMAIN}"
ROOT = Path(__file__).parents[2]
HOUR = 3600


def texts(done):
    """What --json printed as said, None for what could not be read."""
    return [line["bodies"][0]["text"] if line["bodies"] else None for line in done.lines]


@pytest.fixture
def romeo(reader, served, key_files):
    """A function that runs a command as romeo, with his laptop's key."""

    async def run(command, *arguments, at=None, keys=("laptop",)):
        given = [word for key in keys for word in ("--key", key_files[key])]
        words = command.split()
        return await reader(*words, ROMEO, *arguments, *given, at=at)

    return run


@ensureDeferred
@pytest.mark.clause("0136-repl-01", "0136-repl-16")
async def test_the_main_job(served, romeo):
    """What was synced is searched, read and listed with no server: words with what was said around them."""
    await served.record("But soft!", "What light through yonder window breaks?", "It is the east")
    await served.record("Good night", "Good <b/>night, parting", to=NURSE, at=MORNING + HOUR)
    synced = await romeo("sync", at=served)
    assert (synced.code, synced.err) == (0, "")
    assert "2 collection(s) fetched, 0 removed; the mirror has 2, with 5 messages." in synced.out
    found = await romeo("search", "WINDOW", "--context", 1)
    assert found.code == 0
    assert "The mirror is of " in found.err
    assert "archive-reader sync romeo@montague.example brings it up to date" in found.err
    head, day, *lines = found.out.split("\n")[1:-1]
    assert head.startswith(f"with {JULIET}, 2026-11-21 10:00:00+00:00")
    assert day == "-- Saturday 2026-11-21 --"
    said = ["But soft!", "What light through yonder window breaks?", "It is the east"]
    assert lines == [f"10:00:0{second} → romeo: {text}" for second, text in enumerate(said)]
    online = await romeo("read", at=served)
    offline = await romeo("read", "--offline")
    assert (offline.code, offline.out) == (0, online.out)
    listed = await romeo("list", "--offline", "--with", NURSE)
    assert NURSE in listed.out
    assert JULIET not in listed.out


@ensureDeferred
async def test_as_json(served, romeo):
    """For programs: what sync did, and what search found, one object a line; hits are told from context."""
    await served.record("one", "two", "three", "two again")
    (synced,) = (await romeo("sync", "--json", at=served)).lines
    assert synced == {
        "fetched": 1,
        "removed": 0,
        "unlisted": 0,
        "collections": 1,
        "messages": 4,
        "suspicious": 0,
        "unfetched": [],
        "settled": True,
    }
    done = await romeo("search", "two", "--json", "--context", 1)
    assert [(line["place"], line["hit"]) for line in done.lines] == [
        (0, False),
        (1, True),
        (2, False),
        (3, True),
    ]
    done = await romeo("search", "two", "--json")
    assert texts(done) == ["two", "two again"]
    assert done.lines[0]["utc"] == "2026-11-21T10:00:01Z"


@ensureDeferred
async def test_where_to_search(served, romeo):
    """--with, --since and --until narrow a search; what is not found is said; gaps are marked."""
    await served.record(*["night"] * 9)
    await served.record("night", to=NURSE, at=MORNING + HOUR)
    await romeo("sync", at=served)

    async def count(*arguments):
        return len((await romeo("search", "night", "--json", *arguments)).lines)

    assert await count() == 10
    assert await count("--with", NURSE) == await count("--since", "2026-11-21T11:00Z") == 1
    assert await count("--since", "2026-11-21T10:00:01Z", "--until", "2026-11-21T10:00:03Z") == 2
    nothing = await romeo("search", "day")
    assert (nothing.code, nothing.out) == (0, "")
    assert "Nothing was found." in nothing.err
    assert "There is no word to search for" in (await romeo("search", "?!")).err
    last = await romeo("read", "--offline", "--last", 3, "--json")
    assert [line["with"] for line in last.lines] == [JULIET, JULIET, NURSE]
    assert len((await romeo("list", "--offline", "--limit", 1, "--json")).lines) == 1
    early = await romeo("read", "--offline", "--end", "2026-11-21T10:30Z", "--json")
    assert {line["with"] for line in early.lines} == {JULIET}


@pytest.mark.parametrize("format_", ["jsonl", "mbox", "html", "markdown"])
@ensureDeferred
async def test_export_without_a_server(served, romeo, tmp_path, format_):
    """What the mirror has is written into the same files as what the server has."""
    await served.record("But soft!", "It is the east")
    await served.record("Good night", to=NURSE, at=MORNING + HOUR)
    await romeo("sync", at=served)
    online, offline = tmp_path / "online", tmp_path / "offline"
    await romeo("export", "--format", format_, "--out", online, at=served)
    done = await romeo("export", "--offline", "--format", format_, "--out", offline)
    assert done.code == 0
    assert "3 message(s) of 2 collection(s)" in done.out
    assert "The mirror is of " in done.err
    assert offline.read_bytes() == online.read_bytes()


@ensureDeferred
async def test_what_the_mirror_cannot_export(served, romeo, tmp_path):
    """What is sealed on the server is not in the mirror; where nothing matches, nothing is written."""
    await served.record("But soft!")
    await romeo("sync", at=served)
    given = ("--offline", "--format", "xep", "--out", tmp_path / "backup")
    done = await romeo("export", *given, "--encrypted", keys=())
    assert (done.code, "the mirror has what was opened" in done.err) == (1, True)
    done = await romeo("export", *given, "--with", NURSE)
    assert (done.code, "nothing was written" in done.err) == (0, True)
    assert not (tmp_path / "backup").exists()


@ensureDeferred
async def test_only_what_changed(served, romeo, login):
    """The next sync fetches what changed, and removes what was removed."""
    for hour in range(3):
        await served.record("said", at=MORNING + hour * HOUR)
    await romeo("sync", at=served)
    await served.record("more", at=MORNING + 3 * HOUR)
    archive = (await login(served)).plugin["xep_0136"]
    await awaited(archive.remove(Listed.named(JULIET, MORNING * SECOND)))
    (done,) = (await romeo("sync", "--json", at=served)).lines
    assert (done["fetched"], done["removed"], done["collections"]) == (1, 1, 3)
    assert texts(await romeo("read", "--offline", "--json")) == ["said", "said", "more"]


@ensureDeferred
async def test_what_is_suspicious(served, romeo):
    """What was altered on the server is marked in the mirror as it is online: sync, search and read tell."""
    await served.record("first", "second", "third")
    (kept,) = served.kept
    kept.items[1], kept.items[2] = kept.items[2], kept.items[1]
    synced = await romeo("sync", at=served)
    assert synced.code == 4
    assert "could not be read, or are suspicious" in synced.err
    assert (await romeo("sync", at=served)).code == 0
    online, offline = await romeo("read", at=served), await romeo("read", "--offline")
    assert (offline.code, offline.out) == (4, online.out)
    found = await romeo("search", "second")
    assert found.code == 4
    assert "! repeated, or moved from its place" in found.out
    assert (await romeo("search", "first")).code == 0


@ensureDeferred
async def test_keys(served, romeo, reader, key_files, environment):
    """Without a key there is no mirror, with another it stays closed, and one that comes later opens what was
    closed before."""
    environment.setenv(cli.PASSPHRASE, "secret")
    await served.record("for the phone", keys=(PHONE,))
    assert "There is no mirror of romeo@montague.example here" in (await romeo("search", "phone")).err
    refused = await reader("sync", ROMEO, at=served)
    assert refused.code == 1
    assert "A mirror is encrypted for your own key" in refused.err
    assert (await romeo("sync", at=served)).code == 4
    assert "Nothing was found." in (await romeo("search", "phone")).err
    wrong = await romeo("search", "phone", keys=("phone",))
    assert wrong.code == 1
    assert "opens with none of your private keys: --key FILE names another" in wrong.err
    assert (await romeo("sync", keys=("laptop", "phone"), at=served)).code == 0
    for key in ("laptop", "phone"):
        assert "for the phone" in (await romeo("search", "phone", keys=(key,))).out


@ensureDeferred
async def test_a_key_that_was_retired(served, romeo, environment):
    """The next sync after a key was retired shuts it out of the mirror, though its file is still there."""
    environment.setenv(cli.PASSPHRASE, "secret")
    await served.record("for both", keys=(LAPTOP, PHONE))
    both = ("laptop", "phone")
    assert (await romeo("sync", keys=both, at=served)).code == 0
    assert "for both" in (await romeo("search", "both", keys=("phone",))).out
    retired = await romeo("keys retire", PHONE.fingerprint, at=served, keys=())
    assert "no more confirmed" in retired.out
    assert "for both" in (await romeo("search", "both", keys=("phone",))).out
    assert (await romeo("sync", keys=both, at=served)).code == 0
    shut_out = await romeo("search", "both", keys=("phone",))
    assert (shut_out.code, shut_out.out) == (1, "")
    assert "opens with none of your private keys" in shut_out.err
    assert "for both" in (await romeo("search", "both")).out


# Interrupted


class Counting(ArchiveHandler):
    """`ask` is called for each request, before it is answered."""

    ask = staticmethod(lambda: None)

    def connectionInitialized(self):
        for namespace in DIALECTS:
            self.xmlstream.addObserver(
                f"/iq[@type]/*[@xmlns='{namespace}']", lambda iq: self.ask(), priority=1
            )
        super().connectionInitialized()


@pytest.mark.parametrize(
    "command",
    [("read",), ("read", "--last", "5"), ("sync",), ("export", "--format", "jsonl", "--out", "OUT")],
)
@ensureDeferred
async def test_one_that_the_server_refuses(served, romeo, monkeypatch, tmp_path, command):
    """A collection that the server refuses is named with its reason, and the others are there all the same."""
    page = XEP_0136.page

    async def refused(self, collection, *arguments, **options):
        if collection.with_.startswith(NURSE):
            raise refusal("internal-server-error", "cancel", "its rows are broken")
        return await page(self, collection, *arguments, **options)

    monkeypatch.setattr(XEP_0136, "page", refused)
    await served.record("one", to=NURSE)
    await served.record("two", at=MORNING + HOUR)
    out = tmp_path / "out"
    done = await romeo(*(str(out) if word == "OUT" else word for word in command), at=served)
    assert done.code == 4
    assert NURSE in done.err
    assert "its rows are broken" in done.err
    shown = await romeo("read", "--offline") if command == ("sync",) else done
    assert "two" in (out.read_text() if "OUT" in command else shown.out)


class Ended(protocol.ProcessProtocol):
    def __init__(self):
        self.code, self.said = defer.Deferred(), b""

    def errReceived(self, data):
        self.said += data

    def processEnded(self, reason):
        ended = reason.value
        self.code.callback(
            -ended.signal if isinstance(ended, ProcessTerminated) and ended.signal else ended.exitCode
        )


@pytest.mark.parametrize(
    ("number", "how"),
    [
        (2, signal.SIGKILL),
        (7, signal.SIGKILL),
        (11, signal.SIGKILL),
        (5, signal.SIGINT),
        (5, signal.SIGTERM),
        (5, signal.SIGHUP),
    ],
)
@ensureDeferred
async def test_killed(serve, certificate, key_files, romeo, number, how, tmp_path):
    """A sync that is killed at any moment leaves a mirror from which the next one goes on; one that the user
    interrupts, or whose terminal he closes, ends in order and says nothing more."""
    from twisted.internet import reactor

    served = serve(handler=Counting)
    for hour in range(12):
        await served.record(*[f"{hour}-{n}" for n in range(25)], at=MORNING + hour * HOUR)
    process, asked = Ended(), []
    arguments = [
        sys.executable,
        "-m",
        "archive_crypt.reader.cli",
        "sync",
        ROMEO,
        "--key",
        str(key_files["laptop"]),
    ]
    arguments += ["--host", "127.0.0.1", "--port", str(served.port), "--ca", str(certificate)]
    environment = {"PYTHONPATH": str(ROOT), cli.PASSWORD: USERS["romeo"], "HOME": str(tmp_path)}
    environment["XDG_DATA_HOME"] = os.environ["XDG_DATA_HOME"]
    running = reactor.spawnProcess(process, sys.executable, arguments, environment)

    def count():
        asked.append(1)
        if len(asked) == number:
            os.kill(running.pid, how)

    Counting.ask = staticmethod(count)
    assert await process.code == (-signal.SIGKILL if how == signal.SIGKILL else 128 + signal.SIGINT)
    assert process.said == b""
    Counting.ask = staticmethod(lambda: None)
    assert (await romeo("sync", at=served)).code == 0
    online, offline = await romeo("read", at=served), await romeo("read", "--offline")
    assert offline.out == online.out
