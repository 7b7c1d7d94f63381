"""Keys on paper: what was printed comes back octet by octet, and each slip is told by its line."""

import contextlib
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.crypto import opening
from archive_crypt.reader import recovery
from archive_crypt.reader.recovery import CannotRestore
from tests.kit import LAPTOP
from tests.reader.kit import law

NAME = LAPTOP.public().name
SEALED, CLEAR = opening.dump(LAPTOP, b"secret"), opening.dump(LAPTOP, None)
PAPER = recovery.write(SEALED, NAME)
KEY_LINES = [line for line in PAPER.splitlines() if re.match(r"\d", line)]


@pytest.mark.parametrize("pem", [SEALED, CLEAR, opening.dump(opening.generate(4096), b"x")])
def test_back_as_it_was(pem):
    """The very file comes back, and the fingerprint; it fits a page's width."""
    paper = recovery.write(pem, NAME)
    assert recovery.read(paper) == (recovery.Restored(pem, NAME))
    assert max(map(len, paper.splitlines())) <= 80


@pytest.mark.parametrize("pem", [SEALED, CLEAR])
def test_the_paper_says_what_guards_it(pem):
    """Whether a passphrase guards the paper is in its first lines, and no secret but the key is on it."""
    head = recovery.write(pem, NAME).partition("-----BEGIN")[0]
    assert ("opens with its passphrase only" in head) == (pem is SEALED)
    assert ("WITHOUT a passphrase" in head) == (pem is CLEAR)
    assert "secret" not in head


def test_by_hand(tmp_path):
    """Without this program: numbers, checks and spaces taken off, openssl reads the key."""
    script = r"s|^ *[0-9]+/[0-9]+ +([^ ].*[^ ]) +[0-9a-f]{4}$|\1|p; /^-----/p"
    middle = subprocess.run(["sed", "-nE", script], input=PAPER, capture_output=True, text=True, check=True)
    lines = [line if line.startswith("-") else line.replace(" ", "") for line in middle.stdout.splitlines()]
    command = ["openssl", "pkey", "-passin", "pass:secret"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    assert done.stdout.encode() == CLEAR


@given(st.randoms(use_true_random=False))
@law
def test_as_people_type(random):
    """Spaces, empty lines, notes in the margin, other upper case in checks and lines in any order do no harm."""
    lines = PAPER.splitlines()
    random.shuffle(lines)
    typed = []
    for line in lines:
        if line in KEY_LINES:
            number, *groups, check = line.split()
            gaps = [random.choice(["", " ", "  "]) for _ in groups]
            line = f" {number} {''.join(map(str.__add__, groups, gaps))}\t {check.upper()} "
        typed += [line, *random.choice([[], [""], ["three pages, 2026"]])]
    assert recovery.read("\r\n".join(typed)).pem == SEALED


@given(st.data())
@law
def test_a_slip_is_told_by_its_line(data):
    """One wrong character, anywhere in a line's groups, is found, and the line is named."""
    number = data.draw(st.integers(1, len(KEY_LINES)))
    line = KEY_LINES[number - 1]
    at = data.draw(st.sampled_from([n for n, c in enumerate(line[7:-4], 7) if c != " "]))
    other = data.draw(st.sampled_from([c for c in "AZaz059+/?é" if c != line[at]]))
    text = PAPER.replace(line, line[:at] + other + line[at + 1 :])
    with pytest.raises(CannotRestore, match=rf"^Line {number} of {len(KEY_LINES)}: missing or wrong"):
        recovery.read(text)


def test_lines_that_changed_places_are_told():
    """A line under another's number is wrong, however right it is by itself."""
    one, two = KEY_LINES[4], KEY_LINES[5]
    text = PAPER.replace(one, one[:2].replace("05", "06") + one[2:]).replace(two, "05" + two[2:])
    with pytest.raises(CannotRestore, match="^Lines 5, 6 of"):
        recovery.read(text)


def test_what_is_missing_is_told():
    """Each missing line is named; of very many the first."""
    text = "\n".join(line for line in PAPER.splitlines() if line not in KEY_LINES[-2:])
    with pytest.raises(CannotRestore, match=f"^Lines {len(KEY_LINES) - 1}, {len(KEY_LINES)} of"):
        recovery.read(text)
    text = "\n".join(line for line in PAPER.splitlines() if line not in KEY_LINES[1:])
    with pytest.raises(CannotRestore, match=f"20, 21 and {len(KEY_LINES) - 21} more of"):
        recovery.read(text)


def test_lines_of_another_paper_are_told():
    """A line of a longer key's paper does not pass for one of this."""
    other = recovery.write(opening.dump(opening.generate(3072), b"x"), NAME).splitlines()
    text = PAPER.replace(KEY_LINES[2], next(line for line in other if line.startswith("03/")))
    with pytest.raises(CannotRestore, match="^Line 3 of"):
        recovery.read(text)


def test_a_line_typed_twice():
    """Twice the same does no harm; once wrong and once right has to be looked at."""
    assert recovery.read(f"{PAPER}\n{KEY_LINES[3]}").pem == SEALED
    with pytest.raises(CannotRestore, match="^Line 4 of"):
        recovery.read(f"{PAPER}\n{KEY_LINES[3][:8]}?{KEY_LINES[3][9:]}")


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "There is no line -----BEGIN ENCRYPTED PRIVATE KEY-----"),
        ("\n".join(KEY_LINES), "There is no line -----BEGIN"),
        (PAPER + CLEAR.decode(), "There is no line -----BEGIN"),
        (SEALED.decode(), "There are no numbered lines"),
        (PAPER.partition("01/")[0], "There are no numbered lines"),
    ],
)
def test_what_is_no_paper(text, advice):
    """What lacks its first line, has two, or is another kind of text is no key."""
    with pytest.raises(CannotRestore, match=advice):
        recovery.read(text)


@given(st.text() | st.lists(st.sampled_from([*PAPER.splitlines(), "07/09  AAAA  ffff", "999/999 A AAAA"])))
@law
def test_any_text_is_read_or_refused(text):
    """Whatever the text is, there is a key or an advice, never anything else."""
    text = text if isinstance(text, str) else "\n".join(text)
    with contextlib.suppress(CannotRestore):
        assert recovery.read(text).pem


def test_no_key_is_not_printed():
    """Only a private key in PKCS #8 is made a paper of."""
    for pem in (b"", b"x", CLEAR + CLEAR, CLEAR.replace(b"PRIVATE", b"PUBLIC"), CLEAR[:-10]):
        with pytest.raises(ValueError, match="PKCS #8"):
            recovery.write(pem, NAME)
