"""The one thing we need of domish's trees that domish does slowly."""

from __future__ import annotations

from twisted.words.xish import domish


def children(element: domish.Element) -> list[domish.Element]:
    """The child elements, in order. `Element.elements()` asks zope.interface about each of them,
    which took a fifth of the time that recording a message takes."""
    return [child for child in element.children if isinstance(child, domish.Element)]


def text(element: domish.Element) -> str:
    """The text directly in an element, all of it. `str(element)` gives only its first part."""
    return "".join([part for part in element.children if isinstance(part, str)])
