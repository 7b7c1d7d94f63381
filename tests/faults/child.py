"""The service in a process of its own, as `archive-crypt serve` runs it, but that it tells what it has
acknowledged: a line "ack OWNER BODY" for each message whose Deferred has fired with True.

It is told what to do by lines, too: `Orders`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

from twisted.internet import reactor, stdio
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineOnlyReceiver

from archive_crypt import serving
from archive_crypt.archiver import Archiver
from archive_crypt.config import load


class Telling:
    """Writes lines to the standard output, those of one turn of the reactor at once."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def say(self, line: str) -> None:
        if not self._lines:
            reactor.callLater(0, self._flush)
        self._lines.append(line)

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        data = "".join(f"{line}\n" for line in lines).encode()
        while data:
            data = data[os.write(1, data) :]


class Orders(LineOnlyReceiver):
    """``state``: what waits; ``jump SECONDS``: the clock is another from now on; ``limit OCTETS``: no file
    grows beyond it (-1: any size)."""

    delimiter = b"\n"

    def __init__(self, telling: Telling) -> None:
        self._telling = telling
        self.service = None

    def lineReceived(self, line: bytes) -> None:
        order, *rest = line.decode().split()
        getattr(self, f"_{order}")(*map(int, rest))

    def _state(self) -> None:
        archiver = self.service._archiver
        writer = archiver._works.writer
        spooling = writer.spooling
        state = {
            "octets": writer.octets,
            "records": spooling.records,
            "behind": spooling.behind,
            "away": writer.unavailable,
            "full": spooling.full,
            "load": archiver.load,
            "parked": writer.parked + spooling.parked,
            "late": spooling.late,
            "damaged": spooling.damaged,
            "counts": dict(archiver.counts),
        }
        self._telling.say(f"state {json.dumps(state)}")

    def _jump(self, seconds: int) -> None:
        now = time.time_ns
        time.time_ns = lambda: now() + seconds * 10**9
        self._telling.say("done")

    def _limit(self, octets: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (octets, -1))
        self._telling.say("done")


def watched(telling: Telling) -> None:
    """Have the archive tell what it acknowledges."""
    record = Archiver.message

    def message(self, jid, direction, element, when):
        who, body = jid.userhost(), str(element.body)

        def told(archived):
            if archived:
                telling.say(f"ack {who} {body}")
            return archived

        return record(self, jid, direction, element, when).addCallback(told)

    Archiver.message = message


def main() -> None:
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    telling = Telling()
    watched(telling)
    orders = Orders(telling)

    def started(service) -> None:
        orders.service = service
        stdio.StandardIO(orders, stdout=os.open(os.devnull, os.O_WRONLY))
        port = service.address.port if service.address is not None else 0
        telling.say(f"started {port}")

    serving.run(load(Path(sys.argv[1])), started)


if __name__ == "__main__":
    main()
