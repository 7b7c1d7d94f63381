"""The service and its database: as a role that may do no more than it must, and over TLS that is verified."""

from pathlib import Path

import psycopg2
import pytest
from pytest_twisted import ensureDeferred

from archive_crypt.config import Config, Database
from archive_crypt.core.dialect import F
from archive_crypt.databasechecks import database_findings
from archive_crypt.errors import StorageUnavailable
from archive_crypt.store.migrate import migrate, pending
from archive_crypt.store.pgsql import PgStorage
from tests.e2e.conftest import DOMAIN
from tests.kit import LAPTOP, opened
from tests.roles import ROLE, execute, prepared
from tests.tlsfront import Front, certificate

UPLOAD = (
    f"<save xmlns='{F.namespace}'><chat with='a@b' start='2026-01-01T00:00:00Z'>"
    "<to secs='0'><body>x</body></to></chat></save>"
)


async def lives(romeo):
    """A user's whole day: records, in clear and then sealed, uploads, prefers, reads, removes."""
    await romeo.record(encrypt=False)
    await romeo.says(f"juliet@{DOMAIN}", "one")
    await romeo.record((LAPTOP, "laptop"))  # seals what was in clear
    await romeo.says(f"juliet@{DOMAIN}", "two")
    assert (await romeo.ask(UPLOAD, "set")).get("type") == "result"
    default = f"<pref xmlns='{F.namespace}'><default save='body' otr='concede'/></pref>"
    assert (await romeo.ask(default, "set")).get("type") == "result"
    shown = await romeo.collections()
    assert len(shown) == 2
    page = await romeo.page(next(one for one in shown if one.get("with") != "a@b"))
    assert [item.bodies[0][1] for item in opened(page, LAPTOP)] == ["one", "two"]
    assert (await romeo.ask(f"<remove xmlns='{F.namespace}'/>", "set")).get("type") == "result"
    assert await romeo.collections() == []


def found(dsn, what):
    """What a check finds in the database about `what`: (ok, warning, text); None if nothing."""
    findings = database_findings(Path("archive.toml"), Config(Database(dsn)))
    return next(((one.ok, one.warning, one.found) for one in findings if one.what == what), None)


@ensureDeferred
async def test_as_the_role(serve, login, fresh):
    """A service that runs as the role of sql/roles.sql does all that users ask of it."""
    await lives(await login(serve(dsn=prepared(fresh("bounded"))), "romeo"))


def test_check_knows_what_the_role_may(fresh):
    """A role that may do more than it must is warned of, by name; one that may do less is wrong."""
    dsn = fresh("bounded")
    role = prepared(dsn)
    assert found(role, "rights") == (True, False, f"{ROLE} may do no more than it must")
    ok, warning, text = found(dsn, "rights")
    assert (ok, warning) == (True, True)
    assert "is a superuser; sql/roles.sql" in text
    execute(
        dsn,
        f'GRANT CREATE ON SCHEMA public TO "{ROLE}"; CREATE SCHEMA x; GRANT USAGE ON SCHEMA x TO "{ROLE}"',
    )
    ok, warning, text = found(role, "rights")
    assert (ok, warning) == (True, True)
    assert "can make tables, can use the schema x; " in text
    execute(dsn, f'REVOKE INSERT ON item FROM "{ROLE}"')
    assert found(role, "rights") == (False, False, f"{ROLE} may not INSERT item: run sql/roles.sql again")


def test_check_says_who_vacuums(fresh):
    """Where the role may not vacuum, the check says that autovacuum has to."""
    dsn = fresh("bounded")
    role = prepared(dsn)
    execute(dsn, f'REVOKE MAINTAIN ON item FROM "{ROLE}"')
    ok, _, text = found(role, "rights")
    assert ok
    assert "wait for autovacuum" in text


@pytest.fixture
def front(dsn, tmp_path):
    """A function that has the database reached by the loopback, over TLS if a folder for the certificate is
    given."""
    fronts = []

    def make(folder=None):
        fronts.append(Front(dsn, folder, tmp_path / "heard"))
        return fronts[-1]

    yield make
    for one in fronts:
        one.close()


@ensureDeferred
async def test_over_tls(front, serve, login, tmp_path):
    """With sslmode=verify-full all works with a database that proves who it is: check, migrate, the service."""
    there = front(tmp_path)
    dsn = there.dsn(sslmode="verify-full", sslrootcert=certificate(tmp_path))
    assert found(dsn, "database link") == (True, False, "localhost proves who it is, by TLS")
    assert migrate(dsn) == []
    await lives(await login(serve(dsn=dsn), "romeo"))
    assert b"romeo@" in there.heard


@pytest.mark.parametrize("how", ["another's certificate", "another name", "no TLS"])
@ensureDeferred
async def test_a_database_that_is_not_ours(front, tmp_path, how):
    """With sslmode=verify-full nothing is said to a database that does not prove who it is, neither by the
    service nor by check and migrate."""
    from twisted.internet import reactor

    ours = certificate(tmp_path / "ours")
    there = front({"another's certificate": tmp_path / "theirs", "another name": tmp_path / "ours"}.get(how))
    host = "db.capulet.lit" if how == "another name" else "localhost"
    dsn = there.dsn(host, sslmode="verify-full", sslrootcert=ours)
    storage = PgStorage(dsn, reactor)
    try:
        with pytest.raises(StorageUnavailable):
            await storage.state("romeo@montague.lit")
    finally:
        storage.close()
    with pytest.raises(psycopg2.OperationalError):
        pending(dsn)
    assert found(dsn, "database")[0] is False
    assert there.heard == b""


def test_check_warns_of_a_link_that_is_not_verified(front, tmp_path):
    """A database elsewhere that need not prove who it is, is warned of; one on this machine is not."""
    there = front(tmp_path)
    assert found(there.dsn(sslmode="require"), "database link") is None
    ok, warning, text = found(there.dsn("db.capulet.lit", sslmode="require"), "database link")
    assert (ok, warning) == (True, True)
    assert "add sslmode=verify-full and sslrootcert to [database] dsn in archive.toml" in text
