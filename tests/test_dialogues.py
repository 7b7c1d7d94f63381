"""Plays every dialogue of tests/dialogues in every dialect it is for."""

import pytest
from pytest_twisted import ensureDeferred

from tests.dialogue import Player, read_all

PLAYED = [(dialogue, dialect) for dialogue in read_all() for dialect in dialogue.dialects]


@pytest.mark.parametrize(
    ("dialogue", "dialect"), PLAYED, ids=[f"{d.file}: {d.title} [{dialect}]" for d, dialect in PLAYED]
)
@ensureDeferred
async def test_dialogue(dialogue, dialect, real_house):
    """The dialogue goes as it is written."""
    await Player(dialogue, dialect, real_house).play()
