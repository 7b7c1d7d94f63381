"""``make demo``: the main job, told as a story. A program of its own that uses the others from
outside, as an operator and two users would; every step ends it if it does not come out right.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from slixmpp import JID, ClientXMPP

from archive_crypt.hosts.postgres import EmbeddedPostgres
from archive_crypt.trial import postgres_folder

DIALOGUE = (
    ("romeo", "He jests at scars that never felt a wound."),
    ("romeo", "But soft, what light through yonder window breaks?"),
    ("juliet", "How camest thou hither, tell me, and wherefore?"),
    ("romeo", "With love's light wings did I o'erperch these walls."),
    ("juliet", "If they do see thee, they will murder thee."),
    ("romeo", "I have night's cloak to hide me from their sight."),
)
#: Seconds that any one step may take.
_PATIENCE = 60


class Failed(Exception):
    """The story did not go as it should; says where."""


def main() -> int:
    """Tell it; 0 if all came out as it should."""
    folder = Path(tempfile.mkdtemp(prefix="archive-crypt-demo-"))
    try:
        asyncio.run(_tell(folder))
    except Failed as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    finally:
        EmbeddedPostgres(postgres_folder(folder / "data")).destroy()  # as root, it is elsewhere
        shutil.rmtree(folder, ignore_errors=True)
    return 0


async def _tell(folder: Path) -> None:
    data, key = folder / "data", folder / "romeo.pem"
    _chapter("A server starts: XMPP with TLS, and a PostgreSQL of its own")
    with _server(data) as where:
        print(f"    xmpp  127.0.0.1 port {where['port']}, domain {where['domain']}")
        print(f"    users {', '.join(where['users'])}")
        reader = _Reader(where, folder)

        _chapter("Romeo makes a key pair. The private half stays with him; the server never has it")
        reader.runs("keygen", "--out", str(key), "--no-passphrase")

        _chapter("Romeo asks for an encrypted archive (XEP-0241, section 3)")
        reader.runs("enable", "romeo@localhost", "--key", str(key))

        _chapter("Romeo and Juliet talk, with two real clients, over TLS, logged in by SCRAM")
        await _talk(where)

        _chapter("What PostgreSQL holds of it")
        _show_rows(where["dsn"])

        _chapter("Is any word of it anywhere in the database, or in any file of the server?")
        _search(where["dsn"], data)

        _chapter("Romeo reads it back, with his private key")
        reader.runs("list", "romeo@localhost")
        said = reader.runs("read", "romeo@localhost", "--key", str(key))
        missing = [text for _, text in DIALOGUE if text not in said]
        if missing:
            raise Failed(f"{len(missing)} line(s) did not come back")

        _chapter("Somebody with another key sees that there is something, and no more")
        other = folder / "other.pem"
        reader.runs("keygen", "--out", str(other), "--no-passphrase", quiet=True)
        guessed = reader.runs("read", "romeo@localhost", "--key", str(other), expected=4)
        if any(text in guessed for _, text in DIALOGUE):
            raise Failed("another key opened it")
        _chapter("The server stops: collections closed, data keys destroyed")
    print("\nThat was the main job. Try it yourself: make run")


def _chapter(title: str) -> None:
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n== {title}", flush=True)


@contextmanager
def _server(data: Path) -> Iterator[dict[str, Any]]:
    """``archive-crypt run`` in a process of its own; what it says of itself."""
    command = [sys.executable, "-m", "archive_crypt.cli", "run", "--json", "--port", "0", "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise Failed("the server did not start")
            yield json.loads(line)
        finally:
            process.terminate()
            code = process.wait(_PATIENCE)
    if code:
        raise Failed(f"the server ended with exit code {code}")


class _Reader:
    """Runs ``archive-reader`` and shows what it says."""

    def __init__(self, where: dict[str, Any], folder: Path) -> None:
        self._connection = [
            *("--host", where["host"], "--port", str(where["port"]), "--ca", where["certificate"])
        ]
        self._environment = {
            **os.environ,
            "ARCHIVE_READER_PASSWORD": "romeo",
            "XDG_CONFIG_HOME": str(folder / "config"),
        }

    def runs(self, command: str, *arguments: str, expected: int = 0, quiet: bool = False) -> str:
        """The command's output, which is also printed unless `quiet`."""
        options = [] if command == "keygen" else self._connection
        if not quiet:
            print(f"    $ archive-reader {command} {' '.join(arguments)}", flush=True)
        done = subprocess.run(  # noqa: S603 - our own
            [sys.executable, "-m", "archive_crypt.reader.cli", command, *arguments, *options],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PATIENCE,
        )
        if not quiet:
            print("".join(f"    {line}\n" for line in done.stdout.splitlines()), end="", flush=True)
        if done.returncode != expected:
            raise Failed(f"archive-reader {command} ended with exit code {done.returncode}")
        return done.stdout


async def _talk(where: dict[str, Any]) -> None:
    clients = {user: await _log_in(where, user) for user in ("romeo", "juliet")}
    for speaker, text in DIALOGUE:
        listener = "juliet" if speaker == "romeo" else "romeo"
        heard = asyncio.ensure_future(clients[listener].wait_until("message", _PATIENCE))
        clients[speaker].send_message(JID(f"{listener}@{where['domain']}"), text, mtype="chat")
        message = await heard
        if message["body"] != text:
            raise Failed("a message did not arrive")
        print(f"    {speaker:>7}: {text}", flush=True)
    for client in clients.values():
        await client.disconnect()


async def _log_in(where: dict[str, Any], user: str) -> Any:
    client: Any = ClientXMPP(f"{user}@{where['domain']}", user)
    client.enable_direct_tls = False
    client.ca_certs = Path(where["certificate"])
    started = asyncio.ensure_future(client.wait_until("session_start", _PATIENCE))
    client.connect(host=where["host"], port=where["port"])
    await started
    client.send_presence()
    await client.get_roster()  # by its answer the server has our presence
    print(f"    {user} is here: {client.socket.version()}, {client.plugin['feature_mechanisms'].mech.name}")
    return client


def _show_rows(dsn: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT o.jid, c.with_, to_timestamp(c.start / 1e6), i.number, octet_length(i.content),"
            " encode(substr(i.content, 1, 24), 'hex')"
            " FROM item i JOIN collection c ON c.owner = i.owner AND c.id = i.collection"
            " JOIN owner o ON o.id = i.owner ORDER BY c.start, i.number"
        )
        for jid, with_, start, number, octets, head in cursor.fetchall():
            print(f"    {jid}  with {with_[:24]}  {start:%H:%M:%S}  item {number}: {octets} octets {head}...")
        if not cursor.rowcount:
            raise Failed("nothing was archived")


def _search(dsn: str, data: Path) -> None:
    words = [text for _, text in DIALOGUE] + ["wherefore", "murder", "o'erperch", "night's cloak"]
    rows, found = search_tables(dsn, words)
    files, also = search_files(data, words)
    print(f"    {rows} rows of all tables, as text and as octets: found {len(found)} times")
    print(f"    {files} files under the server's data folder: found {len(also)} times")
    # The search is worth nothing if it cannot find: whom he spoke with is in clear, and said so.
    _, known = search_tables(dsn, ["juliet@localhost"])
    _, known_in_files = search_files(data, ["juliet@localhost"])
    print(f"    (the same for juliet@localhost, which is not secret: {len(known)} and {len(known_in_files)})")
    if found or also or not known or not known_in_files:
        raise Failed("the search did not come out as it should")


def search_tables(dsn: str, words: list[str]) -> tuple[int, list[str]]:
    """(rows searched, where a word was found): every row of every table, its octets as well."""
    rows, found = 0, []
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        for (table,) in cursor.fetchall():
            cursor.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
            for (text,) in cursor.fetchall():
                rows += 1
                found += [table for word in words if _is_in(text, word)]
    return rows, found


def search_files(folder: Path, words: list[str]) -> tuple[int, list[str]]:
    """(files searched, which of them hold a word), links followed."""
    files, found = 0, []
    for path, _, names in os.walk(folder, followlinks=True):
        for name in names:
            file = Path(path, name)
            if file.is_file():
                files += 1
                content = file.read_bytes().lower()
                found += [str(file) for word in words if word.lower().encode() in content]
    return files, found


def _is_in(row: str, word: str) -> bool:
    """A row as text shows octets in hexadecimal."""
    text = row.lower()
    return word.lower() in text or word.encode().hex() in text or word.lower().encode().hex() in text
