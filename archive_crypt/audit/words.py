"""Texts that nobody says by chance: found again, or not, in a server's memory."""

from __future__ import annotations

import secrets
import string

from archive_crypt.crypto.traces import base64_of

#: Octets from one word of a text to the next, at most: words that are no further apart are one copy. (In
#: UTF-32 a word takes 76, and what stands between them, escaped, another 48.)
GAP = 128


class Marker:
    """Words that begin alike, with letters that were drawn just now.

    As every word of a text can be found by itself, a copy is found even if only a part of it is left.
    """

    def __init__(self) -> None:
        self._tag = "".join(secrets.choice(string.ascii_lowercase) for _ in range(16))

    def texts(self) -> list[str]:
        """Short and long; what XML escapes; and what makes Python keep one, two, four octets a letter."""
        return [
            self._text(1, ""),
            self._text(15, " "),
            self._text(10, " & "),
            self._text(10, " <br/> "),
            self._text(10, " é "),
            self._text(10, " → "),
            self._text(10, " 🙂 "),
            self._text(1500, " "),
        ]

    def _text(self, words: int, between: str) -> str:
        return between.join(f"{self._tag}{number:03}" for number in range(words))

    @property
    def needles(self) -> list[bytes]:
        """How the words begin, in any encoding. What XML escapes stands between them."""
        tag = self._tag.encode()
        return [
            tag,
            self._tag.encode("utf-16-le"),
            self._tag.encode("utf-32-le"),
            tag.hex().encode(),
            tag.hex().upper().encode(),
            *(base64_of(tag, start) for start in range(3)),
        ]
