"""Score the users of one day's folds with the champion model: probability, band, reasons.

Replaces only that day's scores, so it can be run again at any time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.common import Job, Summary, day, run_main
from lbsf.errors import InputError
from lbsf.models.artifact import ModelCard, load_card, require_spec
from lbsf.schemas import FOLDS, SCORES
from lbsf.schemas.scores import THIN_BAND
from lbsf.scoring import ModelFiles, score_folds, with_change, with_rank
from lbsf.session import ARROW_ROWS, settings_of


def run(job: Job, *, as_of: date) -> Summary:
    """Score every user who has a fold of `as_of`.

    Args:
        job: configuration, session, tables and models.
        as_of: day of the folds.

    Raises:
        InputError: there is no champion, there are no folds of that day, or the champion reads folds of another spec.
    """
    from lbsf.tracking import CHAMPION

    with job.step("score_users") as summary:
        warehouse, scoring = job.warehouse, job.config.scoring
        folds_version = warehouse.version(FOLDS)
        folds = warehouse.read(FOLDS, folds_version).where(F.col("as_of") == F.lit(as_of))
        champion = job.tracker.fetch(CHAMPION)
        summary.rows_in = _check_folds(folds, as_of, load_card(champion.folder))
        files = ModelFiles.read(champion.folder)
        since = _night_before(job, as_of)
        earlier = None if since is None else warehouse.read(SCORES).where(F.col("score_date") == F.lit(since))
        # Spark's default of 10,000 folds at a time would take gigabytes.
        with settings_of(job.spark, {ARROW_ROWS: str(scoring.batch_users)}):
            # Persisted because the ranks read the scores twice, and the network costs far more than the disk.
            raw = score_folds(folds, files, scoring.batch_users, scoring.reasons, since).persist()
            changed = with_change(raw, earlier, since, champion.version)
            scores = with_rank(changed, scoring.bands).select(
                F.lit(as_of).alias("score_date"),
                "*",
                F.lit(champion.name).alias("model_name"),
                F.lit(champion.version).alias("model_version"),
                F.lit(folds_version).cast("long").alias("folds_version"),
                F.lit(datetime.now(UTC)).alias("scored_at"),
            )
            warehouse.replace_day(SCORES, scores, as_of)
            raw.unpersist()
        scores_version = warehouse.version(SCORES)
        bands = _counts(warehouse.read(SCORES, scores_version).where(F.col("score_date") == F.lit(as_of)))
        summary.rows_out = sum(bands.values())
        summary.details = {
            "model": f"{champion.name} v{champion.version}",
            "bands": " ".join(f"{name}:{bands.get(name, 0):,}" for name in scoring.bands),
            "thin files": bands.get(THIN_BAND, 0),
            "since": since or "no earlier night",
            "folds version": folds_version,
            "scores version": scores_version,
        }
    return summary


def _check_folds(folds: DataFrame, as_of: date, card: ModelCard) -> int:
    """Return the number of users of the night; refuse folds that the model does not read."""
    specs = {row["fold_spec"]: int(row["count"]) for row in folds.groupBy("fold_spec").count().collect()}
    if not specs:
        raise InputError(f"--as-of {as_of}: table folds has none of that day: fold the payments as of {as_of} first")
    for spec in specs:
        require_spec(card, spec)
    return sum(specs.values())


def _night_before(job: Job, as_of: date) -> date | None:
    """Return the last night before `as_of` that has scores, None if there is none."""
    if not job.warehouse.exists(SCORES):
        return None
    earlier = job.warehouse.read(SCORES).where(F.col("score_date") < F.lit(as_of))
    last = earlier.agg(F.max("score_date")).head()
    return None if last is None else last[0]


def _counts(scores: DataFrame) -> dict[str, int]:
    """Return the number of users by band."""
    return {row["band"]: int(row["count"]) for row in scores.groupBy("band").count().collect()}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as-of", type=day, required=True, metavar="YYYY-MM-DD", help="day whose folds are scored")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
