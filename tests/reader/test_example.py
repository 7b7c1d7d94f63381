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
    where = [key_files["laptop"], "127.0.0.1", served.port, certificate]
    for times in (1, 2):
        out, err, code = await getProcessOutputAndValue(
            sys.executable, list(map(str, script + where)), env={"PYTHONPATH": str(ROOT)}
        )
        assert (err, code) == (b"", 0)
        lines = out.decode().splitlines()
        assert [line.partition(" ")[2] for line in lines] == [
            "to But, soft! what light through yonder window breaks?"
        ] * times
    assert all(kept.shown.crypt for kept in served.kept)
