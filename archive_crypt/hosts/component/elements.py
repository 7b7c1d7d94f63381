"""The component's stream of XML, as elements: what twisted's `domish.elementStream` does, in half the time,
and in memory that does not grow with the stream.

The server is trusted to send XML, without what RFC 6120 (11.1) forbids; but not with what its users wrote in
it: whatever that is, it costs at most its own stanza. What stanzas mean is decided elsewhere.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from twisted.words.xish import domish

#: Elements of a stanza; one of more arrives empty. Half a MiB can hold 130,000, of a KiB each in memory.
MOST_ELEMENTS = 20_000

#: Octets after which there is a new parser. expat remembers each name it ever read, in eleven octets for
#: each octet of the stream; that lives for months, and whoever writes to a user chooses names.
MOST_REMEMBERED = 4 * 1024 * 1024

#: Between a namespace and a name, as expat gives them. No XML can have it. With twisted's, a space, expat
#: ends the stream at the first namespace that has one, and servers let those through.
_SEPARATOR = "\1"

#: domish writes namespaces without escaping them, so that a quote in one would let its sender write any XML
#: into our stream. They are read as URIs would have such characters; no namespace in use has any.
_UNSAFE = str.maketrans({character: f"%{ord(character):02X}" for character in "'\"<>& \t\r\n"})

_NAME = re.compile(rb"<([^\s/>]+)")


class Received(domish.Element):
    """An element from the stream. It knows no `parent`: without circles it is freed with its stanza, not
    whenever there is time for it."""

    def __init__(self, uri: str, name: str, attributes: dict[Any, str]) -> None:
        self.uri = self.defaultUri = uri
        self.name = name
        self.attributes = attributes
        self.children: list[Any] = []
        self.parent = None
        self.localPrefixes: dict[str, str] = {}


class ElementStream:
    """In place of a `domish.elementStream()`. Prefixes are forgotten: names are known by their namespaces.

    `remembered`: octets after which there is a new parser. `cut`: how many stanzas had too many elements,
    which are left out; to be set back by whoever looks.
    """

    def __init__(self, remembered: int = MOST_REMEMBERED) -> None:
        self.DocumentStartEvent: Any = None
        self.ElementEvent: Any = None
        self.DocumentEndEvent: Any = None
        self.cut = 0
        self._remembered = remembered
        self._head = b""  # all up to the root, while it has not begun
        self._root = b""  # its start tag, with its namespaces only
        self._scope: dict[str | None, str] = {}  # these
        self._open: list[Received] = []  # what has not ended, the stanza first
        self._names: dict[str, tuple[str, str]] = {}
        self._elements = 0  # of this stanza
        self._left_out = 0  # open elements that are not built
        self._over = False
        self._parser = self._new_parser(self._begin)
        self._parser.StartNamespaceDeclHandler = self._declare
        self._given = 0  # octets the parser was given
        self._ended = 0  # in these, where the last end tag of a stanza begins

    def parse(self, data: bytes) -> None:
        """Take the next octets.

        :raises domish.ParserError: they are not well-formed, or something that XMPP forbids.
        """
        if not self._root:
            self._head += data
        self._feed(data)
        if self._given > self._remembered and not self._over:
            self._renew(data)

    def _feed(self, data: bytes) -> None:
        self._given += len(data)
        try:
            self._parser.Parse(data)
        except expat.ExpatError as error:
            raise domish.ParserError(str(error)) from None

    def _renew(self, data: bytes) -> None:
        """Go on with a new parser: it reads again what `data` has after the last stanza that ended in it."""
        at = self._ended - (self._given - len(data))
        if at < 0 or not data.startswith(b"</", at):  # none did, or as <stanza/>: later, then
            return
        rest = data[data.index(b">", at) + 1 :]
        self._open.clear()
        self._names.clear()
        self._elements = self._left_out = 0
        self._parser, self._given, self._ended = self._new_parser(None), 0, 0
        self._feed(self._root)
        self._parser.StartElementHandler = self._start
        self._feed(rest)

    def _new_parser(self, start: Callable[..., None] | None) -> Any:
        parser: Any = expat.ParserCreate("UTF-8", _SEPARATOR)
        parser.buffer_text = True  # else each newline is a piece of text by itself
        if hasattr(parser, "SetReparseDeferralEnabled"):
            # expat 2.6 would hold back the end of a stanza until more comes than is there.
            parser.SetReparseDeferralEnabled(False)
        parser.StartElementHandler = start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        # Refusing the DTD as it opens also refuses every entity that could be declared in it.
        parser.StartDoctypeDeclHandler = _refuse
        parser.ProcessingInstructionHandler = _refuse
        parser.CommentHandler = _refuse
        return parser

    def _declare(self, prefix: str | None, uri: str | None) -> None:
        self._scope[prefix] = uri or ""

    def _begin(self, name: str, attributes: dict[Any, str]) -> None:
        """The root has begun."""
        self._parser.StartElementHandler = self._start
        self._parser.StartNamespaceDeclHandler = None
        tag = _NAME.match(self._head, self._parser.CurrentByteIndex)
        assert tag is not None, "it begins there"
        self._head = b""
        scope = "".join(
            f" xmlns{f':{prefix}' if prefix else ''}={quoteattr(uri)}" for prefix, uri in self._scope.items()
        )
        self._root = b"<%s%s>" % (tag[1], scope.encode())
        default = self._scope.pop(None, "")
        self.DocumentStartEvent(domish.Element(_split(name), default, _qualified(attributes), self._scope))

    def _start(self, name: str, attributes: dict[Any, str]) -> None:
        self._elements += 1
        if self._elements > MOST_ELEMENTS:
            self._left_out += 1
            return
        try:
            uri, local = self._names[name]
        except KeyError:
            uri, local = self._names[name] = _split(name)
        for attribute in attributes:
            if _SEPARATOR in attribute:
                attributes = _qualified(attributes)
                break
        element = Received(uri, local, attributes)
        if self._open:
            self._open[-1].children.append(element)
        self._open.append(element)

    def _end(self, _: str) -> None:
        if self._left_out:
            self._left_out -= 1
            return
        if not self._open:
            self._over = True
            self.DocumentEndEvent()
            return
        element = self._open.pop()
        if not self._open:
            if self._elements > MOST_ELEMENTS:
                element.children.clear()
                self.cut += 1
            self._elements = 0
            self._ended = self._parser.CurrentByteIndex
            self.ElementEvent(element)

    def _text(self, text: str) -> None:
        if self._open and not self._left_out:  # else it is white space between stanzas, a sign of life
            children = self._open[-1].children
            if children and isinstance(children[-1], str):
                children[-1] += text
            else:
                children.append(text)


def _split(name: str) -> tuple[str, str]:
    """(namespace, local name) of a name as expat has it."""
    uri, _, local = name.rpartition(_SEPARATOR)
    return uri.translate(_UNSAFE), local


def _qualified(attributes: dict[Any, str]) -> dict[Any, str]:
    return {_split(name) if _SEPARATOR in name else name: value for name, value in attributes.items()}


def _refuse(*_: object) -> NoReturn:
    raise domish.ParserError("a comment, a processing instruction or a DTD")
