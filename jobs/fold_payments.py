"""Fold every user's payments of the window that ends at a day, by merchant, into the folds table.

Starts from the latest folds before that day: adds the payments that arrived, drops those that left the window.
If that is not possible, or with --full, all payments of the window are read; the result is the same. Several
days are folded in one pass over the payments. Replaces only these days' folds, so it can be run again at any time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial, reduce
from operator import or_

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.common import Job, Summary, day, run_main
from lbsf.config.models import FoldConfig
from lbsf.errors import InputError
from lbsf.folding import fold_loss, fold_payments, user_bucket_of
from lbsf.schemas import FOLD_LOSS, FOLDS, PAYMENTS
from lbsf.session import settings_of
from lbsf.tables import UP_TO_DATE, FoldRun, Warehouse, fold_files, no_payments, paid_days, stored_specs

_DAY = timedelta(days=1)


def run(job: Job, *, as_of: Sequence[date], full: bool = False) -> Summary:
    """Fold the payments of [as_of - fold.window_days, as_of) for each day.

    Args:
        job: configuration, session and tables.
        as_of: ends of windows, exclusive.
        full: do not start from stored folds.

    Raises:
        InputError: a window has no payments, or the folds table holds another fold_spec.
    """
    with job.step("fold_payments") as summary:
        warehouse, config = job.warehouse, job.config.fold
        days = sorted(set(as_of))
        payments_version = warehouse.version(PAYMENTS)
        _check_days(paid_days(warehouse.data_files(PAYMENTS, payments_version)), days)
        _check_spec(warehouse, config)
        fold = fold_through_spark if config.through_spark else partial(fold_files, full=full)
        done = fold(warehouse, days, config, payments_version)
        if done.way != UP_TO_DATE:
            _write_loss(warehouse, days, done.folds_version)
            summary.rows_in = done.payments
            summary.details = {"merchants": done.merchants, "payments dropped": done.payments_dropped}
            if len(days) > 1:
                summary.details["payments in windows"] = done.in_windows
        elif not _has_loss(warehouse, days, done.folds_version):
            # An earlier run ended between its two commits.
            _write_loss(warehouse, days, done.folds_version)
        summary.rows_out = done.users
        summary.details |= {
            "way": done.way,
            "folded again": done.refolded,
            "payments version": payments_version,
            "folds version": done.folds_version,
        }
    return summary


def fold_through_spark(
    warehouse: Warehouse, days: Sequence[date], config: FoldConfig, payments_version: int
) -> FoldRun:
    """Fold as `fold_files` does, but pass all rows through Spark and always fold in full."""
    buckets = warehouse.storage.user_buckets
    payments = warehouse.read(PAYMENTS, payments_version)
    windows = [
        F.col("paid_on").between(F.lit(as_of - timedelta(days=config.window_days)), F.lit(as_of - _DAY))
        for as_of in days
    ]
    for as_of, inside in zip(days, windows, strict=True):
        if payments.where(inside).isEmpty():
            raise no_payments(as_of, config.window_days)
    folds = (
        fold_payments(payments, days, config, buckets)
        .withColumn("user_bucket", user_bucket_of(F.col("user_id"), buckets))
        .withColumn("payments_version", F.lit(payments_version).cast("long"))
    )
    part = {"as_of": [as_of.isoformat() for as_of in days]}
    # Each file has an open writer; otherwise Spark would sort whole folds by file.
    with settings_of(warehouse.spark, {"spark.sql.maxConcurrentOutputFileWriters": str(buckets * len(days))}):
        warehouse.replace_part(FOLDS, folds, part, row_group_rows=config.row_group_users)
    version = warehouse.version(FOLDS)
    written = warehouse.read(FOLDS, version).where(F.col("as_of").isin(days))
    counts = written.agg(
        F.count("*"), F.sum("merchants_kept"), F.sum("payments_kept"), F.sum("payments_dropped")
    ).first()
    assert counts is not None  # An aggregate without groups has one row.
    users, merchants, kept, dropped = map(int, counts)
    once = kept + dropped if len(days) == 1 else payments.where(reduce(or_, windows)).count()
    return FoldRun("through Spark", users, merchants, once, kept + dropped, dropped, 0, version)


def _write_loss(warehouse: Warehouse, days: Sequence[date], folds_version: int) -> None:
    folds = warehouse.read(FOLDS, folds_version)
    loss = reduce(
        DataFrame.unionByName,
        (fold_loss(folds.where(F.col("as_of") == F.lit(day)), FOLDS.name, day, folds_version) for day in days),
    )
    part = {"of_table": FOLDS.name, "as_of": [day.isoformat() for day in days]}
    warehouse.replace_part(FOLD_LOSS, loss.coalesce(1), part)


def _has_loss(warehouse: Warehouse, days: Sequence[date], folds_version: int) -> bool:
    """Return whether fold_loss holds what these days' folds dropped; register both tables for SQL."""
    for table in (FOLDS, FOLD_LOSS):
        if not warehouse.exists(table):
            return False
        warehouse.register(table)
    stored = warehouse.read(FOLD_LOSS).where((F.col("of_table") == FOLDS.name) & F.col("as_of").isin(list(days)))
    counted = {row[0]: int(row[1]) for row in stored.groupBy("as_of").agg(F.min("table_version")).collect()}
    return all(
        day in counted
        and counted[day] <= folds_version
        and not warehouse.part_changed(FOLDS, {"as_of": day.isoformat()}, counted[day], folds_version)
        for day in days
    )


def _check_days(paid: tuple[date, date], days: Sequence[date]) -> None:
    first, last = paid
    for as_of in days:
        if not first + _DAY <= as_of <= last + _DAY:
            raise InputError(
                f"--as-of {as_of}: table payments holds {first} to {last}; "
                f"choose a day from {first + _DAY} to {last + _DAY}"
            )


def _check_spec(warehouse: Warehouse, config: FoldConfig) -> None:
    if not warehouse.exists(FOLDS):
        return
    files = warehouse.data_files(FOLDS, warehouse.version(FOLDS))
    for stored in stored_specs(files) - {config.spec}:
        raise InputError(
            f"table folds holds {stored}, the configuration's fold section makes {config.spec}: "
            f"set it back, or move {warehouse.location(FOLDS)} away and fold again"
        )


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
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
