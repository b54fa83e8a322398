"""Band migration: how many users moved from one risk band to another between two nights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.config.models import MigrationLimits
from lbsf.monitoring.findings import Measured, at_most, share

NOT_SCORED = "none"
MONTH = timedelta(days=30)


class Migration(NamedTuple):
    """Band changes between two nights.

    Attributes:
        period: `night` or `month`.
        since: the earlier night.
        moves: (from band, to band) -> users; the band is NOT_SCORED on a night without a score of the user.
    """

    period: str
    since: date
    moves: dict[tuple[str, str], int]


def earlier_nights(scored: Sequence[date], as_of: date) -> dict[str, date]:
    """Return the earlier nights to compare with.

    `night` is the latest scored night before `as_of`, `month` the latest at least 30 days before it.

    Args:
        scored: all score dates.
        as_of: the night that is monitored.
    """
    latest = {
        "night": max((one for one in scored if one < as_of), default=None),
        "month": max((one for one in scored if one <= as_of - MONTH), default=None),
    }
    return {period: one for period, one in latest.items() if one is not None}


def band_migration(scores: DataFrame, as_of: date, period: str, since: date) -> Migration:
    """Count users by their bands on two nights.

    Args:
        scores: rows of the scores table.
        as_of: the later night.
        period: the name of the comparison.
        since: the earlier night.
    """
    after, before = (
        scores.where(F.col("score_date") == F.lit(night)).select("user_id", F.col("band").alias(name))
        for night, name in ((as_of, "to_band"), (since, "from_band"))
    )
    bands = [F.coalesce(F.col(name), F.lit(NOT_SCORED)).alias(name) for name in ("from_band", "to_band")]
    counted = before.join(after, "user_id", "full").groupBy(*bands).agg(F.count("*").alias("users")).collect()
    return Migration(period, since, {(row["from_band"], row["to_band"]): row["users"] for row in counted})


def move_measures(
    migration: Migration, bands: Sequence[str], limits: MigrationLimits, min_counted: int
) -> list[Measured]:
    """Measure the shares of users who moved, among those with a risk band on both nights (thin files have none).

    Args:
        migration: the moves.
        bands: the names in scoring.bands, in ascending order of risk.
        limits: the thresholds for the migration's period.
        min_counted: no threshold applies to fewer users.
    """
    steps = _by_step(migration.moves, bands)
    users = sum(steps.values())
    found = {
        "moved_two_bands": (sum(n for step, n in steps.items() if abs(step) >= 2), limits.max_two_bands),
        "moved_up": (sum(n for step, n in steps.items() if step > 0), limits.max_up),
        "moved_down": (sum(n for step, n in steps.items() if step < 0), limits.max_down),
    }
    judged = users >= min_counted
    return [
        at_most(measure, share(moved, users), limit, users, migration.period, judged=judged)
        for measure, (moved, limit) in found.items()
    ]


def _by_step(moves: Mapping[tuple[str, str], int], bands: Sequence[str]) -> dict[int, int]:
    """Count users by the number of bands that they moved; positive is towards higher risk."""
    rank = {name: number for number, name in enumerate(bands)}
    steps: dict[int, int] = {}
    for (before, after), users in moves.items():
        if before in rank and after in rank:
            step = rank[after] - rank[before]
            steps[step] = steps.get(step, 0) + users
    return steps
