"""One run of the audit: servers of all variants, looked into while collections are open and afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from archive_crypt.audit import control, memory, words
from archive_crypt.audit.beside import Beside
from archive_crypt.audit.clients import Clients
from archive_crypt.audit.memory import Kind, Needles, Sight
from archive_crypt.audit.scene import Scene, Stage
from archive_crypt.audit.server import Server, Variant
from archive_crypt.crypto import opening, traces
from archive_crypt.crypto.envelope import RSA_OAEP

#: What is looked for: of keys, and of texts. One text is where it should be found: it waits for its reader.
KEY, AS_TEXT, EXPANDED, MESSAGE = "data key", "data key as text", "AES round keys", "encoded message of RSA"
KEYS = (KEY, AS_TEXT, EXPANDED, MESSAGE)
SEALED, SEALED_LATER, WAITING = "text, sealed at once", "text, in clear at first", "text that waits"
TEXTS = (SEALED, SEALED_LATER)

#: What memfd_secret(2) maps, and nobody can read.
_UNREADABLE = "secretmem"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look into a process found, as copies by name. `in_pages`: data keys in pages for keys; `core`:
    what is in a core dump, None if none was made; `unread`: mappings, other than memfd_secret's, that could
    not be read."""

    found: dict[str, int]
    in_pages: int
    core: dict[str, int] | None
    unread: list[str]
    octets: int

    def copies(self, names: Iterable[str]) -> int:
        """Of all of these, in memory outside pages for keys, and in the core dump."""
        core = self.core or {}
        return sum(self.found[name] + core.get(name, 0) for name in names)


@dataclass(frozen=True, slots=True)
class Audited:
    """One server: how many data keys it had, and what was seen."""

    variant: Variant
    keys: int
    open: Look
    closed: Look


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `control`: the copies of a key that a process keeps the plain way."""

    control: dict[str, int]
    servers: list[Audited] = field(default_factory=list)


class Auditor:
    """Holds the private key that everything is sealed for, and so knows every data key. `say` is told what
    is being done; `cores`: whether core dumps are made, too, which takes most of the time."""

    def __init__(
        self, folder: Path, dsn: str, say: Callable[[str], None] = lambda _: None, *, cores: bool = True
    ) -> None:
        self._folder = folder
        self._dsn = dsn
        self._say = say
        self._cores = cores
        self._private_key = opening.generate(2048)

    async def run(self, variants: Iterable[Variant]) -> Run:
        """Look into a server of each variant.

        :raises PermissionError: nobody may look into another process here.
        """
        run = Run(self._control())
        for variant in variants:
            self._say(variant.name)
            run.servers.append(await self._audit(variant))
        return run

    def _control(self) -> dict[str, int]:
        with control.running(self._private_key.public()) as (pid, wrapped):
            key = opening.unwrap(self._private_key, RSA_OAEP, wrapped)
            sight = memory.search_process(pid, Needles(self._of_keys([(wrapped, key)])))
        return _copies(sight, KEYS)

    async def _audit(self, variant: Variant) -> Audited:
        beside = Beside()
        port = await beside.listen() if variant.component else 0
        with Server(self._folder, self._dsn, variant, beside=port) as server:
            stage: Stage = beside if variant.component else Clients(server)
            scene = Scene(stage, self._dsn, self._private_key)
            try:
                await scene.open()
                needles = Needles(self._of_keys(scene.wrapped) | _of_texts(scene))
                while_open = self._look(server, needles)
                await scene.close()
                closed = self._look(server, needles)
            finally:
                await stage.end()
        return Audited(variant, len(scene.wrapped), while_open, closed)

    def _of_keys(self, wrapped: list[tuple[bytes, bytes]]) -> dict[Kind, list[bytes]]:
        needles: dict[Kind, list[bytes]] = {}
        for number, (cipher, key) in enumerate(wrapped):
            needles[KEY, number] = traces.of_octets(key)
            needles[AS_TEXT, number] = traces.of_text(key)
            needles[EXPANDED, number] = traces.of_expanded(key)
            needles[MESSAGE, number] = traces.of_wrapping(self._private_key, cipher)
        return needles

    def _look(self, server: Server, needles: Needles) -> Look:
        names = (*KEYS, *TEXTS, WAITING)
        core = _look_at_core(server, needles, names) if self._cores else None
        with server.stopped():
            sight = memory.search_process(server.pid, needles)
        unread = [name for name in sight.hidden if _UNREADABLE not in name]
        in_pages = sight.copies(KEY, words.GAP, for_keys=True)
        return Look(_copies(sight, names), in_pages, core, unread, sight.octets)


def _of_texts(scene: Scene) -> dict[Kind, list[bytes]]:
    markers = {SEALED: scene.sealed, SEALED_LATER: scene.sealed_later, WAITING: scene.waiting}
    return {(name, 0): marker.needles for name, marker in markers.items()}


def _look_at_core(server: Server, needles: Needles, names: Iterable[str]) -> dict[str, int] | None:
    path = server.core()
    if path is None:
        return None
    try:
        return _copies(memory.search_file(path, needles), names)
    finally:
        path.unlink()


def _copies(sight: Sight, names: Iterable[str]) -> dict[str, int]:
    return {name: sight.copies(name, words.GAP, for_keys=False) for name in names}
