"""Plays every dialogue of tests/dialogues in every dialect it is for."""

import pytest

from tests.dialogue import Player, read_all

PLAYED = [(dialogue, dialect) for dialogue in read_all() for dialect in dialogue.dialects]


@pytest.mark.parametrize(
    ("dialogue", "dialect"), PLAYED, ids=[f"{d.file}: {d.title} [{dialect}]" for d, dialect in PLAYED]
)
def test_dialogue(dialogue, dialect):
    """The dialogue goes as it is written."""
    Player(dialogue, dialect).play()
