"""``archive-crypt audit-memory``: runs the audit as often as asked for, and says what it comes to."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from archive_crypt.audit import report
from archive_crypt.audit.auditor import Auditor, Run
from archive_crypt.audit.server import Variant
from archive_crypt.crypto import lockedmem
from archive_crypt.errors import ConfigurationError
from archive_crypt.hosts.postgres import EmbeddedPostgres
from archive_crypt.store.migrate import migrate


def main(runs: int, as_json: bool) -> int:
    """Audit so often; 0 if every goal was met each time.

    :raises ConfigurationError: it cannot be done here; the text says why.
    """
    logging.getLogger("slixmpp").setLevel(logging.CRITICAL)  # it warns of what is meant to be
    folder = Path(tempfile.mkdtemp(prefix="archive-crypt-audit-"))
    postgres = EmbeddedPostgres(folder / "postgres")
    try:
        dsn = postgres.start()
        migrate(dsn)
        found = asyncio.run(_runs(folder, dsn, runs))
    except PermissionError:
        raise ConfigurationError(
            "the memory of another process cannot be read here: run it as root, or set"
            " /proc/sys/kernel/yama/ptrace_scope to 0 or 1"
        ) from None
    finally:
        postgres.destroy()
        shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        print(json.dumps(report.as_json(found)))
    else:
        print("\n".join(report.table(found)))
    return 0 if all(goal.met == goal.of for goal in report.goals(found)) else 1


async def _runs(folder: Path, dsn: str, runs: int) -> list[Run]:
    variants = [
        Variant(hardened, secret, component)
        for hardened in (False, True)
        for secret in _pages()
        for component in (False, True)
    ]
    found = []
    for number in range(1, runs + 1):
        auditor = Auditor(folder, dsn, partial(_say, f"run {number} of {runs}"))
        found.append(await auditor.run(variants))
    return found


def _pages() -> tuple[bool, ...]:
    """Whether servers are audited with memfd_secret: with and without, where the kernel has it."""
    page = lockedmem.new_page()
    page.close()
    return (True, False) if page.kind == lockedmem.SECRET else (False,)


def _say(when: str, what: str) -> None:
    print(f"{when}: {what}", file=sys.stderr, flush=True)
