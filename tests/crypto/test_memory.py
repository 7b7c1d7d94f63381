"""The proof: a process that uses data keys as the server does leaves none of them in its memory.

A child uses keys and stops at marks; this process alone holds the private key, learns the data
key by it from what the child wrapped, and searches all the child's memory. The child never sees
the key but in its page, and is never sent it.
"""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from archive_crypt.crypto import envelope, opening

from .kit import ROOT, environment
from .memory_scan import key_forms, look, message_forms

NOTHING = {}
ONCE = {"key": 1, "first half": 1, "second half": 1}
#: Each way to seal and to wrap once; the first is the one in use unless configured otherwise.
WAYS = [
    (envelope.AES256_GCM, envelope.RSA_OAEP),
    (envelope.AES128_GCM, envelope.RSA_OAEP_MGF1P),
    (envelope.AES256_CBC, envelope.RSA_1_5),
    (envelope.AES128_CBC, envelope.RSA_OAEP),
]


class Child:
    """A process of memory_child, stopped at a mark."""

    def __init__(self, private_key, process, wrap):
        self._process = process
        self._say(private_key.public().der.hex())
        self._at("alive")
        self.wrapped = bytes.fromhex(self._octets)
        data_key = opening.unwrap(private_key, wrap, self.wrapped)
        self.forms = key_forms(data_key) | message_forms(private_key, self.wrapped)

    def look(self):
        """What is seen of the data key in the whole memory of the child."""
        try:
            return look(self._process.pid, self.forms)
        except PermissionError:
            pytest.skip("The kernel lets nobody read the memory of a child (ptrace_scope).")

    def go_on(self, mark):
        """Let it run to its next mark."""
        self._say("")
        self._at(mark)

    def _say(self, line):
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _at(self, mark):
        reached, self._octets = self._process.stdout.readline().rstrip("\n").split(" ")
        assert reached == mark


@contextmanager
def child(private_key, *arguments, wrap=envelope.RSA_OAEP):
    command = [sys.executable, "-m", "tests.crypto.memory_child", *arguments]
    with subprocess.Popen(
        command,
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Child(private_key, process, wrap)
        finally:
            process.kill()


def test_the_search_finds_a_key_that_is_kept_the_plain_way(private_key):
    """Positive control: key in `bytes`, AESGCM kept: the key, every round key and the encoded message show."""
    with child(private_key, "octets") as process:
        found = process.look().found
    expected = {"key", "first half", "second half", "encoded message"}
    assert expected | {f"round key {number}" for number in range(2, 15)} <= set(found)


@pytest.mark.clause("0241-3-09", "0241-3-10")
@pytest.mark.usefixtures("memfd_secret")
@pytest.mark.parametrize(("seal", "wrap"), WAYS)
def test_a_key_in_secret_memory_is_never_seen(private_key, seal, wrap):
    """With memfd_secret not one form of the key is seen, alive or destroyed; only its page is hidden."""
    with child(private_key, "ring", "memfd_secret", seal, wrap, wrap=wrap) as process:
        alive = process.look()
        process.go_on("destroyed")
        destroyed = process.look()
    assert (alive.found, destroyed.found) == (NOTHING, NOTHING)
    assert ["secretmem" in name for name in alive.hidden] == [True]
    assert alive.octets > 10_000_000


@pytest.mark.clause("0241-3-09", "0241-3-10")
@pytest.mark.parametrize(("seal", "wrap"), WAYS)
def test_a_key_in_locked_memory_is_there_once_and_then_gone(private_key, seal, wrap):
    """With mlock the key is seen in its slot and nowhere else; destroyed, it is nowhere."""
    with child(private_key, "ring", "mlock", seal, wrap, wrap=wrap) as process:
        alive = process.look()
        process.go_on("destroyed")
        destroyed = process.look()
    assert (alive.found, destroyed.found) == (ONCE, NOTHING)
    assert alive.hidden == destroyed.hidden == []


@pytest.mark.parametrize("kind", ["memfd_secret", "mlock"])
def test_keys_of_many_conversations_leave_nothing(private_key, request, kind):
    """Hundreds of keys come and go on several pages, and one wrap fails: of the key we know nothing is left."""
    if kind == "memfd_secret":
        request.getfixturevalue("memfd_secret")
    with child(private_key, "crowd", kind) as process:
        alive = process.look()
        process.go_on("destroyed")
        destroyed = process.look()
        process.go_on("closed")
        closed = process.look()
    assert alive.found == (ONCE if kind == "mlock" else NOTHING)
    assert (destroyed.found, closed.found) == (NOTHING, NOTHING)
    assert closed.hidden == []
