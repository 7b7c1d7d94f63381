"""An element by itself in exclusive canonical XML: the same octets however it was declared where it stood."""

from __future__ import annotations

import re

from lxml import etree

from archive_crypt.errors import BadRequest

_TAG = re.compile(r"<[^\s/>]+")


def canonical(element: etree._Element) -> str:
    """An element by itself, without its tail and without comments; wherever it is put it means the same.

    :raises BadRequest: it has no canonical form, as with a namespace that is a relative URI.
    """
    try:
        octets: bytes = etree.tostring(
            element, method="c14n", exclusive=True, with_comments=False, with_tail=False
        )
    except etree.C14NError:
        raise BadRequest(f"<{etree.QName(element).localname}/> has no canonical form.") from None
    text = octets.decode()
    bare = element.prefix or etree.QName(element).namespace is None
    if bare and any(etree.QName(part).namespace is None for part in element.iter("*")):
        return _TAG.sub(r'\g<0> xmlns=""', text, count=1)  # or they would take that of where it is put
    return text
