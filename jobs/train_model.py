"""Train LBSF on the examples table with Horovod ranks fed by Petastorm; log everything to one MLflow run.

The model of the best validation epoch is registered with the alias `challenger`. A LightGBM on plain
aggregates of the same folds is trained first: it is the baseline to beat, and the network learns from it as well
as from the labels (`training.teacher_share`). If a run ended before the registration, the same command resumes
it from its last checkpoint.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from jobs.common import Job, Summary, exclusive_lock, run_main
from jobs.ranks import train_on_ranks
from lbsf.damaged import reading
from lbsf.errors import InputError
from lbsf.parquet import read_parquet
from lbsf.schemas import EXAMPLES
from lbsf.tables import DataFile

if TYPE_CHECKING:
    import pandas as pd

    from lbsf.baselines.payments import Floats
    from lbsf.config.models import ScoringConfig
    from lbsf.models.artifact import ThinFile
    from lbsf.tracking import Run
    from lbsf.training.plan import TrainingPlan
    from lbsf.training.run_folder import RunFolder


class Start(NamedTuple):
    """The pretrained weights that training starts from: their folder, its SHA-256, and the run that made them."""

    folder: str
    sha256: str
    run_id: str


def run(job: Job, *, fresh: bool = False) -> Summary:
    """Train, evaluate and register the challenger.

    Args:
        job: the examples and the settings.
        fresh: start over even if an unfinished training of the same plan exists.

    Returns:
        Summary; rows_in is the number of examples, details describes the held-out split.
    """
    from lbsf.baselines.boosting import probabilities_by_split
    from lbsf.loading.petastorm_reader import require_row_groups
    from lbsf.training.plan import Split, TrainingPlan
    from lbsf.training.run_folder import RunFolder
    from lbsf.training.teacher import with_teacher

    with job.step("train_model") as summary:
        # Opened first, so that an unreachable store fails before hours of training.
        tracker = job.tracker
        version = job.warehouse.version(EXAMPLES)
        splits = _splits(job.warehouse.readable_files(EXAMPLES, version))
        # Checked before any rank is started.
        training = job.config.training
        require_row_groups(splits["train"][0], training.elastic.max_ranks if training.elastic else training.ranks)
        example = _example(job, version)
        start = _pretrained(job) if training.pretrained else None
        # Named after the plan, so that the same command finds an unfinished run.
        plan = TrainingPlan.in_folder(
            job.root / "training",
            model=job.config.model,
            fold=job.config.fold,
            training=training,
            splits={name: Split(files=files, users=users) for name, (files, users) in splits.items()},
            start_from=None if start is None else start.folder,
            start_sha256=None if start is None else start.sha256,
            thin_file=_thin_file(splits["train"][0], job.config.scoring),
        )
        folder = RunFolder.of(plan)
        with exclusive_lock(folder.path, "training", "another train_model trains this now; wait until it ends"):
            if fresh:
                folder.forget_progress()
            with _tracked(job, plan, folder) as (tracked, new):
                if new:
                    _log_origin(job, plan, version, tracked)
                    tracked.params({"pretrained_run": None if start is None else start.run_id})
                folder.note_run_id(tracked.run_id)
                baseline = probabilities_by_split(
                    {name: split.files for name, split in plan.splits.items()}, training.seed
                )
                teacher = {"train": baseline["train"][1]} if training.teacher_share else {}
                train_on_ranks(with_teacher(plan, teacher), tracked)
                metrics = _evaluate(plan, baseline, tracked)
                _save_reference(plan, tracked)
                model = tracker.register(tracked, folder.model, example)
            shutil.rmtree(folder.path, ignore_errors=True)
        held_out = plan.held_out[-1] if plan.held_out else "validation"
        summary.rows_in = sum(split.users for split in plan.splits.values())
        summary.details = {
            f"{held_out} AUC": metrics[f"{held_out}.auc"],
            "LightGBM": metrics[f"lightgbm.{held_out}.auc"],
            "model": f"{model.name} version {model.version}",
            "examples version": version,
        }
    return summary


@contextmanager
def _tracked(job: Job, plan: TrainingPlan, folder: RunFolder) -> Iterator[tuple[Run, bool]]:
    """Yield the training's MLflow run and whether it is new; resume the run of an unfinished training.

    Runs of this plan that were killed before their id was noted are ended and not resumed.
    """
    if folder.run_id is not None:
        with job.tracker.resume(folder.run_id, plan.key) as tracked:
            yield tracked, False
        return
    with job.tracker.run("train", plan.key) as tracked:
        yield tracked, True


def _splits(files: list[DataFile]) -> dict[str, tuple[tuple[str, ...], int]]:
    """Return the files and the number of users of each split; require train, validation and both classes in each."""
    of_split: dict[str, list[DataFile]] = {}
    for file in files:
        if file.rows:
            of_split.setdefault(str(file.partition["split"]), []).append(file)
    splits = {name: (tuple(f.path for f in of), sum(f.rows for f in of)) for name, of in sorted(of_split.items())}
    for name in dict.fromkeys(("train", "validation", *splits)):
        if name not in splits:
            raise InputError(f"table examples has no {name} split: build examples from more labels")
        labels = np.concatenate([_labels(path) for path in splits[name][0]])
        if len(np.unique(labels)) < 2:
            raise InputError(
                f"table examples, split {name}: all {len(labels):,} labels are {labels[0]}; "
                "both classes are needed: build examples from more labels"
            )
    return splits


def _labels(path: str) -> pa.ChunkedArray:
    with reading(path):
        return read_parquet(path, ["label"])["label"]


def _pretrained(job: Job) -> Start:
    """Fetch the newest pretrained weights."""
    from lbsf.models.artifact import files_digest

    folder = job.root / "training" / "pretrained"
    run_id = job.tracker.latest_pretrained(folder)
    return Start(str(folder), files_digest(folder), run_id)


def _thin_file(paths: Sequence[str], scoring: ScoringConfig) -> ThinFile:
    """Return the model's output for users with too little history, from the training labels."""

    from lbsf.training.thin_files import thin_file_of

    names = ["label", "payments_kept", "merchants_kept"]
    rows = pa.concat_tables([read_parquet(path, names) for path in paths])
    label, payments, merchants = (rows[name].to_numpy().astype(np.int64) for name in names)
    return thin_file_of(label, payments, merchants, scoring.thin_file_payments, scoring.thin_file_merchants)


def _example(job: Job, version: int) -> pd.DataFrame:
    """Return a few folds in the form of the model's signature, without their users."""
    import pandas as pd

    from lbsf.folds.packed import LIST_COLUMNS

    rows = job.warehouse.read(EXAMPLES, version).filter("payments_kept > 0")
    rows = rows.orderBy("payments_kept", "user_id").limit(2)
    found = rows.select("as_of", "fold_spec", *LIST_COLUMNS).toPandas()
    if found.empty:
        raise InputError("table examples holds no user with payments: check the labels' dates against the payments'")
    if set(found["fold_spec"]) != {job.config.fold.spec}:
        raise InputError(
            f"table examples was folded with spec {found['fold_spec'][0]}, the configuration says "
            f"{job.config.fold.spec}: build the examples again"
        )
    return found.assign(as_of=pd.to_datetime(found["as_of"]), **{c: found[c].map(list) for c in LIST_COLUMNS})


def _log_origin(job: Job, plan: TrainingPlan, examples_version: int, tracked: Run) -> None:
    """Log everything that determines the model: settings, table versions, rows, code, machine."""
    from lbsf.tracking.lineage import code_state, environment, public_configuration, split_hash

    machine = environment()
    tracked.document(public_configuration(job.config), "config.yaml")
    tracked.document(machine, "environment.json")
    sections = {name: getattr(job.config, name) for name in ("fold", "examples", "model", "training")}
    made_from = job.warehouse.made_from(EXAMPLES, examples_version)
    tracked.params(
        {
            **{f"{name}.{key}": value for name, section in sections.items() for key, value in section},
            "fold_spec": plan.fold.spec,
            "plan_digest": plan.digest,
            **{f"thin_file.{name}": value for name, value in plan.thin_file or ()},
            "examples_version": examples_version,
            **{f"{name}_version": version for name, version in made_from.items()},
            **{f"{name}.users": split.users for name, split in plan.splits.items()},
            **{f"{name}.sha256": split_hash(split.files) for name, split in plan.splits.items()},
            **{f"environment.{name}": machine[name] for name in ("python", "platform", "processor", "gpus")},
            **code_state(),
        }
    )


def _evaluate(plan: TrainingPlan, baseline: dict[str, tuple[Floats, Floats]], tracked: Run) -> dict[str, float]:
    """Log metrics, tables and figures of validation and the held-out splits, and return the metrics.

    They describe LBSF as it scores, and LightGBM.
    """
    from lbsf.evaluation.curves import performance_figures, segment_figure
    from lbsf.evaluation.metrics import calibration_measures, evaluate
    from lbsf.evaluation.segments import segment_metrics, segment_table, segment_users
    from lbsf.models.artifact import load_card, require_thin_file
    from lbsf.models.predict import decide_scores
    from lbsf.training.predictions import SavedPredictions
    from lbsf.training.run_folder import RunFolder

    metrics: dict[str, float] = {}
    folder = RunFolder.of(plan)
    card = load_card(folder.model)
    thin = require_thin_file(card)
    for name in ("validation", *plan.held_out):
        label, of_network, facts = SavedPredictions.load(folder.predictions(name))
        probability, _ = decide_scores(card, of_network, facts["payments"], facts["merchants"])
        if len(np.unique(label)) < 2:
            raise InputError(f"table examples, split {name}: labels of one class only cannot be evaluated")
        metrics |= {f"{name}.{key}": value for key, value in evaluate(label, probability).items()}
        measures = calibration_measures(label, probability)
        metrics |= {f"{name}.calibration_{key}": value for key, value in measures.items() if key != "level"}
        metrics |= {f"lightgbm.{name}.{key}": value for key, value in evaluate(*baseline[name]).items()}
        segments = segment_users(facts, thin.payments, thin.merchants)
        table = segment_table(label, probability, segments)
        metrics |= segment_metrics(table, name)
        tracked.table(table, f"segments_{name}")
        title = f"LBSF, {name.replace('_', '-')}"
        figures = performance_figures(label, probability, title) | {"segments": segment_figure(table, title)}
        for kind, figure in figures.items():
            tracked.figure(figure, f"{name}_{kind}")
    tracked.metrics(metrics)
    return metrics


def _save_reference(plan: TrainingPlan, tracked: Run) -> None:
    """Save the distributions of inputs, and of scores without thin files, to compare later nights with."""
    from lbsf.evaluation.reference import REFERENCE, add, count, make_reference
    from lbsf.loading.petastorm_reader import every_user_once
    from lbsf.models.artifact import load_card
    from lbsf.models.predict import decide_scores
    from lbsf.training.predictions import SavedPredictions
    from lbsf.training.run_folder import RunFolder

    folder = RunFolder.of(plan)
    batches = every_user_once(plan.splits["train"].files, shard=0, shards=1, batch_users=plan.training.batch_users)
    saved = SavedPredictions.load(folder.predictions("validation"))
    scores = decide_scores(
        load_card(folder.model), saved.probability, saved.facts["payments"], saved.facts["merchants"]
    )
    reference = make_reference(add(count(packed) for packed in batches), scores.probability[~scores.thin_file])
    reference.save(folder.model)
    tracked.document(reference.model_dump(mode="json"), REFERENCE)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--fresh`."""
    parser.add_argument("--fresh", action="store_true", help="begin anew, also where an unfinished run could go on")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
