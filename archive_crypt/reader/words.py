"""Words to search for, and those of a message: as the index of a mirror (SQLite's FTS5) has them. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from archive_crypt.reader.opening import Entry

#: Characters of scripts that write no space between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese;
#: and emoji. Each is a word, and words of several are phrases.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2600-\u27bf\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U0001f300-\U0001faff\U00020000-\U0003ffff]"
)
#: What FTS5 takes for part of a word here: letters, digits, private use, symbols such as emoji.
_IN_WORDS = ("L", "N", "Co", "So")


def indexed(entry: Entry) -> str:
    """What is indexed of a message: its bodies."""
    bodies = () if entry.item is None else entry.item.bodies
    return "\n".join(_apart(text) for _, text in bodies)


def match(wanted: Iterable[str]) -> str | None:
    """The query that finds messages with all that is `wanted`: words, phrases with spaces in them, and
    with "*" at the end what words begin with. None: there is no word in it."""
    phrases = [_phrase(text) for text in wanted if _has_words(text)]
    return " ".join(phrases) or None


def _phrase(text: str) -> str:
    """A string of FTS5, in which nothing has a meaning but '"', which is doubled."""
    words = _apart(text).replace('"', '""')
    return f'"{words}"*' if text.endswith("*") else f'"{words}"'


def _apart(text: str) -> str:
    return _UNSPACED.sub(r" \g<0> ", text)


def _has_words(text: str) -> bool:
    return any(unicodedata.category(character).startswith(_IN_WORDS) for character in text)
