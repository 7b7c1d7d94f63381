"""What the audit's findings come to: each goal is missed by what it forbids, and by nothing else."""

import json

import pytest

from archive_crypt.audit import report
from archive_crypt.audit.auditor import KEY, KEYS, SEALED, SEALED_LATER, TEXTS, WAITING, Audited, Look, Run
from archive_crypt.audit.server import Variant

NOTHING = dict.fromkeys((*KEYS, *TEXTS, WAITING), 0)


def look(in_pages=0, core=None, unread=(), **found):
    names = {"key": KEY, "text": SEALED, "later": SEALED_LATER, "waits": WAITING}
    seen = NOTHING | {names[name]: count for name, count in found.items()}
    return Look(seen, in_pages, core, list(unread), 10**8)


def run(normal_open=None, hardened_open=None, closed=None, hardened_closed=None, control=None):
    normal = Audited(
        Variant(False, True), 7, normal_open or look(waits=8, text=50), closed or look(text=40, waits=9)
    )
    hardened = Audited(Variant(True, False), 7, hardened_open or look(7, waits=1), hardened_closed or look())
    return Run(control or dict.fromkeys(KEYS, 1), [normal, hardened])


def missed(one):
    return [number for number, goal in enumerate(report.goals([one])) if goal.met < goal.of]


def test_all_is_met():
    """Texts in a normal server, the text that waits, and keys in their pages while open miss no goal."""
    assert missed(run()) == []
    assert [goal.of for goal in report.goals([run(), run()])] == [2] * 5


@pytest.mark.parametrize(
    ("one", "goals"),
    [
        (run(control=dict.fromkeys(KEYS, 0)), [0]),
        (run(normal_open=look()), [0]),
        (run(hardened_open=look(6, waits=1)), [0]),
        (run(normal_open=look(waits=1, unread=["[heap]"])), [1]),
        (run(hardened_open=look(7, waits=1, key=1)), [2]),
        (run(hardened_open=look(7, {KEY: 1}, waits=1)), [2]),
        (run(closed=look(key=1)), [3]),
        (run(hardened_closed=look(in_pages=1)), [3]),
        (run(hardened_closed=look(core={KEY: 1})), [3]),
        (run(hardened_closed=look(text=1)), [4]),
        (run(hardened_closed=look(later=1)), [4]),
        (run(hardened_closed=look(waits=1)), [4]),
        (run(hardened_closed=look(core={SEALED: 1})), [4]),
    ],
)  # fmt: skip
def test_what_is_forbidden_misses_its_goal(one, goals):
    """What cannot be found, what could not be read, a key outside its page, a key left, a text left."""
    assert missed(one) == goals


def test_the_table_shows_the_fewest_and_the_most():
    """Each row has a range for each mode and state, each goal the runs in which it was met."""
    lines = list(report.table([run(), run(normal_open=look(waits=8, text=57), closed=look(text=40, key=1))]))
    rows = {line[:42].strip(): line[42:].split() for line in lines}
    assert rows["text, sealed at once"] == ["50-57", "40", "0", "0"]
    assert rows["data key, in pages that are only locked"] == ["-", "-", "7", "0"]
    assert "BAD  1 of 2  closed: no key in any form anywhere" in lines
    assert "ok   2 of 2  open: no key in any form outside its page" in lines


def test_the_json_holds_all_of_it():
    """Goals and findings, for scripts."""
    told = json.loads(json.dumps(report.as_json([run()])))
    assert [goal["met"] for goal in told["goals"]] == [1] * 5
    assert told["runs"][0]["servers"][1]["open"]["in_pages"] == 7
