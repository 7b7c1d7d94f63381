"""Servers on real sockets, on 127.0.0.1 and a free port, and raw clients for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import ssl
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from archive_crypt.hosts.embedded import EmbeddedServer
from archive_crypt.hosts.seam import ArchivePlug
from archive_crypt.hosts.tls import certificate_path, server_tls
from tests.hosts.kit import DOMAIN, USERS, Client, Echo, Recorder


@pytest.fixture(scope="session")
def tls_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    server_tls(folder, DOMAIN)
    return folder


@pytest.fixture(scope="session")
def certificate(tls_folder) -> Path:
    return certificate_path(tls_folder, DOMAIN)


@pytest.fixture
def trust(certificate):
    """A client's TLS, which checks the name and trusts our certificate only."""
    root = ssl.Certificate.loadPEM(certificate.read_bytes())
    return ssl.optionsForClientTLS(DOMAIN, trustRoot=root)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def serve(tls_folder, recorder):
    """A function that starts a server; all are closed at the end, with everything they hold."""
    from twisted.internet import reactor

    servers = []

    def start(**options):
        options.setdefault("archive", ArchivePlug(recorder, lambda jid: Echo(), ["urn:example:archive"]))
        options.setdefault("tls", server_tls(tls_folder, DOMAIN))
        server = EmbeddedServer(reactor, DOMAIN, USERS, **options)
        servers.append(server)
        server.port = server.listen().getHost().port
        return server

    yield start
    for server in servers:
        pytest_twisted.blockon(server.close())


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture
def connect():
    """A function that connects a raw client to a server."""
    from twisted.internet import reactor

    clients = []

    async def start(server):
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", server.port)
        client = await connectProtocol(endpoint, Client())
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.transport.abortConnection()
