"""Batches that are made whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence

from archive_crypt.errors import CollectionUnknown, PartlyRefused, QuotaExceeded
from archive_crypt.store.interfaces import Append, Change, Open, Outcome


def check_whole(changes: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
    """A batch of which there may be copies in a spool, acknowledged: they must not go with it because it was
    made, while they were not.

    :raises PartlyRefused: something recorded has no room, or no collection.
    """
    refusals = {
        n: outcome
        for n, (change, outcome) in enumerate(zip(changes, outcomes, strict=True))
        if isinstance(change, Append | Open) and isinstance(outcome, QuotaExceeded | CollectionUnknown)
    }
    if refusals:
        raise PartlyRefused(refusals)
