"""Key files: private from their first moment, never overwritten, read with a hint for every mishap."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.crypto import opening
from archive_crypt.reader import cli, files, keys
from archive_crypt.reader.failures import Problem
from tests.kit import LAPTOP
from tests.reader.terminal import AtTerminal

ROOT = Path(__file__).parents[2]


def never(path):
    """A passphrase that is not asked for."""
    raise AssertionError(path)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_pair_is_made(tmp_path):
    """Two files: the private one for its owner's eyes only; both give the same public key."""
    path = tmp_path / "new" / "folder" / "key.pem"
    old = os.umask(0)
    try:
        pair = keys.create(path, 2048, b"secret")
    finally:
        os.umask(old)
    assert (mode(path), mode(path.parent), mode(pair.public)) == (0o600, 0o700, 0o644)
    assert pair.public == path.with_name("key.pem.pub")
    assert keys.load_private(path, lambda _: b"secret").public().name == pair.fingerprint
    assert keys.load_public(path, lambda _: b"secret").name == pair.fingerprint
    assert keys.load_public(pair.public, never).name == pair.fingerprint


def test_openssl_reads_the_public_half(tmp_path):
    """The public file is one like any other."""
    pair = keys.create(tmp_path / "key.pem", 2048, None)
    command = ["openssl", "pkey", "-in", pair.private, "-pubout"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == pair.public.read_bytes()


@pytest.mark.parametrize("taken", ["key.pem", "key.pem.pub"])
@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("/nonexistent/elsewhere")])
def test_no_file_is_overwritten(tmp_path, taken, make):
    """Neither half replaces a file, nor follows a link that leads nowhere."""
    make(tmp_path / taken)
    with pytest.raises(Problem, match=f"{taken} exists already"):
        keys.create(tmp_path / "key.pem", 2048, None)
    assert os.listdir(tmp_path) == [taken]


def test_no_file_is_overwritten_that_appears_meanwhile(tmp_path):
    """Between the look and the writing another's file is safe as well."""
    path = tmp_path / "key.pem"
    path.write_text("precious")
    with pytest.raises(Problem, match="File exists"):
        files.create(path, b"other", 0o600)
    assert path.read_text() == "precious"


def test_bits(tmp_path):
    """A key that no server would take is not made."""
    with pytest.raises(Problem, match="2048 to 8192"):
        keys.create(tmp_path / "key.pem", 1024, None)


def test_a_key_is_written_whole_or_not_at_all(tmp_path):
    """Where there is no room for it, that is said, and no half of a key is left."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(Problem, match=f"key.pem cannot be written: {os.strerror(errno.EFBIG)}"):
            keys.create(tmp_path / "key.pem", 2048, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    """A path through a file is told by its name."""
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match="file/key.pem cannot be made: "):
        keys.create(tmp_path / "file" / "key.pem", 2048, None)


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    """Missing, a folder, no key, the wrong passphrase, a damaged public key: one line with the file's name each."""
    private = tmp_path / "key.pem"
    private.write_bytes(opening.dump(LAPTOP, b"secret"))
    public, other = tmp_path / "key.pem.pub", tmp_path / "other"
    other.write_text("hello")
    cases = [
        (tmp_path / "none", "none does not exist. archive-reader keygen"),
        (tmp_path, "Is a directory"),
        (other, "other: This is no private key"),
        (private, "key.pem: The passphrase is wrong"),
    ]
    for body in ("", "AAAA", "?"):
        public.write_text(f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
        with pytest.raises(Problem, match="key.pem.pub: "):
            keys.load_public(public, never)
    for path, text in cases:
        for load in (keys.load_private, keys.load_public):
            with pytest.raises(Problem, match=text):
                load(path, lambda _: b"wrong")


def test_the_default_path(monkeypatch):
    """XDG_CONFIG_HOME is heeded if it is absolute, as its specification has it."""
    monkeypatch.setenv("HOME", "/home/romeo")
    for value, expected in (
        ("/conf", "/conf/archive-reader/key.pem"),
        ("conf", "/home/romeo/.config/archive-reader/key.pem"),
        ("", "/home/romeo/.config/archive-reader/key.pem"),
    ):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert str(keys.default_path()) == expected


# The command.


@ensureDeferred
async def test_keygen(reader, environment, tmp_path):
    """The key goes to its default place, under the passphrase that was given; the fingerprint is told."""
    environment.setenv(cli.PASSPHRASE, "secret")
    done = await reader("keygen", "--bits", 2048)
    path = tmp_path / "config" / "archive-reader" / "key.pem"
    name = keys.load_private(path, lambda _: b"secret").public().name
    assert done.code == 0
    assert name in done.out
    assert "archive-reader enable" in done.out
    again = await reader("keygen")
    assert (again.code, again.out) == (1, "")
    assert (
        again.err
        == f"archive-reader: {path} exists already, and no key is ever overwritten. Choose another with --out.\n"
    )


@ensureDeferred
async def test_keygen_for_programs(reader, tmp_path):
    """With --json there is one object, and nothing else; the passphrase comes from a file's first line."""
    secret = tmp_path / "secret"
    secret.write_text("from a file\nnot this\n")
    done = await reader(
        "keygen", "--json", "--out", tmp_path / "k", "--bits", 2048, "--passphrase-file", secret
    )
    (made,) = done.lines
    assert (done.code, done.err) == (0, "")
    assert made["passphrase"] is True
    assert keys.load_public(Path(made["private"]), lambda _: b"from a file").name == made["fingerprint"]
    assert made["public"] == f"{tmp_path}/k.pub"


@pytest.mark.parametrize("content", [b"", b"\n", None, b"\xff\n"])
@ensureDeferred
async def test_a_passphrase_file_without_a_passphrase(reader, tmp_path, content):
    """An empty passphrase, or a file that cannot be read, makes no key: certainly none in clear."""
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    done = await reader("keygen", "--out", tmp_path / "k", "--passphrase-file", secret)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(("second", "code"), [(b"secret", 0), (b"secrte", 1)])
def test_the_passphrase_is_asked_twice(tmp_path, second, code):
    """At the terminal it is typed twice, unseen; two different ones make no key."""
    path = tmp_path / "key.pem"
    shell = AtTerminal("keygen", "--bits", 2048, "--out", path)
    shell.types(b"secret", after=b"key.pem: ")
    shell.types(second, after=b"again: ")
    ended, out, err = shell.ends()
    assert ended == code, err
    assert path.exists() == (code == 0)
    assert b"secr" not in out + err


def test_a_question_can_be_interrupted(tmp_path):
    """Ctrl-C at a prompt ends the program at once, without a traceback, and with nothing done."""
    path = tmp_path / "key.pem"
    shell = AtTerminal("keygen", "--out", path)
    shell.sees(b"key.pem: ")
    shell.process.send_signal(signal.SIGINT)
    ended, out, err = shell.ends()
    assert (ended, out) == (130, b"")
    assert b"Traceback" not in err
    assert not path.exists()


def test_without_terminal_nothing_is_asked(tmp_path):
    """Where there is nobody to ask, that is said, and nothing is read in clear from anywhere."""
    path = tmp_path / "key.pem"
    done = subprocess.run(
        [sys.executable, "-m", "archive_crypt.reader.cli", "keygen", "--out", path],
        input=b"secret\nsecret\n",
        capture_output=True,
        start_new_session=True,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("ARCHIVE_")},
    )
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1
    assert b"give --passphrase-file FILE or ARCHIVE_READER_PASSPHRASE" in done.stderr
    assert not path.exists()
