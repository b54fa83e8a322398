"""Volumes: a dead feed is found, and days before the first payment are no dead feed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from pyspark.sql import DataFrame, SparkSession

from lbsf.config import load_config
from lbsf.monitoring.findings import Measured
from lbsf.monitoring.volumes import delivery_measures, payment_measures, user_measures, without_fold_measure
from lbsf.schemas import PAYMENTS, PAYMENTS_QUARANTINE

LIMITS = load_config("conf/base.yaml").monitoring
NIGHT = date(2025, 7, 1)
LAST_NIGHT = NIGHT - timedelta(days=1)
SCORED_AT = datetime(2025, 7, 1, 3, tzinfo=UTC)
SCORED_BEFORE = datetime(2025, 6, 30, 3, tzinfo=UTC)


def by_name(measured: list[Measured]) -> dict[tuple[str, str], Measured]:
    return {(one.measure, one.segment): one for one in measured}


def days(last: int = 1_000, usual: int = 1_000, back: int = 35) -> dict[date, int]:
    """`usual` payments each day, `last` on the day before the night."""
    return {NIGHT - timedelta(days=n): last if n == 1 else usual for n in range(1, back + 1)}


def test_a_day_is_compared_with_its_weekday_and_a_week_with_four() -> None:
    counts = days() | {NIGHT - timedelta(days=8): 2_000}  # a week before the last day
    found = by_name(payment_measures(counts, NIGHT, LIMITS))
    assert found["payments_day", "all"] == ("payments_day", "all", 1_000, None, False, 1_000)
    assert found["payments_day_change", "all"].value == pytest.approx(1_000 / 1_250 - 1)
    assert found["payments_day_change", "all"].counted == 1_250
    assert found["payments_week", "all"].value == 7_000
    assert found["payments_week_change", "all"].value == pytest.approx(7_000 / (7 * 29_000 / 28) - 1)
    assert not any(one.breached for one in found.values())


@pytest.mark.parametrize(("last", "threshold"), [(0, -0.6), (350, -0.6), (1_700, 0.6)])
def test_a_dead_and_a_doubled_feed_breach(last: int, threshold: float) -> None:
    found = by_name(payment_measures(days(last=last), NIGHT, LIMITS))["payments_day_change", "all"]
    assert (found.value, found.threshold, found.breached) == (last / 1_000 - 1, threshold, True)


def test_a_feed_that_died_a_week_ago_breaches_by_the_week_too() -> None:
    counts = {one: n for one, n in days().items() if one < NIGHT - timedelta(days=7)}
    found = by_name(payment_measures(counts, NIGHT, LIMITS))
    assert found["payments_week_change", "all"][2:5] == (-1.0, -0.4, True)
    assert found["payments_day_change", "all"].breached


def test_days_before_the_first_payment_do_not_count() -> None:
    found = by_name(payment_measures(days(back=15), NIGHT, LIMITS))
    assert found["payments_day_change", "all"].value == found["payments_week_change", "all"].value == 0
    first_week = by_name(payment_measures(days(back=7), NIGHT, LIMITS))
    assert first_week["payments_day_change", "all"] == ("payments_day_change", "all", None, None, False, 0)
    nothing = by_name(payment_measures({}, NIGHT, LIMITS))
    assert nothing["payments_week", "all"].value == 0 and nothing["payments_week_change", "all"].value is None


def test_a_change_of_few_is_shown_and_not_judged() -> None:
    found = by_name(payment_measures(days(last=0, usual=99), NIGHT, LIMITS))["payments_day_change", "all"]
    assert found == ("payments_day_change", "all", -1.0, None, False, 99)


def test_users() -> None:
    found = by_name(user_measures(users=900, thin=90, folds=900, before=1_000, limits=LIMITS))
    assert found["users", "all"].value == 900
    assert found["users_change", "all"].value == pytest.approx(-0.1)
    assert found["thin_share", "all"].value == 0.1
    assert found["without_score_share", "all"][2:5] == (0.0, 0.0, False)
    assert not any(one.breached for one in found.values())
    bad = by_name(user_measures(users=700, thin=300, folds=701, before=1_000, limits=LIMITS))
    assert {measure for (measure, _), one in bad.items() if one.breached} == {
        "users_change",
        "thin_share",
        "without_score_share",
    }
    assert bad["users_change", "all"].threshold == -0.2
    first = by_name(user_measures(users=700, thin=0, folds=700, before=None, limits=LIMITS))
    assert first["users_change", "all"].value is None


def payments(spark: SparkSession, rows: list[tuple[str, datetime, datetime]]) -> DataFrame:
    """user, paid_at, ingested_at of each payment."""
    return spark.createDataFrame(
        [
            (f"p{number}", user, "m", paid, paid.date(), Decimal(1), "EUR", None, None, None, None, at, "hand",
             paid.date().replace(day=1), 0)
            for number, (user, paid, at) in enumerate(rows)
        ],
        PAYMENTS.struct,
    )  # fmt: skip


def test_who_paid_and_has_no_fold(spark: SparkSession) -> None:
    paid = {"a": 1, "b": 7, "c": 8, "d": 3}
    rows = [(user, datetime(2025, 7, 1, tzinfo=UTC) - timedelta(days=n), SCORED_AT) for user, n in paid.items()]
    rows.append(("e", datetime(2025, 7, 1, tzinfo=UTC), SCORED_AT))  # the night's own day is not of the window
    folds = spark.createDataFrame([("a",), ("c",)], "user_id string")
    found = without_fold_measure(payments(spark, rows), folds, NIGHT, LIMITS)
    assert found == ("without_fold_share", "all", 2 / 3, 0.0, True, 3)
    whole = without_fold_measure(payments(spark, rows), folds.union(folds.sparkSession.createDataFrame(
        [("b",), ("d",)], "user_id string")), NIGHT, LIMITS)  # fmt: skip
    assert whole[2:5] == (0.0, 0.0, False)


def test_late_and_quarantined_rows_since_the_night_before(spark: SparkSession) -> None:
    hour = timedelta(hours=1)
    midnight = datetime(2025, 6, 30, tzinfo=UTC)
    rows = [
        ("a", midnight - 5 * hour, SCORED_BEFORE),  # came with the night before, to the very instant
        ("a", midnight - 5 * hour, SCORED_BEFORE + hour),  # late
        ("b", midnight - timedelta(microseconds=1), SCORED_BEFORE + hour),  # late
        ("c", midnight, SCORED_BEFORE + hour),
        *[("d", midnight + hour, SCORED_BEFORE + hour)] * 97,
    ]
    quarantine = spark.createDataFrame(
        [
            (f"q{number}", "{}", reasons, times, "hand", "f", "r", at)
            for number, (reasons, times, at) in enumerate(
                [
                    (["amount is missing"], 8, SCORED_AT),
                    (["amount is missing", "currency is missing"], 2, SCORED_AT - hour),
                    (["of the night before"], 50, SCORED_BEFORE),
                    (["of the next night"], 50, SCORED_AT + hour),
                ]
            )
        ],
        PAYMENTS_QUARANTINE.struct,
    )
    frame = payments(spark, rows)
    found = by_name(delivery_measures(frame, quarantine, (LAST_NIGHT, SCORED_BEFORE), SCORED_AT, LIMITS))
    assert found["late_share", "all"] == ("late_share", "all", 0.02, 0.2, False, 100)
    assert found["quarantined_share", "all"] == ("quarantined_share", "all", 10 / 110, 0.05, True, 110)
    by_reason = {segment: one[2:] for (_, segment), one in found.items() if segment != "all"}
    assert by_reason == {
        "amount is missing": (10 / 110, None, False, 10),
        "currency is missing": (2 / 110, None, False, 2),
    }
    # The first night has nothing to be late for, and takes in all that was refused so far.
    first = by_name(delivery_measures(frame, quarantine, None, SCORED_AT, LIMITS))
    assert first["late_share", "all"].value is None
    assert first["quarantined_share", "all"].value == pytest.approx(60 / 161)
    without = by_name(delivery_measures(frame, None, None, SCORED_AT, LIMITS))
    assert without["quarantined_share", "all"].value == 0
