"""The file format of XEP-0136 0.13, section 11: how such a file begins and ends, whoever writes it; and
a collection in it as the server keeps it, sealed where it is sealed.

What the standard has no words for stands in attributes of a namespace of our own, prefix ``a``, which
other readers ignore.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from archive_crypt.core import answers, items
from archive_crypt.core.dialect import V
from archive_crypt.model import Collection, Form, Item, Link, LinkName, PlainItem, WrappedKey

#: Of our attributes.
OURS = "urn:x-archive-crypt:file:0"

TAIL = "</archive>\n"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def head(owner: str | None, with_: str | None) -> str:
    """What comes before the first ``<chat/>``. `with_`: the contact of all that have none of their
    own; `owner`: whose archive it is; None: that is not told."""
    told = attributes(("with", with_), ("a:owner", owner))
    return f"<?xml version='1.0' encoding='UTF-8'?>\n<archive xmlns='{V.namespace}' xmlns:a='{OURS}'{told}>\n"


class KeptChat:
    """A ``<chat/>`` of what the server keeps, written page after page: EncryptedKeys stand before what
    they open. `seen`: the Ids in the file so far; those of this chat are added to it."""

    def __init__(self, collection: Collection, seen: set[str]) -> None:
        self._collection = collection
        self._seen = seen
        self._wrapped: dict[str, list[answers.Written]] = {}
        self._plain: deque[PlainItem] = deque()
        self._shown = items.shown(self._taken(), collection.start)

    def head(self, links: Mapping[LinkName, Link], form: Form | None) -> str:
        """Its beginning."""
        told = answers.attributes_of(V, self._collection) + attributes(
            ("a:version", str(self._collection.version))
        )
        ends = "".join(f"    {answers.written_link(name, link)}\n" for name, link in links.items())
        return f"  <chat{told}>\n{ends}" + (f"    {form.content}\n" if form else "")

    def page(self, page: Sequence[Item], keys: Mapping[str, Sequence[WrappedKey]]) -> str:
        """The next items; `keys`: the EncryptedKeys by the names of the data keys that these, or the
        form, name."""
        lines = []
        for name in keys:
            if name not in self._wrapped:
                where = str(self._collection.id)
                written = [answers.apart(key, where, self._seen) for key in answers.written_keys(keys[name])]
                self._wrapped[name] = written
                lines += [text for _, text in written]
        for item in page:
            if isinstance(item, PlainItem):
                self._plain.append(item)
                lines.append(next(self._shown))
            else:
                lines.append(answers.written_data(item, self._wrapped))
        return "".join(f"    {line}\n" for line in lines)

    def tail(self) -> str:
        """Its end."""
        return "  </chat>\n"

    def _taken(self) -> Iterator[PlainItem]:
        while True:  # each one is asked for right after it was put there
            yield self._plain.popleft()


def attributes(*pairs: tuple[str, str | None]) -> str:
    """The attributes that are not None. What XML cannot say becomes U+FFFD."""
    return "".join(f" {name}={quoteattr(legal(value))}" for name, value in pairs if value is not None)


def text(said: str) -> str:
    """A text as the content of an element; what XML cannot say becomes U+FFFD."""
    return escape(legal(said), {"\r": "&#13;"})  # raw, it would come back as a newline


def legal(said: str) -> str:
    """A text with U+FFFD for each character that XML cannot say."""
    return _NOT_XML.sub("\ufffd", said)
