"""``rearchive``: what was encrypted between two people, sealed with the archive's own keys; the old goes only
when all of it was read back."""

import json
import shutil
from itertools import count

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from archive_crypt.core.dialect import T, V
from archive_crypt.errors import NotAcceptable, StorageUnavailable
from archive_crypt.model import SECOND, SealedItem, UploadedItem
from archive_crypt.reader import given, ssn, trust
from archive_crypt.reader.otr import Logging
from archive_crypt.reader.rearchiving import CONSENT
from tests.kit import LAPTOP, MORNING, PHONE
from tests.reader.conftest import DOMAIN, USERS
from tests.reader.pgp import archived, people, signcrypt
from tests.reader.terminal import AtTerminal

ROMEO, JULIET, NURSE = f"romeo@{DOMAIN}", f"juliet@{DOMAIN}", f"nurse@{DOMAIN}"
R, J, OTHER = f"xmpp:{ROMEO}", f"xmpp:{JULIET}", "xmpp:old@x.lit"

needs_gpg = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")


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
def talks(served, verona):
    """A function: romeo says these to Juliet, each encrypted for one of his keys and hers."""

    async def record(*texts, key=R, at=MORNING, to=JULIET, served=served):
        said = []
        for text in texts:
            item = archived(verona.seals(R, signcrypt(JULIET, said=text), key, J))
            said.append(f"<body>{item.bodies[0][1]}</body>{''.join(item.rest)}")
        await served.hear(*said, at=at, to=to)

    return record


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
    assert [(line["with"], line["messages"], line["reason"]) for line in done.lines[:-1]] == [(JULIET, 2, None)]
    assert done.lines[-1] == {"rearchived": 1, "left": 0}
    assert starts(served) == [1, 3600_000]
    read = await reader("read", ROMEO, "--key", key_files["laptop"], "--json", at=served)
    assert (read.code, texts(read)) == (0, ["But soft", "what light", "plain"])
    assert [line["utc"] for line in read.lines] == [line["utc"] for line in before]
    assert all(line["encrypted"] for line in read.lines)
    again = await reader("rearchive", ROMEO, *keys, "--yes", at=served)
    assert (again.code, again.out) == (0, "")
    assert "No collection that matches has OpenPGP messages." in again.err
