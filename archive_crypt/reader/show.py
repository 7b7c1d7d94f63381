"""What the user sees: text for a terminal, or JSON for programs, one object a line. Decides nothing.

What comes from outside is cleaned before it is shown: no message can steer the terminal or look
like a line of ours.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from archive_crypt.core import times
from archive_crypt.model import SECOND, Micros
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed

#: Columns that time and arrow take, before what is said: "10:42:03 → ".
_MARGIN = 11
#: Columns of output that goes to no terminal: lines are not folded there.
_UNFOLDED = 10_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STYLES = {"to": "bold cyan", "from": "bold green", "note": "italic"}
_ARROWS = {"to": "→", "from": "←", "note": "✎"}
#: Those that turn the direction of writing could show a text as another.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BREAKING = ("Cc", "Cs", "Zl", "Zp")
_UNLISTED = "NOT ON THE SERVER ANY MORE"


def clean(text: str, keep: str = "") -> str:
    """A text without control characters, except those to `keep`: each becomes U+FFFD."""
    return "".join(
        "\ufffd" if c not in keep and (c in _TURNING or unicodedata.category(c) in _BREAKING) else c
        for c in text
    )


def note(text: str) -> None:
    """Tell a human something that is no result."""
    print(f"archive-reader: {clean(text)}", file=sys.stderr)


def local(moment: Micros) -> datetime:
    """A moment in the local zone; in UTC where the calendar ends there."""
    whole = _EPOCH + timedelta(microseconds=moment)
    try:
        return whole.astimezone()
    except (OverflowError, ValueError, OSError):
        return whole


def day_of(moment: Micros) -> str:
    """Its day in the local zone, with the day of the week."""
    return f"{local(moment):%A} {local(moment).date().isoformat()}"


def stamp(moment: Micros) -> str:
    """A time as --start takes it, exactly."""
    spec = "microseconds" if moment % 1000 else "milliseconds" if moment % SECOND else "seconds"
    return local(moment).isoformat(" ", spec)


class Terminal:
    """For humans, and for what reads as they do."""

    def __init__(self, owner: str, console: Console | None = None) -> None:
        self._owner = owner
        self._console = console or _console()
        self._folds = self._console.is_terminal
        self._collection: Listed | None = None
        self._day = ""

    def tell(self, *lines: str, **facts: Any) -> None:
        """A result: these lines, which say what the facts do."""
        for line in lines:
            self._print(clean(line))

    def collections(self, found: Sequence[Listed], unlisted: Collection[Listed] = ()) -> None:
        """A list of collections; those that are `unlisted` are in the mirror only."""
        if not found:
            note("No collection matches.")
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        names = ("start", "with", "thread", "encrypted", "version")
        for name in (*names, "") if unlisted else names:
            table.add_column(name, overflow="fold", no_wrap=name == "start")
        for chat in found:
            cells = (stamp(chat.start), chat.with_, chat.thread or "", "yes" if chat.crypt else "no")
            version = "" if chat.version is None else str(chat.version)
            mark = [_UNLISTED] if chat in unlisted else []
            table.add_row(*(Text(clean(cell)) for cell in (*cells, version, *mark)))
        self._console.print(table)

    def begin(self, collection: Listed, *, unlisted: bool = False) -> None:
        """The entries that follow are of this collection; `unlisted`: it is in the mirror only."""
        self._collection, self._day = collection, ""
        parts = [f"with {collection.with_}", stamp(collection.start)]
        parts += [f"thread {collection.thread}"] if collection.thread else []
        parts += [f"subject {collection.subject} (in clear)"] if collection.subject else []
        parts += ["encrypted" if collection.crypt else "NOT ENCRYPTED"]
        parts += [_UNLISTED] if unlisted else []
        self._print("")
        self._print(", ".join(map(clean, parts)), "bold")

    def entry(self, entry: Entry) -> None:
        """One message, with what is to be said of it."""
        self.found(entry, hit=True)

    def found(self, entry: Entry, *, hit: bool) -> None:
        """The same for what was searched for, or what was said near it."""
        if entry.missing:
            self.missing(entry.missing)
        self._print_day(entry)
        for number, line in enumerate(self._lines(entry)):
            text = Text(line) if number else self._led(line, entry)
            self._console.print(text, style=None if hit else "dim", soft_wrap=True)
        for finding in entry.findings:
            style = "bold red" if finding.suspicious else "dim"
            self._print(f"{' ' * (_MARGIN - 2)}{'!' if finding.suspicious else '·'} {finding.text}", style)
        if entry.openpgp_keys:
            self._print(f"{' ' * _MARGIN}cannot decrypt (key id {', '.join(entry.openpgp_keys)})", "dim")

    def gap(self) -> None:
        """What was said in between is not shown."""
        self._print("--", "dim")

    def missing(self, count: int) -> None:
        """So many messages should be here."""
        what = "a message is missing" if count == 1 else f"{count} messages are missing"
        self._print(f"{' ' * (_MARGIN - 2)}! {what} here", "bold red")

    def withheld(self, collection: Listed) -> None:
        """The collection was listed, but is not there."""
        where = f"with {clean(collection.with_)}, {stamp(collection.start)}"
        self._print(f"! {where}: listed, but not there: renamed just now, or withheld", "bold red")

    def _print_day(self, entry: Entry) -> None:
        day = self._day if entry.at is None else day_of(entry.at)
        if day != self._day:
            self._print(f"-- {day} --", "dim")
            self._day = day

    def _lines(self, entry: Entry) -> Iterator[str]:
        """What was said, folded and indented, so that no line of it begins where ours begin."""
        time = "--:--:--" if entry.at is None else f"{local(entry.at):%H:%M:%S}"
        arrow = "?" if entry.item is None else _ARROWS[entry.item.kind]
        lead = f"{time} {arrow} "
        for line in self._said(entry):
            for part in self._folded(line):
                yield lead + part
                lead = " " * _MARGIN

    def _led(self, line: str, entry: Entry) -> Text:
        """The first line of a message: who said it can be seen at a glance, where there are colours."""
        text = Text(line)
        text.stylize("dim", 0, _MARGIN)
        if entry.item is not None:
            who = len(clean(self._who(entry)))
            text.stylize(_STYLES[entry.item.kind], _MARGIN, _MARGIN + who)
        return text

    def _said(self, entry: Entry) -> Iterator[str]:
        if entry.item is None:
            yield "(unreadable)"
            return
        who = clean(self._who(entry))
        for language, text in entry.item.bodies or ((None, "(no text)"),):
            label = f"[{clean(language)}] " if language else ""
            said = clean(text, keep="\t\n")
            yield from f"{who}: {label}{said}".split("\n")

    def _who(self, entry: Entry) -> str:
        item, collection = entry.item, self._collection
        if item is not None and item.name:
            return item.name
        if item is None or collection is None or item.kind == "note":
            return "note"
        address = self._owner if item.kind == "to" else item.jid or collection.with_
        return address.partition("/")[0].partition("@")[0]

    def _folded(self, line: str) -> list[str]:
        if not self._folds:
            return [line]
        width = max(20, self._console.width - _MARGIN)
        parts = Text(line).wrap(self._console, width, overflow="fold")
        return [part.plain.rstrip() for part in parts] or [""]

    def _print(self, line: str, style: str = "") -> None:
        self._console.print(Text(line, style), soft_wrap=True)


class Lines:
    """For programs: one JSON object a line on stdout, only ASCII, times in UTC."""

    def __init__(self) -> None:
        self._collection: dict[str, Any] = {}

    def tell(self, *lines: str, **facts: Any) -> None:
        """A result: these facts, as one object."""
        _say(**facts)

    def collections(self, found: Sequence[Listed], unlisted: Collection[Listed] = ()) -> None:
        """A list of collections; those that are `unlisted` are in the mirror only."""
        for chat in found:
            facts = _facts(chat, unlisted=chat in unlisted)
            _say(**facts, encrypted=chat.crypt, version=chat.version, subject=chat.subject)

    def begin(self, collection: Listed, *, unlisted: bool = False) -> None:
        """The entries that follow are of this collection; `unlisted`: it is in the mirror only."""
        self._collection = _facts(collection, unlisted=unlisted)

    def entry(self, entry: Entry) -> None:
        """One message, with what is to be said of it."""
        _say(**self._collection, **_told(entry))

    def found(self, entry: Entry, *, hit: bool) -> None:
        """The same for what was searched for, or what was said near it."""
        _say(**self._collection, **_told(entry), hit=hit)

    def gap(self) -> None:
        """What was said in between is not shown: places tell that."""

    def missing(self, count: int) -> None:
        """So many messages should be here, at the end of the collection."""
        _say(**self._collection, missing_at_end=count, suspicious=True)

    def withheld(self, collection: Listed) -> None:
        """The collection was listed, but is not there."""
        _say(**_facts(collection), findings=["withheld"], suspicious=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """rich would end the program; that, and with which code, is not decided here."""
        raise


def _console() -> Console:
    """Standard output. What is in the texts is never taken for markup."""
    width = None if sys.stdout.isatty() else _UNFOLDED
    return _Console(markup=False, highlight=False, emoji=False, width=width)


def _facts(collection: Listed, *, unlisted: bool = False) -> dict[str, Any]:
    facts = {"with": collection.with_, "start": collection.told, "thread": collection.thread}
    return facts | ({"unlisted": True} if unlisted else {})


def _told(entry: Entry) -> dict[str, Any]:
    item = entry.item
    return {
        "place": entry.place,
        "encrypted": entry.sealed,
        "kind": item.kind if item else None,
        "name": item.name if item else None,
        "utc": None if entry.at is None else times.render(entry.at),
        "bodies": [{"lang": lang, "text": text} for lang, text in item.bodies] if item else [],
        "findings": [finding.word for finding in entry.findings],
        "missing_before": entry.missing,
        "suspicious": entry.suspicious,
        **({"openpgp_keys": entry.openpgp_keys} if entry.openpgp_keys else {}),
    }


def _say(**facts: Any) -> None:
    print(json.dumps(facts))
