"""The stage of the component: the auditor is the server beside it, and tells of users who are not there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal
from xml.etree.ElementTree import Element, XMLPullParser
from xml.sax.saxutils import escape

from archive_crypt.audit.scene import LIST
from archive_crypt.audit.server import COMPONENT, DOMAIN, PATIENCE
from archive_crypt.errors import ConfigurationError

_FEED = "urn:x-archive-crypt:feed:1"
_FORWARD = "urn:xmpp:forward:0"
_HEADER = (
    "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'"
    f" from='{COMPONENT}' id='audit'>"
)


class Beside:
    """A server for one component (XEP-0114), with its feed (docs/feed.rst) and delegation (XEP-0355), which
    `listen`s before the component begins. What waits is a message of which it has not said all."""

    def __init__(self) -> None:
        self._answers: dict[str, asyncio.Future[str]] = {}
        self._over = asyncio.Event()
        self._ids = count()
        self._rest = ""

    async def listen(self) -> int:
        """The port to connect to."""
        self._linked: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def enter(self, user: str) -> None:
        await self._tell(f"<stream xmlns='{_FEED}' jid='{_jid(user)}' event='open'/>")

    async def leave(self, user: str) -> None:
        await self._tell(f"<stream xmlns='{_FEED}' jid='{_jid(user)}' event='close'/>")

    async def ask(self, user: str, kind: Literal["get", "set"], request: str) -> None:
        await self._ask(self._request(user, kind, request))

    async def talk(self, speaker: str, listener: str, texts: Sequence[str], thread: str) -> None:
        for text in texts:
            message = (
                f"<message xmlns='jabber:client' from='{_jid(speaker)}' to='{listener}@{DOMAIN}' type='chat'>"
                f"<body>{escape(text)}</body><thread>{thread}</thread></message>"
            )
            await self._tell(_copy(speaker, "out", message), _copy(listener, "in", message))

    async def begin_to_wait(self, text: str) -> None:
        message = _copy("nurse", "in", f"<message xmlns='jabber:client'><body>{text}</body></message>")
        stanza = _stanza(message)
        said, self._rest = stanza[:-9], stanza[-9:]
        # In one piece with a request: when that is answered, this was read.
        await self._ask(self._request("romeo", "get", LIST), said)

    async def end_to_wait(self) -> None:
        await self._ask(self._rest, self._request("romeo", "get", LIST))

    async def end(self) -> None:
        self._server.close()
        if self._linked.done():
            self._linked.result().close()
            await self._over.wait()

    async def _tell(self, *children: str) -> None:
        writer = await self._writer()
        writer.write("".join(map(_stanza, children)).encode())
        await writer.drain()

    async def _writer(self) -> asyncio.StreamWriter:
        try:
            return await asyncio.wait_for(asyncio.shield(self._linked), PATIENCE)
        except TimeoutError:
            raise ConfigurationError("the component did not connect to us") from None

    def _request(self, user: str, kind: str, request: str) -> str:
        id_ = f"audit{next(self._ids)}"
        self._answers[id_] = asyncio.get_running_loop().create_future()
        inner = f"<iq xmlns='jabber:client' type='{kind}' id='{id_}' from='{_jid(user)}'>{request}</iq>"
        delegated = f"<forwarded xmlns='{_FORWARD}'>{inner}</forwarded>"
        return (
            f"<iq from='{DOMAIN}' to='{COMPONENT}' type='set' id='{id_}'>"
            f"<delegation xmlns='urn:xmpp:delegation:2'>{delegated}</delegation></iq>"
        )

    async def _ask(self, *parts: str) -> None:
        """Say all of it at once, and wait for the answer to the last request ever made."""
        writer = await self._writer()
        writer.write("".join(parts).encode())
        (answer,) = self._answers.values()
        kind = await asyncio.wait_for(answer, PATIENCE)
        self._answers.clear()
        assert kind == "result", "what the auditor asks for can be had"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser: Any = XMLPullParser(("start", "end"))
        depth = 0
        while data := await _read(reader):
            parser.feed(data)
            for event, element in parser.read_events():
                depth += 1 if event == "start" else -1
                if event == "start" and depth == 1:
                    writer.write(_HEADER.encode())
                elif event == "end" and depth == 1:
                    self._take(element, writer)
        writer.close()
        self._over.set()

    def _take(self, element: Element, writer: asyncio.StreamWriter) -> None:
        tag, attributes = element.tag.rpartition("}")[2], element.attrib
        if tag == "handshake":  # who he is, we started him ourselves
            begin, end = (f"<snapshot xmlns='{_FEED}' event='{event}'/>" for event in ("begin", "end"))
            writer.write(f"<handshake/>{_stanza(begin)}{_stanza(end)}".encode())
            self._linked.set_result(writer)
        elif tag == "iq" and attributes.get("id") in self._answers:
            inner = element.find(".//{jabber:client}iq")
            self._answers[attributes["id"]].set_result((element if inner is None else inner).attrib["type"])


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionResetError:  # its end, as the component was stopped
        return b""


def _jid(user: str) -> str:
    return f"{user}@{DOMAIN}/scene"


def _stanza(child: str) -> str:
    return f"<message from='{DOMAIN}' to='{COMPONENT}'>{child}</message>"


def _copy(user: str, direction: str, message: str) -> str:
    return (
        f"<copy xmlns='{_FEED}' jid='{_jid(user)}' direction='{direction}'>"
        f"<forwarded xmlns='{_FORWARD}'>{message}</forwarded></copy>"
    )
