"""End to end: ``export`` and ``open`` against a real server, as a user gives them."""

import json
import os
import pty
import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import fail
from twisted.internet.utils import getProcessOutputAndValue

from archive_crypt.errors import StorageUnavailable
from archive_crypt.reader import cli
from archive_crypt.reader.formats import jsonl, mail
from archive_crypt.reader.formats.xepfile import ArchiveFile
from archive_crypt.reader.opening import Book
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, USERS
from tests.reader.pgp import archived, needs_gpg, people, signcrypt

ROMEO, JULIET, NURSE = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", f"nurse@{DOMAIN}"
ROOT = Path(__file__).parents[2]
FORMATS = ("jsonl", "mbox", "markdown", "html")


def said(transcripts):
    """Who is talked with, and what is said, by collection; None for what could not be read."""
    return [
        (one.collection.with_, [entry.item and entry.item.bodies[0][1] for entry in one.entries])
        for one in transcripts
    ]


@pytest.fixture
def export(served, reader, key_files, tmp_path):
    """A function that exports romeo's archive, opened with the laptop's key; what the command said, and
    the file."""

    async def run(name, *arguments, at=served, key="laptop"):
        out = tmp_path / f"out.{name}"
        keys = ("--key", key_files[key]) if key else ()
        return await reader("export", ROMEO, "--format", name, "--out", out, *keys, *arguments, at=at), out

    return run


@ensureDeferred
async def test_each_format(served, export):
    """In each format all that was said is in one new file, open to its owner only."""
    await served.record("But soft", "what light")
    for name in FORMATS:
        done, out = await export(name)
        assert (done.code, done.err) == (0, "")
        assert f"{out}: 2 message(s) of 1 collection(s), as {name}" in done.out
        assert "what light" in out.read_text()
        assert out.stat().st_mode & 0o777 == 0o600


@ensureDeferred
async def test_what_is_read_back(served, export):
    """JSON Lines and mbox files of an export are read back into what was said."""
    await served.record("But soft", "what light")
    await served.record("Commend me", to=NURSE, at=MORNING + 60)
    expected = [(JULIET, ["But soft", "what light"]), (NURSE, ["Commend me"])]
    _, out = await export("jsonl")
    assert said(jsonl.read(out)) == expected
    _, out = await export("mbox")
    assert said(mail.read(out, ROMEO)) == expected


@pytest.mark.clause("0136-fileformat-02")
@ensureDeferred
async def test_a_file_for_each_contact(served, export):
    """The XEP's own format is a folder with a file for each contact, whatever order they were talked with in."""
    await served.record("one", to=f"{JULIET}/balcony")
    await served.record("two", to=NURSE, at=MORNING + 60)
    await served.record("three", to=JULIET, at=MORNING + 120)
    await served.record("four", to="garden.example", at=MORNING + 180)
    done, out = await export("xep", "--json")
    assert done.lines == [
        {"out": str(out), "format": "xep", "collections": 4, "messages": 4, "suspicious": 0}
    ]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{contact}.xml" for contact in (JULIET, NURSE, "garden.example")
    )
    file = ArchiveFile(out / f"{JULIET}.xml")
    assert file.owner == ROMEO
    read = said(file.transcripts(Book([]), trusted=True))
    assert read == [(f"{JULIET}/balcony", ["one"]), (JULIET, ["three"])]
    assert f'with="{JULIET}"' in (out / f"{JULIET}.xml").read_text()


@pytest.mark.clause("0136-fileformat-01", "0136-fileformat-02")
@ensureDeferred
async def test_encrypted(served, export, reader, key_files):
    """With --encrypted nothing is opened; `open` does that later, offline, with any of the keys."""
    await served.record("But soft", "what light", keys=(LAPTOP, PHONE))
    await served.record("in clear", keys=(), to=NURSE, at=MORNING + 60)
    done, out = await export("xep", "--encrypted", key=None)
    assert (done.code, done.err) == (0, "")
    everything = "".join(path.read_text() for path in out.iterdir())
    assert "But soft" not in everything
    assert "in clear" in everything
    opened = await reader("open", out / f"{JULIET}.xml", "--key", key_files["laptop"])
    assert (opened.code, opened.err) == (0, "")
    assert "→ romeo: what light" in opened.out
    closed = await reader("open", out / f"{JULIET}.xml")
    assert closed.code == 4
    assert "none of your private keys opens this" in closed.out


@ensureDeferred
async def test_open_into_another_format(served, export, reader, key_files, tmp_path):
    """A file that was opened can be written in every format, from several files into one."""
    await served.record("But soft")
    await served.record("Commend me", to=NURSE, at=MORNING + 60)
    _, folder = await export("xep", "--encrypted", key=None)
    paths = sorted(folder.iterdir())
    for name in (*FORMATS, "xep"):
        out = tmp_path / f"opened.{name}"
        done = await reader(
            "open", *paths, "--key", key_files["laptop"], "--format", name, "--out", out, "--json"
        )
        assert done.lines[0]["messages"] == 2
        written = out.read_text() if out.is_file() else "".join(path.read_text() for path in out.iterdir())
        assert "But soft" in written
        assert "Commend me" in written


@ensureDeferred
async def test_only_some(served, export, reader):
    """--with, --start and --end choose; where nothing matches nothing is written."""
    await served.record("old", to=NURSE)
    await served.record("new", at=MORNING + 86_400)
    _, out = await export("jsonl", "--with", JULIET)
    assert said(jsonl.read(out)) == [(JULIET, ["new"])]
    _, out = await export("mbox", "--end", "2026-11-22T00:00Z")
    assert said(mail.read(out, ROMEO)) == [(NURSE, ["old"])]
    done, out = await export("html", "--with", "tybalt@capulet.lit")
    assert (done.code, done.err) == (0, "archive-reader: No collection matches: nothing was written.\n")
    assert not out.exists()


@ensureDeferred
async def test_what_could_not_be_read_is_there(served, export):
    """What is suspicious, could not be opened or is missing is in each format, and the exit code is 4."""
    await served.record("one", "two", "three")
    await served.record("gone", to=NURSE, at=MORNING + 60, keys=(PHONE,))
    first, _ = served.kept
    first.items[0], first.items[1] = first.items[1], first.items[0]
    for name in FORMATS:
        done, out = await export(name)
        assert done.code == 4
        text = out.read_text()
        assert all(word in text for word in ("one", "two", "three"))
        assert "none of your private keys" in text or "no-key" in text
        assert "repeated, or moved from its place" in text or "out-of-place" in text
    assert json.loads((await export("xep", "--json"))[0].out)["suspicious"] > 0


@ensureDeferred
async def test_links_and_forms_come_along(served, export):
    """Links between collections, and forms, are kept where the format can say them."""
    await served.record("parent", thread="t1")
    await served.record("child", at=MORNING + 60, more="<thread parent='t1'>t2</thread>")
    _, out = await export("jsonl")
    *_, child = jsonl.read(out)
    assert child.extras.links["previous"].with_ == JULIET


# What keeps from it


@ensureDeferred
async def test_nothing_is_overwritten(served, export, reader, tmp_path):
    """What is there stays; that is said before anything is asked of the server."""
    for name in ("jsonl", "xep"):
        (tmp_path / f"out.{name}").write_text("mine")
        done, out = await export(name, "--password-file", tmp_path / "none")
        assert done.code == 1
        assert "exists already, and nothing is overwritten. Choose another with --out." in done.err
        assert out.read_text() == "mine"


@ensureDeferred
async def test_whole_or_not_at_all(served, export, environment, tmp_path):
    """An export that fails on its way leaves nothing behind."""
    await served.record("one")
    await served.record("two", to=NURSE, at=MORNING + 60)
    real = served.storage.page

    def page(owner, with_, *args):
        return fail(StorageUnavailable()) if with_ == NURSE else real(owner, with_, *args)

    environment.setattr(served.storage, "page", page)
    before = sorted(tmp_path.iterdir())
    for name in ("jsonl", "xep"):
        done, out = await export(name)
        assert done.code == 3
        assert not out.exists()
    assert sorted(tmp_path.iterdir()) == before


@ensureDeferred
async def test_where_nothing_can_be_made(served, reader, key_files, tmp_path):
    """A folder that is not there is named."""
    out = tmp_path / "none" / "x.html"
    await served.record("x")
    done = await reader(
        *("export", ROMEO, "--format", "html", "--out", out, "--key", key_files["laptop"]), at=served
    )
    assert done.code == 1
    assert f"{out} cannot be made: No such file or directory" in done.err


@pytest.mark.parametrize(
    ("command", "said_"),
    [
        (
            ("export", ROMEO, "--format", "html", "--out", "x", "--encrypted"),
            "--encrypted goes with --format xep",
        ),
        (("open", "x.xml", "--format", "html"), "--format and --out go together"),
        (("open", "x.xml"), "x.xml cannot be read"),
    ],
)
@ensureDeferred
async def test_wrong_usage(reader, command, said_):
    """What does not go together is told before anything is done."""
    done = await reader(*command)
    assert done.code == 1
    assert said_ in done.err


@ensureDeferred
async def test_a_progress_bar(served, certificate, key_files, tmp_path):
    """On a terminal there is a progress bar on standard error, and it is gone at the end; else nothing."""
    await served.record("But soft")
    arguments = ["-m", "archive_crypt.reader.cli", "export", ROMEO, "--format", "jsonl", "--json"]
    arguments += ["--key", str(key_files["laptop"]), "--host", "127.0.0.1", "--port", str(served.port)]
    arguments += ["--ca", str(certificate)]
    environment = {"PYTHONPATH": str(ROOT), cli.PASSWORD: USERS["romeo"], "HOME": "/nonexistent"}
    quiet = [*arguments, "--out", str(tmp_path / "quiet")]
    _, err, code = await getProcessOutputAndValue(sys.executable, quiet, environment)
    assert (code, err) == (0, b"")
    terminal, end = pty.openpty()
    shell = ["-c", f'exec "$@" 2>/proc/{os.getpid()}/fd/{end}', "sh", sys.executable, *arguments]
    environment["TERM"] = "xterm"
    out, _, code = await getProcessOutputAndValue(
        "/bin/sh", [*shell, "--out", str(tmp_path / "x")], environment
    )
    os.close(end)
    seen = os.read(terminal, 100_000)
    os.close(terminal)
    assert (code, json.loads(out)["messages"]) == (0, 1)
    assert b"collections" in seen


# OpenPGP


@needs_gpg
@pytest.mark.clause("D374-11", "0374-1-02")
@ensureDeferred
async def test_openpgp(served, reader, export, key_files, tmp_path):
    """OpenPGP messages in a sealed archive are opened, judged and shown with their marks, when keys are
    given; without, what they are is shown as it stands there."""
    with people(tmp_path) as verona:
        for jid in (ROMEO, JULIET):
            verona.make(f"xmpp:{jid}", passphrase="rapier" if jid == ROMEO else "")
        message = verona.seals(
            f"xmpp:{ROMEO}",
            signcrypt(JULIET, said="Call me but love"),
            f"xmpp:{ROMEO}",
            f"xmpp:{JULIET}",
            passphrase="rapier",
        )
        secret = verona.secret(f"xmpp:{ROMEO}", passphrase="rapier")
        public = verona.public(f"xmpp:{JULIET}")
    body, payload = archived(message).bodies[0][1], "".join(archived(message).rest)
    await served.record(body, more=payload)
    (tmp_path / "passphrase").write_text("rapier\n")
    keys = ("--key", key_files["laptop"])
    given = ("--openpgp-key", secret, "--openpgp-passphrase-file", tmp_path / "passphrase")
    done = await reader("read", ROMEO, *keys, *given, at=served)
    assert done.code == 0, done.out
    assert "romeo: Call me but love" in done.out
    assert "OpenPGP: signed by its sender for this conversation" in done.out
    without = await reader("read", ROMEO, *keys, at=served)
    assert "romeo: This message is encrypted using OpenPGP." in without.out
    lacking = await reader("read", ROMEO, *keys, "--openpgp-key", public, at=served)
    assert lacking.code == 4
    assert "none of the secret keys given opens this" in lacking.out
    assert "cannot decrypt (key id " in lacking.out
    (tmp_path / "passphrase").write_text("foil\n")
    wrong = await reader("read", ROMEO, *keys, *given, at=served)
    assert (wrong.code, wrong.out) == (1, "")
    assert "The passphrase of the OpenPGP key is wrong" in wrong.err
