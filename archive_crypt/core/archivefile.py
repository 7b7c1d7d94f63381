"""The file format of XEP-0136 0.13, section 11: how such a file begins and ends, whoever writes it.

What the standard has no words for stands in attributes of a namespace of our own, prefix ``a``, which
other readers ignore.
"""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from archive_crypt.core.dialect import V

#: Of our attributes.
OURS = "urn:x-archive-crypt:file:0"

TAIL = "</archive>\n"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def head(owner: str | None, with_: str | None) -> str:
    """What comes before the first ``<chat/>``. `with_`: the contact of all that have none of their
    own; `owner`: whose archive it is; None: that is not told."""
    told = attributes(("with", with_), ("a:owner", owner))
    return f"<?xml version='1.0' encoding='UTF-8'?>\n<archive xmlns='{V.namespace}' xmlns:a='{OURS}'{told}>\n"


def attributes(*pairs: tuple[str, str | None]) -> str:
    """The attributes that are not None. What XML cannot say becomes U+FFFD."""
    return "".join(f" {name}={quoteattr(legal(value))}" for name, value in pairs if value is not None)


def text(said: str) -> str:
    """A text as the content of an element; what XML cannot say becomes U+FFFD."""
    return escape(legal(said), {"\r": "&#13;"})  # raw, it would come back as a newline


def legal(said: str) -> str:
    """A text with U+FFFD for each character that XML cannot say."""
    return _NOT_XML.sub("\ufffd", said)
