"""What is shown: nothing that comes from outside steers the terminal or looks like a line of ours."""

import io
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from archive_crypt.core import times
from archive_crypt.core.items import ReadItem
from archive_crypt.reader.checking import Finding
from archive_crypt.reader.opening import Entry
from archive_crypt.reader.protocol import Listed
from archive_crypt.reader.show import Lines, Terminal, clean, local, note
from tests.reader.kit import law

OWNER = "romeo@montague.lit"
START = "2026-11-21T10:00:00Z"
ESCAPES = "\x1b[31m\x9b2J\x07\x08\x00\u202e\u2066\u2028\r"


def listed(**other):
    return Listed(
        **{"with_": "juliet@capulet.lit/chamber", "start": times.parse(START), "told": START} | other
    )


def entry(*bodies, kind="from", name=None, at=START, **other):
    moment = None if at is None else times.parse(at)
    item = ReadItem(kind, moment, None, name, tuple((None, body) for body in bodies), None)
    return Entry(**{"place": 0, "sealed": True, "item": item, "at": moment, "findings": ()} | other)


class Screen:
    """A terminal of a few columns, whose lines can be looked at."""

    def __init__(self, width=60):
        self.file = io.StringIO()
        console = Console(file=self.file, force_terminal=True, color_system=None, width=width, markup=False)
        self.terminal = Terminal(OWNER, console)

    def show(self, *entries, collection=None):
        """The lines that these make, after the collection's own."""
        self.terminal.begin(collection or listed())
        self.file.seek(0)
        self.file.truncate()
        for one in entries:
            self.terminal.entry(one)
        return self.file.getvalue().splitlines()


@pytest.fixture
def zone(monkeypatch):
    """A function that moves us to a time zone."""

    def move(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


def test_control_characters_are_shown_as_such():
    """Escapes of both kinds, and what turns the direction of writing, become U+FFFD; other scripts stay."""
    assert clean(ESCAPES) == "\ufffd[31m\ufffd2J" + "\ufffd" * 7
    assert clean("a\tb\nc", keep="\t") == "a\tb\ufffdc"
    harmless = "שלום \u200f مرحبا 👩‍👩‍👧 e\u0301"
    assert clean(harmless) == harmless


@law
@given(st.text(), st.sampled_from([31, 40, 200]))
def test_no_text_leaves_its_margin(text, width):
    """Whatever a message says, in however many lines: only its first begins where ours begin."""
    lines = Screen(width).show(entry(text))
    assert lines[0].startswith("-- ")
    assert lines[1].startswith("10:00:00 ← juliet:")
    assert all(line.startswith(" " * 11) or not line.strip() for line in lines[2:])


@law
@given(st.text(min_size=1))
def test_no_name_makes_a_line(name):
    """Nor do a nickname, a contact, a thread or a subject."""
    collection = listed(with_=name, thread=name, subject=name)
    assert len(Screen(1000).show(entry("x", name=name), collection=collection)) == 2


def test_markup_is_text():
    """What rich would take for markup or an emoji is shown as it was written."""
    assert Screen().show(entry("[bold]x[/bold] :smile:"))[1].endswith("juliet: [bold]x[/bold] :smile:")


def test_who_said_it_cannot_be_forged():
    """The arrow tells who sent it, whatever the nickname."""
    lines = Screen().show(
        entry("mine", kind="to"), entry("not mine", name="romeo"), entry("kept", kind="note")
    )
    assert [line[9:] for line in lines[1:]] == ["→ romeo: mine", "← romeo: not mine", "✎ note: kept"]


def test_long_lines_are_folded_for_terminals_only():
    """On a terminal lines are folded under the text; what goes elsewhere keeps its lines whole."""
    text = "word " * 30
    assert len(Screen(40).show(entry(text))) > 5
    file = io.StringIO()
    terminal = Terminal(OWNER, Console(file=file, width=10_000))
    terminal.begin(listed())
    terminal.entry(entry(text))
    assert f"juliet: {text}" in file.getvalue()


def test_a_warning_stands_where_it_belongs():
    """What is missing is said before a message, what is wrong with one after it; remarks are no warnings."""
    lines = Screen().show(
        entry("moved", missing=2, findings=(Finding.OTHER_COLLECTION, Finding.ALTERABLE)),
        Entry(1, True, None, None, (Finding.NO_KEY,)),
    )
    assert lines == [
        "         ! 2 messages are missing here",
        "-- Saturday 2026-11-21 --",
        "10:00:00 ← juliet: moved",
        "         ! moved here from another collection",
        "         · its cipher would not show an alteration",
        "--:--:-- ? (unreadable)",
        "         ! none of your private keys opens this",
    ]


def test_times_are_local(zone):
    """Days and hours are those of the local zone; a new day has its line."""
    zone("America/New_York")
    lines = Screen().show(entry("a", at="2026-11-21T04:59:59Z"), entry("b", at="2026-11-21T05:00:00Z"))
    assert lines == [
        "-- Friday 2026-11-20 --",
        "23:59:59 ← juliet: a",
        "-- Saturday 2026-11-21 --",
        "00:00:00 ← juliet: b",
    ]


@pytest.mark.parametrize("at", ["1469-07-21T02:56:15Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("name", ["UTC", "Pacific/Kiritimati", "Pacific/Niue"])
def test_any_time_can_be_shown(zone, at, name):
    """The XEP's own examples are of 1469; where the local calendar ends, it is UTC."""
    zone(name)
    assert abs(local(times.parse(at)).year - int(at[:4])) <= 1
    assert len(Screen().show(entry("x", at=at))) == 2


def test_several_languages():
    """A message in several languages is shown in all of them; one without any text says so."""
    item = ReadItem("from", None, None, None, ((None, "Art thou?"), ("it", "Sei tu?")), None)
    lines = Screen().show(Entry(0, True, item, None, ()), entry(at=None))
    assert lines == [
        "--:--:-- ← juliet: Art thou?",
        "           juliet: [it] Sei tu?",
        "--:--:-- ← juliet: (no text)",
    ]


def test_a_narrow_terminal_keeps_starts_whole():
    """However narrow, a start can be copied from the list."""
    screen = Screen(50)
    screen.terminal.collections([listed(thread="a long thread with many words")])
    assert "2026-11-21 10:00:00" in screen.file.getvalue()


@law
@given(st.text())
def test_lines_for_programs_are_ascii(text):
    """JSON is one line of ASCII an object: no text can steer a terminal it is looked at in."""
    import contextlib
    import json

    with contextlib.redirect_stdout(io.StringIO()) as out:
        lines = Lines()
        lines.begin(listed(with_=text, thread=text))
        lines.entry(entry(text, name=text))
        lines.missing(3)
        lines.withheld(listed())
    assert re.fullmatch(r"([\x20-\x7e]+\n){3}", out.getvalue())
    first, second, third = (json.loads(line) for line in out.getvalue().splitlines())
    assert first["bodies"] == [{"lang": None, "text": text}]
    assert (second["missing_at_end"], third["findings"]) == (3, ["withheld"])


def test_a_note_is_one_line(capsys):
    """What a server says in an error stays in one line."""
    note("two\nlines\x1b[2J")
    assert capsys.readouterr().err == "archive-reader: two\ufffdlines\ufffd[2J\n"


def test_colours():
    """Where there are colours, time is faint and each speaker has his own, whatever his name holds."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="standard", width=60, markup=False)
    terminal = Terminal(OWNER, console)
    terminal.begin(listed())
    terminal.entry(entry("Ay me!", name="[red]nurse"))
    line = file.getvalue().splitlines()[-1]
    assert line == "\x1b[2m10:00:00 ← \x1b[0m\x1b[1;32m[red]nurse\x1b[0m: Ay me!"


def test_what_is_told_is_cleaned():
    """A result may hold words of the server: they do not steer the terminal either."""
    file = io.StringIO()
    Terminal(OWNER, Console(file=file, force_terminal=True, color_system=None)).tell(f"thread {ESCAPES}")
    assert file.getvalue() == f"thread {clean(ESCAPES)}\n"


def test_who_said_it_in_a_room():
    """Who is known by his own JID only is called by it, not by the room's."""
    screen = Screen()
    said = entry("Ay me!")
    said = replace(said, item=replace(said.item, jid="nurse@capulet.lit/x"))
    assert screen.show(said)[-1].endswith("nurse: Ay me!")
