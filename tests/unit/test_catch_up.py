"""Which steps and nights are due."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lbsf.catch_up import DONE, ENDED_WELL, FAILED, FINDING, STARTED, missing_nights, remaining_steps

STEPS = ("ingest", "fold", "score")
DAY = date(2025, 8, 1)


def test_a_night_goes_on_at_the_first_step_that_did_not_end_well() -> None:
    assert remaining_steps(STEPS, {}) == ["ingest", "fold", "score"]
    assert remaining_steps(STEPS, {"ingest": DONE, "fold": STARTED}) == ["fold", "score"]
    assert remaining_steps(STEPS, {"ingest": FAILED, "fold": DONE, "score": DONE}) == ["ingest", "fold", "score"]
    assert remaining_steps(STEPS, {"ingest": DONE, "fold": FINDING, "score": DONE}) == []


@given(st.dictionaries(st.sampled_from(STEPS), st.sampled_from([STARTED, DONE, FINDING, FAILED])))
def test_what_remains_is_the_end_of_the_night(outcomes: dict[str, str]) -> None:
    left = remaining_steps(STEPS, outcomes)
    done = STEPS[: len(STEPS) - len(left)]
    assert (*done, *left) == STEPS
    assert all(outcomes.get(step) in ENDED_WELL for step in done)
    assert not left or outcomes.get(left[0]) not in ENDED_WELL


@given(st.dictionaries(st.integers(0, 20), st.booleans()), st.integers(0, 20), st.integers(0, 8))
def test_missed_nights_are_those_since_the_last_finished_one(begun: dict[int, bool], asked: int, most: int) -> None:
    nights = {DAY + timedelta(days=number): ended_well for number, ended_well in begun.items()}
    due, left_out = missing_nights(nights, DAY + timedelta(days=asked), most)
    earlier = [number for number in range(asked) if number in begun]
    last_finished = [number for number in earlier if begun[number]][-1:]
    first = last_finished[0] + 1 if last_finished else [*earlier, asked][0]
    missed = range(first, asked)
    assert [(day - DAY).days for day in left_out + due] == [*missed, asked]
    assert len(due) - 1 == min(most, len(missed))
