"""Payments to folds with all rows passing through Spark: the hand-over to the kernel, nothing else."""

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
    """Folds each user's payments of [as_of - window_days, as_of), days beginning at midnight UTC.

    Args:
        payments: PAYMENTS columns.
        as_ofs: days, each for every user with a payment in its window; or a DataFrame of distinct
            (user_id string, as_of date), each of which gets a fold, an empty one where its window
            holds no payment. Its first and last day are looked up at once, to read those days only.
        config: window, caps, hash sizes.
        partitions: tasks, each folding its users in memory. A payment is read and moved once, however
            many windows it lies in.

    Returns:
        FOLD_COLUMNS, one row per (user_id, as_of), in rising order of both within a partition. The
        rows do not depend on the payments' partitioning or order.
    """
    days: Sequence[date] | None = None
    # As the tables are laid out: each file of folds is then written by one task.
    together = "user_bucket"
    if not isinstance(as_ofs, DataFrame):
        rows = _of_days(payments, min(as_ofs) - timedelta(days=config.window_days), max(as_ofs))
        rows = rows.withColumn("as_of", F.lit(None).cast("date"))
        days = as_ofs
    else:
        asked = as_ofs.select("user_id", "as_of")
        span = asked.agg(F.min("as_of"), F.max("as_of")).first()
        first, last = span if span is not None and span[0] is not None else (date.max, date.max)
        rows = _of_days(payments, first - timedelta(days=config.window_days), last)
        rows = rows.join(asked.select("user_id").distinct(), on="user_id", how="left_semi")
        together = "user_id"
        # A row with as_of asks for a fold, however many payments it has.
        rows = rows.unionByName(asked, allowMissingColumns=True)
    return rows.repartition(partitions, together).mapInArrow(_folder(config, days), _STRUCT)


def user_bucket_of(user_id: Column, buckets: int) -> Column:
    """`lbsf.folding.hashing.user_bucket` of a column."""
    return (F.crc32(F.encode(user_id, "UTF-8")) % F.lit(buckets)).cast("int")


def _of_days(payments: DataFrame, first: date, end: date) -> DataFrame:
    """What the fold reads of the payments of [first, end): other months' partitions are pruned."""
    paid_on, month = F.col("paid_on"), F.col("paid_month")
    inside = (paid_on >= F.lit(first)) & (paid_on < F.lit(end))
    months = (month >= F.lit(first.replace(day=1))) & (month < F.lit(end))
    return payments.where(months & inside).select(*PAYMENT_COLUMNS, "payment_id", "user_bucket")


def _folder(
    config: FoldConfig, days: Sequence[date] | None
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    def fold_partition(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        # Spark fills the cores with tasks; a thread pool in each would only contend.
        os.environ.setdefault("POLARS_MAX_THREADS", "1")
        received = list(batches)
        if received:
            yield from _fold_table(pa.Table.from_batches(received), days, config).to_batches(config.row_group_users)

    return fold_partition


def _fold_table(table: pa.Table, days: Sequence[date] | None, config: FoldConfig) -> pa.Table:
    """Folds as of some days; or, where these are None, of each (user_id, as_of) that a row asks for."""
    asks = pc.is_valid(table["as_of"])
    payments = table.filter(pc.invert(asks))
    rows = PaymentRows.from_payments(payments, config)
    rows = rows.take(rows.order(payments["payment_id"].combine_chunks))
    if days is not None:
        return pa.concat_tables(fold_days(rows, days, config)).combine_chunks()
    pairs = table.filter(asks).select(["user_id", "as_of"]).sort_by([("user_id", "ascending"), ("as_of", "ascending")])
    rows = rows.with_users(pairs["user_id"].combine_chunks())
    users = pc.index_in(pairs["user_id"].combine_chunks(), rows.users).to_numpy().astype(np.int64)
    as_ofs = pairs["as_of"].cast(pa.int32()).to_numpy().astype(np.int64)
    return fold_pairs(rows, users, as_ofs, config)
