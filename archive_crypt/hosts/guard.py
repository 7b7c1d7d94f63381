"""The XML parser of a client stream, hardened: what a stanza may cost, and which parts of XML
it may use. What stanzas mean is decided elsewhere."""

# mypy: allow-untyped-calls

from __future__ import annotations

import re
from typing import Any, NoReturn
from xml.parsers import expat
from xml.parsers.expat import errors as expat_errors

from twisted.words.protocols.jabber.error import StreamError
from twisted.words.xish import domish

from archive_crypt.hosts.limits import Limits

_UNDEFINED_ENTITY = expat_errors.codes[expat_errors.XML_ERROR_UNDEFINED_ENTITY]
_HANDLERS = (
    "StartElementHandler", "EndElementHandler", "CharacterDataHandler", "StartNamespaceDeclHandler",
    "EndNamespaceDeclHandler", "XmlDeclHandler", "StartDoctypeDeclHandler",
    "ProcessingInstructionHandler", "CommentHandler",
)  # fmt: skip
#: domish writes namespace names without escaping them, so that a quote in one would let its
#: sender write any XML into the recipient's stream. No namespace in use has any of these.
_UNSAFE_IN_NAMESPACE = frozenset("'\"<>& \t\r\n")
#: A start tag that expat took.
_TAG = re.compile(rb"<[^'\">]*(?:(?:'[^']*'|\"[^\"]*\")[^'\">]*)*>")


class GuardedStream(domish.ExpatElementStream):
    """A domish element stream that ends at the first thing RFC 6120 forbids.

    `parse` raises StreamError with the condition to send; after that, or after `stop`, the
    rest of the buffer is dropped. Twisted's own bounds are 10 MiB and 100,000 elements, and count
    a buffer rather than a stanza; here the bytes are counted from where the stanza begins.

    Nothing of a message stays here once it is over. expat and its wrapper keep what they were last
    given for as long as they live, so there is a new parser then; and an element does not know its parent
    once it has ended, as a circle of elements would live until somebody collects it.
    """

    def __init__(self, stanza_bytes: int, limits: Limits) -> None:
        super().__init__()
        self._stanza_bytes = stanza_bytes
        self._limits = limits
        self._stopped = False
        self._fed = 0  # bytes given to the parser so far
        self._began = 0  # byte where the stanza, or the white space before it, began
        self._depth = 0  # open elements, the stream's root included
        self._elements = 0  # in this stanza
        self._head = b""  # what came up to and with the root's tag, and that tag
        self._root = b""
        self._heard = False  # whether a message is over, since this parser was new
        self._equip()

    def _equip(self) -> None:
        parser: Any = self.parser
        # Without it each newline is one more string concatenation: 1 MiB of them costs 14 s.
        parser.buffer_text = True
        if hasattr(parser, "SetReparseDeferralEnabled"):
            # expat >= 2.6 would hold back a stanza's last bytes until more of the next arrive.
            parser.SetReparseDeferralEnabled(False)
        parser.StartElementHandler = self._onStartElement
        parser.EndElementHandler = self._onEndElement
        parser.CharacterDataHandler = self._onCdata
        parser.StartNamespaceDeclHandler = self._onStartNamespace
        parser.EndNamespaceDeclHandler = self._onEndNamespace
        parser.XmlDeclHandler = self._declaration
        # Refusing the DTD as it opens also refuses every entity that could be declared in it.
        parser.StartDoctypeDeclHandler = self._restricted
        parser.ProcessingInstructionHandler = self._restricted
        parser.CommentHandler = self._restricted

    def stop(self) -> None:
        """Nothing more comes out of this parser, be it in the middle of a buffer: the stream has
        ended, or TLS or SASL begin it anew and what was sent ahead of that must not count."""
        self._stopped = True
        for handler in _HANDLERS:
            setattr(self.parser, handler, None)

    def parse(self, data: bytes) -> None:
        """Take the next bytes.

        :raises StreamError: with the condition that ends the stream.
        """
        if not self._stopped:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        # Left to itself, expat would find out that a stream is in UTF-16, and take it.
        if self._fed == 0 and data[:1] in (b"\xfe", b"\xff"):
            raise StreamError("unsupported-encoding")
        if b"\0" in data:
            raise StreamError("not-well-formed")
        self._fed += len(data)
        if not self._root:
            self._head += data
        try:
            self.parser.Parse(data)
        except self.error as e:
            if self._stopped:
                return  # it stumbled over what follows the end
            entity = getattr(e, "code", None) == _UNDEFINED_ENTITY
            raise StreamError("restricted-xml" if entity else "not-well-formed") from None
        if not self._stopped:
            # A huge tag fires no event until it ends, so what is pending counts too.
            self._measure(self._fed)
            # Only if nothing is pending: a parser cannot be asked for it.
            if self._heard and self._depth == 1 and self.parser.CurrentByteIndex == self._fed:
                self._renew()

    def _renew(self) -> None:
        """Go on with a new parser, inside the same root."""
        self._heard = False
        self.parser = expat.ParserCreate("UTF-8", " ")
        self.parser.Parse(self._root)
        self._fed = self._began = len(self._root)
        self._equip()

    def _measure(self, position: int) -> None:
        if position - self._began > self._stanza_bytes:
            raise StreamError("policy-violation", "the stanza is too long")

    def _onStartElement(self, name: str, attrs: dict[str, str]) -> None:
        at = self.parser.CurrentByteIndex
        if self._depth == 0:
            tag = _TAG.match(self._head, at)
            self._root, self._head = tag[0] if tag else b"", b""
        if self._depth == 1:
            self._began, self._elements = at, 0
        self._measure(at)
        self._depth += 1
        self._elements += 1
        if self._depth > self._limits.depth + 1:  # + 1: the stream's root
            raise StreamError("policy-violation", "the stanza is too deep")
        if self._elements > self._limits.elements:
            raise StreamError("policy-violation", "the stanza has too many elements")
        super()._onStartElement(name, attrs)

    def _onEndElement(self, name: str) -> None:
        self._depth -= 1
        if self._depth == 1:
            self._measure(self.parser.CurrentByteIndex)
            self._heard = self._heard or name.endswith(" message")
        ended = self.currElem
        super()._onEndElement(name)
        if ended is not None:
            ended.parent = None
        if self._depth == 1:
            self._began = self.parser.CurrentByteIndex

    def _onCdata(self, data: str) -> None:
        if self.currElem is not None:
            super()._onCdata(data)
        elif data.strip(" \t\r\n"):
            raise StreamError("bad-format", "text between stanzas")
        else:  # white space as a sign of life (RFC 6120 4.6.1), however much in all
            self._began = self.parser.CurrentByteIndex

    def _onStartNamespace(self, prefix: str | None, uri: str | None) -> None:
        uri = uri or ""  # xmlns=''
        if not _UNSAFE_IN_NAMESPACE.isdisjoint(uri):
            raise StreamError("policy-violation", "an impossible namespace name")
        # Prefixes are forgotten: names are known by their namespace, and the serialiser, which
        # confuses a prefix that is declared twice, makes fresh ones.
        if prefix is None:
            super()._onStartNamespace(None, uri)

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8"):
            raise StreamError("unsupported-encoding")

    def _restricted(self, *args: object) -> NoReturn:
        raise StreamError("restricted-xml")
