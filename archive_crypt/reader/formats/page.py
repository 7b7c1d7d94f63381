"""HTML: one file by itself, to read and print in any browser; it runs nothing and fetches nothing.

Whatever was said is text. A Content-Security-Policy says so a second time: no script at all, no style
but the one in here, nothing from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from html import escape
from typing import TextIO

from archive_crypt.core import times
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

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --mine: #2a6fdb1c; --warn: #c62828; }
body { font: 1rem/1.45 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .2rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
h3 { font-size: .85rem; font-weight: normal; text-align: center; opacity: .7; margin: 1.2rem 0 .6rem; }
p { margin: 0; }
.facts { font-size: .85rem; opacity: .75; }
.message { display: grid; grid-template-columns: 5.2rem 1fr; gap: 0 .8rem; padding: .25rem .5rem; }
.message time { font-size: .8rem; opacity: .65; padding-top: .15rem; font-variant-numeric: tabular-nums; }
.to { background: var(--mine); border-radius: .4rem; }
.note { font-style: italic; }
.who { font-weight: 600; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; }
.message > p, .message > div { grid-column: 2; }
.message > time { grid-column: 1; grid-row: 1; }
.finding { font-size: .85rem; opacity: .75; }
.warning { font-size: .85rem; font-weight: 600; color: var(--warn); }
.warning::before { content: "\\26A0\\FE0E\\00A0"; }
@media (prefers-color-scheme: dark) { :root { --warn: #ff8a80; --mine: #6fa8ff26; } }
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; }
  h2, h3 { break-after: avoid; }
  .message { break-inside: avoid; }
  .to { background: none; border-left: 2px solid var(--line); }
}
"""

#: Browsers run the style by its hash: no other in here would be heeded.
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"

_HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="facts">Times are of {zone}.</p>
"""


class Writer:
    """Writes to `file`, a text file in UTF-8; `owner` is whose archive it is, or ''. Times are local."""

    def __init__(self, file: TextIO, owner: str) -> None:
        self._file = file
        self._owner = owner
        self._collection: Listed | None = None
        self._day = ""
        title = f"Messages of {owner}" if owner else "Messages"
        zone = datetime.now().astimezone().tzname() or "this computer's zone"
        self._say(_HEAD.format(policy=_POLICY, title=_text(title), style=_STYLE, zone=_text(zone)))

    def begin(self, collection: Listed, extras: Extras = NO_EXTRAS) -> None:
        self._end()
        self._collection, self._day = collection, ""
        facts = [stamp(collection.start)]
        facts += [f"subject: {collection.subject}"] if collection.subject else []
        facts += [f"thread: {collection.thread}"] if collection.thread else []
        facts += ["archived encrypted" if collection.crypt else "archived in clear"]
        self._say(f"<section>\n<h2><bdi>{_text(collection.with_)}</bdi></h2>\n")
        self._say(f'<p class="facts"><bdi>{_text("; ".join(facts))}</bdi></p>\n')

    def entry(self, entry: Entry) -> None:
        if self._collection is None:
            return
        if entry.missing:
            self.missing(entry.missing)
        self._begin_day(entry)
        kind = "unread" if entry.item is None else entry.item.kind
        self._say(f'<div class="message {kind}">')
        if entry.at is not None:
            moment = local(entry.at)
            self._say(f'<time datetime="{times.render(entry.at)}">{moment:%H:%M:%S}</time>')
        if entry.item is None:
            self._warn(why_unread(entry))
        else:
            self._said(entry, self._collection)
        self._say("</div>\n")

    def missing(self, count: int) -> None:
        self._warn(of_missing(count))

    def withheld(self, collection: Listed) -> None:
        if collection is not self._collection:
            self.begin(collection)
        self._warn(WITHHELD)

    def finish(self) -> None:
        self._end()
        self._say("</body>\n</html>\n")

    def _said(self, entry: Entry, collection: Listed) -> None:
        bodies = () if entry.item is None else entry.item.bodies
        who = _text(speaker(entry, collection, self._owner))
        self._say(f'<p class="who"><bdi>{who}</bdi></p>')
        for language, said in bodies or ((None, "(no text)"),):
            label = f' lang="{_text(language)}"' if language else ""
            self._say(f'<p class="said" dir="auto"{label}>{_text(said)}</p>')
        for finding in entry.findings:
            if finding.suspicious:
                self._warn(finding.text)
            else:
                self._say(f'<p class="finding">{_text(finding.text)}</p>')

    def _begin_day(self, entry: Entry) -> None:
        day = self._day if entry.at is None else day_of(entry.at)
        if day != self._day:
            self._day = day
            self._say(f"<h3>{_text(day)}</h3>\n")

    def _warn(self, said: str) -> None:
        self._say(f'<p class="warning">{_text(said)}</p>\n')

    def _end(self) -> None:
        if self._collection is not None:
            self._say("</section>\n")
        self._collection = None

    def _say(self, written: str) -> None:
        self._file.write(written)


def _text(said: str) -> str:
    """A text as content or as an attribute in quotes."""
    return escape(clean(said, keep="\t\n"), quote=True)
