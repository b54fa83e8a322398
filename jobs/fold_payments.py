"""Folds every user's payments of the window that ends at a day, by merchant, into the folds table.

Replaces that day's folds alone, so it may be run again at any time.
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
from lbsf.folding import fold_payments, paid_days
from lbsf.schemas import FOLDS, PAYMENTS
from lbsf.tables import Warehouse


def run(job: Job, *, as_of: date) -> Summary:
    """Folds the payments of [as_of - fold.window_days, as_of).

    Args:
        job: configuration, session and tables.
        as_of: end of the window, exclusive.

    Raises:
        InputError: there are no payments in the window, or the folds table holds another fold_spec.
    """
    with job.step("fold_payments") as summary:
        warehouse, config = job.warehouse, job.config.fold
        payments_version = warehouse.version(PAYMENTS)
        payments = warehouse.read(PAYMENTS, payments_version)
        _check_days(payments, as_of, config.window_days)
        _check_spec(warehouse, config)
        # Delta sorts by the partition's column before it writes; sorted so, it leaves the order alone.
        folds = fold_payments(payments, as_of, config).sortWithinPartitions("as_of", "user_id")
        warehouse.replace_day(FOLDS, folds, as_of, row_group_rows=config.row_group_users)
        folds_version = warehouse.version(FOLDS)
        written = warehouse.read(FOLDS, folds_version).where(F.col("as_of") == F.lit(as_of))
        users, merchants, kept, dropped = _totals(written)
        summary.rows_in, summary.rows_out = kept + dropped, users
        summary.details = {
            "merchants": merchants,
            "payments dropped": dropped,
            "payments version": payments_version,
            "folds version": folds_version,
        }
    return summary


def _check_days(payments: DataFrame, as_of: date, window_days: int) -> None:
    first, last = paid_days(payments)
    earliest, latest = first + timedelta(days=1), last + timedelta(days=1)
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
        "--as-of", type=day, required=True, metavar="YYYY-MM-DD", help="day that ends the window, exclusive"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
