"""What operators are given in contrib/ and told in docs/ does what it says, with nothing besides but their
own settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from textwrap import indent

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from archive_crypt.core.dialect import DIALECTS
from tests.servers.documents import blocks
from tests.servers.kit import CONTRIB, DOMAINS, SECRET, Process
from tests.servers.targets import PROJECT

_DELEGATED = "{*}delegation/{*}forwarded/{*}iq"
_DISCO = "http://jabber.org/protocol/disco#info"
#: How each make's configuration is without our module.
_WITHOUT_MODULE = {
    "ejabberd": ("    mod_archive_feed:\n      component: archive.capulet.lit\n", ""),
    "prosody": (', "archive_feed" }', " }"),
}


@pytest.fixture
def command(dsn, tmp_path):
    """A function that gives the command line of ``archive-crypt`` beside a server, with the file that
    docs/component.rst has and more lines below it."""

    def line(name, server, port, *options, more=""):
        text = blocks("component.rst", "toml")[0]
        ours = {
            "postgresql:///archive": dsn,
            "/var/lib/archive-crypt/spool": str(tmp_path / "spool"),
            "5347": str(port),
            "/run/credentials/archive-crypt.service/archive-crypt.secret": str(tmp_path / "secret"),
        }
        for theirs, own in ours.items():
            text = _replaced(text, theirs, own)
        (tmp_path / "secret").write_text(SECRET)
        (tmp_path / "archive-crypt.toml").write_text(text + more)
        return [
            sys.executable,
            "-m",
            "archive_crypt.cli",
            name,
            "--config",
            tmp_path / "archive-crypt.toml",
            *options,
        ]

    return line


@pytest.mark.parametrize(
    ("document", "language", "file"),
    [("ejabberd.rst", "yaml", "ejabberd/archive.yml"), ("prosody.rst", "lua", "prosody/archive.cfg.lua")],
)
def test_documented(document, language, file):
    """The configuration in the document is the file that is given."""
    assert (CONTRIB / file).read_text() in blocks(document, language)


@pytest.mark.parametrize("namespace", DIALECTS)
@ensureDeferred
async def test_delegated(server, component, login, account, namespace):
    """The users' requests in each of the archive's namespaces come to the component, of both domains."""
    archive = await component()
    for domain in DOMAINS:
        await _is_delegated(server, archive, await login(account(domain=domain)), namespace)


@ensureDeferred
async def test_delegated_without_module(serve, component, login):
    """Without our module users still reach their archive."""
    server = serve(lambda text: _replaced(text, *_WITHOUT_MODULE[serve.target.name]))
    archive = await component(at=server)
    await _is_delegated(server, archive, await login("juliet@capulet.lit", at=server), "urn:xmpp:archive")
    assert not [
        stanza for stanza in archive.inbox.stanzas if "feed" in (stanza[0].tag if len(stanza) else "")
    ]


@ensureDeferred
async def test_wrong_secret(server, component):
    """Nobody is the archive who does not know the secret."""
    with pytest.raises(Exception, match="lost|closed|aborted"):
        await component(secret="a guess")


@ensureDeferred
async def test_tls(serve, command):
    """With what the documents add to either side, the component speaks TLS to its server."""
    server = serve(_EDITS_FOR_TLS[serve.target.name])
    told = blocks("component.rst", "toml")[-1]
    more = (
        _replaced(told, "xmpp.capulet.lit", "localhost") + f'certificate_authority = "{server.certificate}"'
    )
    assert await _findings(command("check", server, server.component_tls_port, "--json", more=more)) == []


@ensureDeferred
async def test_check_and_serve(serve, command, login, tmp_path):
    """``check`` finds nothing wrong, and leaves nothing behind: the service that is started then is announced."""
    server = serve()
    assert await _findings(command("check", server, server.component_port, "--json")) == []
    service = Process(
        command("serve", server, server.component_port), os.environ | {"PYTHONPATH": str(PROJECT)}, tmp_path
    )
    try:
        for domain in DOMAINS:
            await deferToThread(service.wait_for, f"{domain} is fed by ")
        user = await login("juliet@capulet.lit", at=server)
        for place in ("capulet.lit", user.bare):
            await _announces(user, place, {dialect.feature("auto") for dialect in DIALECTS.values()})
    finally:
        await deferToThread(service.stop)


async def _announces(user, place, wanted):
    """The server asks a new component what it is to announce: nobody is told when it has been answered."""
    for _ in range(100):
        info = await user.ask(f"<query xmlns='{_DISCO}'/>", to=place)
        announced = {feature.get("var") for feature in info.iter(f"{{{_DISCO}}}feature")}
        if wanted <= announced:
            return
        await deferLater(reactor, 0.1)
    raise AssertionError(f"{place} announces nothing but {announced}")


async def _findings(command):
    """What ``archive-crypt check`` finds to be wrong."""
    done = await deferToThread(subprocess.run, command, capture_output=True, text=True, check=False)
    return [finding for finding in json.loads(done.stdout) if not finding["ok"]]


async def _is_delegated(server, archive, user, namespace):
    domain = user.xmpp.boundjid.domain
    if server.target.name == "ejabberd":
        await archive.announce(domain, namespace)
    user.send(f"<iq type='get' id='l1'><list xmlns='{namespace}'/></iq>")
    asked = await archive.take(f"{_DELEGATED}/{{{namespace}}}list", domain)
    assert asked.find(_DELEGATED).get("from") == user.jid


def _ejabberd_with_tls(text):
    added = blocks("ejabberd.rst", "yaml")[-1]
    listener = "    module: ejabberd_service\n"
    return _replaced(text, listener, listener + indent(added, "    "))


def _prosody_with_tls(text):
    with_module = _replaced(
        text, '{ "delegation", "privilege" }', '{ "delegation", "privilege", "net_multiplex" }'
    )
    return blocks("prosody.rst", "lua")[-1] + with_module


_EDITS_FOR_TLS = {"ejabberd": _ejabberd_with_tls, "prosody": _prosody_with_tls}


def _replaced(text, old, new):
    assert old in text
    return text.replace(old, new)
