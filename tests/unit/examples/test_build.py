"""Examples: the fold of each label's own day, laid out in full row groups."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from fold_oracle import (
    AS_OF,
    DAY,
    FOLD,
    MICROSECOND,
    USERS,
    fold_of,
    midnight,
    payment,
    payments_frame,
    payments_strategy,
)
from hypothesis import HealthCheck, given, settings
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lbsf.examples import build_examples, ingested_late, row_group_users
from lbsf.examples.build import ROW_GROUPS_PER_FILE

Row = dict[str, Any]
LABELS_AND_SPLIT = "user_id string, observed_on date, label int, matured_on date, split string"


@settings(deadline=None, max_examples=2, suppress_health_check=list(HealthCheck))
@given(payments=payments_strategy(80))
def test_an_example_is_the_fold_as_of_the_label(spark: SparkSession, payments: list[Row]) -> None:
    later = AS_OF + timedelta(days=1)
    labels = [("a", AS_OF, 1, later, "train"), ("a", later, 0, later, "train"), ("b", later, 0, later, "test")]
    left_out = [("ü", AS_OF, 1, later, None)]
    unknown = [("never paid", AS_OF, 0, later, "validation")]
    frame = spark.createDataFrame(labels + left_out + unknown, LABELS_AND_SPLIT)
    found = build_examples(payments_frame(spark, payments), frame, FOLD, row_group_rows=2, partitions=2).collect()
    assert sorted((row.asDict() for row in found), key=lambda row: (row["user_id"], row["as_of"])) == [
        fold_of(payments, user, as_of, FOLD) | {"label": label, "matured_on": matured_on, "split": split}
        for user, as_of, label, matured_on, split in sorted(labels + unknown)
    ]


def test_partitions_hold_whole_blocks_of_a_split_in_shuffled_order(spark: SparkSession) -> None:
    users, rows_a_group = 200, 3
    block = rows_a_group * ROW_GROUPS_PER_FILE
    labels = [(f"user-{n:04d}", AS_OF, n % 2, AS_OF, "test" if n % 4 == 0 else "train") for n in range(users)]
    frame = spark.createDataFrame(labels, LABELS_AND_SPLIT)
    examples = build_examples(payments_frame(spark, []), frame, FOLD, rows_a_group, partitions=3)
    runs: dict[tuple[int, str], list[str]] = {}
    for row in examples.select("user_id", "split", F.spark_partition_id().alias("partition")).collect():
        runs.setdefault((row["partition"], row["split"]), []).append(row["user_id"])
    for split, count in (("train", 150), ("test", 50)):
        sizes = [len(run) for (_, found), run in runs.items() if found == split]
        assert sum(sizes) == count
        # Every partition but the one with the split's end holds full blocks alone.
        assert sorted(size % block for size in sizes)[:-1] == [0] * (len(sizes) - 1)
    assert all(run != sorted(run) for run in runs.values() if len(run) > 5)


@pytest.mark.parametrize(
    ("train_labels", "ranks", "rows"),
    [
        (100_000, 2, 32),  # as configured
        (512, 2, 32),  # exactly eight full groups a rank
        (511, 2, 31),  # one fewer: smaller groups
        (40, 4, 1),  # fewer labels than groups wished for
        (3, 4, 1),
    ],
)
def test_small_train_splits_get_smaller_row_groups(train_labels: int, ranks: int, rows: int) -> None:
    config = FOLD.model_copy(update={"row_group_users": 32})
    assert row_group_users(train_labels, ranks, config) == rows


def test_unused_users_are_no_examples(spark: SparkSession) -> None:
    labels = spark.createDataFrame([(user, AS_OF, 0, date(2025, 8, 1), None) for user in USERS], LABELS_AND_SPLIT)
    assert build_examples(payments_frame(spark, []), labels, FOLD, 2, partitions=2).collect() == []


def test_payments_that_were_stored_after_their_labels_day_are_counted(spark: SparkSession) -> None:
    end, later = midnight(AS_OF), AS_OF + timedelta(days=2)
    inside = end - DAY
    stored = [
        ("a", inside, end),  # stored on the label's day: the night as of that day knew it
        ("a", inside, end + DAY - MICROSECOND),
        ("a", inside, end + DAY),  # late for the first label, in time for the second
        ("a", inside, end + 3 * DAY),  # late for both
        ("a", end, end + 3 * DAY),  # behind the first label's window
        ("a", end - 60 * DAY, end + 3 * DAY),  # before the windows
        ("b", inside, end + 3 * DAY),  # of a label that is left out
        ("c", inside, end + 3 * DAY),  # of nobody's label
    ]
    rows = [
        payment(number, user, paid_at, ingested_at=ingested_at)
        for number, (user, paid_at, ingested_at) in enumerate(stored)
    ]
    labels = [("a", AS_OF, 0, later, "train"), ("a", later, 0, later, "test"), ("b", AS_OF, 0, later, None)]
    frame = spark.createDataFrame(labels, LABELS_AND_SPLIT)
    assert ingested_late(payments_frame(spark, rows), frame, 5, (AS_OF, later)) == 4
