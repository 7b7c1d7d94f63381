"""The table of clauses is true: each has its proof, and the document says so."""

import pytest

from tests.conformance import DOCUMENT, clauses, document


@pytest.mark.parametrize("clause", clauses(), ids=lambda clause: clause.name)
def test_every_clause_is_proved(clause):
    """A clause in scope has a test in each of its dialects, or says what it waits for."""
    assert clause.waits_for or not clause.missing, f"{clause.text} ({''.join(clause.missing)})"


def test_the_document_is_up_to_date():
    """CONFORMANCE.rst says what the tests say; if not: python -m tests.conformance"""
    assert DOCUMENT.read_text() == document()
