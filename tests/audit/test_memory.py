"""The search: it finds what is there, however it lies, and counts copies; it sees what the server's memory holds."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.audit import launcher, memory
from archive_crypt.audit.memory import Needles, Place, Sight
from archive_crypt.audit.words import GAP, Marker
from archive_crypt.crypto import lockedmem
from tests.crypto.kit import ROOT, law

KEY, OTHER = ("key", 0), ("key", 1)


@law
@given(st.binary(max_size=100), st.binary(min_size=15, max_size=40), st.binary(max_size=100), st.data())
def test_a_needle_is_found_wherever_it_lies(before, needle, after, data):
    """Whatever stands before and after it, aligned or not, a needle is found, and its kind told."""
    needles = Needles({KEY: [needle], OTHER: [b"nobody has ever put this here"]})
    assert needles.that_may_be_in(before + needle + after) == {(KEY, needle)}


def test_across_what_is_read_at_once(tmp_path, monkeypatch):
    """What lies across two parts of a file is found once."""
    monkeypatch.setattr(memory, "_CHUNK", 4096)
    needle = os.urandom(32)
    path = tmp_path / "core"
    path.write_bytes(bytes(4096 * 3 - 7) + needle + bytes(4096))
    sight = memory.search_file(path, Needles({KEY: [needle]}))
    assert [place.address for place in sight.places[KEY]] == [4096 * 3 - 7]


def test_pieces_that_stand_together_are_one_copy():
    """Hits near each other are one copy of one thing; pages for keys are counted apart."""
    places = [Place(address, "", False) for address in (1000, 1016, 1032, 5000)]
    sight = Sight({KEY: [*places, Place(9000, "", True)], OTHER: [Place(1040, "", False)]})
    assert sight.copies("key", GAP, for_keys=False) == 3
    assert sight.copies("key", GAP, for_keys=True) == 1
    assert sight.copies("text", GAP, for_keys=False) == 0


@contextmanager
def holding(*options):
    """The pid of a process with a secret in a key page and another in plain memory, and these secrets."""
    script = """
import os, sys
from archive_crypt.crypto import lockedmem
page, plain = lockedmem.new_page(), os.urandom(16)
with page.slot(3)[:16] as slot:
    slot[:] = bytes(octet ^ 255 for octet in plain)
print(plain.hex(), page.kind, flush=True)
sys.stdin.readline()
"""
    launch = [
        sys.executable,
        "-m",
        "archive_crypt.audit.launcher",
        *options,
        "--",
        sys.executable,
        "-c",
        script,
    ]
    with subprocess.Popen(
        launch, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        plain, kind = process.stdout.readline().split()
        octets = bytes.fromhex(plain)
        yield process.pid, kind, octets, bytes(octet ^ 255 for octet in octets)
        process.stdin.close()


def test_pages_for_keys_are_told_from_other_memory():
    """As on a kernel without memfd_secret a key is found in its page, which is known for one; what lies elsewhere, elsewhere."""
    with holding(launcher.NO_MEMFD_SECRET) as (pid, kind, plain, key):
        sight = memory.search_process(pid, Needles({("plain", 0): [plain], KEY: [key]}))
    assert kind == lockedmem.LOCKED
    assert sight.copies("key", GAP, for_keys=True) == 1
    assert sight.copies("plain", GAP, for_keys=True) == 0
    assert sight.copies("plain", GAP, for_keys=False) > 0
    assert sight.hidden == []


@pytest.mark.usefixtures("memfd_secret")
def test_what_cannot_be_read_is_said():
    """A page of memfd_secret cannot be searched, and that is told."""
    with holding() as (pid, kind, _, key):
        sight = memory.search_process(pid, Needles({KEY: [key]}))
    assert kind == lockedmem.SECRET
    assert ["secretmem" in name for name in sight.hidden] == [True]


def test_who_is_not_root_can_look_into_his_own_namespace():
    """A process that lets nobody look in can be searched by whoever began it in a user namespace, root or not."""
    script = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); print('shut', flush=True); input()"
    probe = f"""
import ctypes, os, sys
from archive_crypt.audit import launcher, memory
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as if it had never been root
(out, told), (hold, _) = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    os.dup2(hold, 0); os.dup2(told, 1)
    sys.argv = ["launcher", launcher.OWN_USERS, "--", "/usr/bin/python3", "-c", {script!r}]
    try:
        launcher.main()
    finally:
        os._exit(1)
os.close(told)
if os.read(out, 5) != b"shut\\n":
    sys.exit(77)
print(memory.search_process(pid, memory.Needles({{}})).octets)
os.kill(pid, 9)
"""
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=30)
    if done.returncode == 77:
        pytest.skip("user namespaces are not for everybody here")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1_000_000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-32-le"])
def test_words_are_found_in_any_encoding(encoding):
    """Each text is found, as one copy, in all that Python and XML make of it, hexadecimal and base64 included."""
    import base64
    from xml.sax.saxutils import escape

    marker = Marker()
    needles = Needles({("text", 0): marker.needles})
    for text in marker.texts():
        forms = [text.encode(encoding), escape(text).encode(encoding)]
        if encoding == "utf-8":
            forms += [text.encode().hex().encode(), base64.b64encode(text.encode())]
        for form in forms:
            sight = Sight()
            memory._search(sight, b"\0" * 1001 + form, 0, Place(0, "", False), needles)
            assert sight.copies("text", GAP, for_keys=False) == 1, form[:100]
