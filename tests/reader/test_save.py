"""``save``: files into the archive, sealed, each message once, and nothing that cannot be vouched for."""

import json
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.words.protocols.jabber.error import StanzaError

from archive_crypt.model import SaveMode
from archive_crypt.reader import cli
from tests.kit import MORNING
from tests.reader.conftest import DOMAIN
from tests.reader.scripted import Scripted

ROMEO, JULIET, NURSE = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", f"nurse@{DOMAIN}"

MBOX = f"""\
From {JULIET} Sat Nov 21 10:00:00 2026
From: {JULIET}
To: {ROMEO}
Subject: a letter
Date: Sat, 21 Nov 2026 10:00:00 +0000
Message-ID: <1@{DOMAIN}>

Ay me!

"""


def texts(done):
    return [line["bodies"][0]["text"] for line in done.lines]


@pytest.fixture
def laptop(key_files):
    return ("--key", key_files["laptop"])


@pytest.fixture
def exported(serve, reader, laptop, tmp_path):
    """A function: a file of an archive with two conversations, in a format."""

    async def export(format_, *options, **recorded):
        served = serve()
        await served.record("one", "two", **recorded)
        await served.record("three", to=NURSE, at=MORNING + 3600, **recorded)
        path = tmp_path / f"letters.{format_}"
        arguments = ("--format", format_, "--out", path, *options, *(() if options else laptop))
        assert (await reader("export", ROMEO, *arguments, at=served)).code == 0
        return sorted(path.iterdir()) if path.is_dir() else [path]

    return export


@pytest.mark.parametrize("format_", ["xep", "jsonl", "mbox"])
@ensureDeferred
async def test_what_export_wrote(serve, reader, exported, laptop, key_files, format_):
    """What was exported is saved elsewhere, sealed for each of the keys given, and reads the same."""
    files = await exported(format_)
    served = serve()
    done = await reader("save", ROMEO, *files, *laptop, "--json", at=served)
    assert (done.code, done.err) == (0, "")
    assert done.lines == [{"messages": 3, "collections": 2, "already": 0, "incomplete": 0}]
    read = await reader("read", ROMEO, *laptop, "--json", at=served)
    assert (read.code, texts(read)) == (0, ["one", "two", "three"])
    assert all(line["encrypted"] for line in read.lines)
    assert [line["utc"] for line in read.lines][0] == "2026-11-21T10:00:00Z"


@ensureDeferred
async def test_for_several_keys(serve, reader, exported, key_files, environment, tmp_path):
    """A public half is enough to seal for; each key opens what was saved."""
    (file,) = await exported("jsonl")
    served = serve()
    await reader("keygen", "--out", tmp_path / "new.pem", "--no-passphrase", "--bits", "2048")
    given = ("--key", key_files["laptop"], "--key", tmp_path / "new.pem.pub")
    assert (await reader("save", ROMEO, file, *given, at=served)).code == 0
    for key in (key_files["laptop"], tmp_path / "new.pem"):
        assert texts(await reader("read", ROMEO, "--key", key, "--json", at=served)) == [
            "one",
            "two",
            "three",
        ]


@ensureDeferred
async def test_from_an_encrypted_file(serve, reader, exported, laptop):
    """What is sealed in the file is opened with the user's key, and sealed anew."""
    files = await exported("xep", "--encrypted")
    served = serve()
    done = await reader("save", ROMEO, *files, *laptop, "--json", at=served)
    assert (done.code, done.lines[0]["messages"]) == (0, 3)
    assert texts(await reader("read", ROMEO, *laptop, "--json", at=served)) == ["one", "two", "three"]


@ensureDeferred
@pytest.mark.clause("0136-manual-intro-03")
async def test_mails(served, reader, laptop, tmp_path):
    """Mails become a conversation: messages from other media have their place in an archive."""
    path = tmp_path / "letters.mbox"
    path.write_text(MBOX)
    done = await reader("save", ROMEO, path, *laptop, at=served)
    assert done.code == 0
    assert "Saved, encrypted: 1 message(s) in 1 collection(s)." in done.out
    read = await reader("read", ROMEO, *laptop, at=served)
    assert "juliet: Ay me!" in read.out


@ensureDeferred
async def test_in_clear(served, reader, exported, laptop):
    """--plain uploads in clear, says so, and takes no key."""
    (file,) = await exported("jsonl")
    done = await reader("save", ROMEO, file, "--plain", at=served)
    assert done.code == 0
    assert "Saved, IN CLEAR: 3 message(s)" in done.out
    listed = await reader("list", ROMEO, "--json", at=served)
    assert [line["encrypted"] for line in listed.lines] == [False, False]
    assert (await reader("save", ROMEO, file, "--plain", *laptop, at=served)).code == 1


@pytest.mark.parametrize("plain", [True, False])
@ensureDeferred
async def test_twice(served, reader, exported, laptop, plain):
    """What is there is not saved again; what was interrupted goes on where it was."""
    (file,) = await exported("jsonl")
    how = ("--plain",) if plain else laptop
    lines = file.read_text().splitlines()
    begun = file.with_name("begun.jsonl")
    begun.write_text("\n".join(lines[: next(n for n, line in enumerate(lines) if "two" in line)]) + "\n")
    first = await reader("save", ROMEO, begun, *how, "--json", at=served)
    assert [line["messages"] for line in first.lines] == [1]
    second = await reader("save", ROMEO, file, *how, "--json", at=served)
    assert second.lines == [{"messages": 2, "collections": 2, "already": 0, "incomplete": 0}]
    third = await reader("save", ROMEO, file, *how, "--json", at=served)
    assert third.lines == [{"messages": 0, "collections": 0, "already": 2, "incomplete": 0}]
    read = await reader("read", ROMEO, *laptop, "--json", at=served)
    assert (read.code, texts(read)) == (0, ["one", "two", "three"])


@ensureDeferred
async def test_twice_with_what_is_left_out(served, reader, exported, laptop):
    """Messages that say nothing, or were not to be stored, are left out; what is there all the same is known
    again. What else is missing there makes it another conversation."""
    (file,) = await exported("jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    first = next(n for n, line in enumerate(lines) if line["type"] == "message")
    empty = json.loads(json.dumps(lines[first]))
    empty["item"]["bodies"] = []
    lines.insert(first + 1, empty)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for number in (3, 0):
        done = await reader("save", ROMEO, file, *laptop, "--json", at=served)
        assert (done.code, done.lines[0]["messages"], done.lines[0]["already"]) == (
            0,
            number,
            0 if number else 2,
        )
    empty["item"]["bodies"] = [{"text": "between"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "something else there" in (await reader("save", ROMEO, file, *laptop, at=served)).err


@pytest.mark.parametrize("plain", [True, False])
@ensureDeferred
async def test_a_form_without_messages(served, reader, laptop, tmp_path, plain):
    """A collection that holds no message, but a form, is saved too; one that holds nothing is neither saved
    nor said to be there."""
    form = '<x xmlns="jabber:x:data" type="submit"><field var="task"><value>1</value></field></x>'
    path = tmp_path / "letters.jsonl"
    lines = [{"type": "archive", "version": 1, "owner": ROMEO}]
    for minute, extra in ((0, {"form": form}), (1, {})):
        start = f"2026-11-21T10:0{minute}:00Z"
        lines.append({"type": "collection", "with": JULIET, "start": start, "told": start} | extra)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    how = ("--plain",) if plain else laptop
    done = await reader("save", ROMEO, path, *how, "--json", at=served)
    assert done.lines == [{"messages": 0, "collections": 1, "already": 0, "incomplete": 0}]
    listed = await reader("list", ROMEO, "--json", at=served)
    assert [line["start"] for line in listed.lines] == ["2026-11-21T10:00:00Z"]


@ensureDeferred
async def test_something_else_is_there(served, reader, exported, laptop):
    """A collection of the same name with other contents is left as it is, and that is told."""
    (file,) = await exported("jsonl")
    await served.record("other")
    done = await reader("save", ROMEO, file, *laptop, at=served)
    assert done.code == 4
    assert "the archive has something else there" in done.err
    assert texts(await reader("read", ROMEO, *laptop, "--json", at=served)) == ["other", "three"]


@ensureDeferred
async def test_where_the_server_makes_no_sense(serve, reader, exported, laptop):
    """A collection of which the server repeats one page for ever is named; the others are saved."""
    (file,) = await exported("jsonl")

    def script(element):
        if element.name == "save":
            return f"<save xmlns='{element.uri}'><chat with='{NURSE}' start='2026-11-21T11:00:00Z'/></save>"
        if element.name == "retrieve" and element["with"] == JULIET:
            pages = "<set xmlns='http://jabber.org/protocol/rsm'><first>a</first><last>b</last></set>"
            chat = f"<chat xmlns='{element.uri}' with='{JULIET}' start='2026-11-21T10:00:00Z'>"
            return f"{chat}<to><body>one</body></to>{pages}</chat>"
        return StanzaError("item-not-found")

    heard = []
    lying = serve(features=(), handler=lambda archiver, jid: Scripted(script, heard))
    done = await reader("save", ROMEO, file, *laptop, "--force", at=lying)
    assert done.code == 4
    assert f"{JULIET}, 2026-11-21T10:00:00Z: The server gives the same page again and again." in done.err
    assert [element.chat["with"] for element in heard if element.name == "save"] == [NURSE]


@ensureDeferred
async def test_what_is_suspicious_is_left_out(serve, reader, laptop, tmp_path):
    """What the file marks as moved or unreadable is not made trustworthy by saving it; exit code 4."""
    served = serve()
    await served.record("one", "two", "three")
    items = served.kept[0].items
    items[0], items[1] = items[1]._replace(number=0), items[0]._replace(number=1)
    path = tmp_path / "letters.jsonl"
    await reader("export", ROMEO, "--format", "jsonl", "--out", path, *laptop, at=served)
    elsewhere = serve()
    done = await reader("save", ROMEO, path, *laptop, at=elsewhere)
    assert done.code == 4
    assert "left out: unreadable, suspicious" in done.err
    read = await reader("read", ROMEO, *laptop, "--json", at=elsewhere)
    assert "one" not in texts(read)
    assert "three" in texts(read)


@ensureDeferred
@pytest.mark.clause("0136-security-encrypt-01")
async def test_a_subject(served, reader, exported, laptop):
    """A subject, which the server could read, stays out with a warning, unless --subjects sends it."""
    (file,) = await exported("jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["type"] == "collection":
            line["subject"] = "to die for"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = await reader("save", ROMEO, file, *laptop, at=served)
    assert done.code == 0
    assert done.err.count("its subject is left out, as the server could read it. See --subjects.") == 2
    await reader("remove", ROMEO, "--all", "--yes", at=served)
    assert (await reader("save", ROMEO, file, *laptop, "--subjects", at=served)).err == ""
    listed = await reader("list", ROMEO, "--json", at=served)
    assert [line["subject"] for line in listed.lines] == ["to die for"] * 2


@ensureDeferred
@pytest.mark.clause("0136-pref-reqs-04")
async def test_preferences_are_obeyed(served, reader, exported, laptop):
    """Of whom the user wants nothing saved, nothing is; the others are. Where he forbids uploads, nothing is,
    unless he says that he means it."""
    (file,) = await exported("jsonl")
    await reader("prefs", "contact", ROMEO, NURSE, "--save", SaveMode.FALSE.value, at=served)
    done = await reader("save", ROMEO, file, *laptop, at=served)
    assert done.code == 4
    assert f"not saved. Your preferences are that nothing with {NURSE} is saved" in done.err
    assert texts(await reader("read", ROMEO, *laptop, "--json", at=served)) == ["one", "two"]
    await reader("remove", ROMEO, "--all", "--yes", at=served)
    await reader("prefs", "methods", ROMEO, "--manual", "forbid", at=served)
    done = await reader("save", ROMEO, file, *laptop, at=served)
    assert done.code == 4
    assert (await reader("list", ROMEO, at=served)).out == ""
    assert (await reader("save", ROMEO, file, *laptop, "--force", at=served)).code == 0
    read = await reader("read", ROMEO, *laptop, "--json", at=served)
    assert texts(read) == ["one", "two", "three"]


@ensureDeferred
async def test_only_for_confirmed_keys(served, reader, exported, environment):
    """Without --key it is sealed for the user's confirmed keys; where none is confirmed, nothing is sent."""
    environment.setenv(cli.PASSPHRASE, "secret")
    (file,) = await exported("jsonl")
    made = await reader("keygen", "--bits", "2048", "--json")
    done = await reader("save", ROMEO, file, at=served)
    assert done.code == 0
    Path(made.lines[0]["private"]).with_name("trust.json").unlink()
    done = await reader("save", ROMEO, file, at=served)
    assert done.code == 1
    assert "is not confirmed to be yours" in done.err


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "is neither"), (b"hello", "is neither"), (None, "cannot be read")]
)
@ensureDeferred
async def test_no_file_of_conversations(served, reader, laptop, tmp_path, content, said):
    """What is no such file is named."""
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    done = await reader("save", ROMEO, path, *laptop, at=served)
    assert done.code == 1
    assert f"{path} {said}" in done.err
