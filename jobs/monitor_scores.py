"""Monitor one scored night: drift, band migration, volumes, late and quarantined rows, quality of matured scores.

Replaces only that date's rows of score_monitoring and band_migration, so it can be run again at any time.
Exit code 3: everything is written, and some measures are beyond their thresholds (docs/monitoring.md); one line for
each says what to look at.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.common import Job, Summary, day, run_main
from lbsf.errors import InputError
from lbsf.evaluation.reference import Reference
from lbsf.monitoring.drift import count_inputs, drift_measures
from lbsf.monitoring.findings import Measured, breaches
from lbsf.monitoring.matured import matured_counts, matured_measures
from lbsf.monitoring.migration import Migration, band_migration, earlier_nights, move_measures
from lbsf.monitoring.volumes import (
    delivery_measures,
    payment_measures,
    payments_by_day,
    user_measures,
    without_fold_measure,
)
from lbsf.schemas import BAND_MIGRATION, FOLDS, LABELS, PAYMENTS, PAYMENTS_QUARANTINE, SCORE_MONITORING, SCORES
from lbsf.session import ARROW_ROWS, in_utc, settings_of
from lbsf.tables import lost_files_mean


def run(job: Job, *, as_of: date) -> Summary:
    """Measure the scores of `as_of` and write the results.

    Args:
        job: configuration, session, tables and models.
        as_of: the scored night.

    Returns:
        The summary, with a finding if a measure is beyond its threshold.

    Raises:
        InputError: the night has no scores, or scores of several models; or their model, its reference, or the
            table versions that they were made from are gone. Nothing is written then.
    """
    with job.step("monitor_scores") as summary:
        scores = job.warehouse.read(SCORES, job.warehouse.version(SCORES))
        night = _night(scores, as_of)
        reference = Reference.load(job.tracker.of_version(night["model_name"], night["model_version"]).folder)
        earlier = earlier_nights([row["score_date"] for row in scores.select("score_date").distinct().collect()], as_of)
        migrations = [band_migration(scores, as_of, period, since) for period, since in earlier.items()]
        measured = [
            *_moves(job, migrations),
            *_night_measures(job, scores, night, reference, earlier.get("night")),
            *_matured(job, scores, as_of),
        ]
        _write(job, as_of, migrations, measured)
        found = breaches(measured)
        summary.rows_in, summary.rows_out = night["users"], len(measured)
        summary.details = {
            "model": f"{night['model_name']} v{night['model_version']}",
            "since": earlier.get("night", "no earlier night"),
            "breaches": len(found),
        }
    if found:
        for one in found:
            print(f"  {one}", flush=True)
        names = ", ".join(f"{one.measure} {one.segment}" for one in found)
        summary.findings.append(
            f"--as-of {as_of}: {len(found)} of {len(measured)} values lie beyond their thresholds: {names}; "
            "docs/monitoring.md says what to do"
        )
    return summary


def _night(scores: DataFrame, as_of: date) -> Row:
    """Return what the night's scores have in common, and their number."""
    shared = ("score_date", "model_name", "model_version", "folds_version")
    found = (
        scores.where(F.col("score_date") == F.lit(as_of))
        .groupBy(*shared)
        .agg(
            F.count("*").alias("users"),
            F.count_if("thin_file").alias("thin"),
            F.max("payments_version").alias("payments_version"),
            F.max("scored_at").alias("scored_at"),
        )
        .orderBy(*shared)
        .collect()
    )
    if not found:
        raise InputError(f"--as-of {as_of}: table scores has none of that night: score the users as of {as_of} first")
    if len(found) > 1:
        made = ", ".join(f"{row['model_name']} version {row['model_version']}" for row in found)
        raise InputError(
            f"--as-of {as_of}: the scores come from several models or folds ({made}): score that night anew"
        )
    return found[0]


def _moves(job: Job, migrations: Sequence[Migration]) -> list[Measured]:
    limits = job.config.monitoring
    of_period = {"night": limits.night, "month": limits.month}
    bands = list(job.config.scoring.bands)
    return [
        one
        for migration in migrations
        for one in move_measures(migration, bands, of_period[migration.period], limits.min_counted)
    ]


def _night_measures(
    job: Job, scores: DataFrame, night: Row, reference: Reference, previous: date | None
) -> list[Measured]:
    """Measure drift, volumes and deliveries on the table versions that the scores were made from."""
    warehouse, limits, as_of = job.warehouse, job.config.monitoring, night["score_date"]
    payments = warehouse.read(PAYMENTS, night["payments_version"])
    folds = warehouse.read(FOLDS, night["folds_version"]).where(F.col("as_of") == F.lit(as_of))
    quarantine = warehouse.read(PAYMENTS_QUARANTINE) if warehouse.exists(PAYMENTS_QUARANTINE) else None
    before = _scored(scores, previous)
    scored_before = None if previous is None or before is None else (previous, before[1])
    with lost_files_mean(
        f"--as-of {as_of}: files of the folds or payments that these scores were made from are gone, as "
        "maintenance removes them after storage.history_days; the night cannot be watched any more"
    ):
        # Spark's default of 10,000 folds at a time would take gigabytes.
        with settings_of(job.spark, {ARROW_ROWS: str(job.config.scoring.batch_users)}):
            inputs = count_inputs(folds)
        return [
            *drift_measures(scores.where(F.col("score_date") == F.lit(as_of)), inputs, reference, limits),
            *user_measures(night["users"], night["thin"], int(inputs["payments"].sum()), before and before[0], limits),
            without_fold_measure(payments, folds, as_of, limits),
            *payment_measures(payments_by_day(payments, as_of), as_of, limits),
            *delivery_measures(payments, quarantine, scored_before, in_utc(night["scored_at"]), limits),
        ]


def _scored(scores: DataFrame, night: date | None) -> tuple[int, datetime] | None:
    """Return how many users a night scored, and when; None if there was no such night."""
    if night is None:
        return None
    of_night = scores.where(F.col("score_date") == F.lit(night))
    row = of_night.agg(F.count("*"), F.max("scored_at")).head()
    assert row is not None  # An aggregate without groups has one row.
    return int(row[0]), in_utc(row[1])


def _matured(job: Job, scores: DataFrame, as_of: date) -> list[Measured]:
    if not job.warehouse.exists(LABELS):
        return []
    counts = matured_counts(job.warehouse.read(LABELS), scores, as_of, job.config.monitoring)
    return matured_measures(counts, job.config.monitoring)


def _write(job: Job, as_of: date, migrations: Sequence[Migration], measured: Sequence[Measured]) -> None:
    """Replace the date's rows of both tables."""
    at = datetime.now(UTC)
    moves = [
        (as_of, migration.period, migration.since, *bands, users)
        for migration in migrations
        for bands, users in sorted(migration.moves.items())
    ]
    rows = [(as_of, *one, at) for one in measured]
    for table, content in ((BAND_MIGRATION, moves), (SCORE_MONITORING, rows)):
        job.warehouse.replace_day(table, job.spark.createDataFrame(content, table.struct).coalesce(1), as_of)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as-of", type=day, required=True, metavar="YYYY-MM-DD", help="the scored night")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
