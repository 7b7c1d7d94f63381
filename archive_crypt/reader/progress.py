"""Bars on stderr for what takes long, where a human looks at it; results are never here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for as long as the ``with`` lasts: a function to be told how many collections are done, and
    of how many, None where that is not known. `what` is done to them."""
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("collections"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)
