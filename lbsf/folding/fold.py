"""Folds payments in Spark: sends all rows through mapInArrow to the fold kernel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from lbsf.config.models import FoldConfig
from lbsf.folding.cut import fold_days, fold_pairs
from lbsf.folding.rows import PAYMENT_COLUMNS, PaymentRows
from lbsf.schemas.folds import FOLD_COLUMNS

_STRUCT = StructType([column.field for column in FOLD_COLUMNS])


def fold_payments(
    payments: DataFrame, as_ofs: DataFrame | Sequence[date], config: FoldConfig, partitions: int
) -> DataFrame:
    """Fold each user's payments of [as_of - window_days, as_of); days begin at midnight UTC.

    Args:
        payments: PAYMENTS columns.
        as_ofs: a sequence of days: each user with a payment in a day's window gets a fold of that day. Or a
            DataFrame of distinct (user_id string, as_of date): each row gets a fold, an empty one if its window
            has no payments. Its first and last as_of are collected immediately, to prune the payments read.
        config: window, caps, hash sizes.
        partitions: Spark tasks, each of which folds its users in memory. A payment is read and shuffled once,
            however many windows contain it.

    Returns:
        FOLD_COLUMNS, one row per (user_id, as_of), sorted by both within a partition. The
        rows do not depend on the payments' partitioning or order.
    """
    days: Sequence[date] | None = None
    # The tables are stored by user_bucket: with the same partitioning, one task writes each file of folds.
    partition_by = "user_bucket"
    if not isinstance(as_ofs, DataFrame):
        rows = _of_days(payments, min(as_ofs) - timedelta(days=config.window_days), max(as_ofs))
        rows = rows.withColumn("as_of", F.lit(None).cast("date"))
        days = as_ofs
    else:
        requested = as_ofs.select("user_id", "as_of")
        span = requested.agg(F.min("as_of"), F.max("as_of")).first()
        first, last = span if span is not None and span[0] is not None else (date.max, date.max)
        rows = _of_days(payments, first - timedelta(days=config.window_days), last)
        rows = rows.join(requested.select("user_id").distinct(), on="user_id", how="left_semi")
        partition_by = "user_id"
        # A row with an as_of requests a fold; the other rows are payments.
        rows = rows.unionByName(requested, allowMissingColumns=True)
    return rows.repartition(partitions, partition_by).mapInArrow(_folder(config, days), _STRUCT)


def user_bucket_of(user_id: Column, buckets: int) -> Column:
    """Return lbsf.folding.hashing.user_bucket of a column of user ids."""
    return (F.crc32(F.encode(user_id, "UTF-8")) % F.lit(buckets)).cast("int")


def _of_days(payments: DataFrame, first: date, end: date) -> DataFrame:
    """Select the fold's columns of the payments of [first, end), pruning the partitions of other months."""
    paid_on, month = F.col("paid_on"), F.col("paid_month")
    inside = (paid_on >= F.lit(first)) & (paid_on < F.lit(end))
    months = (month >= F.lit(first.replace(day=1))) & (month < F.lit(end))
    return payments.where(months & inside).select(*PAYMENT_COLUMNS, "payment_id", "user_bucket")


def _folder(
    config: FoldConfig, days: Sequence[date] | None
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    def fold_partition(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        # Spark already runs a task on each core, so more threads would only compete for them.
        os.environ.setdefault("POLARS_MAX_THREADS", "1")
        received = list(batches)
        if received:
            yield from _fold_table(pa.Table.from_batches(received), days, config).to_batches(config.row_group_users)

    return fold_partition


def _fold_table(table: pa.Table, days: Sequence[date] | None, config: FoldConfig) -> pa.Table:
    """Fold as of `days` or, if None, for each (user_id, as_of) that a row of the table requests."""
    is_request = pc.is_valid(table["as_of"])
    payments = table.filter(pc.invert(is_request))
    rows = PaymentRows.from_payments(payments, config)
    rows = rows.take(rows.order(payments["payment_id"].combine_chunks))
    if days is not None:
        return pa.concat_tables(fold_days(rows, days, config)).combine_chunks()
    requests = table.filter(is_request).select(["user_id", "as_of"])
    pairs = requests.sort_by([("user_id", "ascending"), ("as_of", "ascending")])
    rows = rows.with_users(pairs["user_id"].combine_chunks())
    users = pc.index_in(pairs["user_id"].combine_chunks(), rows.users).to_numpy().astype(np.int64)
    as_ofs = pairs["as_of"].cast(pa.int32()).to_numpy().astype(np.int64)
    return fold_pairs(rows, users, as_ofs, config)
