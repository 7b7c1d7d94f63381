"""The programs in examples/ do what they say."""

import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.utils import getProcessOutputAndValue

from archive_crypt.core.dialect import F, T
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
@pytest.mark.parametrize("dialect", [T, F])
async def test_negotiate(serve, login, certificate, dialect):
    """A program negotiates off the record and says something then, which neither archive has, though both
    archive else; the contact's client answers by itself. Preferences are as they were when it has gone."""
    parts = ("auto", "manage", "manual", "pref")
    served = serve(features=[dialect.feature(part) for part in parts])
    juliet, romeo = await login(served, "juliet"), await login(served, "romeo")
    juliet.register_plugin("xep_0155", module=xep_0155)
    for one, save, mode in ((juliet, SaveMode.FALSE, Otr.REQUIRE), (romeo, SaveMode.BODY, Otr.CONCEDE)):
        await awaited(one.plugin["xep_0136"].set_auto(True, lasting=True))
        await awaited(one.plugin["xep_0136"].set_default(save, mode))
    await said(romeo, juliet, "Good morrow")
    heard = awaited(juliet.wait_until("message", PATIENCE))
    script = [ROOT / "examples" / "negotiate.py", f"romeo@{DOMAIN}", USERS["romeo"], juliet.boundjid.full]
    out, err, code = await getProcessOutputAndValue(
        sys.executable,
        list(map(str, [*script, "127.0.0.1", served.port])),
        env={"PYTHONPATH": str(ROOT), "SSL_CERT_FILE": str(certificate)},
    )
    assert (err, code) == (b"", 0)
    assert out.decode().splitlines() == ["MUSTNOT", "sent: mustnot be logged"]
    assert (await heard)["body"].startswith("It is the east")
    assert await awaited(juliet.plugin["xep_0136"].newest()) == (None, 0)
    await said(romeo, juliet, "Good night")
    assert await texts(romeo) == ["Good morrow", "Good night"]
    assert await awaited(romeo.plugin["xep_0136"].wanted_mode(juliet.boundjid.full)) is SaveMode.BODY


async def said(one, other, text):
    heard = awaited(other.wait_until("message", PATIENCE))
    one.send_message(other.boundjid.full, text, mtype="chat")
    await heard


async def texts(client):
    """All that its user's archive holds."""

    async def read():
        archive = client.plugin["xep_0136"]
        return [
            part.findtext("{*}body")
            async for collection in archive.collections()
            async for page in archive.pages(collection)
            for part in page.parts
        ]

    return await awaited(read())
