"""Logging in: only over TLS that can be trusted, only by SCRAM, and every failure is one line and exit code 2."""

import asyncio
import ssl

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.protocol import Factory, Protocol

from archive_crypt.crypto.certificate import self_signed
from archive_crypt.hosts.tls import certificate_path, server_tls
from archive_crypt.reader import cli, connection
from archive_crypt.reader.connection import Account, Connection
from archive_crypt.reader.errors import Refused
from archive_crypt.reader.failures import NoConnection, Problem
from tests.reader.conftest import DOMAIN, USERS, awaited

ROMEO = f"romeo@{DOMAIN}"
HEADER = (
    f"<?xml version='1.0'?><stream:stream from='{DOMAIN}' id='1' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
)


def says_one_line(done):
    return done.out == "" and done.err.count("\n") == 1 and done.err.startswith("archive-reader: ")


@pytest.fixture
def connect(served, certificate):
    """A function that runs something with a connection."""

    def start(use, password=USERS["romeo"], **other):
        account = Account(
            **{"jid": ROMEO, "host": "127.0.0.1", "port": served.port, "ca": certificate} | other
        )

        async def run():
            async with Connection(account, password) as connected:
                return await use(connected)

        return awaited(run())

    return start


@ensureDeferred
async def test_login(connect):
    """The stream is TLS, and the login shows the password to nobody."""

    async def look(connected):
        client = connected.client
        return client.socket.version(), client.plugin["feature_mechanisms"].mech.name

    assert await connect(look) == ("TLSv1.3", "SCRAM-SHA-256")


@ensureDeferred
async def test_nothing_is_left_behind(connect):
    """With the connection slixmpp's sending task ends, too."""

    async def sending(connected):
        await connected.ask("get", "<ping xmlns='urn:xmpp:ping'/>", DOMAIN)
        task = connected.client._run_out_filters
        assert not task.done()
        return task

    task = await connect(sending)
    await awaited(asyncio.wait((task,), timeout=5))
    assert task.cancelled()


@ensureDeferred
async def test_errors_have_their_condition(connect):
    """An error answer is an exception with condition and text; of an answer without child there is none."""

    async def ask(connected):
        with pytest.raises(Refused, match="such as 1469") as refused:
            await connected.ask("get", "<list xmlns='urn:xmpp:archive' start='noon'/>")
        assert refused.value.condition == "bad-request"
        return await connected.ask("get", "<ping xmlns='urn:xmpp:ping'/>", DOMAIN)

    assert await connect(ask) is None


@ensureDeferred
async def test_a_stream_that_ends_is_not_waited_for(connect, served):
    """When the server goes away, whoever waits for an answer learns it at once, as does whoever asks later."""

    async def ask(connected):
        served.server.close()
        for _ in range(2):
            with pytest.raises(NoConnection, match="ended the connection"):
                await connected.ask("get", "<ping xmlns='urn:xmpp:ping'/>", f"juliet@{DOMAIN}/nowhere")

    await connect(ask)


@ensureDeferred
async def test_wrong_password(reader, served, environment):
    """A wrong password is tried once, told as such, and not repeated to the screen."""
    environment.setenv(cli.PASSWORD, "wr0ng-password")
    done = await reader("list", ROMEO, at=served)
    assert done.code == 2
    assert says_one_line(done)
    assert "not-authorized. Check the password." in done.err
    assert "wr0ng-password" not in done.err


@ensureDeferred
async def test_an_untrusted_certificate(reader, served, tmp_path):
    """Without --ca, or with another's, a certificate that vouches for itself is not trusted."""
    other = tmp_path / "other.crt"
    other.write_bytes(self_signed(DOMAIN)[1])
    for ca in ([], ["--ca", other]):
        done = await reader("list", ROMEO, "--host", "127.0.0.1", "--port", served.port, *ca)
        assert done.code == 2
        assert says_one_line(done)
        assert "is not trusted: self-signed certificate. If it is" in done.err


@ensureDeferred
async def test_the_certificate_of_another_domain(reader, serve, tmp_path):
    """A trusted certificate has to be for the account's domain, wherever the server is."""
    other = server_tls(tmp_path, "capulet.example")
    where = ("--host", "127.0.0.1", "--port", serve(tls=other).port)
    done = await reader("list", ROMEO, *where, "--ca", certificate_path(tmp_path, "capulet.example"))
    assert done.code == 2
    assert says_one_line(done)
    assert f"Hostname mismatch, certificate is not valid for '{DOMAIN}'" in done.err


@ensureDeferred
async def test_no_server(reader, certificate):
    """Where nobody listens, that is told at once; and so is a host that has no address."""
    for host in ("127.0.0.1", "nowhere.invalid"):
        done = await reader("list", ROMEO, "--host", host, "--port", 1, "--ca", certificate)
        assert done.code == 2
        assert says_one_line(done)
        assert f"Cannot reach {host} port 1: " in done.err
        assert ". Is the server running? See --host and --port." in done.err


@ensureDeferred
async def test_no_tls(reader, serve):
    """A server without TLS gets no password."""
    done = await reader("list", ROMEO, at=serve(tls=False))
    assert done.code == 2
    assert says_one_line(done)
    assert "offers no TLS" in done.err


class Liar(Protocol):
    """Answers each stream header, or element, with the next of its `script`; remembers what it heard."""

    def connectionMade(self):
        self.factory.heard = b""
        self.left = list(self.factory.script)

    def dataReceived(self, data):
        self.factory.heard += data
        if self.left:
            self.transport.write(self.left.pop(0).encode())


@pytest.fixture
def lie():
    """A function that starts a Liar; its factory, with `port`."""
    from twisted.internet import reactor

    ports = []

    def start(*script):
        factory = Factory.forProtocol(Liar)
        factory.script = script
        ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1"))
        factory.port = ports[-1].getHost().port
        return factory

    yield start
    for port in ports:
        port.stopListening()


MECHANISMS = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{}</mechanisms>"
BIND = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1", "ANONYMOUS", "DIGEST-MD5"])
@ensureDeferred
async def test_tls_stripped(reader, lie, mechanism):
    """Whoever takes the offer of TLS out of the stream sees neither a password nor what can be tried against it."""
    offered = MECHANISMS.format(f"<mechanism>{mechanism}</mechanism>")
    liar = lie(f"{HEADER}<stream:features>{offered}</stream:features>")
    done = await reader("list", ROMEO, at=liar)
    assert done.code == 2
    assert "offers no TLS" in done.err
    assert b"<auth" not in liar.heard


@ensureDeferred
async def test_a_login_without_login(reader, lie):
    """A server that skips TLS and login and binds a resource at once is not believed."""
    liar = lie(
        f"{HEADER}<stream:features>{BIND}</stream:features>",
        # slixmpp takes an answer of any id while no resource is bound, if it is the one it sent: so echo it.
    )

    class Binds(Liar):
        def dataReceived(self, data):
            super().dataReceived(data)
            if b"<iq" in data:
                number = data.split(b'id="')[1].split(b'"')[0].decode()
                jid = f"<jid>{ROMEO}/x</jid>"
                bound = BIND.replace("/>", f">{jid}</bind>")
                self.transport.write(f"<iq type='result' id='{number}'>{bound}</iq>".encode())

    liar.protocol = Binds
    done = await reader("list", ROMEO, at=liar)
    assert done.code == 2
    assert "skipped a step" in done.err
    assert b"archive" not in liar.heard


@ensureDeferred
async def test_a_stream_error(reader, lie):
    """What the server gives as the reason for ending the stream is told."""
    error = (
        "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>never heard of it</text></stream:error>"
    )
    done = await reader("list", ROMEO, at=lie(f"{HEADER}{error}</stream:stream>"))
    assert done.code == 2
    assert says_one_line(done)
    assert "never heard of it (host-unknown)" in done.err


@ensureDeferred
async def test_a_silent_server(reader, lie, monkeypatch):
    """A login that does not come to an end is given up."""
    monkeypatch.setattr(connection, "_PATIENCE", 0.05)
    done = await reader("list", ROMEO, at=lie())
    assert done.code == 2
    assert "did not complete the login" in done.err


@pytest.mark.parametrize("jid", ["", "montague.example", "a b@montague.example", "@", "romeo@"])
def test_not_a_jid(jid):
    """An account is a user's address."""
    with pytest.raises(Problem, match="is not the JID of a user"):
        Account(jid)


@ensureDeferred
async def test_a_host_that_cannot_be_one(reader):
    """A host that no resolver takes is told like one that is not there."""
    done = await reader("list", ROMEO, "--host", "a" * 70 + ".example")
    assert done.code == 2
    assert says_one_line(done)
    assert "Cannot reach" in done.err


def test_what_cannot_be_used_is_known_before_connecting(tmp_path, certificate):
    """A file without certificates, or none, and a password that no server could take, are problems of their own."""
    (tmp_path / "empty").touch()
    (tmp_path / "letter").write_text("Wherefore art thou Romeo?")
    for name, why in (
        ("empty", "no cert"),
        ("letter", "no cert"),
        ("none", "No such file"),
        ("", "Is a dir"),
    ):
        said = rf"--ca {tmp_path / name}: {why}.*\. Give the server's certificate, in PEM form\.$"
        with pytest.raises(Problem, match=said):
            Connection(Account(ROMEO, ca=tmp_path / name), "x")
    with pytest.raises(Problem, match="RFC 4013"):
        Connection(Account(ROMEO, ca=certificate), "bell\a")


def test_certificates_are_always_verified(certificate):
    """There is no way to do without: name and chain are checked, and --ca replaces the system's trust."""
    for ca in (None, certificate):
        context = Connection(Account(ROMEO, ca=ca), "x")._trust
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


@ensureDeferred
async def test_interruption(lie, certificate):
    """A login that is cancelled leaves no connection behind."""
    liar = lie()
    gone = asyncio.get_running_loop().create_future()
    connected = asyncio.get_running_loop().create_future()

    class Watched(Liar):
        def connectionMade(self):
            super().connectionMade()
            connected.set_result(None)

        def connectionLost(self, reason):
            gone.set_result(None)

    liar.protocol = Watched
    login = asyncio.ensure_future(
        Connection(Account(ROMEO, "127.0.0.1", liar.port, certificate), "x").__aenter__()
    )
    await awaited(connected)
    login.cancel()
    await awaited(asyncio.wait_for(gone, 5))
