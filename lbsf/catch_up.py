"""Finds the nights and steps that remain to be done. No I/O: jobs/nightly.py reads the record and runs the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

STARTED, DONE, FINDING, FAILED = "started", "done", "finding", "failed"
# Outcomes of a completed step.
ENDED_WELL = (DONE, FINDING)


def remaining_steps(steps: Sequence[str], outcomes: Mapping[str, str]) -> list[str]:
    """Return the steps of one night from the first incomplete one on.

    All later steps are repeated, even completed ones, because they read what the earlier steps write.

    Args:
        steps: all steps, in order.
        outcomes: step -> its last outcome; only steps that were ever started.

    >>> remaining_steps(["fold", "score", "report"], {"fold": "done", "score": "failed", "report": "done"})
    ['score', 'report']
    """
    for place, step in enumerate(steps):
        if outcomes.get(step) not in ENDED_WELL:
            return list(steps[place:])
    return []


def missing_nights(outcomes: Mapping[date, bool], as_of: date, most: int) -> tuple[list[date], list[date]]:
    """Return the nights to run for a requested night: those missed since the last completed one, then `as_of`.

    If no night was ever completed, the first one that was started is the first missed one.

    Args:
        outcomes: every night that was started -> whether all its steps were completed.
        as_of: the requested night.
        most: the largest number of missed nights before `as_of` to run; the latest are chosen.

    Returns:
        The nights to run, in ascending order, ending with `as_of`; and the missed nights that are left out.

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
