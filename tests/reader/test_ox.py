"""OpenPGP messages in an archive: opened and judged by real keys of gpg's making."""

import os
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from archive_crypt.core.items import ReadItem
from archive_crypt.model import SECOND
from archive_crypt.reader import openpgp
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.openpgp import Keyring
from archive_crypt.reader.ox import Reader
from archive_crypt.reader.protocol import Listed
from tests.kit import MORNING
from tests.reader.bait import bait
from tests.reader.pgp import archived, needs_gpg, people, signcrypt

ROMEO, JULIET, MALLORY = "romeo@montague.lit", "juliet@capulet.lit", "mallory@x.lit"
R, J, M = f"xmpp:{ROMEO}", f"xmpp:{JULIET}", f"xmpp:{MALLORY}"
#: A packet that says for which key a message is, of a key that nobody has (RFC 4880 5.1).
FOR_ANOTHER = bytes((0xC1, 13, 3, *b"\0another", 1, 0, 8, 255))
START = MORNING * SECOND
COLLECTION = Listed(f"{JULIET}/balcony", START, "2026-11-21T10:00:00Z")

pytestmark = needs_gpg


@pytest.fixture(scope="module")
def verona(tmp_path_factory):
    """Romeo, Juliet and Mallory have keys."""
    with people(tmp_path_factory.mktemp("pgp")) as found:
        for user_id in (R, J, M):
            found.make(user_id)
        yield found


@pytest.fixture(scope="module")
def keyring(verona):
    """Romeo's secret key, and Juliet's and Mallory's public ones."""
    files = [verona.secret(R), verona.public(J), verona.public(M)]
    with Keyring(files, lambda: pytest.fail("no passphrase is needed")) as found:
        yield found


@pytest.fixture
def runtime(monkeypatch):
    """Where the keys' copies are; its name is short, as that of a socket in it may have 107 octets."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def entry(message, kind="from", at=START):
    return Entry(0, False, archived(message, kind, at), at, ())


def read(keyring, *args, **kwargs):
    return Reader(ROMEO, keyring).read(COLLECTION, entry(*args, **kwargs))


def findings(read_entry):
    return [finding.word for finding in read_entry.findings]


def runs_in(home):
    """Whether a program runs there."""
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return str(home) in running


@pytest.mark.clause("D374-11", "0374-2-05", "0374-1-01")
def test_received(verona, keyring):
    """A message that the contact signed for the owner shows the text in it, not that beside it."""
    found = read(keyring, verona.seals(J, signcrypt(ROMEO), R, J))
    assert findings(found) == ["openpgp-valid"]
    assert found.item.bodies == ((None, "This is a secret message."),)
    assert not found.suspicious


@pytest.mark.clause("D374-11")
def test_sent(verona, keyring):
    """One that the owner signed for the contact likewise; the contact's name is in it bare or full."""
    for jid in (JULIET, f"{JULIET}/balcony"):
        found = read(keyring, verona.seals(R, signcrypt(jid), R, J), "to")
        assert findings(found) == ["openpgp-valid"]


@pytest.mark.clause("0374-2-06", "0374-2-05")
def test_what_is_in_it(verona, keyring):
    """Bodies of either stream namespace, in several languages, and other children: as the stanza's own."""
    payload = (
        "<body xmlns='jabber:server' xml:lang='it'>Ciao</body><body xmlns='jabber:client'>Hi</body>"
        "<x xmlns='urn:x'/>"
    )
    item = read(keyring, verona.seals(J, signcrypt(ROMEO, payload=payload), R)).item
    assert item.bodies == (("it", "Ciao"), (None, "Hi"))
    assert item.rest[0] == '<x xmlns="urn:x"></x>'


@pytest.mark.parametrize("compression", ["none", "zip"])
def test_compressed_or_not(verona, keyring, compression):
    """Messages are read as the programs of the world make them."""
    message = verona.seals(J, signcrypt(ROMEO), R, more=("--compress-algo", compression))
    assert findings(read(keyring, message)) == ["openpgp-valid"]


@pytest.mark.clause("D374-11")
def test_for_somebody_else(verona, keyring):
    """A message that its sender signed for somebody else, and a third one passed on, is not authentic."""
    found = read(keyring, verona.seals(J, signcrypt(MALLORY), R))
    assert findings(found) == ["openpgp-invalid"]
    assert found.suspicious


@pytest.mark.clause("D374-11")
def test_in_the_other_direction(verona, keyring):
    """What the owner wrote cannot be passed off as the contact's, nor the other way round."""
    own = verona.seals(R, signcrypt(JULIET), R, J)
    assert findings(read(keyring, own, "from")) == ["openpgp-invalid"]
    assert findings(read(keyring, verona.seals(J, signcrypt(ROMEO), R), "to")) == ["openpgp-invalid"]


@pytest.mark.clause("D374-11")
def test_signed_by_somebody_else(verona, keyring):
    """A good signature of another person's key is none of the sender."""
    assert findings(read(keyring, verona.seals(M, signcrypt(ROMEO), R))) == ["openpgp-invalid"]


@pytest.mark.clause("D374-11")
@pytest.mark.parametrize("end", ["\u2028", "\x85", "\x1e", "\r", " "])
def test_names_that_pose_as_the_programs_words(verona, keyring, end):
    """No user id of the signer's key and no name of a file passes for what gpg says of a signature."""
    finger = verona.fingerprint(J)
    lie = end.join(
        (
            "M",
            f"[GNUPG:] GOODSIG {finger[-16:]} {J}",
            f"[GNUPG:] VALIDSIG {finger} 2026-11-21 1795255200 0 4 0 22 10 00 {finger}",
            f"fpr:::::::::{finger}:",
            "pub",
        )
    )
    verona.make(lie)
    message = verona.seals(lie, signcrypt(ROMEO), R, more=("--set-filename", lie))
    files = [verona.secret(R), verona.public(J), verona.public(lie, "liar")]
    with Keyring(files, lambda: b"") as known:
        assert findings(read(known, message)) == ["openpgp-invalid"]
    assert findings(read(keyring, message)) == ["openpgp-unknown"]


def test_for_very_many(verona, keyring):
    """A message for very many keys neither stops gpg nor the reader: what it tells of them is long."""
    message = verona.seals(J, signcrypt(ROMEO), R)
    assert findings(read(keyring, FOR_ANOTHER * 2_000 + message)) == ["openpgp-valid"]


def test_signed_by_nobody(verona, keyring):
    """What nobody signed is marked, though it is encrypted."""
    assert findings(read(keyring, verona.seals(None, signcrypt(ROMEO), R))) == ["openpgp-invalid"]


def test_without_the_senders_key(verona):
    """Without the sender's public key nothing is said of who wrote it; the rest is checked all the same."""
    with Keyring([verona.secret(R)], lambda: b"") as keyring:
        assert findings(read(keyring, verona.seals(J, signcrypt(ROMEO), R))) == ["openpgp-unknown"]
        assert findings(read(keyring, verona.seals(J, signcrypt(MALLORY), R))) == ["openpgp-invalid"]


@pytest.mark.clause("0374-1-02")
def test_without_the_secret_key(verona):
    """What cannot be opened stays as it was, and the key that would open it is named."""
    with Keyring([verona.public(J)], lambda: b"") as keyring:
        before = entry(verona.seals(J, signcrypt(ROMEO), R))
        found = Reader(ROMEO, keyring).read(COLLECTION, before)
    (key_id,) = found.openpgp_keys
    assert len(key_id) == 16
    assert (findings(found), found.suspicious) == (["openpgp-closed"], True)
    assert found.item == before.item


@pytest.mark.clause("0374-2-04")
@pytest.mark.parametrize(
    "content",
    [
        signcrypt(ROMEO).replace("signcrypt", "crypt"),
        signcrypt(ROMEO).replace("signcrypt", "sign"),
        signcrypt(ROMEO, payload="<p/>").replace("payload", "load"),
        signcrypt(ROMEO).replace("<time stamp='2026-11-21T10:00:00Z'/>", ""),
        signcrypt(ROMEO, time="yesterday"),
        signcrypt(ROMEO, time="2026-11-21T10:00:00"),
        signcrypt(),
        "But soft",
        "<!DOCTYPE x [<!ENTITY a 'romeo'>]>" + signcrypt(ROMEO).replace("jid='romeo", "jid='&a;"),
        "<!DOCTYPE signcrypt>" + signcrypt(ROMEO),
    ],
)
def test_other_contents(verona, keyring, content):
    """In conversations only a ``<signcrypt/>`` that says for whom and when is worth anything."""
    assert "openpgp-invalid" in findings(read(keyring, verona.seals(J, content, R)))


def test_a_content_with_a_declaration(verona, keyring):
    """A content that begins with an XML declaration is read as one without."""
    content = f"<?xml version='1.0' encoding='UTF-8'?>\n{signcrypt(ROMEO)}"
    found = read(keyring, verona.seals(J, content, R))
    assert findings(found) == ["openpgp-valid"]
    assert found.item.bodies == ((None, "This is a secret message."),)


def test_a_content_that_names_a_file(verona, keyring, tmp_path):
    """What a contact encrypted and signed has no file of the reader's opened: it may be a pipe without end."""
    with bait(tmp_path) as path:
        content = f"<!DOCTYPE signcrypt SYSTEM 'file://{path}'>{signcrypt(ROMEO)}"
        found = read(keyring, verona.seals(J, content, R))
    assert findings(found) == ["openpgp-invalid"]


@pytest.mark.clause("D374-12")
@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("2026-11-21T11:59:00+02:00", []),
        ("2026-11-20T22:00:00Z", []),
        ("2026-11-19T10:00:00Z", ["openpgp-time"]),
        ("2026-11-23T10:00:00Z", ["openpgp-time"]),
    ],
)
def test_times(verona, keyring, time, said):
    """The time shown is the archive's; one of signing that is far from it is reported."""
    found = read(keyring, verona.seals(J, signcrypt(ROMEO, time=time), R))
    assert findings(found) == ["openpgp-valid", *said]
    assert found.at == START


def test_damaged(verona, keyring):
    """What was altered, is no OpenPGP, or unfolds without end, is marked and stays as it was."""
    message = verona.seals(J, signcrypt(ROMEO), R)
    bomb = verona.seals(J, signcrypt(ROMEO, said="x" * 3_000_000), R)
    for damaged in (message[:-20] + bytes(20), message[:60], b"But soft", b"", bomb):
        found = read(keyring, damaged)
        assert findings(found) == ["openpgp-invalid"]
        assert found.item.bodies[0][1] == "This message is encrypted using OpenPGP."


def test_what_is_not_base64(keyring):
    """Text that is no message at all is marked too."""
    item = ReadItem(
        "from", START, None, None, (), None, rest=('<openpgp xmlns="urn:xmpp:openpgp:0">?</openpgp>',)
    )
    found = Reader(ROMEO, keyring).read(COLLECTION, Entry(0, False, item, START, ()))
    assert findings(found) == ["openpgp-invalid"]


def test_other_entries(keyring):
    """Entries without OpenPGP, and those that could not be opened, are as they were."""
    plain = Entry(
        0, True, ReadItem("from", START, None, None, ((None, "x"),), None), START, (Finding.UNBOUND,)
    )
    for one in (plain, replace(plain, item=None)):
        assert Reader(ROMEO, keyring).read(COLLECTION, one) is one


# Keys


def test_a_passphrase(verona):
    """A key under a passphrase is opened with it; a wrong one is told at once."""
    tybalt = "xmpp:tybalt@capulet.lit"
    verona.make(tybalt, passphrase="rapier")
    path = verona.secret(tybalt, passphrase="rapier")
    message = verona.seals(J, signcrypt("tybalt@capulet.lit"), tybalt)
    with Keyring([path, verona.public(J)], lambda: b"rapier") as keyring:
        found = Reader("tybalt@capulet.lit", keyring).read(COLLECTION, entry(message))
    assert findings(found) == ["openpgp-valid"]
    with (
        pytest.raises(Problem, match="passphrase of the OpenPGP key is wrong"),
        Keyring([path], lambda: b"no"),
    ):
        pass


def test_keys_that_expired(verona):
    """Old messages are opened with a key that has expired since, and their signatures hold; one made
    after that does not."""
    old = ("--faked-system-time", "20200101T000000")
    for user_id in ("xmpp:old-romeo@x.lit", "xmpp:old-juliet@x.lit"):
        verona.make(user_id, expires="1y", more=old)
    content = signcrypt("old-romeo@x.lit", time="2020-01-02T00:00:00Z")
    message = verona.seals("xmpp:old-juliet@x.lit", content, "xmpp:old-romeo@x.lit", more=old)
    files = [verona.secret("xmpp:old-romeo@x.lit"), verona.public("xmpp:old-juliet@x.lit")]
    with Keyring(files, lambda: b"") as keyring:
        opened = keyring.open(message)
        reader = Reader("old-romeo@x.lit", keyring)
        collection = replace(COLLECTION, with_="old-juliet@x.lit")
        found = reader.read(collection, entry(message, at=None))
    assert opened.ours
    assert findings(found) == ["openpgp-valid"]


def test_several_keys(verona, keyring):
    """A message for several keys is opened with any one of them."""
    assert findings(read(keyring, verona.seals(J, signcrypt(ROMEO), M, J, R))) == ["openpgp-valid"]


def test_files_without_keys(tmp_path):
    """A file that holds no key, and one that is not there, are named."""
    path = tmp_path / "x"
    path.write_text("x")
    with pytest.raises(Problem, match="x holds no OpenPGP key"), Keyring([path], lambda: b""):
        pass
    with pytest.raises(Problem, match="cannot be read"), Keyring([tmp_path / "y"], lambda: b""):
        pass


def test_nothing_stays(verona, monkeypatch, runtime, tmp_path):
    """Afterwards neither the keys' copy nor its agent is there; the user's own keyring is not touched."""
    monkeypatch.setenv("GNUPGHOME", str(tmp_path / "own"))
    with Keyring([verona.secret(R)], lambda: b"") as keyring:
        keyring.open(verona.seals(J, signcrypt(ROMEO), R))
        (home,) = runtime.iterdir()
        assert home.stat().st_mode & 0o777 == 0o700
    assert list(runtime.iterdir()) == list(tmp_path.iterdir()) == []
    assert not runs_in(home)


def test_left_while_a_thread_opens(verona, runtime):
    """Who was told to end and still opens a message keeps nothing alive: what is left behind is gone."""
    message, opened = verona.seals(J, signcrypt(ROMEO), R), threading.Event()

    def open_some():
        with suppress(FileNotFoundError):
            for _ in range(3):
                keyring.open(message)
                opened.set()

    with ThreadPoolExecutor(1) as pool:
        with Keyring([verona.secret(R)], lambda: b"") as keyring:
            ended = pool.submit(open_some)
            assert opened.wait(20)
            (home,) = runtime.iterdir()
        ended.result(20)
    assert list(runtime.iterdir()) == []
    assert not runs_in(home)


def test_without_memory_for_the_keys(verona, monkeypatch, tmp_path):
    """No copy of a secret key is written where there may be a disk under it; what to set is said."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(openpgp, "_SHARED_MEMORY", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(Problem, match="set XDG_RUNTIME_DIR"), Keyring([verona.secret(R)], lambda: b""):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_gpg(monkeypatch):
    """Without the program that is said, with the mend."""
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(Problem, match="need the program gpg"), Keyring([], lambda: b""):
        pass


def test_without_the_agent(verona, monkeypatch, tmp_path):
    """Where gpg cannot keep a secret key, as here for want of a short name for its socket, that is said: it is
    not taken for a message of somebody else's."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
    (tmp_path / ("x" * 100)).mkdir()
    with (
        pytest.raises(Problem, match="does not take the secret key"),
        Keyring([verona.secret(R)], lambda: b""),
    ):
        pass
    assert list((tmp_path / ("x" * 100)).iterdir()) == []


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A function that puts a script in the place of gpg."""

    def put(script):
        path = tmp_path / "gpg"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return put


@pytest.mark.parametrize("says", ["", "[GNUPG:] IMPORT_RES 2 0 0 0 2 0 0 0 0 2 1 0 0 0 0"])
def test_not_all_secret_keys(verona, stand_in, says):
    """Where gpg takes only some of the secret keys of a file, or does not say, that is told."""
    path = verona.secret(R)
    stand_in(
        f"""while [ "$1" != --status-fd ]; do shift; done
        printf '[GNUPG:] IMPORT_OK 17 X\\n{says}\\n' > "/dev/fd/$2" """
    )
    with (
        pytest.raises(Problem, match="does not take the secret key"),
        Keyring([path], lambda: b""),
    ):
        pass


def test_a_program_that_hangs(verona, stand_in, monkeypatch):
    """A gpg that comes to no end is not waited for without end."""
    path = verona.secret(R)
    stand_in("exec sleep 600")
    monkeypatch.setattr(openpgp, "_PATIENCE", 0.1)
    with pytest.raises(Problem, match="gpg does not answer in"), Keyring([path], lambda: b""):
        pass
