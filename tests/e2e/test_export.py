"""The operator's export of a user's archive: from PostgreSQL into a file, sealed as it is there, opened
by the reader and by an independent tool.
"""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import xmlsec
from lxml import etree
from pytest_twisted import ensureDeferred

from archive_crypt import cli
from archive_crypt.core import times
from archive_crypt.core.dialect import F, V
from archive_crypt.crypto import opening
from archive_crypt.reader.formats.xepfile import ArchiveFile
from archive_crypt.reader.opening import Book
from tests.kit import LAPTOP, PHONE

ROOT = Path(__file__).parents[2]
CHAT = f"{{{V.namespace}}}chat"


@pytest.fixture
def configuration(dsn, tmp_path):
    """The configuration of the tests' database."""
    path = tmp_path / "archive.toml"
    path.write_text(f"[database]\ndsn = {json.dumps(dsn)}\n[host]\ndata = {json.dumps(str(tmp_path))}\n")
    return path


@pytest.fixture
def export(configuration, tmp_path):
    """A function: the operator exports a user's archive; the file."""

    def run(jid="romeo@localhost"):
        path = tmp_path / f"{jid}.xml"
        assert cli.main(["export", jid, "--config", str(configuration), "--out", str(path)]) == 0
        return path

    return run


async def says(client, to, *texts, **more):
    """Messages that are archived before this is over."""
    await client.says(to, *texts, **more)
    await client.collections()  # an answer waits for what is to be written


def opened(path, *private_keys):
    return list(ArchiveFile(path).transcripts(Book(private_keys), trusted=False))


def texts(transcript):
    return [entry.item and entry.item.bodies[0][1] for entry in transcript.entries]


@ensureDeferred
async def test_all_there_is(service, login, export):
    """Every collection, in order, opened with either key as from the server; without one nothing is."""
    romeo = await login(service, "romeo")
    await romeo.record((LAPTOP, "laptop"), (PHONE, "phone"))
    await says(romeo, "juliet@localhost", "But soft", "what light", thread="window")
    await says(romeo, "nurse@localhost", "Commend me")
    path = export()
    assert b"But soft" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert ArchiveFile(path).owner == "romeo@localhost"
    for key in (LAPTOP, PHONE):
        juliet, nurse = opened(path, key)
        assert (juliet.collection.with_, juliet.collection.thread) == ("juliet@localhost", "window")
        assert (texts(juliet), texts(nurse)) == (["But soft", "what light"], ["Commend me"])
        assert not any(entry.suspicious for entry in (*juliet.entries, *nurse.entries))
    assert [texts(one) for one in opened(path)] == [[None, None], [None]]


@ensureDeferred
async def test_by_another_tool(service, login, export):
    """python-xmlsec opens each collection of the file, given the file and one private key and no more."""
    romeo = await login(service, "romeo")
    await romeo.record((LAPTOP, "laptop"), (PHONE, "phone"))
    await says(romeo, "juliet@localhost", "But soft", "what light")
    await says(romeo, "nurse@localhost", "Commend me")
    root = etree.parse(export()).getroot()
    xmlsec.tree.add_ids(root, ["Id"])
    manager = xmlsec.KeysManager()
    manager.add_key(xmlsec.Key.from_memory(opening.dump(PHONE, None), xmlsec.constants.KeyDataFormatPem))
    for data in root.findall(f".//{{{xmlsec.constants.EncNs}}}EncryptedData"):
        xmlsec.EncryptionContext(manager).decrypt(data)
    assert [body.text for body in root.iter("{*}body")] == ["But soft", "what light", "Commend me"]


UPLOAD = """\
<save xmlns='urn:xmpp:archive'><chat with='juliet@localhost/x' start='1469-07-21T02:56:15Z' subject='She speaks!'>
<previous with='nurse@localhost' start='1469-07-20T02:56:15Z'/>
<x xmlns='jabber:x:data' type='submit'><field var='task'><value>1</value></field></x>{items}</chat></save>"""


@ensureDeferred
async def test_in_clear_with_all_it_has(service, login, export):
    """What is in clear is there in clear, each message at its time however many pages it takes, with
    links and form."""
    romeo = await login(service, "romeo")
    for first in (0, 400, 800):
        items = "".join(f"<to secs='1'><body>{first + n}</body></to>" for n in range(400))
        answer = await romeo.ask(UPLOAD.format(items=items), "set")
        assert answer.get("type") == "result"
    await romeo.record(encrypt=False)
    await says(romeo, "juliet@localhost", "recorded")
    uploaded, recorded = opened(export())
    assert texts(uploaded) == [str(n) for n in range(1200)]
    start = times.parse("1469-07-21T02:56:15Z")
    assert [entry.at - start for entry in uploaded.entries] == [(n + 1) * 10**6 for n in range(1200)]
    assert uploaded.collection.subject == "She speaks!"
    assert uploaded.extras.links["previous"].with_ == "nurse@localhost"
    assert "task" in uploaded.extras.form
    assert texts(recorded) == ["recorded"]


@ensureDeferred
async def test_ids_stand_once(service, login, export):
    """No Id stands twice in the file, though clients may upload one EncryptedKey to several collections."""
    romeo = await login(service, "romeo")
    await romeo.record((LAPTOP, "laptop"))
    await says(romeo, "juliet@localhost", "x")
    (shown,) = await romeo.collections()
    page = await romeo.page(shown)
    sealed = "".join(
        etree.tostring(child).decode()
        for child in page
        if child.tag.endswith(("EncryptedData", "EncryptedKey"))
    )
    for day in ("20", "21"):
        chat = f"<chat with='nurse@localhost' start='1469-07-{day}T02:56:15Z'>{sealed}</chat>"
        answer = await romeo.ask(f"<save xmlns='{F.namespace}'>{chat}</save>", "set")
        assert answer.get("type") == "result", etree.tostring(answer)
    path = export()
    ids = [element.get("Id") for element in etree.parse(path).iter("{*}EncryptedKey")]
    assert len(ids) == len(set(ids))
    assert [texts(one) for one in opened(path, LAPTOP)] == [["x"]] * 3


@ensureDeferred
async def test_only_this_owner(service, login, export):
    """The file has nothing of anybody else's archive."""
    romeo, juliet = await login(service, "romeo"), await login(service, "juliet")
    for one in (romeo, juliet):
        await one.record(encrypt=False)
    await says(romeo, "nurse@localhost", "mine")
    await says(juliet, "nurse@localhost", "yours")
    assert b"yours" not in export().read_bytes()
    assert b"mine" not in export("juliet@localhost").read_bytes()


def test_nothing_there(configuration, tmp_path, capsys):
    """Who has no archive is told so, and no file is made; nor over one that is there."""
    path = tmp_path / "out.xml"
    arguments = ["export", "tybalt@localhost", "--config", str(configuration), "--out", str(path)]
    assert cli.main(arguments) == 1
    assert "tybalt@localhost has no archive here: nothing was written" in capsys.readouterr().err
    assert not path.exists()
    assert cli.main(["export", "a@", "--config", str(configuration)]) == 1
    assert "'a@' is no JID" in capsys.readouterr().err


@ensureDeferred
async def test_nothing_is_overwritten(service, login, configuration, tmp_path, capsys):
    """A file that is there is left as it is."""
    romeo = await login(service, "romeo")
    await romeo.record(encrypt=False)
    await says(romeo, "juliet@localhost", "x")
    path = tmp_path / "out.xml"
    path.write_text("mine")
    assert cli.main(["export", "romeo@localhost", "--config", str(configuration), "--out", str(path)]) == 1
    assert "File exists" in capsys.readouterr().err
    assert path.read_text() == "mine"


@ensureDeferred
async def test_to_standard_output(service, login, configuration):
    """Without --out the file goes to standard output, alone; progress goes to a terminal's stderr only."""
    romeo = await login(service, "romeo")
    await romeo.record(encrypt=False)
    await says(romeo, "juliet@localhost", "\u00e9")
    command = [sys.executable, "-m", "archive_crypt.cli", "export", "romeo@localhost"]
    command += ["--config", str(configuration)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert etree.fromstring(done.stdout)[0].tag == CHAT
    assert done.stderr == b""
    terminal, end = pty.openpty()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=end, check=True)
    os.close(end)
    assert os.read(terminal, 1000).strip() == b"1 of 1 collections"
    os.close(terminal)
