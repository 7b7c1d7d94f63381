"""What is played before the auditor looks: real clients, over TLS, talk and have their archive sealed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg2
from slixmpp import JID, ClientXMPP
from slixmpp.xmlstream import ET

from archive_crypt.audit.server import DOMAIN, USERS, Server
from archive_crypt.audit.words import Marker
from archive_crypt.core.dialect import F
from archive_crypt.core.xmlenc import write_key_value
from archive_crypt.crypto import opening
from archive_crypt.crypto.opening import PrivateKey

#: Seconds that any one step may take.
_PATIENCE = 60


class Scene:
    """Romeo's archive is sealed from the beginning, Juliet's is recorded in clear at first; the nurse is
    away, so that a message waits for her. `wrapped`: the EncryptedKeys there are, and what was in each."""

    def __init__(self, server: Server, dsn: str, private_key: PrivateKey) -> None:
        self.sealed, self.sealed_later, self.waiting = Marker(), Marker(), Marker()
        self.wrapped: list[tuple[bytes, bytes]] = []
        self._server = server
        self._dsn = dsn
        self._private_key = private_key
        self._clients: dict[str, ClientXMPP] = {}

    async def open(self) -> None:
        """Collections are open, and all that was said is durable."""
        with closing(psycopg2.connect(self._dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM owner; DELETE FROM item")
        await self._enter("romeo", "juliet")
        await self._auto("romeo", encrypt=True)
        await self._auto("juliet", encrypt=False)
        await self._talk("romeo", "juliet", self.sealed_later.texts(), "garden")
        await self._auto("juliet", encrypt=True)
        for thread in ("orchard", "balcony"):
            await self._talk("romeo", "juliet", self.sealed.texts(), thread)
            await self._talk("juliet", "romeo", self.sealed.texts(), thread)
        self._say("juliet", "nurse", self.waiting.texts()[1], "hall")
        await self._list("juliet")
        await self._list("romeo")
        self.wrapped = self._keys()

    async def close(self) -> None:
        """Every collection is closed, one way or the other; the nurse has her message; some streams go on."""
        await self._enter("nurse", waiting=1)
        await self._ask("romeo", f"<auto xmlns='{F.namespace}' save='false'/>", "set")
        await self._leave("juliet")
        await self._list("romeo")
        await self._list("nurse")

    async def end(self) -> None:
        """Nobody is there any more."""
        for user in list(self._clients):
            await self._leave(user)

    async def _enter(self, *users: str, waiting: int = 0) -> None:
        await asyncio.gather(*(self._login(user, waiting) for user in users))

    async def _login(self, user: str, waiting: int) -> None:
        assert user in USERS
        client: Any = ClientXMPP(f"{user}@{DOMAIN}/scene", user)
        client.enable_direct_tls = False
        client.ca_certs = self._server.certificate
        self._clients[user] = client
        started = asyncio.ensure_future(client.wait_until("session_start", _PATIENCE))
        client.connect(host="127.0.0.1", port=self._server.port)
        await started
        heard = asyncio.ensure_future(client.wait_until("message", _PATIENCE)) if waiting else None
        client.send_presence()
        await client.get_roster()  # by its answer the server has our presence
        if heard is not None:
            await heard

    async def _leave(self, user: str) -> None:
        client: Any = self._clients.pop(user)
        await client.disconnect()
        sending = getattr(client, "_run_out_filters", None)
        if sending is not None:  # slixmpp's task that sends would outlive the loop
            sending.cancel()

    async def _talk(self, speaker: str, listener: str, texts: Sequence[str], thread: str) -> None:
        for text in texts:
            client = self._clients[listener]
            heard = asyncio.ensure_future(client.wait_until("message", _PATIENCE))
            self._say(speaker, listener, text, thread)
            await heard

    def _say(self, speaker: str, listener: str, text: str, thread: str) -> None:
        message = self._clients[speaker].make_message(JID(f"{listener}@{DOMAIN}"), text, mtype="chat")
        message["thread"] = thread
        message.send()

    async def _auto(self, user: str, *, encrypt: bool) -> None:
        public = self._private_key.public("auditor").rsa.public_numbers()
        modulus = public.n.to_bytes((public.n.bit_length() + 7) // 8, "big")
        key = write_key_value("auditor", modulus, public.e.to_bytes(3, "big"))
        sealing = f" encrypt='true'>{key}</auto>" if encrypt else "/>"
        await self._ask(user, f"<auto xmlns='{F.namespace}' save='true'{sealing}", "set")

    async def _list(self, user: str) -> None:
        """By its answer all that the user said is durable, and the buffers of his stream were used again."""
        await self._ask(user, f"<list xmlns='{F.namespace}'/>", "get")

    async def _ask(self, user: str, request: str, kind: str) -> None:
        iq: Any = self._clients[user].make_iq()
        iq["type"] = kind
        iq.xml.append(ET.fromstring(request))  # noqa: S314 - it is our own
        await iq.send(timeout=_PATIENCE)

    def _keys(self) -> list[tuple[bytes, bytes]]:
        with closing(psycopg2.connect(self._dsn)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT algorithm, cipher FROM encrypted_key")
            rows = [(algorithm, bytes(cipher)) for algorithm, cipher in cursor.fetchall()]
        return [(cipher, opening.unwrap(self._private_key, algorithm, cipher)) for algorithm, cipher in rows]
