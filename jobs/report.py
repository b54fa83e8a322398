"""Write the report of one night: a self-contained HTML page under storage.root/reports.

It shows what monitor_scores found beyond its thresholds; the night's scores, bands, reasons and data; drift and quality
over the last nights; the table versions behind all that, and the champion's quality.
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
from lbsf.monitoring.history import Watched, collect_watched
from lbsf.monitoring.report import render_report
from lbsf.monitoring.summary import Night, collect_night, quality_of
from lbsf.schemas import (
    BAND_MIGRATION,
    FOLD_LOSS,
    PAYMENTS,
    PAYMENTS_QUARANTINE,
    SCORE_MONITORING,
    SCORES,
    TableSchema,
)

# Read only if they exist: a night without them has a report too.
OPTIONAL = (PAYMENTS, PAYMENTS_QUARANTINE, FOLD_LOSS, SCORE_MONITORING, BAND_MIGRATION)


def run(job: Job, *, as_of: date, best_auc: float | None = None) -> Summary:
    """Write `storage.root`/reports/<as_of>.html, replacing an older one.

    Args:
        job: configuration, session, tables and models.
        as_of: the scored night.
        best_auc: the highest possible AUC, shown beside the champion's.

    Returns:
        Summary with the page's path in details["report"].

    Raises:
        InputError: there are no scores of that night, or there is no champion.
    """
    from lbsf.tracking import CHAMPION

    with job.step("report") as summary:
        tables = [table for table in OPTIONAL if job.warehouse.exists(table)]
        versions = {table.name: job.warehouse.version(table) for table in (SCORES, *tables)}
        night = _night(job, as_of, versions)
        champion = job.tracker.fetch(CHAMPION)
        quality = quality_of(f"{champion.name} version {champion.version}", champion.metrics, best_auc)
        watched = _watched(job, as_of, versions)
        page = render_report(night, quality, watched, versions, job.config.fold.window_days, datetime.now(UTC))
        summary.rows_in = night.users
        summary.details = {"report": _write(job.root / "reports" / f"{as_of}.html", page)}
    return summary


def _night(job: Job, as_of: date, versions: dict[str, int]) -> Night:
    def read(table: TableSchema) -> DataFrame:
        return job.warehouse.read(table, versions.get(table.name))

    begin = as_of - timedelta(days=job.config.fold.window_days)
    payments = read(PAYMENTS).where((F.col("paid_on") >= F.lit(begin)) & (F.col("paid_on") < F.lit(as_of)))
    quarantine, loss = (read(t) if t.name in versions else None for t in (PAYMENTS_QUARANTINE, FOLD_LOSS))
    return collect_night(read(SCORES), payments, quarantine, loss, as_of, job.config.scoring.bands)


def _watched(job: Job, as_of: date, versions: dict[str, int]) -> Watched | None:
    if SCORE_MONITORING.name not in versions or BAND_MIGRATION.name not in versions:
        return None
    monitoring = job.warehouse.read(SCORE_MONITORING, versions[SCORE_MONITORING.name])
    return collect_watched(monitoring, job.warehouse.read(BAND_MIGRATION, versions[BAND_MIGRATION.name]), as_of)


def _write(path: Path, page: str) -> Path:
    """Write to another file and rename it, so that a reader sees either the whole old page or the whole new one."""
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
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
