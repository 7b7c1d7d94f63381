"""The programs in examples/ do what they say."""

import sys
from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet.utils import getProcessOutputAndValue

from tests.reader.conftest import DOMAIN, USERS

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
