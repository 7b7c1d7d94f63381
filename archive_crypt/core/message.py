"""A message stanza as recording asks for it again and again: looked at once, in one pass."""

from __future__ import annotations

from twisted.words.xish import domish

from archive_crypt.core import tree

#: The namespaces of a stanza's own elements, by the stream it came on.
STANZA = frozenset(("jabber:client", "jabber:server", "jabber:component:accept", None))

_XML_LANG = ("http://www.w3.org/XML/1998/namespace", "lang")


class Message:
    """What stands in a message. It holds its text: keep none longer than the element.

    `type`: the attribute, or None. `bodies`: of each ``<body/>`` the language, or None, and the text.
    `thread`: the first element of that name, or None. `rest`: the child elements, in order, that are
    none of the stanza's own bodies and threads; `namespaces`: theirs.
    """

    __slots__ = ("attributes", "bodies", "element", "namespaces", "rest", "thread", "type")

    def __init__(self, element: domish.Element) -> None:
        self.element = element
        self.attributes: dict[object, str] = element.attributes
        self.type = self.attributes.get("type")
        self.bodies: list[tuple[str | None, str]] = []
        self.thread: domish.Element | None = None
        self.rest: list[domish.Element] = []
        self.namespaces: list[str | None] = []
        for child in element.children:
            if isinstance(child, str):
                continue
            name, uri = child.name, child.uri
            if name == "body" and uri in STANZA:
                self.bodies.append(read_body(child))
                continue
            if name == "thread":
                self.thread = self.thread or child
                if uri in STANZA:
                    continue
            self.rest.append(child)
            self.namespaces.append(uri)


def is_body(child: domish.Element) -> bool:
    """Whether a message's child element is one of its bodies."""
    return bool(child.name == "body" and child.uri in STANZA)


def read_body(body: domish.Element) -> tuple[str | None, str]:
    """The language of a ``<body/>``, None if it does not say, and its text."""
    return body.attributes.get(_XML_LANG), tree.text(body)
