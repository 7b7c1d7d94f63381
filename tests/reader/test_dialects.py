"""Which dialect is spoken with a server."""

import pytest

from archive_crypt.core.dialect import F, T, V, features
from archive_crypt.reader.xep_0136.dialects import Dialects

WHOLE = features(("auto", "encrypt", "manage"))


@pytest.mark.clause("0136-disco-04")
@pytest.mark.parametrize(
    ("announced", "parts", "expected"),
    [
        (WHOLE, ("auto", "encrypt"), [F, T, V]),
        ([name for name in WHOLE if not name.startswith(F.namespace)], ("manage",), [T, V]),
        ([F.feature("manage"), V.feature("auto"), V.feature("encrypt")], ("auto", "encrypt"), [V]),
        ([V.feature("manage")], ("manage",), [V]),
        ([V.feature("manage")], ("auto",), []),
    ],
)
def test_by_what_is_announced(announced, parts, expected):
    """The newest dialect comes first, of those that have all that is needed."""
    assert Dialects(announced).candidates(parts) == expected


@pytest.mark.parametrize("announced", [[], ["urn:xmpp:ping", F.namespace]])
def test_where_nothing_is_announced(announced):
    """Where no part is announced, all dialects are tried; but encryption is never taken for granted."""
    assert Dialects(announced).candidates(("manage",)) == [F, T, V]
    assert Dialects(announced).candidates(("auto", "encrypt")) == []


def test_what_was_understood_is_remembered():
    """The dialect that was understood is the only one from then on, for the same parts."""
    dialects = Dialects(WHOLE)
    dialects.learn(("manage",), T)
    assert dialects.candidates(("manage",)) == [T]
    assert dialects.candidates(("auto",)) == [F, T, V]
    assert dialects.candidates(("manage",), (F,)) == [F]
