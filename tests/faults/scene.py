"""Where a fault happens: an archive beside a database, people who talk through it, and their archives judged
when all is well again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults

from tests.faults.people import DOMAIN, Person, judged, pause, read
from tests.faults.process import PATIENCE, Acknowledged, Archive, Database

#: Pairs of people who talk to each other.
_PAIRS = 5


class Result:
    """What a fault did: `said` counts messages, the others copies of them (each is archived for both)."""

    def __init__(self) -> None:
        self.said = self.acknowledged = self.lost = self.doubled = self.disordered = 0
        self.wrong: list[str] = []

    def add(self, judged: tuple[int, int, int]) -> None:
        """One archive more, as `judged`."""
        self.lost, self.doubled, self.disordered = (
            mine + more for mine, more in zip((self.lost, self.doubled, self.disordered), judged, strict=True)
        )

    @property
    def numbers(self) -> tuple[int, int, int, int, int]:
        """All there is to count."""
        return self.said, self.acknowledged, self.lost, self.doubled, self.disordered

    @property
    def well(self) -> bool:
        return not (self.lost or self.doubled or self.disordered or self.wrong)


class Scene:
    """One round, with people nobody has met before."""

    def __init__(self, folder: Path, database: Database, number: int, most_spooled: int = 2**30) -> None:
        self.folder, self.database = folder, database
        self.spool = folder / "spool"
        names = [f"r{number}u{n}" for n in range(2 * _PAIRS)]
        config = folder / f"round{number}.toml"
        config.write_text(self._config(names, most_spooled))
        self._acknowledged = Acknowledged(folder / f"round{number}.acknowledged")
        self.archive = Archive(config, folder / "archive.log", self._acknowledged)
        self._names, self._people = names, []

    async def begins(self) -> None:
        """People have come, and begin to talk."""
        await self.archive.start()
        self._people = [Person(self.archive, name, self._peer(name)) for name in self._names]
        while not all(person.records for person in self._people):
            await pause(0.1)

    async def restarts(self) -> None:
        """The archive is killed, and started anew."""
        await self.archive.kill()
        await self.archive.start()

    async def ends(self) -> Result:
        """All is well again, for a moment; then nobody talks any more: what is in the archives."""
        await pause(1)
        result = Result()
        await gatherResults([Deferred.fromCoroutine(person.falls_silent()) for person in self._people])
        await settles(self.archive, result)
        for person in self._people:
            await person.comes()
            result.add(judged(person.jid, await read(person.ask), self._acknowledged.said))
            result.said += person.said
            person.leaves()
        result.acknowledged = len(self._acknowledged.said)
        await self.archive.ends(result)
        self._acknowledged.close()
        return result

    def limit(self) -> int:
        """Octets beyond which the files of the spool do not have to grow much to be full."""
        sizes = [os.stat(f"{self.spool}{end}").st_size for end in ("", "-wal")]
        return max(sizes) + 50_000

    def _peer(self, name: str) -> str:
        place = self._names.index(name)
        return self._names[place + 1 if place % 2 == 0 else place - 1]

    def _config(self, names: list[str], most_spooled: int) -> str:
        users = "".join(f"{name} = '{name}'\n" for name in names)
        return (
            f"[database]\ndsn = {json.dumps(self.database.dsn)}\nspool = '{self.spool}'\n"
            f"spool_octets = {min(most_spooled, 2**31 - 1)}\n"
            f"[host]\ndomain = '{DOMAIN}'\nport = 0\ndata = '{self.folder}'\n[host.users]\n{users}"
        )


async def settles(archive: Archive, result: Result) -> None:
    """All that waited is written; what is not as it should be is `wrong` with the result."""
    for _ in range(PATIENCE * 5):
        state = await archive.state()
        if not state["octets"] and not state["behind"]:
            break
        await pause(0.2)
    else:
        result.wrong.append(f"{state['records']} record(s) stay in the spool")
    result.wrong += [f"{state[what]} {what}" for what in ("parked", "late", "damaged") if state[what]]
