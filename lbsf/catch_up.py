"""Which nights and which steps of them are still to be done. Pure: jobs/nightly.py reads the record and does them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

STARTED, DONE, FINDING, FAILED = "started", "done", "finding", "failed"
# Outcomes of a step whose work is done.
ENDED_WELL = (DONE, FINDING)


def remaining_steps(steps: Sequence[str], outcomes: Mapping[str, str]) -> list[str]:
    """The steps of one night from the first that did not end well on.

    Later ones are done again, whatever they were, for they read what the earlier ones write.

    Args:
        steps: all, in their order.
        outcomes: step -> its last outcome, of the steps that were ever begun.

    >>> remaining_steps(["fold", "score", "report"], {"fold": "done", "score": "failed", "report": "done"})
    ['score', 'report']
    """
    for place, step in enumerate(steps):
        if outcomes.get(step) not in ENDED_WELL:
            return list(steps[place:])
    return []


def missing_nights(outcomes: Mapping[date, bool], as_of: date, most: int) -> tuple[list[date], list[date]]:
    """The nights that are due when `as_of` is asked for: those missed since the last finished one, then itself.

    Where no night was ever finished, the first that was begun is the first that was missed.

    Args:
        outcomes: every night that was begun -> whether every step of it ended well.
        as_of: the night that is asked for.
        most: how many missed nights before `as_of` are caught up, the latest.

    Returns:
        The nights to do, rising, `as_of` last; those that are missed and left out.

    >>> days = [date(2025, 8, number) for number in range(1, 9)]
    >>> due, left_out = missing_nights({days[0]: True, days[2]: False}, days[4], most=2)
    >>> [day.day for day in due], [day.day for day in left_out]
    ([3, 4, 5], [2])
    """
    finished = [day + timedelta(days=1) for day, ended_well in outcomes.items() if day < as_of and ended_well]
    begun = [day for day in outcomes if day < as_of]
    first = max(finished) if finished else min(begun, default=as_of)
    missed = [first + timedelta(days=number) for number in range((as_of - first).days)]
    kept = missed[max(0, len(missed) - most) :]
    return [*kept, as_of], missed[: len(missed) - len(kept)]
