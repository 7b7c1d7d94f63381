"""The archive itself beside a test server: the service as an operator starts it, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lxml import etree
from twisted.internet.task import deferLater

from archive_crypt.config import Config, load
from archive_crypt.core.dialect import F
from archive_crypt.tap import ArchiveService
from tests.kit import key_info, opened
from tests.servers.base import COMPONENT, DOMAINS, SECRET, Server
from tests.servers.client import Client
from tests.servers.process import PATIENCE


def written(server: Server, dsn: str, folder: Path, more: str = "") -> Path:
    """The component's file for that server."""
    secret = folder / "secret"
    secret.write_text(f"{SECRET}\n")
    path = folder / "archive_crypt.toml"
    domains = ", ".join(f'"{domain}"' for domain in DOMAINS)
    path.write_text(
        f'[database]\ndsn = "{dsn}"\n'
        f'[component]\njid = "{COMPONENT}"\ndomains = [{domains}]\n'
        f'port = {server.component_port}\nsecret_file = "{secret}"\n{more}'
    )
    return path


class Archive:
    """The service beside one server. It may be stopped and started again."""

    def __init__(self, path: Path) -> None:
        self.config: Config = load(path)
        self.service: Any = None

    async def start(self) -> None:
        """Start it; when this returns the server feeds it, delegates to it and lets it speak for users."""
        from twisted.internet import reactor

        self.service = ArchiveService(self.config, reactor)
        self.service.startService()
        await self.settled()

    async def stop(self) -> None:
        await self.service.stopService()

    async def settled(self) -> None:
        """When everything works."""
        assert self.config.component is not None
        await until(lambda: self.host.connected and not any(map(self.host.lacking, DOMAINS)))

    @property
    def host(self) -> Any:
        return self.service._server

    @property
    def archiver(self) -> Any:
        return self.service._archiver

    def archived(self) -> int:
        """Copies that were archived so far."""
        return int(self.archiver.counts["archived"])


async def until(true: Callable[[], Any]) -> None:
    """When `true` says so, which nothing tells of by itself."""
    from twisted.internet import reactor

    end = reactor.seconds() + PATIENCE
    while not true():
        assert reactor.seconds() < end, "waited in vain"
        await deferLater(reactor, 0.01)


async def record(client: Client, *keys: Any, encrypt: bool = True, scope: str = "stream") -> None:
    """Turn automatic archiving on, sealed for these (private key, name) pairs."""
    infos = "".join(key_info(key, name) for key, name in keys)
    flag = " encrypt='true'" if encrypt else ""
    auto = f"<auto xmlns='{F.namespace}' save='true' scope='{scope}'{flag}>{infos}</auto>"
    answer = await client.ask(auto, "set")
    assert answer.get("type") == "result", etree.tostring(answer)


async def collections(client: Client, **attributes: str) -> list[etree._Element]:
    """The <chat/> elements of a list."""
    text = "".join(f" {name}='{value}'" for name, value in attributes.items())
    answer = await client.ask(f"<list xmlns='{F.namespace}'{text}/>")
    return list(answer.findall(f".//{{{F.namespace}}}chat"))


async def page(client: Client, shown: etree._Element) -> etree._Element:
    """One page of a collection that was listed."""
    where = f"with='{shown.get('with')}' start='{shown.get('start')}'"
    answer = await client.ask(f"<retrieve xmlns='{F.namespace}' {where}/>")
    return answer[0]


async def words(client: Client, key: Any = None) -> list[tuple[str, str]]:
    """All that is in a user's archive, opened with a private key, oldest first: 'to' or 'from', and the body."""
    found = []
    for shown in await collections(client):
        chat = await page(client, shown)
        if key is None:
            for item in (*chat.findall("{*}to"), *chat.findall("{*}from")):
                found.append((etree.QName(item).localname, item.findtext("{*}body")))
        else:
            found += [(item.kind, item.bodies[0][1]) for item in opened(chat, key) if item is not None]
    return found


def refused(answer: etree._Element) -> str | None:
    """The condition of an error; None if it is none."""
    if answer.get("type") != "error":
        return None
    return str(etree.QName(answer.find("{*}error")[0]).localname)
