"""Train LBSF without labels on the folds of some nights; train_model starts from its weights.

The network learns to predict a user's last days from the days before, or the output of a LightGBM trained on the
labelled examples (`pretraining.objective`). So every user's fold counts, with or without a label. Set
training.pretrained=true to start from the newest such weights.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from jobs.common import Job, Summary, day, exclusive_lock, run_main
from jobs.ranks import train_on_ranks
from lbsf.errors import InputError
from lbsf.schemas import EXAMPLES, FOLDS
from lbsf.tables import DataFile, require_readable, spec_of, stored_specs

if TYPE_CHECKING:
    from lbsf.evaluation.metrics import Floats
    from lbsf.tracking import Run
    from lbsf.training.plan import Split, TrainingPlan

# Users per batch of teacher predictions.
TEACHER_USERS = 4_096
# One user bucket in this many is held out and decides when to stop.
VALIDATION_BUCKETS = 8


def run(job: Job, *, as_of: Sequence[date]) -> Summary:
    """Train on the folds of these nights and log the weights to an MLflow run.

    Raises:
        InputError: a night is after the start of the out-of-time test, has no folds, or has folds of another spec.
    """
    from lbsf.training.plan import TrainingPlan
    from lbsf.training.run_folder import RunFolder
    from lbsf.training.teacher import with_teacher

    with job.step("pretrain_model") as summary:
        config = job.config
        # Opened first, so that an unreachable store fails before hours of training.
        tracker = job.tracker
        _check_days(as_of, config.examples.out_of_time_from or _out_of_time_from(job))
        version = job.warehouse.version(FOLDS)
        splits = _splits(job.warehouse.data_files(FOLDS, version), as_of, config.fold.spec)
        # Named after the plan, so that the same command finds what a killed run left behind.
        plan = TrainingPlan.in_folder(
            job.root / "training",
            model=config.model,
            fold=config.fold,
            training=config.training.model_copy(update={"epochs": config.pretraining.epochs}),
            splits=splits,
            objective=config.pretraining.objective,
        )
        folder = RunFolder.of(plan)
        with exclusive_lock(folder.path, "training", "another pretrain_model trains this now; wait until it ends"):
            folder.forget_progress()
            try:
                with tracker.run("pretrain", plan.key) as tracked:
                    _log_origin(plan, as_of, version, tracked)
                    if plan.objective == "teacher":
                        plan = with_teacher(plan, _teacher_says(job, plan, tracked))
                    train_on_ranks(plan, tracked)
                    tracker.save_pretrained(tracked, folder.model)
            finally:
                shutil.rmtree(folder.path, ignore_errors=True)
        summary.rows_in = sum(split.users for split in splits.values())
        summary.details = {"objective": plan.objective, "folds version": version, "run": tracked.run_id}
    return summary


def _log_origin(plan: TrainingPlan, as_of: Sequence[date], folds_version: int, tracked: Run) -> None:
    """Log what determines the weights: settings and folds."""
    tracked.params(
        {
            **{f"training.{key}": value for key, value in plan.training},
            **{f"model.{key}": value for key, value in plan.model},
            "objective": plan.objective,
            "as_of": ",".join(night.isoformat() for night in as_of),
            "fold_spec": plan.fold.spec,
            "folds_version": folds_version,
        }
    )


def _teacher_says(job: Job, plan: TrainingPlan, tracked: Run) -> dict[str, Floats]:
    """Return each split's probabilities from a LightGBM that is trained on the labelled examples."""
    from lbsf.baselines.boosting import boosting_of, predict
    from lbsf.loading.petastorm_reader import every_user_once

    version = job.warehouse.version(EXAMPLES)
    examples = [file for file in job.warehouse.readable_files(EXAMPLES, version) if file.rows]
    tracked.params({"examples_version": version})
    labelled = {
        name: [file.path for file in examples if file.partition["split"] == name] for name in ("train", "validation")
    }
    for name, paths in labelled.items():
        if not paths:
            raise InputError(f"table examples has no {name} split, from which a teacher learns: build more examples")
        specs = {spec_of(path) for path in paths}
        if specs != {plan.fold.spec}:
            raise InputError(
                f"table examples holds {', '.join(sorted(specs))}, the configuration says {plan.fold.spec}: build again"
            )
    teacher = boosting_of(labelled, plan.training.seed)
    said = {}
    for name, split in plan.splits.items():
        folds = every_user_once(split.files, shard=0, shards=1, batch_users=TEACHER_USERS)
        said[name] = np.concatenate([predict(teacher, [part]) for part in folds])
    return said


def _out_of_time_from(job: Job) -> date | None:
    """Return the first day of the out-of-time test in table examples, None if it has none."""
    if not job.warehouse.exists(EXAMPLES):
        return None
    files = job.warehouse.data_files(EXAMPLES, job.warehouse.version(EXAMPLES))
    days: list[date] = [file.low["as_of"] for file in files if file.rows and file.partition["split"] == "out_of_time"]
    return min(days, default=None)


def _check_days(as_of: Sequence[date], out_of_time_from: date | None) -> None:
    """Refuse nights with payments from the out-of-time test's days, which must not influence the tested model."""
    late = [night for night in as_of if out_of_time_from is not None and night > out_of_time_from]
    if late:
        raise InputError(
            f"folds as of {late[0]} hold payments from after {out_of_time_from}, where the out-of-time test begins: "
            "pretrain on nights up to that day"
        )


def _splits(files: Sequence[DataFile], as_of: Sequence[date], spec: str) -> dict[str, Split]:
    """Split the nights' files by user bucket into train and validation."""
    from lbsf.training.plan import Split

    nights = {night.isoformat() for night in as_of}
    wanted = [file for file in files if file.rows and str(file.partition["as_of"]) in nights]
    missing = nights - {str(file.partition["as_of"]) for file in wanted}
    if missing:
        raise InputError(f"table folds has no folds as of {min(missing)}: run fold_payments --as-of {min(missing)}")
    require_readable(wanted)
    others = stored_specs(wanted) - {spec}
    if others:
        raise InputError(f"table folds holds {', '.join(sorted(others))}, the configuration says {spec}: fold again")
    buckets = sorted({int(file.partition["user_bucket"] or 0) for file in wanted})
    if len(buckets) < 2:
        raise InputError("all folds lie in one user bucket: pretraining needs a second one to validate on")
    held_out = set(buckets[::VALIDATION_BUCKETS])
    of_split: dict[str, list[DataFile]] = {"train": [], "validation": []}
    for file in wanted:
        of_split["validation" if int(file.partition["user_bucket"] or 0) in held_out else "train"].append(file)
    return {
        name: Split(files=tuple(file.path for file in of), users=sum(file.rows for file in of))
        for name, of in of_split.items()
    }


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as-of", type=day, nargs="+", required=True, metavar="DAY", help="nights of the folds table")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
