"""Volume measures: users, thin files, payments by day, late and quarantined rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.config.models import MonitoringConfig
from lbsf.monitoring.findings import Measured, at_most, share, shown, within

WEEK = 7
# The four weeks before the last week are the baseline for the last day and the last week.
BEFORE_DAYS = 28


def user_measures(users: int, thin: int, folds: int, before: int | None, limits: MonitoringConfig) -> list[Measured]:
    """Measure users, users_change, thin_share and without_score_share.

    Args:
        users: number of scores of the night.
        thin: how many of them are thin files.
        folds: number of folds of the night.
        before: number of scores of the previously scored night; None if there is none.
        limits: the thresholds.
    """
    change = users / before - 1 if before else None
    limit = limits.max_users_change
    judged = (before or 0) >= limits.min_counted
    return [
        shown("users", users, users),
        within("users_change", change, (-limit, limit), 0.0, before or 0, judged=judged),
        at_most("thin_share", share(thin, users), limits.max_thin_share, users, judged=users >= limits.min_counted),
        at_most("without_score_share", share(max(folds - users, 0), folds), limits.max_without_score_share, folds),
    ]


def without_fold_measure(payments: DataFrame, folds: DataFrame, as_of: date, limits: MonitoringConfig) -> Measured:
    """Measure without_fold_share: the share of users with payments in the week before `as_of` who have no fold.

    Args:
        payments: rows of the payments table, at the version that the folds were made from.
        folds: rows of the folds table of `as_of`.
        as_of: the night.
        limits: the thresholds.
    """
    payers = _paid(payments, as_of - timedelta(days=WEEK), as_of).select("user_id").distinct()
    folded = folds.select("user_id", F.lit(1).alias("folded"))
    counted = payers.join(folded, "user_id", "left").agg(F.count("*"), F.count("folded")).head()
    assert counted is not None  # An aggregate without groups has one row.
    users, found = map(int, counted)
    return at_most("without_fold_share", share(users - found, users), limits.max_without_fold_share, users)


def payments_by_day(payments: DataFrame, as_of: date) -> dict[date, int]:
    """Count the payments of each day of the five weeks before `as_of`; days without payments are absent."""
    window = _paid(payments, as_of - timedelta(days=WEEK + BEFORE_DAYS), as_of)
    return {row["paid_on"]: row["count"] for row in window.groupBy("paid_on").count().collect()}


def payment_measures(by_day: Mapping[date, int], as_of: date, limits: MonitoringConfig) -> list[Measured]:
    """Measure payments_day and payments_week, and their changes against the weeks before.

    The last day is compared with the mean of the same weekday in the four weeks before, the last week with the
    mean of these four weeks. Days before the first payment do not count.

    Args:
        by_day: as returned by `payments_by_day`.
        as_of: the night.
        limits: the thresholds.
    """
    days = [as_of - timedelta(days=back) for back in range(1, WEEK + 1)]
    start = min(by_day, default=as_of)

    def mean(compared: list[date]) -> float:
        known = [by_day.get(one, 0) for one in compared if one >= start]
        return sum(known) / len(known) if known else 0.0

    day, week = by_day.get(days[0], 0), sum(by_day.get(one, 0) for one in days)
    usual_day = mean([days[0] - timedelta(days=WEEK * number) for number in range(1, BEFORE_DAYS // WEEK + 1)])
    usual_week = WEEK * mean([days[-1] - timedelta(days=number) for number in range(1, BEFORE_DAYS + 1)])
    return [
        shown("payments_day", day, day),
        _change("payments_day_change", day, usual_day, limits.max_day_change, limits.min_counted),
        shown("payments_week", week, week),
        _change("payments_week_change", week, usual_week, limits.max_week_change, limits.min_counted),
    ]


def delivery_measures(
    payments: DataFrame,
    quarantine: DataFrame | None,
    previous: tuple[date, datetime] | None,
    until: datetime,
    limits: MonitoringConfig,
) -> list[Measured]:
    """Measure late_share and quarantined_share of the rows delivered since the previously scored night, if any.

    A payment is late if it was paid before the previous night but arrived after that night was scored.
    quarantined_share has one segment per reason and `all`; a row that broke two rules counts under both.

    Args:
        payments: rows of the payments table, at the version that the folds were made from.
        quarantine: the payments_quarantine table; None if nothing was ever quarantined.
        previous: the previously scored night and the time of its scoring, UTC; None if there is none: all rows count.
        until: time of scoring of the monitored night, UTC.
        limits: the thresholds.
    """
    arrived, late = _arrived(payments, previous)
    refused, by_reason = (0, {}) if quarantine is None else _refused(quarantine, previous, until)
    rows = arrived + refused
    found = [
        at_most(
            "late_share",
            None if previous is None else share(late, arrived),
            limits.max_late_share,
            arrived,
            judged=arrived >= limits.min_counted,
        ),
        at_most(
            "quarantined_share",
            share(refused, rows),
            limits.max_quarantined_share,
            rows,
            judged=rows >= limits.min_counted,
        ),
    ]
    return found + [shown("quarantined_share", n / rows, n, reason) for reason, n in sorted(by_reason.items())]


def _arrived(payments: DataFrame, previous: tuple[date, datetime] | None) -> tuple[int, int]:
    """Count the payments stored since the previous scoring, and the late ones among them."""
    if previous is None:
        return payments.count(), 0
    night, scored_at = previous
    since = payments.where(F.col("ingested_at") > F.lit(scored_at))
    counted = since.agg(F.count("*"), F.count_if(F.col("paid_at") < F.lit(night).cast("timestamp"))).head()
    assert counted is not None
    return int(counted[0]), int(counted[1])


def _refused(
    quarantine: DataFrame, previous: tuple[date, datetime] | None, until: datetime
) -> tuple[int, dict[str, int]]:
    """Count the rows quarantined since the previous scoring, in all and by reason."""
    since = quarantine.where(F.col("quarantined_at") <= F.lit(until))
    if previous is not None:
        since = since.where(F.col("quarantined_at") > F.lit(previous[1]))
    total = since.agg(F.coalesce(F.sum("occurrences"), F.lit(0))).head()
    assert total is not None
    exploded = since.select(F.explode("reasons").alias("reason"), "occurrences")
    by_reason = exploded.groupBy("reason").agg(F.sum("occurrences").alias("rows")).collect()
    return int(total[0]), {row["reason"]: int(row["rows"]) for row in by_reason}


def _paid(payments: DataFrame, first: date, end: date) -> DataFrame:
    """Return the payments of the days [first, end)."""
    return payments.where((F.col("paid_on") >= F.lit(first)) & (F.col("paid_on") < F.lit(end)))


def _change(measure: str, count: int, usual: float, limit: float, min_counted: int) -> Measured:
    value = count / usual - 1 if usual else None
    return within(measure, value, (-limit, limit), 0.0, round(usual), judged=usual >= min_counted)
