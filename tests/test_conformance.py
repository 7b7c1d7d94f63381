"""The table of clauses is true: each has its proof, and the document says so."""

import pytest

from tests.conformance import DOCUMENT, clauses, document

SERVERS = [clause for clause in clauses() if clause.who == "S"]


@pytest.mark.parametrize("clause", SERVERS, ids=lambda clause: clause.name)
def test_every_clause_is_proved(clause):
    """A clause has a test in each of its dialects, or, if it is not binding, says why not."""
    assert clause.proved or (clause.why_not and not clause.binding), f"{clause.text} ({clause.missing})"


def test_the_document_is_up_to_date():
    """CONFORMANCE.rst says what the tests say; if not: python -m tests.conformance"""
    assert DOCUMENT.read_text() == document()
