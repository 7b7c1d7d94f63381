"""The stage of the embedded server: real clients of its users, over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from slixmpp import JID, ClientXMPP
from slixmpp.xmlstream import ET

from archive_crypt.audit.scene import LIST
from archive_crypt.audit.server import DOMAIN, PATIENCE, Server


class Clients:
    """The clients of one server. What waits there is a message for the nurse, until she logs in."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._clients: dict[str, ClientXMPP] = {}

    async def enter(self, user: str) -> None:
        client: Any = ClientXMPP(f"{user}@{DOMAIN}/scene", user)
        client.enable_direct_tls = False
        client.ca_certs = self._server.certificate
        self._clients[user] = client
        started = asyncio.ensure_future(client.wait_until("session_start", PATIENCE))
        client.connect(host="127.0.0.1", port=self._server.port)
        await started
        client.send_presence()
        await client.get_roster()  # by its answer the server has our presence

    async def leave(self, user: str) -> None:
        client: Any = self._clients.pop(user)
        await client.disconnect()
        sending = getattr(client, "_run_out_filters", None)
        if sending is not None:  # slixmpp's task that sends would outlive the loop
            sending.cancel()

    async def ask(self, user: str, kind: Literal["get", "set"], request: str) -> None:
        iq: Any = self._clients[user].make_iq()
        iq["type"] = kind
        iq.xml.append(ET.fromstring(request))  # noqa: S314 - it is our own
        await iq.send(timeout=PATIENCE)

    async def talk(self, speaker: str, listener: str, texts: Sequence[str], thread: str) -> None:
        for text in texts:
            client = self._clients[listener]
            heard = asyncio.ensure_future(client.wait_until("message", PATIENCE))
            self._say(speaker, listener, text, thread)
            await heard

    async def begin_to_wait(self, text: str) -> None:
        self._say("romeo", "nurse", text, "hall")
        await self.ask("romeo", "get", LIST)

    async def end_to_wait(self) -> None:
        await self.enter("nurse")
        await self.ask("nurse", "get", LIST)

    async def end(self) -> None:
        for user in list(self._clients):
            await self.leave(user)

    def _say(self, speaker: str, listener: str, text: str, thread: str) -> None:
        message = self._clients[speaker].make_message(JID(f"{listener}@{DOMAIN}"), text, mtype="chat")
        message["thread"] = thread
        message.send()
