"""The fold in Spark: against the oracle, at the window's edges, and blind to what it may not see."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from fold_oracle import (
    AS_OF,
    DAY,
    FOLD,
    MICROSECOND,
    USERS,
    collect,
    fold_of,
    midnight,
    pairs_frame,
    payment,
    payments_frame,
    payments_strategy,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from lbsf.folding import fold_payments
from lbsf.schemas.folds import FOLD_COLUMNS

Row = dict[str, Any]
in_spark = settings(deadline=None, max_examples=3, suppress_health_check=list(HealthCheck))
PAIRS = [(user, AS_OF + timedelta(days=days)) for user in USERS[:-1] for days in (-2, 0, 1)]


def users_in_window(payments: list[Row], as_of: date) -> list[str]:
    begin, end = midnight(as_of) - FOLD.window_days * DAY, midnight(as_of)
    return sorted({p["user_id"] for p in payments if begin <= p["paid_at"] < end})


@in_spark
@given(payments=payments_strategy(80))
def test_fold_equals_the_oracle(spark: SparkSession, payments: list[Row]) -> None:
    frame = payments_frame(spark, payments)
    one_day = fold_payments(frame, [AS_OF], FOLD, 2)
    assert collect(one_day) == [fold_of(payments, user, AS_OF, FOLD) for user in users_in_window(payments, AS_OF)]
    many_days = fold_payments(frame, pairs_frame(spark, PAIRS), FOLD, 2)
    assert collect(many_days) == [fold_of(payments, user, as_of, FOLD) for user, as_of in sorted(PAIRS)]


@in_spark
@given(payments=payments_strategy(60), seed=st.integers(0, 1000))
def test_partitions_and_row_order_do_not_matter(spark: SparkSession, payments: list[Row], seed: int) -> None:
    frame = payments_frame(spark, payments)
    pairs = pairs_frame(spark, PAIRS)
    one = FOLD.model_copy(update={"row_group_users": 100})
    five = FOLD.model_copy(update={"row_group_users": 1})
    shuffled = frame.sampleBy("user_id", dict.fromkeys(USERS, 1.0), seed).orderBy("description").repartition(3)
    assert collect(fold_payments(frame, pairs, one, 1)) == collect(fold_payments(shuffled, pairs, five, 5))


@st.composite
def moved(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Payments, and the same with those outside the window of AS_OF removed, changed, moved and joined by more."""
    begin, end = midnight(AS_OF) - FOLD.window_days * DAY, midnight(AS_OF)
    payments = draw(payments_strategy(40))
    others = draw(payments_strategy(40))
    elsewhere = [
        p | {"payment_id": f"other-{p['payment_id']}", "paid_at": at, "paid_on": at.date()}
        for p in others
        for at in [draw(st.sampled_from([end, end + MICROSECOND, end + 30 * DAY, begin - MICROSECOND, begin - DAY]))]
    ]
    return payments, [p for p in payments if begin <= p["paid_at"] < end] + elsewhere


@in_spark
@given(before_and_after=moved())
def test_no_payment_outside_the_window_changes_a_fold(
    spark: SparkSession, before_and_after: tuple[list[Row], list[Row]]
) -> None:
    before, after = (payments_frame(spark, rows) for rows in before_and_after)
    assert collect(fold_payments(before, [AS_OF], FOLD, 2)) == collect(fold_payments(after, [AS_OF], FOLD, 2))
    pairs = pairs_frame(spark, [(user, AS_OF) for user in USERS])
    assert collect(fold_payments(before, pairs, FOLD, 2)) == collect(fold_payments(after, pairs, FOLD, 2))


# paid_at, is it in the window [2025-06-28, 2025-07-01)
EDGES = [
    (datetime.fromisoformat("2025-06-27T23:59:59.999999+00:00"), False),  # a microsecond before the window
    (datetime.fromisoformat("2025-06-28T00:00:00.000000+00:00"), True),  # at its start
    (datetime.fromisoformat("2025-06-30T23:59:59.999999+00:00"), True),  # a microsecond before as_of
    (datetime.fromisoformat("2025-07-01T00:00:00.000000+00:00"), False),  # at as_of
    (datetime.fromisoformat("2025-07-01T00:00:00.000001+00:00"), False),  # a microsecond after as_of
]


@pytest.fixture(params=["UTC", "America/New_York"])
def zoned(spark: SparkSession, request: pytest.FixtureRequest) -> Iterator[SparkSession]:
    spark.conf.set("spark.sql.session.timeZone", request.param)
    yield spark
    spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_window_edges_to_the_microsecond(zoned: SparkSession) -> None:
    payments = [payment(n, f"user{n}", paid_at) for n, (paid_at, _) in enumerate(EDGES)]
    users = [f"user{n}" for n, (_, inside) in enumerate(EDGES) if inside]
    frame = payments_frame(zoned, payments)
    assert [row["user_id"] for row in collect(fold_payments(frame, [AS_OF], FOLD, 2))] == users
    pairs = pairs_frame(zoned, [(f"user{n}", AS_OF) for n in range(len(EDGES))])
    kept = [row["payments_kept"] for row in collect(fold_payments(frame, pairs, FOLD, 2))]
    assert kept == [int(inside) for _, inside in EDGES]


def test_no_pairs_give_no_folds(spark: SparkSession) -> None:
    folds = fold_payments(payments_frame(spark, [payment(1)]), pairs_frame(spark, []), FOLD, 2)
    assert folds.columns == [column.name for column in FOLD_COLUMNS]
    assert folds.collect() == []
