"""What operators are given in contrib/ does what it says, with nothing besides but their own settings."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.core.dialect import DIALECTS
from tests.servers.kit import DOMAINS

_DELEGATED = "{*}delegation/{*}forwarded/{*}iq"


@pytest.mark.parametrize("namespace", DIALECTS)
@ensureDeferred
async def test_delegated(server, component, login, account, namespace):
    """The users' requests in each of the archive's namespaces come to the component, of both domains."""
    archive = await component()
    for domain in DOMAINS:
        if server.target.name == "ejabberd":
            await archive.announce(domain, namespace)
        user = await login(account(domain=domain))
        user.send(f"<iq type='get' id='l1'><list xmlns='{namespace}'/></iq>")
        asked = await archive.take(f"{_DELEGATED}/{{{namespace}}}list")
        assert asked.get("from") == domain
        assert asked.find(_DELEGATED).get("from") == user.jid


@ensureDeferred
async def test_wrong_secret(server, component):
    """Nobody is the archive who does not know the secret."""
    with pytest.raises(Exception, match="lost|closed|aborted"):
        await component(secret="a guess")
