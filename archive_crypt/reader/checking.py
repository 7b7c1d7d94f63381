"""What must hold of the sealed items of an archive, and whether it does: the server keeps them and
could move, repeat or withhold them. Pure: no key, no XML.

What can be shown: that an item was sealed for this place in this collection, and that none is
missing before it. What cannot: that the last ones are missing; who sealed an item, as anybody can
who has the public key; that two collections with one contact, begun in the same second, were
swapped as wholes.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from archive_crypt.core import jids
from archive_crypt.core.items import Bound
from archive_crypt.model import SECOND, Micros


class Finding(enum.Enum):
    """What is to be said of an item: a word for programs, whether it is suspicious, and a text."""

    NO_KEY = ("no-key", True, "none of your private keys opens this")
    CANNOT_OPEN = ("cannot-open", True, "this cannot be opened: it was altered or damaged")
    NOT_AN_ITEM = ("not-an-item", True, "what is in here is not a message")
    OTHER_KEY_NAME = ("other-key-name", True, "sealed under another name of its key: tampered with")
    OTHER_COLLECTION = ("other-collection", True, "moved here from another collection")
    OUT_OF_PLACE = ("out-of-place", True, "repeated, or moved from its place")
    KEY_ELSEWHERE = ("key-elsewhere", True, "its key belongs to messages elsewhere: repeated or moved")
    IN_CLEAR = ("in-clear", True, "not encrypted, although the others here are: anybody may have put it here")
    UNBOUND = ("unbound", False, "not bound to a place, as what clients seal is not")
    ALTERABLE = ("alterable", False, "its cipher would not show an alteration")
    OPENPGP_VALID = ("openpgp-valid", False, "OpenPGP: signed by its sender for this conversation")
    OPENPGP_UNKNOWN = (
        "openpgp-unknown",
        False,
        "OpenPGP: who signed it is not known, as no public key of the sender was given, or it is revoked",
    )
    OPENPGP_INVALID = (
        "openpgp-invalid",
        True,
        "OpenPGP: this is not what its sender signed for this conversation",
    )
    OPENPGP_CLOSED = ("openpgp-closed", True, "OpenPGP: none of the secret keys given opens this")
    OPENPGP_TIME = ("openpgp-time", True, "OpenPGP: signed at quite another time than it was archived")

    def __init__(self, word: str, suspicious: bool, text: str) -> None:
        self.word = word
        self.suspicious = suspicious
        self.text = text


class Verdict(NamedTuple):
    """What is to be said of one item, and how many are missing before it (at least)."""

    findings: tuple[Finding, ...] = ()
    missing: int = 0


class Expectation(NamedTuple):
    """What is expected of the next item of the collection with the bare JID `with_`, of `start`.

    Its number is `number`, or up to `slack` more: so many items since the last one told theirs not.
    `key` names the data key in use. Those `past` were used before, here or in other collections,
    and do not come back: a data key seals one run of items.
    """

    with_: str = ""
    start: Micros = 0
    number: int = 0
    slack: int = 0
    key: str | None = None
    past: frozenset[str] = frozenset()

    def begin(self, with_: str, start: Micros, number: int = 0) -> Expectation:
        """A collection is read from its item `number` on, after others."""
        past = self.past if self.key is None else self.past | {self.key}
        return Expectation(jids.bare(with_), start, number, past=past)

    def skip(self) -> Expectation:
        """An item came that does not tell its number."""
        return self._replace(slack=self.slack + 1)


def judge(expected: Expectation, key_name: str | None, bound: Bound) -> tuple[Verdict, Expectation]:
    """What is to be said of an item with `bound` inside, opened with the data key that its
    EncryptedData calls `key_name` (None: by no one name); and what is expected then."""
    findings = () if bound.key_name == key_name else (Finding.OTHER_KEY_NAME,)
    if not _belongs(expected, bound):
        # Its number and its key tell of the collection it comes from, nothing of this one.
        return Verdict((*findings, Finding.OTHER_COLLECTION)), expected.skip()
    if bound.key_name in expected.past:
        findings = (*findings, Finding.KEY_ELSEWHERE)
    past = expected.past if expected.key in (None, bound.key_name) else expected.past | {expected.key}
    if bound.number < expected.number:
        verdict = Verdict((*findings, Finding.OUT_OF_PLACE))
        return verdict, expected._replace(key=bound.key_name, past=past)
    missing = max(0, bound.number - expected.number - expected.slack)
    then = Expectation(expected.with_, expected.start, bound.number + 1, 0, bound.key_name, past)
    return Verdict(findings, missing), then


def _belongs(expected: Expectation, bound: Bound) -> bool:
    """Where two collections would begin at one moment the store moves one on, by at most a second."""
    moved_on = expected.start - bound.start
    return bound.with_ == expected.with_ and 0 <= moved_on <= SECOND
