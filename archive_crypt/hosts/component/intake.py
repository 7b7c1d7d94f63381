"""The XML parser of the component's stream. The server is trusted to send XML, but not with what its users
wrote in it: whatever that is, it costs at most its own stanza.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any
from xml.parsers import expat

from twisted.words.xish import domish

#: Elements of a stanza; one of more arrives empty. Half a MiB can hold 130,000, of a KiB each in memory.
_MOST_ELEMENTS = 20_000

#: domish writes namespace names without escaping them, so that a quote in one would let its sender write any
#: XML into our stream. They are written as URIs have such characters; no namespace in use has any.
_UNSAFE = str.maketrans({character: f"%{ord(character):02X}" for character in "'\"<>& \t\r\n"})

#: What parts a namespace from a name. domish's space can stand in a namespace: expat ends the stream then.
_SEPARATOR = "\f"


class Intake(domish.ExpatElementStream):
    """A domish element stream that no stanza ends. `cut`: how many were too large."""

    currElem: Any
    parser: Any

    def __init__(self) -> None:
        super().__init__()
        self.cut = 0
        self._elements = 0  # of this stanza
        self._left_out = 0  # open elements that are not built
        self.maxStanzaSize = self.maxElementCount = sys.maxsize  # which would end the stream
        self.parser = expat.ParserCreate("UTF-8", _SEPARATOR)
        self.parser.StartElementHandler = self._onStartElement
        self.parser.EndElementHandler = self._onEndElement
        self.parser.CharacterDataHandler = self._onCdata
        self.parser.StartNamespaceDeclHandler = self._onStartNamespace
        self.parser.EndNamespaceDeclHandler = self._onEndNamespace
        # Without it each newline is one more string concatenation: 256 KiB of them cost a second.
        self.parser.buffer_text = True
        if hasattr(self.parser, "SetReparseDeferralEnabled"):
            # expat >= 2.6 would hold back a stanza's last bytes until more of the next arrive.
            self.parser.SetReparseDeferralEnabled(False)

    def _onStartElement(self, name: str, attrs: dict[str, str]) -> None:
        if self.currElem is None:
            self._elements = 0
        self._elements += 1
        if self._elements > _MOST_ELEMENTS:
            self._left_out += 1
        else:
            super()._onStartElement(_name(name), {_name(key): value for key, value in attrs.items()})

    def _onEndElement(self, name: str) -> None:
        if self._left_out:
            self._left_out -= 1
            return
        if self._elements > _MOST_ELEMENTS and self.currElem.parent is None:
            self.currElem.children.clear()
            self._elements = 0
            self.cut += 1
        super()._onEndElement(name)

    def _onCdata(self, data: str) -> None:
        if not self._left_out:
            super()._onCdata(data)

    def _onStartNamespace(self, prefix: str | None, uri: str | None) -> None:
        # Prefixes are forgotten: names are known by their namespace, and the serialiser, which confuses a
        # prefix that is declared twice, makes fresh ones.
        if prefix is None:
            super()._onStartNamespace(None, (uri or "").translate(_UNSAFE))


@lru_cache(maxsize=4096)
def _name(name: str) -> str:
    """A name as domish reads it, with a namespace that it may write."""
    uri, separator, local = name.rpartition(_SEPARATOR)
    return f"{uri.translate(_UNSAFE)} {local}" if separator else name
