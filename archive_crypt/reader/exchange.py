"""One iq and its answer. What slixmpp's own does not do: see the comments.

Answers become trees of lxml; nothing here knows what they say.
"""

from __future__ import annotations

import asyncio
from typing import Any
from xml.etree import ElementTree

from lxml import etree
from slixmpp import Callback, Iq
from slixmpp.basexmpp import BaseXMPP
from slixmpp.xmlstream.matcher.idsender import MatchIDSender

from archive_crypt.reader.errors import CannotAsk, NoAnswer, NotUnderstood, Refused, refusal
from archive_crypt.reader.protocol import parse

_STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
_XML = "{http://www.w3.org/XML/1998/namespace}"


def tree(element: ElementTree.Element) -> etree._Element:
    """The same as a tree of lxml.

    :raises NotUnderstood: it is nested too deeply.
    """
    try:
        # By the library's own writer, as slixmpp's drops attributes that have a namespace.
        return parse(ElementTree.tostring(element))
    except (etree.XMLSyntaxError, RecursionError):
        raise NotUnderstood("The server's answer is nested too deeply.") from None


async def ask(client: BaseXMPP, iq: Iq, timeout: float) -> etree._Element | None:
    """The child of the answer to an iq; None if it has none.

    :raises Refused: the answer is an error.
    :raises NoAnswer: there is no stream, it ended, or no answer came within `timeout` seconds.
    :raises NotUnderstood: the answer is nested too deeply.
    """
    answer = tree((await _answer(client, iq, timeout)).xml)
    if answer.get("type") == "error":
        raise _refusal(answer)
    return answer[0] if len(answer) else None


def check_sendable(element: ElementTree.Element) -> None:
    """Nothing, if slixmpp can write all of it.

    :raises CannotAsk: an attribute has a namespace: slixmpp would send the element without it.
    """
    for part in element.iter():
        if any(name.startswith("{") and not name.startswith(_XML) for name in part.attrib):
            raise CannotAsk("An attribute with a namespace of its own cannot be sent by slixmpp.")


async def _answer(client: BaseXMPP, iq: Iq, timeout: float) -> Iq:
    # Not by slixmpp's own iq.send: with an error whose condition it does not know, nothing happens
    # there, and it does not notice that the stream ends.
    if not client.is_connected():
        raise NoAnswer("There is no connection to the server.")
    check_sendable(iq.xml)
    answered: asyncio.Future[Iq | None] = asyncio.get_running_loop().create_future()

    def settle(stanza: Any) -> None:
        if not answered.done():
            answered.set_result(stanza if isinstance(stanza, Iq) else None)

    name = f"answer {iq['id']}"
    criteria = {"id": iq["id"], "self": client.boundjid, "peer": iq["to"]}
    client.register_handler(Callback(name, MatchIDSender(criteria), settle, once=True))
    client.add_event_handler("disconnected", settle)
    try:
        client.send(iq)
        answer = await asyncio.wait_for(answered, timeout)
    except TimeoutError:
        raise NoAnswer("The server does not answer.") from None
    finally:
        client.remove_handler(name)
        client.del_event_handler("disconnected", settle)
    if answer is None:
        raise NoAnswer("The connection to the server ended.")
    return answer


def _refusal(answer: etree._Element) -> Refused:
    error = answer.find("{*}error")
    children = [] if error is None else [child for child in error if isinstance(child.tag, str)]
    text = next((child.text or "" for child in children if child.tag == f"{_STANZAS}text"), "")
    conditions = (etree.QName(child) for child in children if child.tag != f"{_STANZAS}text")
    named = (qname.localname for qname in conditions if f"{{{qname.namespace}}}" == _STANZAS)
    type_ = "" if error is None else error.get("type") or ""
    return refusal(next(named, "undefined-condition"), type_, text)
