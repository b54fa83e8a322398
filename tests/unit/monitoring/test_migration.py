"""Band migration: who is compared with whom, and what counts as a move."""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.sql import SparkSession
from score_rows import score_frame, score_row

from lbsf.config.models import MigrationLimits
from lbsf.monitoring.migration import Migration, band_migration, earlier_nights, move_measures
from lbsf.schemas.scores import THIN_BAND

NIGHT = date(2025, 7, 1)
LIMITS = MigrationLimits(max_two_bands=0.1, max_up=0.3, max_down=0.3)


def back(days: int) -> date:
    return NIGHT - timedelta(days=days)


def test_the_nights_to_compare_with() -> None:
    scored = [back(n) for n in (-1, 0, 3, 29, 31, 40)]
    assert earlier_nights(scored, NIGHT) == {"night": back(3), "month": back(31)}
    assert earlier_nights([back(30), NIGHT], NIGHT) == {"night": back(30), "month": back(30)}
    assert earlier_nights([NIGHT, back(-1)], NIGHT) == {}


def test_every_user_of_either_night_stands_in_one_move(spark: SparkSession) -> None:
    before = {"a": "A", "b": "A", "c": "C", "gone": "B", "thin": THIN_BAND}
    after = {"a": "A", "b": "D", "c": "B", "new": "E", "thin": "A"}
    rows = [score_row(user, back(1), 0.5, band) for user, band in before.items()]
    rows += [score_row(user, NIGHT, 0.5, band) for user, band in after.items()]
    rows += [score_row("a", back(2), 0.5, "E")]
    found = band_migration(score_frame(spark, rows), NIGHT, "night", back(1))
    assert found == Migration(
        "night",
        back(1),
        {("A", "A"): 1, ("A", "D"): 1, ("C", "B"): 1, ("B", "none"): 1, (THIN_BAND, "A"): 1, ("none", "E"): 1},
    )


def test_shares_are_of_those_with_a_risk_band_on_both_nights() -> None:
    moves = {("A", "A"): 60, ("A", "B"): 20, ("A", "C"): 12, ("C", "A"): 2, ("B", "A"): 6}
    others = {("none", "E"): 500, ("E", "none"): 500, (THIN_BAND, "E"): 500, ("E", THIN_BAND): 500, ("old", "A"): 9}
    two, up, down = move_measures(Migration("month", back(30), moves | others), "ABCDE", LIMITS, 100)
    assert two == ("moved_two_bands", "month", 0.14, 0.1, True, 100)
    assert up == ("moved_up", "month", 0.32, 0.3, True, 100)
    assert down == ("moved_down", "month", 0.08, 0.3, False, 100)
    few = move_measures(Migration("month", back(30), moves), "ABCDE", LIMITS, 101)
    assert [one.threshold for one in few] == [None] * 3 and not any(one.breached for one in few)
    nobody = move_measures(Migration("night", back(1), others), "ABCDE", LIMITS, 1)
    assert [one.value for one in nobody] == [None] * 3
