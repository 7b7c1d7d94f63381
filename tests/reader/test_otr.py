"""Off the record: the tables of XEP-0136, section 4, cell by cell, and what follows from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive_crypt.model import Otr, SaveMode
from archive_crypt.reader import otr
from archive_crypt.reader.otr import Logging, Outcome
from tests.reader.kit import law

MAY, NOT = Logging.MAY, Logging.MUSTNOT

#: As the XEP prints it: FAIL is None.
RESPONDER = """
require  mustnot mustnot mustnot FAIL
prefer   mustnot mustnot mustnot may
approve  mustnot mustnot may     may
concede  mustnot mustnot may     may
oppose   mustnot may     may     may
forbid   FAIL    may     may     may
"""
COLUMNS = ((NOT,), (NOT, MAY), (MAY, NOT), (MAY,))
CELLS = [
    (Otr(mode), offered, None if said == "FAIL" else Logging(said))
    for mode, *row in map(str.split, RESPONDER.strip().splitlines())
    for offered, said in zip(COLUMNS, row, strict=True)
]


@pytest.mark.clause("0136-otr-nego-03", "0136-pref-determine-12")
@pytest.mark.parametrize(
    ("mode", "offered"),
    [
        (Otr.REQUIRE, (NOT,)),
        (Otr.PREFER, (NOT, MAY)),
        (Otr.APPROVE, (NOT, MAY)),
        (Otr.CONCEDE, (MAY, NOT)),
        (Otr.OPPOSE, (MAY, NOT)),
        (Otr.FORBID, (MAY,)),
    ],
)
def test_what_is_offered(mode, offered):
    """Each preference offers what the XEP's table says, its default first."""
    assert otr.offer(mode, switchable=True) == offered


@pytest.mark.clause(
    "0136-otr-nego-08",
    "0136f-default-03",
    "0136f-default-04",
    "0136f-default-05",
    "0136f-default-06",
    "0136f-default-07",
)
@pytest.mark.parametrize(("mode", "offered", "said"), CELLS)
def test_what_is_answered(mode, offered, said):
    """Each of the 24 cells of the XEP's table."""
    assert otr.answer(mode, offered, switchable=True) is said


def test_all_cells_are_there():
    """Six preferences meet four offers."""
    assert len(CELLS) == len({cell[:2] for cell in CELLS}) == 24


@pytest.mark.clause("0136-otr-nego-02")
@pytest.mark.parametrize("mode", list(Otr))
def test_without_a_switch(mode):
    """Where the server's archiving cannot be off, mustnot is neither offered nor accepted."""
    assert NOT not in otr.offer(mode, switchable=False)
    for offered in COLUMNS:
        assert otr.answer(mode, offered, switchable=False) is not NOT
    assert otr.answer(mode, (NOT,), switchable=False) is None


def test_who_requires_without_a_switch():
    """Who requires what his server makes impossible offers nothing, accepts nothing, and so says nothing."""
    assert otr.offer(Otr.REQUIRE, switchable=False) == ()
    assert all(otr.answer(Otr.REQUIRE, offered, switchable=False) is None for offered in COLUMNS)


@pytest.mark.clause("0136-otr-nego-02", "0136f-otr-01", "0136f-otr-02")
def test_what_the_server_lets_one_do():
    """Without a warning archiving is off; after one, only a server that accepts ``<auto save='false'/>``
    lets one switch it off."""
    assert otr.can_switch_off(warned=False)
    assert otr.can_switch_off(warned=True, off_accepted=True)
    assert not otr.can_switch_off(warned=True, off_accepted=False)
    assert not otr.can_switch_off(warned=True)


@pytest.mark.clause("0136-otr-nego-04")
@pytest.mark.parametrize("outcome", [None, Outcome.PENDING, Outcome.UNANSWERED, Outcome.FAILED, Outcome.MAY])
def test_who_requires_waits(outcome):
    """With 'require' nothing is sent before off the record is agreed."""
    assert not otr.may_send(Otr.REQUIRE, outcome)
    assert otr.may_send(Otr.REQUIRE, Outcome.MUSTNOT)


@pytest.mark.clause("0136-otr-nego-05")
def test_who_need_not_begin():
    """Those who would rather log need not negotiate, and log until the contact does."""
    assert {mode for mode in Otr if not otr.negotiates_first(mode)} == {Otr.CONCEDE, Otr.OPPOSE, Otr.FORBID}
    assert all(otr.logging(mode, None) is MAY for mode in (Otr.CONCEDE, Otr.OPPOSE, Otr.FORBID))


@pytest.mark.clause("0136-otr-nego-07")
@pytest.mark.parametrize("mode", [mode for mode in Otr if mode is not Otr.REQUIRE])
def test_no_answer_is_may(mode):
    """Without a successful answer all others go on as if messages may be logged."""
    assert otr.logging(mode, Outcome.UNANSWERED) is MAY


@pytest.mark.clause("0136-otr-nego-09")
@pytest.mark.parametrize("mode", list(Otr))
def test_after_a_failure(mode):
    """When a negotiation has failed, nothing is exchanged."""
    assert not otr.may_send(mode, Outcome.FAILED)


@pytest.mark.clause("0136-otr-nego-10")
def test_an_offer_without_logging():
    """An offer that does not speak of logging is refused by who requires it to be forbidden, and by nobody else."""
    for mode in Otr:
        expected = None if mode is Otr.REQUIRE else MAY
        assert otr.answer(mode, None, switchable=True) is expected


@pytest.mark.clause("0136-otr-nego-11")
def test_a_preference_that_changes():
    """What no longer fits is offered anew at once, or the conversation ended; what fits stays."""
    assert otr.offer_anew(Otr.REQUIRE, MAY, switchable=True) == (NOT,)
    assert otr.offer_anew(Otr.REQUIRE, MAY, switchable=False) == ()
    assert otr.offer_anew(Otr.FORBID, NOT, switchable=True) == (MAY,)
    for mode in set(Otr) - {Otr.REQUIRE, Otr.FORBID}:
        assert otr.offer_anew(mode, MAY, switchable=True) is None
        assert otr.offer_anew(mode, NOT, switchable=True) is None


@law
@given(st.sampled_from(Otr), st.lists(st.sampled_from(Logging), max_size=4), st.booleans())
def test_only_what_was_offered(mode, offered, switchable):
    """Whatever is offered, in whatever order and how often, the answer is among it, or none."""
    assert otr.answer(mode, tuple(offered), switchable=switchable) in {*offered, None}


# What is asked of the server then


@pytest.mark.clause("0136-otr-notes-01", "0136-otr-notes-03")
@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize("save", [mode for mode in SaveMode if mode is not SaveMode.FALSE])
def test_what_is_off_the_record(save, threads):
    """Off the record nothing more is saved, whatever was before."""
    assert otr.saving(NOT, save, threads=threads) is SaveMode.FALSE
    assert otr.saving(NOT, SaveMode.FALSE, threads=threads) is None
    assert otr.saving(MAY, save, threads=threads) is None


@pytest.mark.clause("0136-otr-notes-03")
def test_what_is_on_the_record():
    """On the record more is saved of the thread, where the user saves nothing of the contact; but not of all
    that is said with him."""
    assert otr.saving(MAY, SaveMode.FALSE, threads=True) is SaveMode.BODY
    assert otr.saving(MAY, SaveMode.FALSE, threads=False) is None
