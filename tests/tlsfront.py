"""TLS before a real PostgreSQL, as PostgreSQL itself does it: the tests' own is built without OpenSSL.

A process of its own: psycopg2 holds the GIL while it cancels what a connection does.
"""

import asyncio
import ssl
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from psycopg2.extensions import make_dsn, parse_dsn

from archive_crypt.hosts.tls import certificate_path, server_tls

#: "May we speak TLS?" (SSLRequest); and "stop what that other connection does" (CancelRequest), which libpq
#: says in clear.
_ASKS, _CANCELS = struct.pack("!ii", 8, 80877103), struct.pack("!ii", 16, 80877102)


class Front:
    """Listens on the loopback, before the database of `dsn`. `folder` has the certificate of localhost; None:
    it offers no TLS. What clients say to it after that goes to `log`."""

    def __init__(self, dsn, folder, log):
        self._dsn, self._log = dsn, log
        paths = [] if folder is None else [certificate(folder), str(folder / "localhost.key")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tlsfront", parse_dsn(dsn)["host"], str(log), *paths],
            stdout=subprocess.PIPE,
        )
        self._port = int(self._process.stdout.readline())

    @property
    def heard(self):
        return self._log.read_bytes()

    def dsn(self, host="localhost", **more):
        """What a client is given to come this way, who thinks that he goes to `host`."""
        return make_dsn(self._dsn, host=host, hostaddr="127.0.0.1", port=self._port, **more)

    def close(self):
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()


def certificate(folder):
    """The path of a self-made certificate for localhost, made if there is none."""
    server_tls(folder, "localhost")
    return str(certificate_path(folder, "localhost"))


class _Serving:
    """The process: connections to the database in the folder `database`."""

    def __init__(self, database, log, *paths):
        self._database, self._context = f"{database}/.s.PGSQL.5432", None
        self._log = Path(log).open("wb", 0)  # noqa: SIM115 - as long as the process
        if paths:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*paths)

    async def run(self):
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _connected(self, reader, writer):
        """A client: whether it asks for TLS, then TLS, then all of it passed on."""
        with suppress(OSError, asyncio.IncompleteReadError):
            begins = await reader.readexactly(8)
            if begins == _CANCELS:
                await self._between(reader, writer, begins)
            elif self._context is None:
                writer.write(b"N")
                self._log.write(await reader.read())
            elif begins == _ASKS:
                writer.write(b"S")
                await writer.start_tls(self._context)
                await self._between(reader, writer)
        writer.close()

    async def _between(self, reader, writer, begins=b""):
        back, there = await asyncio.open_unix_connection(self._database)
        there.write(begins)
        await asyncio.gather(self._pass_on(reader, there, self._log), self._pass_on(back, writer))

    @staticmethod
    async def _pass_on(reader, writer, log=None):
        with suppress(OSError):
            while data := await reader.read(65536):
                if log is not None:
                    log.write(data)
                writer.write(data)
                await writer.drain()
        writer.close()


if __name__ == "__main__":
    asyncio.run(_Serving(*sys.argv[1:]).run())
