"""The table of clauses is true: each has its proof, and the document says so."""

import pytest

from tests.conformance import DOCUMENT, clauses, document


@pytest.mark.parametrize("clause", clauses(), ids=lambda clause: f"{clause.who}:{clause.name}")
def test_every_clause_is_proved(clause):
    """A clause has a test in each of its dialects; or, if it does not bind a server, says why not."""
    decided = clause.why_not and not (clause.binding and clause.who == "S")
    assert clause.proved or decided, f"{clause.text} ({clause.missing})"


def test_the_document_is_up_to_date():
    """CONFORMANCE.rst says what the tests say; if not: python -m tests.conformance"""
    assert DOCUMENT.read_text() == document()
