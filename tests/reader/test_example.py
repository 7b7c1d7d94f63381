"""The programs in examples/ do what they say."""

import sys
from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet.utils import getProcessOutputAndValue

from archive_crypt.model import Otr, SaveMode
from archive_crypt.reader import xep_0155
from tests.reader.conftest import DOMAIN, PATIENCE, USERS, awaited

ROOT = Path(__file__).parents[2]


@ensureDeferred
async def test_archive(served, key_files, certificate):
    """Twenty lines of slixmpp with the two plugins turn archiving on, chat, and read: now, and what was
    said before; and the server has none of it in clear."""
    script = [ROOT / "examples" / "archive.py", f"romeo@{DOMAIN}", USERS["romeo"], f"juliet@{DOMAIN}"]
    where = [key_files["laptop"], "127.0.0.1", served.port]
    for times in (1, 2):
        out, err, code = await getProcessOutputAndValue(
            sys.executable,
            list(map(str, script + where)),
            env={"PYTHONPATH": str(ROOT), "SSL_CERT_FILE": str(certificate)},
        )
        assert (err, code) == (b"", 0)
        line = "((None, 'But, soft! what light through yonder window breaks?'),) []"
        assert out.decode().splitlines() == [line] * times
    assert all(kept.shown.crypt for kept in served.kept)


@ensureDeferred
async def test_negotiate(served, login, certificate):
    """A program negotiates off the record and says something then, which neither archive has; the contact's
    client answers by itself."""
    juliet = await login(served, "juliet")
    juliet.register_plugin("xep_0155", module=xep_0155)
    await awaited(juliet.plugin["xep_0136"].set_auto(True, lasting=True))
    await awaited(juliet.plugin["xep_0136"].set_default(SaveMode.FALSE, Otr.REQUIRE))
    heard = awaited(juliet.wait_until("message", PATIENCE))
    script = [ROOT / "examples" / "negotiate.py", f"romeo@{DOMAIN}", USERS["romeo"], juliet.boundjid.full]
    where = ["127.0.0.1", served.port, certificate]
    out, err, code = await getProcessOutputAndValue(
        sys.executable, list(map(str, script + where)), env={"PYTHONPATH": str(ROOT)}
    )
    assert (err, code) == (b"", 0)
    assert out.decode().splitlines() == ["MUSTNOT", "sent: mustnot be logged"]
    assert (await heard)["body"].startswith("It is the east")
    assert await awaited(juliet.plugin["xep_0136"].newest()) == (None, 0)
