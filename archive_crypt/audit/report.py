"""What the runs of an audit come to: a table, JSON, and whether each goal was met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from archive_crypt.audit.auditor import EXPANDED, KEY, KEYS, MESSAGE, TEXTS, WAITING, Audited, Look, Run

_COLUMNS = (("normal", "open"), ("normal", "closed"), ("hardened", "open"), ("hardened", "closed"))


class Goal(NamedTuple):
    """What should be so, and in how many of the runs it was."""

    what: str
    met: int
    of: int


def goals(runs: Sequence[Run]) -> list[Goal]:
    """All that is promised, the searches' own proof first."""
    judges: dict[str, Callable[[Run], bool]] = {
        "what is there is found: a key kept the plain way, a text that waits, keys in pages that are only"
        " locked": _can_find,
        "everything could be read but the pages of memfd_secret": _is_read,
        "open: no key in any form outside its page": _keeps_keys_in_pages,
        "closed: no key in any form anywhere": _forgets_keys,
        "hardened, closed: no text in any form anywhere": _forgets_texts,
    }
    return [Goal(what, sum(map(judge, runs)), len(runs)) for what, judge in judges.items()]


def _can_find(run: Run) -> bool:
    return all(run.control[name] for name in (KEY, EXPANDED, MESSAGE)) and all(
        server.open.found[WAITING] and (server.variant.secret or server.open.in_pages == server.keys)
        for server in run.servers
    )


def _is_read(run: Run) -> bool:
    return not any(look.unread for server in run.servers for look in (server.open, server.closed))


def _keeps_keys_in_pages(run: Run) -> bool:
    return not any(server.open.copies(KEYS) for server in run.servers)


def _forgets_keys(run: Run) -> bool:
    return not any(server.closed.in_pages or server.closed.copies(KEYS) for server in run.servers)


def _forgets_texts(run: Run) -> bool:
    texts = (*TEXTS, WAITING)
    return not any(server.closed.copies(texts) for server in run.servers if server.variant.hardened)


def table(runs: Sequence[Run]) -> Iterator[str]:
    """The lines of a table for people."""
    yield f"{_things(len(runs), 'run')}; copies in the whole memory of the server, fewest-most of a look"
    yield ""
    yield f"{'':42}{'normal':^20}{'hardened':^20}".rstrip()
    yield f"{'':42}" + "".join(f"{state:>10}" for _, state in _COLUMNS)
    locked = [server for run in runs for server in run.servers if not server.variant.secret]
    yield _row("data key, in pages that are only locked", locked, lambda look: look.in_pages)
    servers = [server for run in runs for server in run.servers]
    for name in KEYS:
        yield _row(f"{name}, elsewhere" if name == KEY else name, servers, _count(name))
    if any(look.core is not None for server in servers for look in (server.open, server.closed)):
        yield _row("any of these in a core dump", servers, _count_in_core(KEYS))
    for name in TEXTS:
        yield _row(name, servers, _count(name))
    yield _row(f"{WAITING} (to be found, while open)", servers, _count(WAITING))
    if any(look.core is not None for server in servers for look in (server.open, server.closed)):
        yield _row("any of these in a core dump", servers, _count_in_core((*TEXTS, WAITING)))
    yield ""
    for goal in goals(runs):
        yield f"{'ok ' if goal.met == goal.of else 'BAD'}  {goal.met} of {goal.of}  {goal.what}"


def as_json(runs: Sequence[Run]) -> dict[str, Any]:
    """All of it, for scripts."""
    return {"goals": [goal._asdict() for goal in goals(runs)], "runs": [asdict(run) for run in runs]}


def _count(name: str) -> Callable[[Look], int]:
    return lambda look: look.found[name]


def _count_in_core(names: Iterable[str]) -> Callable[[Look], int]:
    return lambda look: sum((look.core or {}).get(name, 0) for name in names)


def _row(label: str, servers: Sequence[Audited], count: Callable[[Look], int]) -> str:
    cells = []
    for mode, state in _COLUMNS:
        looks = [getattr(one, state) for one in servers if one.variant.hardened == (mode == "hardened")]
        counts = [count(look) for look in looks]
        cells.append(_range(counts))
    return f"{label:42}" + "".join(f"{cell:>10}" for cell in cells)


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return "-"
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least}-{most}"


def _things(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
