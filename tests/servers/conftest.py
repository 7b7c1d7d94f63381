"""The servers that tests run against: each test that takes `server` or `target` runs once for every one that is
here. A test that is skipped here would be a promise that nobody looked after, so it fails."""

from __future__ import annotations

from itertools import count

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from tests.servers.archive import Archive, written
from tests.servers.kit import connect_component, new_client, start_server, targets, unchanged

_TARGETS = targets()


def pytest_collection_modifyitems(config, items):
    """Without a server every test would pass by not running."""
    if not _TARGETS:
        raise pytest.UsageError("There is no XMPP server to test with: run make test-servers.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return _unless_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _unless_skipped((yield))


def _unless_skipped(report):
    if report.skipped:
        report.outcome, report.longrepr = "failed", f"skipped, which does not count here: {report.longrepr}"
    return report


@pytest.fixture(scope="session", params=_TARGETS, ids=str)
def target(request):
    """Each server in turn: its make and version."""
    return request.param


@pytest.fixture(scope="session")
def server(target, tmp_path_factory):
    """Each server in turn, running with the operator's configuration; all tests share it."""
    server = start_server(target, tmp_path_factory.mktemp(f"{target}-"))
    yield server
    server.kill()


@pytest.fixture
def serve(target, tmp_path_factory):
    """A function that starts one more server of the make and version in turn, for this test alone. It takes
    what to change in the operator's configuration, as a function of its text."""
    servers = []

    def start(edit=unchanged):
        servers.append(start_server(target, tmp_path_factory.mktemp(f"{target}-"), edit))
        return servers[-1]

    start.target = target
    yield start
    for server in servers:
        server.kill()


_numbers = count(1)


@pytest.fixture
def account(server):
    """A function that makes a new account and gives its bare JID: no other test left anything in it."""

    def make(name="user", domain="capulet.lit", at=server):
        jid = f"{name}-{next(_numbers)}@{domain}"
        at.register(jid)
        return jid

    return make


@pytest.fixture
def login(request):
    """A function that logs a user in; see `new_client` for what it takes. Another server than `server`: ``at``."""
    clients = []

    async def start(jid, at=None, presence=True, until="session_start", **options):
        client = new_client(at or request.getfixturevalue("server"), jid, **options)
        clients.append(client)
        await client.connect(until)
        if presence:
            client.xmpp.send_presence()
            await client.settled()
        return client

    yield start
    for client in clients:
        pytest_twisted.blockon(ensureDeferred(client.close()))


@pytest.fixture
def component(request):
    """A function that connects a bare component to a server, in the archive's place."""
    components = []

    async def start(at=None, **options):
        server = at or request.getfixturevalue("server")
        components.append(await connect_component(server, **options))
        return components[-1]

    yield start
    for component in components:
        if not component.gone.called:
            pytest_twisted.blockon(component.close())


@pytest.fixture
def archive(server, dsn, tmp_path):
    """The archive, running beside `server` with an empty database."""
    archive = Archive(written(server, dsn, tmp_path))
    pytest_twisted.blockon(ensureDeferred(archive.start()))
    yield archive
    pytest_twisted.blockon(ensureDeferred(archive.stop()))
