"""Labels and payments to training examples, laid out for sharding by row group."""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lbsf.config.models import FoldConfig
from lbsf.folding import fold_payments
from lbsf.schemas import EXAMPLES

# A rank reads whole row groups: with fewer a rank, ranks differ too much in rows and batches mix little.
ROW_GROUPS_PER_RANK = 8
ROW_GROUPS_PER_FILE = 16


def row_group_users(train_labels: int, ranks: int, config: FoldConfig) -> int:
    """Examples a row group: the configured number, fewer where a small train split needs it for its ranks.

    >>> from lbsf.config import load_config
    >>> fold = load_config("conf/base.yaml").fold
    >>> row_group_users(1_000_000, ranks=2, config=fold), row_group_users(1_000, ranks=2, config=fold)
    (256, 62)
    """
    return max(1, min(config.row_group_users, train_labels // (ROW_GROUPS_PER_RANK * ranks)))


def build_examples(
    payments: DataFrame, labels: DataFrame, config: FoldConfig, row_group_rows: int, partitions: int
) -> DataFrame:
    """The fold of each label's user as of observed_on, with the label and its split.

    Within a split the examples stand in an order drawn from a hash of their keys, and each partition
    holds whole blocks of that order: written with `row_group_rows` rows a row group, all row groups
    of a split but its last are full, and each mixes users and labels.

    Args:
        payments: PAYMENTS columns.
        labels: LABELS columns and `split`; rows with a null split are left out.
        config: how to fold.
        row_group_rows: rows a row group.
        partitions: tasks of the fold.

    Returns:
        EXAMPLES columns; a label whose user has no payment in the window gets an empty fold.
    """
    order = F.xxhash64(F.lit("order"), "user_id", "as_of")
    # One task a split orders the bare labels; the folds never pass through it.
    in_order = Window.partitionBy("split").orderBy(order, "user_id", "as_of")
    placed = (
        labels.where(F.col("split").isNotNull())
        .withColumnRenamed("observed_on", "as_of")
        .withColumn("place", F.row_number().over(in_order) - 1)
    )
    block = F.floor(F.col("place") / (row_group_rows * ROW_GROUPS_PER_FILE))
    examples = (
        fold_payments(payments, placed, config, partitions)
        .join(placed, on=["user_id", "as_of"], how="inner")
        .repartition(partitions, F.col("split"), block)
        .sortWithinPartitions("split", "place")
    )
    return EXAMPLES.conform(examples.drop("place"))


def ingested_late(payments: DataFrame, labels: DataFrame, window_days: int, observed: tuple[date, date]) -> int:
    """Counts the payments of the examples that were stored after their label's day: a score of that day lacked them.

    A payment counts once for each example that holds it. Where the payments were loaded at once, after the labels'
    days, all of them count: when they became known is not on record then.

    Args:
        payments: PAYMENTS columns. Files that hold none of the labels' windows, or that were written by the first
            label's day, are not read.
        labels: LABELS columns and `split`; rows with a null split are left out.
        window_days: days of history.
        observed: first and last day of the labels.
    """
    first, last = observed
    day, month = F.col("paid_on"), F.col("paid_month")
    begin = first - timedelta(days=window_days)
    inside = (
        (month >= F.lit(begin.replace(day=1))) & (month < F.lit(last)) & (day >= F.lit(begin)) & (day < F.lit(last))
    )
    # As an instant, which Delta's statistics of a file can be compared with.
    late = F.col("ingested_at") >= F.lit(first + timedelta(days=1)).cast("timestamp")
    stored = payments.where(inside & late).select("user_id", "paid_on", "ingested_at")
    asked = labels.where(F.col("split").isNotNull()).select("user_id", "observed_on")
    of_example = (
        (day < F.col("observed_on"))
        & (day >= F.date_sub("observed_on", window_days))
        & (F.col("ingested_at") >= F.date_add("observed_on", 1).cast("timestamp"))
    )
    return stored.join(asked, on="user_id", how="inner").where(of_example).count()
