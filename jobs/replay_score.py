"""Recompute one past score from the table version and the model version stored on its row, and compare.

Exit code 0: the replay gave the stored score. 3: it did not; the line says what differs. The probability may differ by
one in its last stored decimal, contributions by two in theirs, because float32 sums depend on who shares a batch.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from datetime import date

from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.common import Job, Summary, day, run_main
from lbsf.errors import InputError
from lbsf.models.artifact import load_card, require_spec
from lbsf.models.predict import PROBABILITY_DECIMALS
from lbsf.schemas import FOLDS, SCORES
from lbsf.scoring import ModelFiles, score_folds
from lbsf.scoring.explain import CONTRIBUTION_DECIMALS
from lbsf.tables import lost_files_mean

# Half a unit more, because the numbers are compared as binary fractions.
PROBABILITY_TOLERANCE = 1.5 * 10**-PROBABILITY_DECIMALS
CONTRIBUTION_TOLERANCE = 2.5 * 10**-CONTRIBUTION_DECIMALS


def run(job: Job, *, user: str, score_date: date) -> Summary:
    """Replay one score and print it beside the stored one.

    Returns:
        The summary, with a finding if the replay gave another score.

    Raises:
        InputError: there is no such score, or its folds or its model are gone.
    """
    with job.step("replay_score") as summary:
        stored = _stored(job, user, score_date)
        model = job.tracker.of_version(stored["model_name"], stored["model_version"])
        fold = (F.col("as_of") == F.lit(score_date)) & (F.col("user_id") == F.lit(user))
        version = int(stored["folds_version"])
        folds = job.warehouse.read(FOLDS, version).where(fold)
        with lost_files_mean(
            f"table folds, version {version}: its files are gone, as maintenance removes them after "
            "storage.history_days; the score cannot be replayed"
        ):
            specs = [row["fold_spec"] for row in folds.select("fold_spec").collect()]
            if len(specs) != 1:
                raise InputError(f"table folds, version {version}: {len(specs)} folds of that user as of {score_date}")
            require_spec(load_card(model.folder), specs[0])
            # Ask for at least one reason: a score stored without reasons must be replayed without reasons.
            wanted = max(len(stored["reasons"]), 1)
            (replayed,) = score_folds(folds, ModelFiles.read(model.folder), 1, wanted).collect()
        _show(stored, replayed)
        differences = _differences(stored, replayed)
        summary.details = {
            "stored": stored["probability"],
            "replayed": replayed["probability"],
            "model": f"{model.name} v{model.version}",
            "folds version": version,
            "same": "no" if differences else "yes",
        }
        if differences:
            summary.findings.append(f"the replay differs: {'; '.join(differences)}")
    return summary


def _stored(job: Job, user: str, score_date: date) -> Row:
    """Return the stored score. Messages do not name the user, because they may be kept in logs."""
    scores = job.warehouse.read(SCORES)
    found = scores.where((F.col("score_date") == F.lit(score_date)) & (F.col("user_id") == F.lit(user))).collect()
    if len(found) != 1:
        raise InputError(
            f"table scores has {len(found)} scores of that user on {score_date}: check --user, --score-date"
        )
    return found[0]


def _differences(stored: Row, replayed: Row) -> list[str]:
    """Return the differences between the replay and the stored score, as texts."""
    found = []
    if not math.isclose(stored["probability"], replayed["probability"], rel_tol=0, abs_tol=PROBABILITY_TOLERANCE):
        found.append(f"probability {stored['probability']} was stored, {replayed['probability']} replayed")
    before, after = _contributions(stored), _contributions(replayed)
    # If two reasons are equally strong, noise decides which is listed last.
    weakest = min(map(abs, before.values()), default=0.0)
    for merchant, contribution in sorted({**after, **before}.items()):
        one, other = before.get(merchant), after.get(merchant)
        moved = abs(contribution) - weakest if one is None or other is None else one - other
        if abs(moved) > CONTRIBUTION_TOLERANCE:
            found.append(f"reason {merchant}: {one} was stored, {other} replayed")
    return found


def _contributions(scored: Row) -> dict[str, float]:
    """Return the contributions by merchant_id."""
    return {reason["merchant_id"]: reason["contribution"] for reason in scored["reasons"]}


def _show(stored: Row, replayed: Row) -> None:
    print(f"  {'':<40} {'stored':>10} {'replayed':>10}")
    print(f"  {'probability':<40} {stored['probability']:>10.6f} {replayed['probability']:>10.6f}")
    after = _contributions(replayed)
    for reason in stored["reasons"]:
        name = reason["merchant_name"] or reason["merchant_id"]
        again = after.get(reason["merchant_id"])
        shown = "–" if again is None else f"{again:.4f}"
        print(f"  {reason['direction'] + ' ' + name:<40.40} {reason['contribution']:>10.4f} {shown:>10}")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", required=True, metavar="ID", help="the scored user")
    parser.add_argument("--score-date", type=day, required=True, metavar="YYYY-MM-DD", help="the night of the score")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
