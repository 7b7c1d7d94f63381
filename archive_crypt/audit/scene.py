"""What is played before the auditor looks, on whatever stage: users talk and have their archive sealed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Literal, Protocol

import psycopg2

from archive_crypt.audit.words import Marker
from archive_crypt.core.dialect import F
from archive_crypt.core.xmlenc import write_key_value
from archive_crypt.crypto import opening
from archive_crypt.crypto.opening import PrivateKey

LIST = f"<list xmlns='{F.namespace}'/>"


class Stage(Protocol):
    """How users and the server are brought together. Every method is over when the server has done it."""

    async def enter(self, user: str) -> None:
        """A user logs in."""

    async def leave(self, user: str) -> None:
        """He logs out."""

    async def ask(self, user: str, kind: Literal["get", "set"], request: str) -> None:
        """He asks for something of his archive, and has a result."""

    async def talk(self, speaker: str, listener: str, texts: Sequence[str], thread: str) -> None:
        """Messages are said, and delivered."""

    async def begin_to_wait(self, text: str) -> None:
        """The server has a message that it cannot be done with yet; nothing else can be asked of it."""

    async def end_to_wait(self) -> None:
        """It is done with that message."""

    async def end(self) -> None:
        """Nobody is there any more."""


class Scene:
    """Romeo's archive is sealed from the beginning, Juliet's is recorded in clear at first. `wrapped`: the
    EncryptedKeys there are, and what was in each."""

    def __init__(self, stage: Stage, dsn: str, private_key: PrivateKey) -> None:
        self.sealed, self.sealed_later, self.waiting = Marker(), Marker(), Marker()
        self.wrapped: list[tuple[bytes, bytes]] = []
        self._stage = stage
        self._dsn = dsn
        self._private_key = private_key

    async def open(self) -> None:
        """Collections are open, and all that was said is durable."""
        with closing(psycopg2.connect(self._dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM owner; DELETE FROM item")
        stage = self._stage
        for user in ("romeo", "juliet"):
            await stage.enter(user)
        await self._auto("romeo", encrypt=True)
        await self._auto("juliet", encrypt=False)
        await stage.talk("romeo", "juliet", self.sealed_later.texts(), "garden")
        await self._auto("juliet", encrypt=True)
        for thread in ("orchard", "balcony"):
            await stage.talk("romeo", "juliet", self.sealed.texts(), thread)
            await stage.talk("juliet", "romeo", self.sealed.texts(), thread)
        await stage.ask("juliet", "get", LIST)  # what was said is durable then
        # The last thing on her stream: no later stanza is written over it.
        await stage.talk("juliet", "romeo", self.sealed.texts()[1:2], "orchard")
        await stage.ask("romeo", "get", LIST)
        await stage.begin_to_wait(self.waiting.texts()[1])
        self.wrapped = self._keys()

    async def close(self) -> None:
        """Every collection is closed, one way or the other, and nothing waits; Romeo's stream goes on."""
        await self._stage.end_to_wait()
        await self._stage.ask("romeo", "set", f"<auto xmlns='{F.namespace}' save='false'/>")
        await self._stage.leave("juliet")
        await self._stage.ask("romeo", "get", LIST)

    async def _auto(self, user: str, *, encrypt: bool) -> None:
        public = self._private_key.public("auditor").rsa.public_numbers()
        modulus = public.n.to_bytes((public.n.bit_length() + 7) // 8, "big")
        key = write_key_value("auditor", modulus, public.e.to_bytes(3, "big"))
        sealing = f" encrypt='true'>{key}</auto>" if encrypt else "/>"
        await self._stage.ask(user, "set", f"<auto xmlns='{F.namespace}' save='true'{sealing}")

    def _keys(self) -> list[tuple[bytes, bytes]]:
        with closing(psycopg2.connect(self._dsn)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT algorithm, cipher FROM encrypted_key")
            rows = [(algorithm, bytes(cipher)) for algorithm, cipher in cursor.fetchall()]
        return [(cipher, opening.unwrap(self._private_key, algorithm, cipher)) for algorithm, cipher in rows]
