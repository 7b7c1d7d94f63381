"""What options leave out: keys from the user's folder, secrets from his keyring."""

import subprocess
import sys
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked
from pytest_twisted import ensureDeferred

from archive_crypt.crypto import opening
from archive_crypt.reader import cli, files, keys, trust
from tests.kit import LAPTOP, PHONE
from tests.reader.conftest import DOMAIN, USERS

ROOT = Path(__file__).parents[2]
ROMEO = f"romeo@{DOMAIN}"


def put(name, key, passphrase=None):
    """A private key, in the user's folder."""
    path = files.folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(opening.dump(key, passphrase))
    path.chmod(0o600)
    return path


def texts(done):
    return [line["bodies"][0]["text"] if line["bodies"] else None for line in done.lines]


class Desktop(KeyringBackend):
    """The keyring of a desktop that is running."""

    priority = 1

    def __init__(self, locked=False):
        super().__init__()
        self.kept, self.locked = {}, locked

    def get_password(self, service, username):
        if self.locked:
            raise KeyringLocked
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        self.kept[service, username] = password


@pytest.fixture
def desktop(environment):
    before, found = keyring.get_keyring(), Desktop()
    keyring.set_keyring(found)
    yield found
    keyring.set_keyring(before)


@ensureDeferred
async def test_all_keys_of_the_folder(served, reader):
    """Without --key every private key of the folder opens what it can, also those that are not key.pem."""
    await served.record("for the laptop", keys=[LAPTOP])
    await served.record("for the phone", keys=[PHONE])
    put("old.pem", PHONE)
    put("key.pem", LAPTOP)
    done = await reader("read", ROMEO, "--json", at=served)
    assert (done.code, done.err) == (0, "")
    assert sorted(texts(done)) == ["for the laptop", "for the phone"]


@ensureDeferred
async def test_a_key_that_cannot_be_had_is_left_out(served, reader, environment):
    """Of the folder's keys one that cannot be opened is named and left out; without any other it ends the
    command, and one that was given always does."""
    await served.record("for the laptop", keys=[LAPTOP])
    put("key.pem", LAPTOP)
    old = put("old.pem", PHONE, b"forgotten")
    environment.setenv(cli.PASSPHRASE, "secret")
    done = await reader("read", ROMEO, "--json", at=served)
    assert (done.code, texts(done)) == (0, ["for the laptop"])
    assert f"{old}: The passphrase is wrong" in done.err
    assert "It is left out." in done.err
    given = await reader("read", ROMEO, "--key", old, at=served)
    assert (given.code, given.out) == (1, "")
    keys.default_path().unlink()
    done = await reader("read", ROMEO, at=served)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)


@ensureDeferred
async def test_encrypted_for_confirmed_keys(served, reader):
    """Without --key what is archived is encrypted for the confirmed ones of the folder only."""
    put("key.pem", LAPTOP)
    put("phone.pem", PHONE)
    done = await reader("enable", ROMEO, at=served)
    assert done.code == 1
    assert f"{keys.default_path()} is not confirmed to be yours: archive-reader keys confirm" in done.err
    trust.confirm(trust.default_path(), [PHONE.public().name])
    (told,) = (await reader("enable", ROMEO, "--json", at=served)).lines
    assert [key["fingerprint"] for key in told["keys"]] == [PHONE.public().name]
    trust.confirm(trust.default_path(), [LAPTOP.public().name])
    (told,) = (await reader("enable", ROMEO, "--json", at=served)).lines
    assert [key["fingerprint"] for key in told["keys"]] == [LAPTOP.public().name, PHONE.public().name]


@pytest.mark.clause("0241-2-05")
@ensureDeferred
async def test_a_key_given_must_be_confirmed(served, reader, tmp_path):
    """Nothing is encrypted for a key that is not confirmed, also if it is given by its file: here or there."""
    path = put("key.pem", LAPTOP)
    for command in (("enable", ROMEO), ("save", ROMEO, tmp_path / "letters.jsonl")):
        done = await reader(*command, "--key", path, at=served)
        assert (done.code, done.out) == (1, "")
        assert f"{path} is not confirmed to be yours: archive-reader keys confirm {path}" in done.err


@ensureDeferred
async def test_from_the_keyring(served, reader, environment, desktop):
    """Password and passphrase come from the desktop's keyring, under the account and the file's path."""
    await served.record("for the laptop", keys=[LAPTOP])
    path = put("key.pem", LAPTOP, b"secret")
    environment.delenv(cli.PASSWORD)
    keyring.set_password("archive-reader", ROMEO, USERS["romeo"])
    keyring.set_password("archive-reader", str(path), "secret")
    done = await reader("read", f"{ROMEO}/study", "--json", at=served)
    assert (done.code, texts(done)) == (0, ["for the laptop"])


@ensureDeferred
async def test_what_is_given_comes_first(served, reader, environment, desktop):
    """A secret in the environment is used even if the keyring has another."""
    path = put("key.pem", LAPTOP, b"secret")
    desktop.kept = {("archive-reader", ROMEO): "stale", ("archive-reader", str(path)): "stale"}
    environment.setenv(cli.PASSPHRASE, "secret")
    assert (await reader("read", ROMEO, at=served)).code == 0


@pytest.mark.parametrize(
    "keyrings",
    [
        "import sys; sys.modules['keyring'] = None",
        "import keyring; from keyring.backends.fail import Keyring; keyring.set_keyring(Keyring())",
        "import keyring; from tests.reader.test_given import Desktop; keyring.set_keyring(Desktop())",
        "import keyring; from tests.reader.test_given import Desktop; keyring.set_keyring(Desktop(locked=True))",
    ],
    ids=["not installed", "none", "not in it", "locked"],
)
def test_without_keyring(keyrings):
    """Where no keyring has the secret the user is asked, here in vain, as there is no terminal."""
    script = (
        f"{keyrings}; from archive_crypt.reader import cli; raise SystemExit(cli.main(['list', '{ROMEO}']))"
    )
    environment = {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"archive-reader: Password of {ROMEO}: there is no terminal to ask at; "
        "give --password-file FILE or ARCHIVE_READER_PASSWORD.\n"
    )
