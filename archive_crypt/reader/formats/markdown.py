"""Markdown (CommonMark), to read, print and put into notes: what was said is text, and never markup."""

from __future__ import annotations

import re
from typing import TextIO

from archive_crypt.reader.formats.transcript import (
    NO_EXTRAS,
    WITHHELD,
    Extras,
    of_missing,
    speaker,
    stamp,
    why_unread,
)
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.show import clean, day_of, local

#: What has a meaning wherever it stands: of CommonMark, of GitHub's tables, and of mathematics; and what many
#: programs know the address of a site by, which they make a link of.
_MARKUP = re.compile(r"[\\`*_\[\]<>&~|$]|(?<=/)/|(?<=\w)\.(?=\w)")
#: What has one at the beginning of a line: headings, lists, rules, quotes, definitions.
_AT_START = re.compile(r"^([0-9]*)(?=[#+=:.)-])")


class Writer:
    """Writes to `file`, a text file in UTF-8; `owner` is whose archive it is, or ''. Times are local."""

    def __init__(self, file: TextIO, owner: str) -> None:
        self._file = file
        self._owner = owner
        self._collection: Listed | None = None
        self._day = ""
        self._say(f"# Messages of {escape(owner)}" if owner else "# Messages")

    def begin(self, collection: Listed, extras: Extras = NO_EXTRAS) -> None:
        self._collection, self._day = collection, ""
        self._say(f"## {escape(collection.with_)}, {stamp(collection.start)}")
        facts = [
            f"subject: {escape(collection.subject)}" if collection.subject else "",
            f"thread: {escape(collection.thread)}" if collection.thread else "",
            "archived encrypted" if collection.crypt else "archived in clear",
        ]
        self._say(f"*{'; '.join(filter(None, facts))}*")

    def entry(self, entry: Entry) -> None:
        if self._collection is None:
            return
        if entry.missing:
            self.missing(entry.missing)
        self._begin_day(entry)
        time = "" if entry.at is None else f"{local(entry.at):%H:%M:%S} "
        if entry.item is None:
            self._warn(f"{time}{why_unread(entry)}")
            return
        who = escape(" ".join(speaker(entry, self._collection, self._owner).split()))
        for language, said in entry.item.bodies or ((None, "(no text)"),):
            label = f"({escape(language)}) " if language else ""
            self._say(f"**{time}{who}:** {label}{escape(said)}")
        for finding in entry.findings:
            if finding.suspicious:
                self._warn(finding.text)
            else:
                self._say(f"*{escape(finding.text)}*")

    def missing(self, count: int) -> None:
        self._warn(of_missing(count))

    def withheld(self, collection: Listed) -> None:
        if collection is not self._collection:
            self.begin(collection)
        self._warn(WITHHELD)

    def finish(self) -> None:
        pass

    def _begin_day(self, entry: Entry) -> None:
        day = self._day if entry.at is None else day_of(entry.at)
        if day != self._day:
            self._day = day
            self._say(f"### {day}")

    def _warn(self, said: str) -> None:
        self._say(f"> **!** {escape(said)}")

    def _say(self, paragraph: str) -> None:
        self._file.write(f"{paragraph}\n\n")


def escape(said: str) -> str:
    """A text that Markdown shows letter by letter, each of its lines on a line of its own."""
    lines = re.split(r"\r\n|\r|\n", clean(said, keep="\t\n\r"))
    return "\\\n".join(_line(line) for line in lines)


def _line(line: str) -> str:
    # Space at a line's beginning would be taken away, or make code of it; an empty line ends a paragraph.
    stripped = line.lstrip(" \t")
    indent = "\u00a0" * len(line[: len(line) - len(stripped)].expandtabs(4))
    escaped = _MARKUP.sub(r"\\\g<0>", stripped.replace("\t", "    ").rstrip(" "))
    escaped = _AT_START.sub(r"\1\\", escaped)
    return indent + escaped or "&nbsp;"  # many programs trim the character itself
