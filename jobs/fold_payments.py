"""Folds every user's payments of the window that ends at a day, by merchant, into the folds table.

Goes on from the latest folds before that day: adds what arrived, drops what left the window. Where that is not
possible, or with --full, all payments of the window are read; the result is the same. Several days are
folded in one pass over the payments. Replaces these days' folds alone, so it may be run again at any time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.common import Job, Summary, day, run_main
from lbsf.config.models import FoldConfig
from lbsf.errors import InputError
from lbsf.folding import fold_loss, fold_payments, paid_days
from lbsf.schemas import FOLD_LOSS, FOLDS, PAYMENTS
from lbsf.tables import Warehouse, fold_files


def run(job: Job, *, as_of: Sequence[date], full: bool = False) -> Summary:
    """Folds the payments of [as_of - fold.window_days, as_of) for each day.

    Args:
        job: configuration, session and tables.
        as_of: ends of windows, exclusive.
        full: do not go on from stored folds.

    Raises:
        InputError: there are no payments in a window, or the folds table holds another fold_spec.
    """
    with job.step("fold_payments") as summary:
        warehouse, config = job.warehouse, job.config.fold
        days = sorted(set(as_of))
        payments_version = warehouse.version(PAYMENTS)
        payments = warehouse.read(PAYMENTS, payments_version)
        _check_days(payments, days, config.window_days)
        _check_spec(warehouse, config)
        if config.through_spark:
            way, refolded = "through Spark", 0
            _fold_through_spark(warehouse, payments, days, config, payments_version)
            folds_version = warehouse.version(FOLDS)
        else:
            done = fold_files(warehouse, days, config, payments_version, full=full)
            way, refolded, folds_version = done.way, done.refolded, done.folds_version
        folds = warehouse.read(FOLDS, folds_version).where(F.col("as_of").isin(days))
        if way != "up to date":
            _write_loss(warehouse, folds, days, folds_version)
        users, merchants, kept, dropped = _totals(folds)
        summary.rows_in, summary.rows_out = kept + dropped, users
        summary.details = {
            "merchants": merchants,
            "payments dropped": dropped,
            "way": way,
            "folded again": refolded,
            "payments version": payments_version,
            "folds version": folds_version,
        }
    return summary


def _fold_through_spark(
    warehouse: Warehouse, payments: DataFrame, days: Sequence[date], config: FoldConfig, payments_version: int
) -> None:
    buckets = warehouse.storage.user_buckets
    folds = (
        fold_payments(payments, days, config, buckets)
        .withColumn("user_bucket", (F.crc32(F.encode("user_id", "UTF-8")) % buckets).cast("int"))
        .withColumn("payments_version", F.lit(payments_version).cast("long"))
        .repartition(buckets, "as_of", "user_bucket")
        # Delta sorts by the partitions' columns before it writes; sorted so, it leaves the order alone.
        .sortWithinPartitions("as_of", "user_bucket", "user_id")
    )
    part = {"as_of": [as_of.isoformat() for as_of in days]}
    warehouse.replace_part(FOLDS, folds, part, row_group_rows=config.row_group_users)


def _write_loss(warehouse: Warehouse, folds: DataFrame, days: Sequence[date], folds_version: int) -> None:
    for as_of in days:
        loss = fold_loss(folds.where(F.col("as_of") == F.lit(as_of))).select(
            F.lit(FOLDS.name).alias("of_table"),
            F.lit(as_of).alias("as_of"),
            F.lit(folds_version).cast("long").alias("table_version"),
            "*",
        )
        warehouse.replace_part(FOLD_LOSS, loss.coalesce(1), {"of_table": FOLDS.name, "as_of": as_of.isoformat()})


def _check_days(payments: DataFrame, days: Sequence[date], window_days: int) -> None:
    first, last = paid_days(payments)
    earliest, latest = first + timedelta(days=1), last + timedelta(days=1)
    for as_of in days:
        if not earliest <= as_of <= latest:
            raise InputError(
                f"--as-of {as_of}: table payments holds {first} to {last}; choose a day from {earliest} to {latest}"
            )
        begin = as_of - timedelta(days=window_days)
        if payments.where((F.col("paid_on") >= F.lit(begin)) & (F.col("paid_on") < F.lit(as_of))).isEmpty():
            raise InputError(
                f"--as-of {as_of}: table payments has none from {begin} on within the {window_days} days before it; "
                "choose another day or ingest the missing payments"
            )


def _check_spec(warehouse: Warehouse, config: FoldConfig) -> None:
    if not warehouse.exists(FOLDS):
        return
    stored = warehouse.read(FOLDS).select("fold_spec").first()
    if stored is not None and stored["fold_spec"] != config.spec:
        raise InputError(
            f"table folds holds {stored['fold_spec']}, the configuration's fold section makes {config.spec}: "
            f"set it back, or move {warehouse.location(FOLDS)} away and fold again"
        )


def _totals(folds: DataFrame) -> tuple[int, int, int, int]:
    """Folds, merchants kept, payments kept and payments dropped."""
    totals = folds.agg(F.count("*"), F.sum("merchants_kept"), F.sum("payments_kept"), F.sum("payments_dropped")).first()
    users, merchants, kept, dropped = (int(total or 0) for total in totals or (0, 0, 0, 0))
    return users, merchants, kept, dropped


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--as-of",
        type=day,
        required=True,
        nargs="+",
        metavar="YYYY-MM-DD",
        help="day that ends the window, exclusive; several share one pass over the payments",
    )
    parser.add_argument("--full", action="store_true", help="read all payments of the window, whatever is stored")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
