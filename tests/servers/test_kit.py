"""The servers run, and users log in: what the other tests here stand on."""

from __future__ import annotations

from pytest_twisted import ensureDeferred


@ensureDeferred
async def test_messages(server, login):
    """Users of both domains log in and talk, in clear where the test wants it so."""
    juliet, romeo = await login("juliet@capulet.lit/chamber"), await login("romeo@montague.lit/garden")
    romeo.say(juliet.bare, "wherefore")
    assert (await juliet.message("wherefore"))["from"] == romeo.jid


@ensureDeferred
async def test_tls(server, login):
    """Users of both domains log in by SCRAM inside TLS, and their domain's certificate is verified."""
    for user in ("juliet@capulet.lit", "romeo@montague.lit"):
        client = await login(user, tls=True)
        assert client.xmpp.socket.version() == "TLSv1.3"
        assert client.xmpp.plugin["feature_mechanisms"].mech.name.startswith("SCRAM-")


@ensureDeferred
async def test_resumed(server, login, account):
    """A stream that lost its connection is resumed, and what was sent meanwhile arrives on it."""
    juliet, nurse = await login(account("juliet"), resumes=True), await login("nurse@capulet.lit")
    before = juliet.jid
    await juliet.abort()
    nurse.say(juliet.bare, "while you were away")
    await nurse.settled()
    await juliet.connect(until="session_resumed")
    assert (await juliet.message("while you were away"))["to"].bare == juliet.bare
    assert juliet.jid == before


@ensureDeferred
async def test_started_again(serve, login):
    """A server that was killed comes back with its accounts, on its ports."""
    server = serve()
    server.kill()
    server.start()
    assert (await login("juliet@capulet.lit", at=server)).bare == "juliet@capulet.lit"
