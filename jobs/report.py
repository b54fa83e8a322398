"""Writes the report of one night: a self-contained HTML page under storage.root/reports.

The night's scores, bands, reasons and data, the table versions behind them, and the champion's quality.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.common import Job, Summary, day, run_main
from lbsf.monitoring import Night, collect_night, quality_of, render_report
from lbsf.schemas import PAYMENTS, PAYMENTS_QUARANTINE, SCORES, TableSchema


def run(job: Job, *, as_of: date, best_auc: float | None = None) -> Summary:
    """Writes `storage.root`/reports/<as_of>.html, replacing an older one.

    Args:
        job: configuration, session, tables and models.
        as_of: the scored night.
        best_auc: the highest AUC that anyone could reach, shown beside the champion's.

    Returns:
        Summary with the page's path in details["report"].

    Raises:
        InputError: there are no scores of that night, or there is no champion.
    """
    from lbsf.tracking import CHAMPION

    with job.step("report") as summary:
        tables = [table for table in (PAYMENTS, PAYMENTS_QUARANTINE) if job.warehouse.exists(table)]
        versions = {table.name: job.warehouse.version(table) for table in (SCORES, *tables)}
        night = _night(job, as_of, versions)
        champion = job.tracker.fetch(CHAMPION)
        quality = quality_of(f"{champion.name} version {champion.version}", champion.metrics, best_auc)
        page = render_report(night, quality, versions, job.config.fold.window_days, datetime.now(UTC))
        summary.rows_in = night.users
        summary.details = {"report": _write(job.root / "reports" / f"{as_of}.html", page)}
    return summary


def _night(job: Job, as_of: date, versions: dict[str, int]) -> Night:
    def read(table: TableSchema) -> DataFrame:
        return job.warehouse.read(table, versions.get(table.name))

    begin = as_of - timedelta(days=job.config.fold.window_days)
    payments = read(PAYMENTS).where((F.col("paid_on") >= F.lit(begin)) & (F.col("paid_on") < F.lit(as_of)))
    quarantine = read(PAYMENTS_QUARANTINE) if PAYMENTS_QUARANTINE.name in versions else None
    return collect_night(read(SCORES), payments, quarantine, as_of, job.config.scoring.bands)


def _write(path: Path, page: str) -> Path:
    """Writes beside the page and renames: a reader sees the old page or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".html.unfinished")
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(path)
    return path


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as-of", type=day, required=True, metavar="YYYY-MM-DD", help="the scored night")
    parser.add_argument(
        "--best-auc", type=float, metavar="AUC", help="highest AUC that anyone could reach, where it is known"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
