"""The key of a mirror: whom it opens for, and for whom no more, whatever happens meanwhile."""

import base64
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from lxml import etree

from archive_crypt.crypto import opening
from archive_crypt.reader import files, keys, mirrorfile, mirrorkey, mirrors
from archive_crypt.reader.failures import Problem
from archive_crypt.reader.mirrordb import Mirror
from archive_crypt.reader.mirrorrows import Head
from tests.kit import LAPTOP, PHONE
from tests.reader.test_mirrordb import JULIET, message, told

ACCOUNT = "romeo@montague.lit"
BOTH = {LAPTOP.fingerprint, PHONE.fingerprint}
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Where mirrors and keys are."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def path(home):
    """The mirror's file."""
    return home / "data" / "archive-reader" / f"{ACCOUNT}.mirror"


@pytest.fixture
def key_path(path):
    """The file of its key."""
    return path.with_name(f"{path.name}.key")


def fill(*private_keys, confirmed=BOTH, size=20):
    """A mirror with something in it, which these keys open."""
    with mirrors.make(ACCOUNT, private_keys, confirmed) as mirror:
        mirror.note(told(JULIET), "1", None)
        said = [message(f"word {n} " * 2000, n) for n in range(size)]
        mirror.store(*mirror.pending(), Head(JULIET), said)


def opens(*private_keys):
    """How many messages they find there."""
    with mirrors.find(ACCOUNT, private_keys) as mirror:
        return len(mirror.search("word").get(1, ()))


def synced(*private_keys, confirmed):
    """What each sync does first."""
    mirrors.make(ACCOUNT, private_keys, confirmed).__exit__()


# Whom it opens for


def test_keys(path, key_path):
    """The key is random; each of the private keys that a mirror was made with, or synced with later, opens it,
    and no other."""
    fill(LAPTOP)
    (key,) = mirrorkey.load(key_path, [LAPTOP])
    assert len(key) == 32
    mirrors.make("juliet@capulet.lit", [LAPTOP], ()).__exit__()
    assert mirrorkey.load(path.with_name("juliet@capulet.lit.mirror.key"), [LAPTOP]) != [key]
    assert opens(PHONE, LAPTOP) == 20
    for use in (opens, partial(synced, confirmed=BOTH)):
        with pytest.raises(Problem, match="opens with none of your private keys: --key FILE names another"):
            use(PHONE)
    synced(LAPTOP, PHONE, confirmed=BOTH)
    assert opens(PHONE) == opens(LAPTOP) == 20
    content = key_path.read_bytes()
    synced(PHONE, confirmed=BOTH)
    assert key_path.read_bytes() == content
    assert mirrorkey.load(key_path, [PHONE, LAPTOP]) == [key]


def test_for_its_owner_only(path):
    """Nobody else may read any of the files, whatever others may read by default, nor see which there are."""
    old = os.umask(0)
    try:
        fill(LAPTOP, PHONE)
        synced(LAPTOP, confirmed={LAPTOP.fingerprint})
        with mirrors.find(ACCOUNT, [LAPTOP]):
            there = list(path.parent.iterdir())
            assert {file.stat().st_mode & 0o777 for file in there} == {0o600}
    finally:
        os.umask(old)
    assert path in there
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_only_confirmed_keys_are_let_in(key_path):
    """A private key that is not confirmed is not let in beside one that is; by itself it is."""
    fill(LAPTOP, PHONE, confirmed={LAPTOP.fingerprint})
    assert mirrorkey.names(key_path) == {LAPTOP.fingerprint}
    synced(LAPTOP, PHONE, confirmed={LAPTOP.fingerprint})
    assert mirrorkey.names(key_path) == {LAPTOP.fingerprint}
    synced(LAPTOP, PHONE, confirmed=())
    assert mirrorkey.names(key_path) == BOTH


@pytest.mark.parametrize(
    "damage", [lambda old: old[:-9], lambda old: b"", lambda old: old.replace(b"Value>", b"V>")]
)
def test_damaged_keys(key_path, damage):
    """A key file that is damaged is never replaced by another key."""
    fill(LAPTOP)
    content = damage(key_path.read_bytes())
    key_path.write_bytes(content)
    for use in (opens, partial(synced, confirmed=BOTH)):
        with pytest.raises(
            Problem,
            match="is damaged, and without it its mirror cannot be opened: move both away and sync again",
        ):
            use(LAPTOP)
    assert key_path.read_bytes() == content


def test_lost_keys(path, key_path):
    """A key file that is gone is never replaced by another key beside a mirror; what to do is said."""
    fill(LAPTOP)
    lost = key_path.read_bytes()
    key_path.unlink()
    for use in (opens, partial(synced, confirmed=BOTH)):
        with pytest.raises(Problem, match="does not exist, and without it .* bring it back from a backup"):
            use(LAPTOP)
        assert not key_path.exists()
    key_path.write_bytes(lost)
    assert opens(LAPTOP) == 20


def test_begun_and_killed(path, key_path):
    """A mirror with nothing in it yet is made anew without its key."""
    path.parent.mkdir(parents=True)
    path.touch()
    fill(LAPTOP)
    assert opens(LAPTOP) == 20


def test_no_key_to_make_it_for(home):
    """Without a private key there is no mirror: it is never in clear."""
    with pytest.raises(Problem, match="A mirror is encrypted for your own key"):
        synced(confirmed=BOTH)
    assert list(home.iterdir()) == []


def test_by_hand(key_path, tmp_path):
    """The key file is XML Encryption: its CipherValue is RSA-OAEP with SHA-256, as any tool opens it."""
    fill(LAPTOP)
    (value,) = etree.parse(key_path).iter("{http://www.w3.org/2001/04/xmlenc#}CipherValue")
    pem, wrapped, clear = tmp_path / "key.pem", tmp_path / "wrapped", tmp_path / "clear"
    pem.write_bytes(opening.dump(LAPTOP, None))
    wrapped.write_bytes(base64.b64decode(value.text))
    oaep = ("rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256")
    options = [word for one in oaep for word in ("-pkeyopt", one)]
    command = ["openssl", "pkeyutl", "-decrypt", "-inkey", pem, "-in", wrapped, "-out", clear, *options]
    subprocess.run(command, check=True)
    assert mirrorkey.load(key_path, [LAPTOP]) == [clear.read_bytes()]


# And for whom no more


def test_a_retired_key_is_shut_out(path, key_path):
    """A private key that is confirmed no more opens the mirror no more after the next sync: nor does what it
    opened before. All that was in the mirror is in it still."""
    fill(LAPTOP, PHONE)
    (stolen,) = mirrorkey.load(key_path, [PHONE])
    synced(LAPTOP, PHONE, confirmed={LAPTOP.fingerprint})
    with pytest.raises(Problem, match="opens with none of your private keys"):
        opens(PHONE)
    with pytest.raises(Problem, match="not of the key beside it"):
        Mirror(path, stolen)
    assert opens(LAPTOP) == 20
    content = key_path.read_bytes()
    synced(LAPTOP, PHONE, confirmed={LAPTOP.fingerprint})
    assert key_path.read_bytes() == content


@pytest.mark.parametrize("confirmed", [set(), {"of another device"}])
def test_no_confirmed_key_at_hand(path, key_path, confirmed):
    """Without a confirmed key at hand nobody is shut out, as nobody could be sure to get in again."""
    fill(LAPTOP, PHONE)
    before = key_path.read_bytes(), path.read_bytes()
    synced(LAPTOP, confirmed=confirmed)
    assert (key_path.read_bytes(), path.read_bytes()) == before


@pytest.mark.parametrize("known", [True, False])
def test_a_confirmed_key_that_is_not_at_hand(key_path, known):
    """When another is shut out, a confirmed key still opens the mirror if its public half is in the user's
    folder; else it does again after a sync with it."""
    third = opening.generate(2048)
    confirmed = {LAPTOP.fingerprint, third.fingerprint}
    fill(LAPTOP, PHONE, third, confirmed=BOTH | confirmed)
    if known:
        keys.store(files.folder() / "third.pem", opening.dump(third, b"secret"), third)
    synced(LAPTOP, confirmed=confirmed)
    assert mirrorkey.names(key_path) == (confirmed if known else {LAPTOP.fingerprint})
    synced(LAPTOP, third, confirmed=confirmed)
    assert opens(third) == opens(LAPTOP) == 20


def test_while_it_is_in_use(path, key_path):
    """While another program has the mirror open it cannot get another key: that is told, and nothing done."""
    fill(LAPTOP, PHONE)
    before = key_path.read_bytes()
    with mirrors.find(ACCOUNT, [PHONE]) as reading:
        with pytest.raises(Problem, match="is in use by another archive-reader: try again"):
            synced(LAPTOP, confirmed={LAPTOP.fingerprint})
        assert len(reading.search("word")[1]) == 20
    assert key_path.read_bytes() == before
    synced(LAPTOP, confirmed={LAPTOP.fingerprint})
    assert mirrorkey.names(key_path) == {LAPTOP.fingerprint}


# Killed

#: A sync's beginning, in a process of its own: the mirror's file of keys, and the key that is confirmed.
BEGIN = """
import os, resource, signal, sys
from archive_crypt.crypto import opening
from archive_crypt.reader import files, mirrors

account, pem, *rest = sys.argv[1:]
key = opening.load(open(pem, "rb").read(), None)
"""
END = """
mirrors.make(account, [key], {key.fingerprint})
"""
#: Killed just before, or after, the file of keys is written for the nth time.
WRITING = """
when, number = rest
write, left = files.replace, int(number)

def replace(path, content):
    global left
    left -= 1
    if left == 0 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

files.replace = replace
"""
#: Killed by the kernel when a file grows larger than so many octets.
GROWING = """
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(rest[0]), int(rest[0])))
"""


def killed(home, how, *arguments):
    """A sync that is killed; by which signal."""
    pem = home / "laptop.pem"
    pem.write_bytes(opening.dump(LAPTOP, None))
    command = [sys.executable, "-c", BEGIN + how + END, ACCOUNT, pem, *map(str, arguments)]
    return -subprocess.run(command, cwd=ROOT, timeout=60).returncode


def changed(before, after):
    """How many pages of a mirror are others."""
    assert len(before) == len(after)
    return sum(before[n : n + 4096] != after[n : n + 4096] for n in range(0, len(before), 4096))


def whole_again(path, key_path, stolen):
    """However it was left: it opens, nothing is lost, and the next sync shuts the other key out."""
    assert opens(LAPTOP) == 400
    synced(LAPTOP, confirmed={LAPTOP.fingerprint})
    assert mirrorkey.names(key_path) == {LAPTOP.fingerprint}
    assert len(mirrorkey.load(key_path, [LAPTOP])) == 1
    with pytest.raises(Problem, match="not of the key beside it"):
        Mirror(path, stolen)
    assert opens(LAPTOP) == 400


@pytest.mark.parametrize(
    ("when", "number", "left"), [("before", 1, 1), ("after", 1, 2), ("before", 2, 2), ("after", 2, 1)]
)
def test_killed_beside_the_change(home, path, key_path, when, number, left):
    """A sync that is killed before, between, or after it writes the new key and encrypts the mirror with it
    leaves a mirror that opens, and the next sync completes it."""
    fill(LAPTOP, PHONE, size=400)
    (stolen,) = mirrorkey.load(key_path, [PHONE])
    assert killed(home, WRITING, when, number) == signal.SIGKILL
    assert len(mirrorkey.load(key_path, [LAPTOP])) == left
    whole_again(path, key_path, stolen)


def test_two_keys_and_in_use(home, monkeypatch):
    """Where a kill left two keys, a mirror that is in use is not taken for one of another key."""
    monkeypatch.setattr(mirrorfile, "_PATIENCE", 0)
    fill(LAPTOP, PHONE)
    assert killed(home, WRITING, "after", 1) == signal.SIGKILL
    in_use = pytest.raises(Problem, match="is in use by another archive-reader: try again")
    with mirrors.find(ACCOUNT, [LAPTOP]) as writing, writing._file.writing(), in_use:
        opens(LAPTOP)


@pytest.mark.parametrize("use", [opens, partial(synced, confirmed=BOTH)])
def test_killed_and_another_key_at_hand(path, key_path, use):
    """Where a kill left two keys, and the key at hand opens only that which the mirror did not get any more,
    the advice is to give the other, and not to move the mirror away; nothing is changed."""
    fill(LAPTOP)
    mirrorkey.add(key_path, bytes(mirrorkey.SIZE), [PHONE.public()])
    before = path.read_bytes(), key_path.read_bytes()
    with pytest.raises(Problem, match="give the others, too, with which you synced before .--key FILE"):
        use(PHONE)
    assert (path.read_bytes(), key_path.read_bytes()) == before
    assert opens(LAPTOP) == opens(PHONE, LAPTOP) == 20


def test_killed_while_it_is_encrypted_anew(home, path, key_path):
    """The same where a part of the mirror is encrypted with the new key already; nothing is left in clear."""
    fill(LAPTOP, PHONE, size=400)
    (stolen,) = mirrorkey.load(key_path, [PHONE])
    before, size = path.read_bytes(), path.stat().st_size
    assert killed(home, GROWING, size * 3 // 4) == signal.SIGXFSZ
    assert path.with_name(f"{path.name}-journal").exists()
    assert changed(before, path.read_bytes()) > 1  # the first says that there is no WAL any more
    assert all(b"word 1 word 1 word 1" not in file.read_bytes() for file in path.parent.iterdir())
    whole_again(path, key_path, stolen)


def test_no_room_to_encrypt_it_anew(home, path, key_path):
    """Where the disk is full that is told, and the mirror is as it was."""
    fill(LAPTOP, PHONE, size=400)
    (stolen,) = mirrorkey.load(key_path, [PHONE])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size * 3 // 4, hard))
    try:
        with pytest.raises(
            Problem, match="cannot be encrypted with another key: see whether the disk is full"
        ):
            synced(LAPTOP, confirmed={LAPTOP.fingerprint})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert opens(PHONE) == 400
    whole_again(path, key_path, stolen)
