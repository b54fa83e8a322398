"""Payments to folds in Spark: the window, the hand-over to the kernel, nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import date, timedelta

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.config.models import FoldConfig
from lbsf.errors import InputError
from lbsf.schemas import FOLDS

_DAY_US = 86_400_000_000


def fold_payments(payments: DataFrame, as_ofs: DataFrame | date, config: FoldConfig) -> DataFrame:
    """Folds each user's payments of [as_of - window_days, as_of), days beginning at midnight UTC.

    Args:
        payments: PAYMENTS columns.
        as_ofs: one day for every user with a payment in its window; or a DataFrame of distinct
            (user_id string, as_of date), each of which gets a fold, an empty one where its window
            holds no payment. Its first and last day are looked up at once, to read those days only.
        config: window, caps, hash sizes; `partitions` tasks fold, each its users in memory.

    Returns:
        FOLDS columns, one row per (user_id, as_of), in rising order of both within a partition. The
        rows do not depend on the payments' partitioning or order.
    """
    if isinstance(as_ofs, date):
        days = _of_days(payments, as_ofs - timedelta(days=config.window_days), as_ofs)
        rows = _kernel_input(days.withColumn("as_of", F.lit(as_ofs)), config)
    else:
        asked = as_ofs.select("user_id", "as_of")
        span = asked.agg(F.min("as_of"), F.max("as_of")).first()
        first, last = span if span is not None and span[0] is not None else (date.max, date.max)
        days = _of_days(payments, first - timedelta(days=config.window_days), last)
        rows = _kernel_input(days.join(asked, on="user_id", how="inner"), config)
        # A row without payment asks the kernel for the fold, however many payments it has.
        rows = rows.unionByName(asked, allowMissingColumns=True)
    folded = rows.repartition(config.partitions, "user_id").mapInArrow(_folder(config), FOLDS.struct)
    return FOLDS.conform(folded)


def paid_days(payments: DataFrame) -> tuple[date, date]:
    """First and last day with a payment. Raises InputError where there is none."""
    days = payments.agg(F.min("paid_on"), F.max("paid_on")).first()
    if days is None or days[0] is None:
        raise InputError("table payments is empty: ingest payments first")
    return days[0], days[1]


def _of_days(payments: DataFrame, first: date, end: date) -> DataFrame:
    """Payments of the days [first, end): prunes the table's partitions."""
    return payments.where((F.col("paid_on") >= F.lit(first)) & (F.col("paid_on") < F.lit(end)))


def _kernel_input(payments: DataFrame, config: FoldConfig) -> DataFrame:
    """Each payment with an as_of that it precedes by at most the window, as KERNEL_INPUT."""
    # Compared as numbers, so that the session's time zone has no say.
    paid_us, as_of_us = F.unix_micros("paid_at"), F.unix_date("as_of").cast("bigint") * F.lit(_DAY_US)
    in_window = (paid_us < as_of_us) & (paid_us >= as_of_us - F.lit(config.window_days * _DAY_US))
    return payments.where(in_window).select(
        "user_id",
        "as_of",
        "merchant_id",
        "payment_id",
        paid_us.alias("paid_us"),
        (F.col("amount") * 100).cast("bigint").alias("amount_cents"),
        "category",
        "channel",
        "merchant_name",
        "description",
    )


def _folder(config: FoldConfig) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    def fold_partition(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        # Spark fills the cores with tasks; a thread pool in each would only contend. Set before the
        # kernel imports Polars, which reads it once.
        os.environ.setdefault("POLARS_MAX_THREADS", "1")
        from lbsf.folding.kernel import fold_table

        received = list(batches)
        if received:
            yield from fold_table(pa.Table.from_batches(received), config).to_batches(config.row_group_users)

    return fold_partition
