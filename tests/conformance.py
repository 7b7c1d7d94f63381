"""Which test proves which clause: ``python -m tests.conformance`` writes tests/CONFORMANCE.rst, prints
the totals, and fails if a server's MUST is not proved.

Dialogues name their clauses in a line of their own, Python tests in a ``clause`` mark. What is in tests/reader
proves what a clause asks of clients; all else what it asks of servers.
"""

import ast
import csv
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tests.dialogue import read_all

TESTS = Path(__file__).parent
DOCUMENT = TESTS / "CONFORMANCE.rst"

HEAD = """\
Conformance
===========

Every clause in XEP-0136 (0.13 and 1.3.1), XEP-0241 and XEP-0059, and of our own for what they leave open (INT,
D218, D374, SDK), for servers and for clients; and the tests that prove it. V, T and F are the three archive namespaces: ``http://www.xmpp.org/extensions/xep-0136.html#ns``,
``urn:xmpp:tmp:archive`` and ``urn:xmpp:archive``. Written by ``python -m tests.conformance``;
``tests/test_conformance.py`` holds it to the tests.

"""

SECTION = """\
{title}
{line}

{totals}

.. list-table::
   :header-rows: 1
   :widths: 14 8 6 36 36

   * - Clause
     - Strength
     - In
     - It says
     - Proved by
"""

SIDES = {"S": "Servers", "C": "Clients"}


@dataclass
class Clause:
    """One clause, and by which test it is proved in which dialects."""

    name: str
    who: str
    strength: str
    dialects: str
    text: str
    why_not: str
    proofs: list[tuple[str, str]]

    @property
    def missing(self):
        """The dialects in which nothing proves it."""
        return [
            dialect for dialect in self.dialects if not any(dialect in proved for _, proved in self.proofs)
        ]

    @property
    def proved(self):
        return not self.missing and not self.why_not

    @property
    def binding(self):
        """Whether a server must keep it; what binds a component of another server does so with that."""
        return self.strength in (
            "MUST",
            "MUST NOT",
            "SHALL",
            "SHALL NOT",
            "REQUIRED",
        )


def clauses():
    """Every clause with its proofs, in the order of the table."""
    proofs = _proofs()
    with (TESTS / "clauses.tsv").open() as table:
        rows = list(csv.reader(table, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    known = [Clause(*row, proofs.pop((row[1], row[0]), [])) for row in rows]
    assert not proofs, f"proved, but not in clauses.tsv: {sorted(proofs)}"
    return known


def document():
    """The text of CONFORMANCE.rst."""
    every = clauses()
    return "\n".join([HEAD.rstrip() + "\n", *(_section(side, every) for side in SIDES)])


def _section(side, every):
    some = [clause for clause in every if clause.who == side]
    title = SIDES[side]
    lines = "\n".join(f"* {line}" for line in totals(some))
    head = SECTION.format(title=title, line="-" * len(title), totals=lines)
    return head + "".join(map(_entry, some))


def totals(every):
    """How many are proved, in a few lines."""
    binding = [clause for clause in every if clause.binding]
    rest = [clause for clause in every if not clause.binding]
    return [
        f"{name}: {sum(c.proved for c in some)} of {len(some)} proved"
        for name, some in (("MUST, MUST NOT, SHALL, REQUIRED", binding), ("SHOULD, MAY and implied", rest))
    ]


def _entry(clause):
    proofs = [f"{name} ({dialects})" for name, dialects in clause.proofs]
    if clause.why_not:
        proofs.append(f"not proved: {clause.why_not}")
    lines = "\n".join(
        f"{'     - ' if n == 0 else '       '}| {proof}" for n, proof in enumerate(proofs or ["nothing"])
    )
    text = clause.text.replace("*", "\\*").replace("`", "").replace("|", "/")
    return (
        f"   * - {clause.name}\n     - {clause.strength}\n     - {clause.dialects}\n     - {text}\n{lines}\n"
    )


def _proofs():
    found = defaultdict(list)
    for dialogue in read_all():
        for name in dialogue.clauses:
            found["S", name].append(
                (f"dialogues/{dialogue.file}.txt: {dialogue.title}", "".join(dialogue.dialects))
            )
    for path in sorted(TESTS.rglob("test_*.py")):
        who = "C" if path.is_relative_to(TESTS / "reader") else "S"
        for function, names in _marked(path):
            for name in names:
                found[who, name].append((f"{path.relative_to(TESTS)}: {function}", "VTF"))
    return found


def _marked(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.clause":
                    yield node.name, [ast.literal_eval(argument) for argument in mark.args]


def main():
    """Write the document, say how far we are; 1 if a server's MUST is not proved."""
    DOCUMENT.write_text(document())
    every = clauses()
    for side, title in SIDES.items():
        print("\n".join([f"{title}:", *totals([clause for clause in every if clause.who == side])]))
    open_ = [clause for clause in every if not clause.proved]
    for clause in open_:
        side = SIDES[clause.who].lower()
        print(
            f"{clause.name} ({side}, {clause.strength}, {''.join(clause.missing)}): {clause.why_not or 'no test'}"
        )
    return int(any(clause.binding and clause.who == "S" for clause in open_))


if __name__ == "__main__":
    sys.exit(main())
