"""A private key as text for paper, and back: its PEM file in numbered lines, each with a check of its own,
so that what was mistyped or misread is found by its line. Pure.

Without this program the paper is a PEM file still, once numbers, spaces and checks are taken off.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

#: Characters of a group; groups of a line: 77 columns with number and check.
_GROUP, _GROUPS = 4, 13
#: Hexadecimal digits of a line's check: one slip in 65,536 goes unseen, and then the key does not open.
_CHECK = 4
#: Wrong lines that are named at once.
_NAMED = 20

_KINDS = ("ENCRYPTED PRIVATE KEY", "PRIVATE KEY")  # of PKCS #8 (RFC 7468, 10 and 11)
_LINE = re.compile(rf"\s*(\d{{1,3}})/(\d{{1,3}})\s+(\S.*?)\s+(\S{{{_CHECK}}})\s*")
_FINGERPRINT = re.compile(r"\s*fingerprint:\s*(\S{44})\s*", re.IGNORECASE)


class CannotRestore(ValueError):
    """The text holds no key, or not all of it; it says where to look."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A PEM file that was on paper, and the fingerprint beside it; None: that was not given."""

    pem: bytes
    fingerprint: str | None


def write(pem: bytes, fingerprint: str) -> str:
    """The text to print of a private key, a PKCS #8 file, with what to do with it.

    :raises ValueError: it is no such file.
    """
    kind, body = _parts(pem.decode("ascii"))
    guard = (
        "It opens with its passphrase only, which is NOT on this paper."
        if kind == _KINDS[0]
        else "It opens WITHOUT a passphrase: who has this paper reads the archive."
    )
    key = "\n".join([_border("BEGIN", kind), *_lines(body), _border("END", kind)])
    return _PAPER.format(guard=guard, fingerprint=fingerprint, key=key)


def read(text: str) -> Restored:
    """The key of a paper that was typed or scanned. Only its own lines count; case and line breaks do,
    spaces do not.

    :raises CannotRestore: a line is missing or wrong; the text names all that are.
    """
    kinds = [kind for kind in _KINDS if _border("BEGIN", kind) in text]
    if len(kinds) != 1:
        raise CannotRestore(f"There is no line {_border('BEGIN', _KINDS[0])}: it says what follows.")
    lines = [match for match in map(_LINE.fullmatch, text.splitlines()) if match]
    if not lines:
        raise CannotRestore("There are no numbered lines, such as  01/49  MIIH bTBX ...  a3f1.")
    total = Counter(int(line[2]) for line in lines).most_common(1)[0][0]
    found = dict[int, str]()
    for line in lines:
        number, body = int(line[1]), "".join(line[3].split())
        right = int(line[2]) == total and _check(number, total, body) == line[4].lower()
        # A wrong line is "", also beside one that is right: who typed it twice has to look.
        found[number] = body if right and found.get(number, body) == body else ""
    wrong = [number for number in range(1, total + 1) if not found.get(number)]
    if wrong:
        raise CannotRestore(_advice(wrong, total))
    body = "".join(found[number] for number in range(1, total + 1))
    pem = [_border("BEGIN", kinds[0]), *textwrap.wrap(body, 64), _border("END", kinds[0]), ""]
    names = [match[1] for match in map(_FINGERPRINT.fullmatch, text.splitlines()) if match]
    return Restored("\n".join(pem).encode(), names[0] if names else None)


def _parts(pem: str) -> tuple[str, str]:
    """The kind of a PEM file, and what is in it, without white space."""
    for kind in _KINDS:
        before, begun, rest = pem.partition(_border("BEGIN", kind))
        body, ended, after = rest.partition(_border("END", kind))
        if begun and ended and not before.strip() and not after.strip():
            return kind, "".join(body.split())
    raise ValueError("not one PKCS #8 file")


def _lines(body: str) -> Iterator[str]:
    lines = textwrap.wrap(body, _GROUP * _GROUPS)
    width = max(2, len(str(len(lines))))
    for number, line in enumerate(lines, 1):
        groups = " ".join(textwrap.wrap(line, _GROUP)).ljust((_GROUP + 1) * _GROUPS - 1)
        yield f"{number:0{width}}/{len(lines):0{width}}  {groups}  {_check(number, len(lines), line)}"


def _check(number: int, total: int, line: str) -> str:
    """Over the numbers too, so that no line can take another's place."""
    return hashlib.sha256(f"{number}/{total} {line}".encode()).hexdigest()[:_CHECK]


def _border(end: str, kind: str) -> str:
    return f"-----{end} {kind}-----"


def _advice(wrong: list[int], total: int) -> str:
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    what = "Line" if len(wrong) == 1 else "Lines"
    return (
        f"{what} {', '.join(map(str, wrong[:_NAMED]))}{more} of {total}: missing or wrong. Compare 0 and O, "
        "1 and l and I, 5 and S, 8 and B, and the check at the end."
    )


_PAPER = """\
A private key of archive-reader, to be kept on paper
====================================================

Who has the key reads the archive of messages that was encrypted for it.
{guard}

Fingerprint: {fingerprint}

To restore it, type or scan all from here on into a file:
    archive-reader keys restore FILE
Without that program: of each line keep what is between the number and the check
at its end, without spaces. That is a PKCS #8 file: openssl pkey -in FILE

{key}
"""
