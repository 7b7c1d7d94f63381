"""End to end: the commands against a real server, as a user or a program gives them."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import fail
from twisted.internet.utils import getProcessOutputAndValue

from archive_crypt.core.dialect import DIALECTS, T, V
from archive_crypt.errors import StorageUnavailable
from archive_crypt.reader import archive, cli, keys, trust
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, USERS

ROMEO, JULIET, NURSE = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", f"nurse@{DOMAIN}"
ROOT = Path(__file__).parents[2]


def texts(done):
    """What --json printed as said, None for what could not be read."""
    return [line["bodies"][0]["text"] if line["bodies"] else None for line in done.lines]


@ensureDeferred
async def test_the_main_job(served, talk, reader, tmp_path):
    """A key is made, archiving turned on, two people talk; their words are read back, in order, by name."""
    key = tmp_path / "key.pem"
    made = await reader("keygen", "--out", key, "--no-passphrase")
    assert (made.code, made.err) == (0, "")
    enabled = await reader("enable", ROMEO, "--key", key, at=served)
    assert (enabled.code, enabled.err) == (0, "")
    assert "From each client's next login on" in enabled.out
    assert keys.load_public(key, None).name in enabled.out
    await talk("But soft", "Ay me", "She speaks!")
    listed = await reader("list", ROMEO, at=served)
    assert f"{JULIET}/balcony" in listed.out
    assert "yes" in listed.out
    done = await reader("read", ROMEO, "--key", key, at=served)
    assert (done.code, done.err) == (0, "")
    said = [line[9:] for line in done.out.splitlines() if "→" in line or "←" in line]
    assert said == ["→ romeo: But soft", "← juliet: Ay me", "→ romeo: She speaks!"]
    assert "encrypted" in done.out


@ensureDeferred
async def test_as_a_program(served, certificate, key_files):
    """The same in a process of its own: the words on stdout, nothing on stderr."""
    await served.record("But soft")
    arguments = ["-m", "archive_crypt.reader.cli", "read", ROMEO, "--key", str(key_files["laptop"])]
    arguments += ["--host", "127.0.0.1", "--port", str(served.port), "--ca", str(certificate)]
    environment = {"PYTHONPATH": str(ROOT), cli.PASSWORD: USERS["romeo"], "HOME": "/nonexistent"}
    out, err, code = await getProcessOutputAndValue(sys.executable, arguments, environment)
    assert (code, err) == (0, b"")
    assert "→ romeo: But soft" in out.decode()


# enable


@ensureDeferred
async def test_enable_for_several_keys(served, reader, key_files, talk, environment, tmp_path):
    """A public half is enough to encrypt for; what is archived then can be read with each of the keys."""
    pair = keys.create(tmp_path / "tablet.pem", 2048, None)
    trust.confirm(trust.default_path(), [pair.fingerprint])
    environment.setenv(cli.PASSPHRASE, "secret")
    given = [pair.public, key_files["phone"], key_files["phone"], key_files["laptop"]]
    done = await reader(
        "enable", ROMEO, *(word for path in given for word in ("--key", path)), "--json", at=served
    )
    (told,) = done.lines
    assert (done.code, told["encrypted"], told["lasts"]) == (0, True, True)
    names = [pair.fingerprint, PHONE.public().name, LAPTOP.public().name]
    assert [key["fingerprint"] for key in told["keys"]] == names
    await talk("once")
    for path in (pair.private, key_files["phone"], key_files["laptop"]):
        read = await reader("read", ROMEO, "--key", path, "--json", at=served)
        assert (read.code, texts(read)) == (0, ["once"])


@ensureDeferred
async def test_enable_for_the_default_key(served, reader, environment):
    """Without --key it is the key that keygen makes, by its public half, which needs no passphrase; where there
    is none, that is said before connecting."""
    done = await reader("enable", ROMEO, at=served)
    assert done.code == 1
    assert "config/archive-reader/key.pem does not exist. archive-reader keygen makes a key" in done.err
    environment.setenv(cli.PASSPHRASE, "secret")
    await reader("keygen", "--bits", 2048)
    assert (await reader("enable", ROMEO, at=served)).code == 0
    environment.setenv(cli.PASSPHRASE, "wrong")
    assert (await reader("enable", ROMEO, at=served)).code == 0
    keys.public_path(keys.default_path()).unlink()
    done = await reader("enable", ROMEO, at=served)
    assert (done.code, done.out) == (1, "")
    assert "The passphrase is wrong" in done.err


@ensureDeferred
async def test_enable_in_clear(served, reader, talk, key_files):
    """--plain archives in clear, says what that means, and takes no key."""
    done = await reader("enable", ROMEO, "--plain", at=served)
    assert done.code == 0
    assert "IN CLEAR: whoever has the server can read them." in done.out
    await talk("in clear")
    read = await reader("read", ROMEO, at=served)
    assert read.code == 0
    assert "NOT ENCRYPTED" in read.out
    assert "in clear" in read.out
    assert "There is no private key" in read.err
    assert (await reader("enable", ROMEO, "--plain", "--key", key_files["laptop"], at=served)).code == 1


@pytest.mark.parametrize("dialect", [V, T])
@ensureDeferred
async def test_enable_where_nothing_lasts(serve, reader, key_files, dialect):
    """In a dialect without scope the setting ends with the connection, and that is said."""
    offered = [dialect.feature(part) for part in ("auto", "encrypt", "manage")]
    done = await reader("enable", ROMEO, "--key", key_files["laptop"], at=serve(features=offered))
    assert done.code == 0
    assert "for this connection only, which ends now" in done.out


@ensureDeferred
async def test_enable_for_this_stream(served, reader, talk, key_files):
    """--scope stream turns nothing on for others, and says so."""
    done = await reader("enable", ROMEO, "--key", key_files["laptop"], "--scope", "stream", at=served)
    assert "for this connection only" in done.out
    await talk("lost")
    listed = await reader("list", ROMEO, at=served)
    assert (listed.code, listed.out, listed.err) == (0, "", "archive-reader: No collection matches.\n")


@ensureDeferred
async def test_enable_with_a_key_that_the_server_refuses(serve, reader, key_files):
    """The server's own words are shown, and what to do."""
    done = await reader("enable", ROMEO, "--key", key_files["laptop"], at=serve(minimum_bits=4096))
    assert (done.code, done.out) == (3, "")
    assert "at least 4096 are needed" in done.err
    assert "(not-acceptable). Give a key it can use: archive-reader keygen" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "lacks"), [({"encryption": False}, "auto and encrypt"), ({"features": ()}, "auto")]
)
@ensureDeferred
async def test_enable_where_it_is_not_offered(serve, reader, key_files, settings, lacks):
    """A server that does not announce it is not asked for it."""
    done = await reader("enable", ROMEO, "--key", key_files["laptop"], at=serve(**settings))
    assert done.code == 3
    assert f"offers no archive with {lacks}" in done.err


# list


@pytest.fixture
def dated(served):
    """Four collections: with juliet, the nurse, and juliet again in two threads."""

    async def record():
        await served.record("1", at=MORNING)
        await served.record("2", to=NURSE, keys=(), at=MORNING + 3600)
        await served.record("3", thread="a", at=MORNING + 7200)
        await served.record("4", thread="b", at=MORNING + 7200)

    return record


@ensureDeferred
async def test_list(served, reader, dated):
    """A table of all collections: exact start, contact, thread, whether encrypted, version."""
    await dated()
    done = await reader("list", ROMEO, at=served)
    assert (done.code, done.err) == (0, "")
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in done.out.splitlines()]
    assert rows == [
        ["start", "with", "thread", "encrypted", "version"],
        ["2026-11-21 10:00:00+00:00", JULIET, "yes", "0"],
        ["2026-11-21 11:00:00+00:00", NURSE, "no", "0"],
        ["2026-11-21 12:00:00+00:00", JULIET, "a", "yes", "0"],
        ["2026-11-21 12:00:00.001+00:00", JULIET, "b", "yes", "0"],
    ]


@ensureDeferred
async def test_list_for_programs(served, reader, dated):
    """One object a line, the start in the server's own words."""
    await dated()
    done = await reader("list", ROMEO, "--with", NURSE, "--json", at=served)
    assert done.lines == [
        {
            "with": NURSE,
            "start": "2026-11-21T11:00:00Z",
            "thread": None,
            "encrypted": False,
            "version": 0,
            "subject": None,
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "threads"),
    [
        (["--with", JULIET], [None, "a", "b"]),
        (["--with", DOMAIN], [None, None, "a", "b"]),
        (["--start", "2026-11-21 12:00"], ["a", "b"]),
        (["--start", "2026-11-21T13:00:00.001+01:00"], ["b"]),
        (["--start", "2026-11-21T11:00Z", "--end", "2026-11-21T12:00:00Z"], [None]),
        (["--end", "2026-11-21"], []),
        (["--limit", "2"], [None, None]),
    ],
)
@ensureDeferred
async def test_list_some(served, reader, dated, arguments, threads):
    """By contact, by time in any zone, or only the first."""
    await dated()
    done = await reader("list", ROMEO, "--json", *arguments, at=served)
    assert (done.code, [line["thread"] for line in done.lines]) == (0, threads)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
@ensureDeferred
async def test_list_in_pages(serve, reader, most):
    """However few a page holds, each collection is listed once."""
    served = serve(most_collections=most)
    for hour in range(4):
        await served.record(str(hour), thread=str(hour), at=MORNING + hour)
    done = await reader("list", ROMEO, "--json", at=served)
    assert [line["thread"] for line in done.lines] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("namespace", DIALECTS)
@ensureDeferred
async def test_every_dialect(serve, reader, key_files, namespace):
    """Whichever archive namespace the server announces, its archive is listed and read."""
    served = serve(features=[DIALECTS[namespace].feature("manage")])
    await served.record("one")
    listed = await reader("list", ROMEO, "--json", at=served)
    assert [line["version"] for line in listed.lines] == [0 if DIALECTS[namespace].versioned else None]
    assert texts(await reader("read", ROMEO, "--json", "--key", key_files["laptop"], at=served)) == ["one"]


# read


@pytest.mark.parametrize("most", [1, 2, 3, 200])
@ensureDeferred
async def test_read_in_pages(serve, reader, key_files, most, monkeypatch):
    """However few a page holds, a conversation is read whole and once."""
    served = serve(most_items=most)
    monkeypatch.setattr(archive, "ITEM_PAGE", 4)
    await served.record(*"0123456")
    done = await reader("read", ROMEO, "--json", "--key", key_files["laptop"], at=served)
    assert (done.code, texts(done)) == (0, list("0123456"))
    assert [line["place"] for line in done.lines] == list(range(7))


@pytest.mark.parametrize("last", [1, 2, 3, 5, 6, 9])
@ensureDeferred
async def test_read_the_last(serve, reader, key_files, last):
    """--last counts over all collections, in however many pages, and finds nothing amiss."""
    served = serve(most_items=2)
    await served.record(*"012")
    await served.record(*"345", at=MORNING + 3600)
    done = await reader("read", ROMEO, "--json", "--last", last, "--key", key_files["laptop"], at=served)
    assert (done.code, texts(done)) == (0, list("012345")[-last:])


@ensureDeferred
async def test_read_one_collection(served, reader, dated, key_files):
    """--with and --start name one collection exactly, with a start as list shows it; else all that match are read."""
    await dated()
    for start, expected in (
        ("2026-11-21 12:00:00.001+00:00", ["4"]),
        ("2026-11-21T12:00:00Z", ["3"]),
        ("2026-11-21T11:30Z", ["3", "4"]),
    ):
        arguments = ("--with", JULIET, "--start", start, "--key", key_files["laptop"], "--json")
        assert texts(await reader("read", ROMEO, *arguments, at=served)) == expected
    arguments = ("--end", "2026-11-21T12:00Z", "--with", JULIET, "--key", key_files["laptop"], "--json")
    assert texts(await reader("read", ROMEO, *arguments, at=served)) == ["1"]
    nothing = await reader("read", ROMEO, "--with", "tybalt@capulet.lit", at=served)
    assert (nothing.code, nothing.out) == (0, "")
    assert "No collection matches." in nothing.err


@ensureDeferred
async def test_read_with_another_key(served, reader, key_files, environment):
    """Without the right key each message is said to be there and closed; exit code 4."""
    await served.record("secret one", "secret two")
    environment.setenv(cli.PASSPHRASE, "secret")
    done = await reader("read", ROMEO, "--key", key_files["phone"], at=served)
    assert done.code == 4
    assert "secret" not in done.out
    assert done.out.count("! none of your private keys opens this") == 2
    assert "2 place(s) could not be read" in done.err


@ensureDeferred
async def test_read_with_a_passphrase_from_a_file(served, reader, key_files, tmp_path):
    """The passphrase of the key may come from a file, as the password may."""
    await served.record("one", keys=(PHONE,))
    passphrase, password = tmp_path / "passphrase", tmp_path / "password"
    passphrase.write_text("secret\n")
    password.write_text(USERS["romeo"])
    arguments = ("--key", key_files["phone"], "--passphrase-file", passphrase, "--password-file", password)
    done = await reader("read", ROMEO, *arguments, at=served)
    assert (done.code, done.err) == (0, "")
    assert "romeo: one" in done.out


@ensureDeferred
async def test_a_key_file_that_others_can_read(served, reader, tmp_path, key_files):
    """A private key that is not private is used, with a warning."""
    await served.record("one")
    key = tmp_path / "open.pem"
    key.write_bytes(key_files["laptop"].read_bytes())
    key.chmod(0o644)
    done = await reader("read", ROMEO, "--key", key, at=served)
    assert done.code == 0
    assert f"chmod 600 {key}" in done.err


@ensureDeferred
async def test_a_message_was_taken_out(served, reader, key_files):
    """A row that somebody deleted is missing where it was, and at the end the server's own count tells."""
    await served.record("one", "two", "three")
    del served.kept[0].items[1]
    done = await reader("read", ROMEO, "--key", key_files["laptop"], at=served)
    assert done.code == 4
    lines = [line.strip() for line in done.out.splitlines()]
    assert "! a message is missing here" in lines
    assert lines.index("! a message is missing here") == lines.index("10:00:02 → romeo: three") - 1


@ensureDeferred
async def test_messages_were_swapped_between_collections(served, reader, key_files):
    """Rows that somebody exchanged, keys and all, are shown with a warning each."""
    await served.record("for juliet")
    await served.record("for the nurse", to=NURSE, at=MORNING + 1)
    one, two = served.kept
    one.items, two.items = two.items, one.items
    one.keys, two.keys = two.keys, one.keys
    done = await reader("read", ROMEO, "--key", key_files["laptop"], "--json", at=served)
    assert done.code == 4
    assert texts(done) == ["for the nurse", "for juliet"]
    assert [line["findings"] for line in done.lines] == [["other-collection"], ["other-collection"]]
    assert all(line["suspicious"] for line in done.lines)


@ensureDeferred
async def test_a_collection_is_listed_and_withheld(served, reader, key_files):
    """What is in the list and not to be had is told; the others are read all the same."""
    await served.record("one")
    await served.record("two", at=MORNING + 3600)
    page = served.storage._page

    def without(owner, with_, start, *rest):
        if start == MORNING * 1_000_000:
            start -= 1
        return page(owner, with_, start, *rest)

    served.storage._page = without
    for last in ((), ("--last", "5")):
        done = await reader("read", ROMEO, *last, "--key", key_files["laptop"], at=served)
        assert done.code == 4
        assert "10:00:00+00:00: listed, but not there" in done.out
        assert "romeo: two" in done.out


@ensureDeferred
async def test_the_whole_collection_is_withheld(served, reader, key_files):
    """A page without any of the items that the server counts is not all there is."""
    await served.record("one", "two")
    kept = served.storage._page

    def without(*request):
        found = kept(*request)
        return replace(found, page=replace(found.page, items=[]))

    served.storage._page = without
    for last in ((), ("--last", "5")):
        done = await reader("read", ROMEO, *last, "--key", key_files["laptop"], "--json", at=served)
        assert (done.code, [line["missing_at_end"] for line in done.lines]) == (4, [2])


@ensureDeferred
async def test_only_our_encrypted_keys_are_fetched(served, reader, key_files):
    """Of a conversation for several keys only what our own key opens is asked for (XEP-0241 5)."""
    await served.record("one", keys=(PHONE, LAPTOP))
    kept, recipients = served.storage._page, []

    def watched(*request):
        recipients.append(request[-1])
        return kept(*request)

    served.storage._page = watched
    done = await reader("read", ROMEO, "--key", key_files["laptop"], "--json", at=served)
    assert texts(done) == ["one"]
    assert [list(names) for names in recipients] == [[LAPTOP.public().name]]


@ensureDeferred
async def test_a_key_by_another_name(served, reader, key_files):
    """EncryptedKeys that call our key by another name than its fingerprint are asked for, too."""
    await served.record("one")
    kept = served.kept[0]
    kept.keys = [type(key)(key.key_name, "my old laptop", key.algorithm, key.cipher) for key in kept.keys]
    done = await reader("read", ROMEO, "--key", key_files["laptop"], "--json", at=served)
    assert (done.code, texts(done)) == (0, ["one"])


@ensureDeferred
async def test_the_database_is_away(served, reader):
    """A server in trouble is told as such, with what to do; exit code 3."""
    served.storage.collections = lambda *_: fail(StorageUnavailable())
    done = await reader("list", ROMEO, at=served)
    assert (done.code, done.out) == (3, "")
    assert "cannot be reached; try again later. (internal-server-error). Try again later" in done.err


# usage


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bogus"],
        ["list"],
        ["list", "romeo@x", "--limit", "0"],
        ["list", "romeo@x", "--start", "noon"],
        ["list", "romeo@x", "--start", "0001-01-01T00:00:00+14:00"],
        ["read", "romeo@x", "--insecure"],
        ["read", "romeo@x", "--port", "65536"],
        ["enable", "romeo@x", "--scope", "forever"],
        ["keygen", "--bits", "many"],
        ["list", "romeo@x", "--with", "notjid@@@"],
        ["read", "romeo@x", "--with", ""],
        ["rekey", "romeo@x", "--old-name", " "],
        ["rekey", "romeo@x", "--old-name", "\x01"],
        ["rekey", "romeo@x", "--old-name", "\udc80"],
    ],
)
@ensureDeferred
async def test_wrong_usage(arguments, capsys):
    """What is no command ends with one line and exit code 1, not argparse's 2; an option is named."""
    with pytest.raises(SystemExit) as ended:
        await cli.run(arguments)
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert not arguments[2:] or arguments[-2] in err or arguments[-1] in err


@ensureDeferred
async def test_a_jid_that_is_none(reader):
    """An account that is none is told before anything is asked."""
    done = await reader("list", "montague.example")
    assert done.code == 1
    assert "is not the JID of a user" in done.err


@pytest.mark.parametrize("command", [[], ["keygen"], ["enable"], ["list"], ["read"]])
@ensureDeferred
async def test_help(command, capsys):
    """Every command explains itself, with examples; the program its exit codes."""
    with pytest.raises(SystemExit) as ended:
        await cli.run([*command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "archive-reader " in said.partition("examples:" if command else "first steps:")[2]
    assert command or "4  something could not be opened" in said


@ensureDeferred
async def test_a_fault_of_the_program(reader, monkeypatch):
    """What nobody foresaw is one line without a traceback and without its text, which may hold anything."""

    def fails(_):
        raise RuntimeError("secret")

    monkeypatch.setattr(keys, "check_free", fails)
    done = await reader("keygen")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert "RuntimeError" in done.err
    assert "secret" not in done.err


def test_output_that_nobody_reads(tmp_path):
    """Where the reading end of a pipe is gone, the program ends as one does that SIGPIPE ended."""
    command = f"{sys.executable} -m archive_crypt.reader.cli keygen --no-passphrase --bits 2048"
    for number, option in enumerate(("--json", "")):
        line = f"({command} {option} --out {tmp_path}/{number}; echo $? >&2) | true"
        done = subprocess.run(["/bin/sh", "-c", line], cwd=ROOT, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        assert done.stderr == "141\n"
