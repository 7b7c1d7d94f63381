"""The short audit: one normal server and the hardened ones, looked into while collections are open and after."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from archive_crypt import cli
from archive_crypt.audit import report
from archive_crypt.audit.auditor import KEYS, TEXTS, WAITING, Auditor
from archive_crypt.audit.server import Variant
from tests.crypto.kit import ROOT


@pytest.mark.clause("0241-3-09", "0241-3-10")
def test_what_is_closed_leaves_nothing(dsn, tmp_path):
    """A real server that clients talk through has data keys in their pages only, and none once collections are
    closed; hardened, it has no word of what was said either. Nor has one beside another server."""
    auditor = Auditor(tmp_path, dsn, cores=False)
    variants = [
        Variant(hardened=False, secret=True),
        Variant(hardened=True, secret=False),
        Variant(hardened=True, secret=False, component=True),
    ]
    with ThreadPoolExecutor(1) as thread:  # it has a loop of its own
        run = thread.submit(asyncio.run, auditor.run(variants)).result()
    assert [goal for goal in report.goals([run]) if goal.met < goal.of] == []
    normal, *hardened = run.servers
    assert normal.open.copies(TEXTS) > 0  # what is not overwritten can be found
    for server in hardened:
        assert (server.open.in_pages, server.closed.in_pages) == (server.keys, 0)
        assert server.open.copies((*KEYS, *TEXTS)) == 0
        assert server.open.found[WAITING] > 0


@pytest.mark.parametrize("runs", ["0", "-1", "many"])
def test_takes_a_number_of_runs(capsys, runs):
    """What is no number of runs is refused at once."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit-memory", "--runs", runs])
    assert ended.value.code == 2
    assert f"{runs!r} is no number of runs" in capsys.readouterr().err


def test_says_what_is_missing():
    """Without what only the extras bring it is one line, with the mend."""
    script = (
        "import sys; sys.modules['slixmpp'] = None; from archive_crypt import cli;"
        " sys.exit(cli.main(['audit-memory']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 1
    assert ended.stderr == "archive-crypt: it takes slixmpp: install the extras embedded and reader\n"
