"""Trains LBSF on the examples table: Horovod ranks fed by Petastorm, everything on one MLflow run.

The model of the best validation epoch is registered with the alias `challenger`. A LightGBM on plain
aggregates of the same folds is trained beside it, as the figure to beat.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

import lbsf
from jobs.common import Job, Summary, run_main
from lbsf.errors import InputError
from lbsf.schemas import EXAMPLES
from lbsf.tables import DataFile

if TYPE_CHECKING:
    import pandas as pd

    from lbsf.tracking import Run
    from lbsf.training.plan import TrainingPlan


def run(job: Job) -> Summary:
    """Trains, evaluates, registers the challenger.

    Returns:
        Summary with rows_in examples and details of the held-out split.
    """
    from lbsf.loading.petastorm_reader import require_row_groups
    from lbsf.training.plan import Split, TrainingPlan

    with job.step("train_model") as summary:
        version = job.warehouse.version(EXAMPLES)
        splits = _splits(job.warehouse.data_files(EXAMPLES, version))
        # Found out here, before any rank is started.
        require_row_groups(splits["train"][0], job.config.training.ranks)
        example = _example(job, version)
        with job.tracker.run("train") as tracked:
            output = job.root / "training" / tracked.run_id
            plan = TrainingPlan(
                model=job.config.model,
                fold=job.config.fold,
                training=job.config.training,
                splits={name: Split(files=files, users=users) for name, (files, users) in splits.items()},
                output=str(output),
            )
            tracked.params(_parameters(job, plan, version))
            try:
                _train(plan, tracked)
                metrics = _evaluate(plan, tracked)
                model = job.tracker.register(tracked, output / "model", example)
            finally:
                shutil.rmtree(output, ignore_errors=True)
        held_out = plan.held_out[-1] if plan.held_out else "validation"
        summary.rows_in = sum(split.users for split in plan.splits.values())
        summary.details = {
            f"{held_out} AUC": metrics[f"{held_out}.auc"],
            "LightGBM": metrics[f"lightgbm.{held_out}.auc"],
            "model": f"{model.name} version {model.version}",
            "examples version": version,
        }
    return summary


def _splits(files: list[DataFile]) -> dict[str, tuple[tuple[str, ...], int]]:
    """Files and users of each split; train and validation must be there, with both classes."""
    of_split: dict[str, list[DataFile]] = {}
    for file in files:
        if file.rows:
            of_split.setdefault(str(file.partition["split"]), []).append(file)
    splits = {name: (tuple(f.path for f in of), sum(f.rows for f in of)) for name, of in sorted(of_split.items())}
    for name in ("train", "validation"):
        if name not in splits:
            raise InputError(f"table examples has no {name} split: build examples from more labels")
        labels = np.concatenate(
            [pq.read_table(p, columns=["label"], partitioning=None)["label"] for p in splits[name][0]]
        )
        if len(np.unique(labels)) < 2:
            raise InputError(
                f"table examples, split {name}: all {len(labels):,} labels are {labels[0]}; "
                "both classes are needed: build examples from more labels"
            )
    return splits


def _example(job: Job, version: int) -> pd.DataFrame:
    """A few folds in the form of the model's signature, without the users they belong to."""
    import pandas as pd

    from lbsf.loading.packed import LIST_COLUMNS

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


def _parameters(job: Job, plan: TrainingPlan, examples_version: int) -> dict[str, Any]:
    """Everything that made the model: settings, table versions, code."""
    sections = {name: getattr(job.config, name) for name in ("fold", "examples", "model", "training")}
    values = {f"{name}.{key}": value for name, section in sections.items() for key, value in section}
    made_from = job.warehouse.made_from(EXAMPLES, examples_version)
    return {
        **values,
        "fold_spec": plan.fold.spec,
        "plan_digest": plan.digest,
        "examples_version": examples_version,
        **{f"{name}_version": version for name, version in made_from.items()},
        **{f"{name}.users": split.users for name, split in plan.splits.items()},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str:
    """The commit of the code that runs, or `unknown` where there is no repository or no git."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(lbsf.__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def _train(plan: TrainingPlan, tracked: Run) -> None:
    """Runs the ranks; shows their progress and logs each epoch."""
    from lbsf.training.distributed import launch

    output = Path(plan.output)
    output.mkdir(parents=True)
    plan.save(output / "plan.json")
    errors: list[str] = []
    other_lines: list[str] = []
    steps = plan.steps_per_epoch
    with tqdm(total=steps * plan.training.epochs, desc="train", unit="step", disable=None) as bar:

        def on_line(line: str) -> None:
            try:
                event = json.loads(line)
                kind = event.pop("event")
            except (ValueError, KeyError, AttributeError):
                other_lines.append(line)
                return
            if kind == "step":
                bar.update(1)
                bar.set_postfix(epoch=event["epoch"] + 1, loss=f"{event['loss']:.4f}")
            elif kind == "epoch":
                epoch, best = event.pop("epoch"), event.pop("best")
                tracked.metrics(event, step=epoch)
                bar.write(_epoch_line(epoch, best, event))
            elif kind == "error":
                errors.append(event["message"])

        command = [sys.executable, "-m", "jobs.train_rank", "--plan", str(output / "plan.json")]
        status = launch(command, plan.training.ranks, plan.training.hosts, on_line)
    if errors:
        raise InputError(errors[0])
    if status:
        raise RuntimeError(f"training ended with status {status}:\n" + "\n".join(other_lines[-40:]))


def _epoch_line(epoch: int, best: bool, metrics: dict[str, float]) -> str:
    return (
        f"  epoch {epoch + 1:<3} loss {metrics['train.loss']:.4f}  validation AUC {metrics['validation.auc']:.4f}  "
        f"KS {metrics['validation.ks']:.3f}  {metrics['payments_per_second']:,.0f} payments/s  "
        f"data wait {metrics['data_wait_share']:.1%}{'  best' if best else ''}"
    )


def _evaluate(plan: TrainingPlan, tracked: Run) -> dict[str, float]:
    """Metrics and pictures of validation and the held-out splits, for LBSF and for LightGBM."""
    from lbsf.baselines.boosting import held_out_probabilities
    from lbsf.training.curves import performance_figures
    from lbsf.training.metrics import evaluate

    metrics: dict[str, float] = {}
    baseline = held_out_probabilities(
        {name: list(split.files) for name, split in plan.splits.items()}, seed=plan.training.seed
    )
    for name in ("validation", *plan.held_out):
        with np.load(Path(plan.output) / f"{name}.npz", allow_pickle=False) as saved:
            label, probability = saved["label"], saved["probability"]
        if len(np.unique(label)) < 2:
            raise InputError(f"table examples, split {name}: labels of one class only cannot be evaluated")
        metrics |= {f"{name}.{key}": value for key, value in evaluate(label, probability).items()}
        metrics |= {f"lightgbm.{name}.{key}": value for key, value in evaluate(*baseline[name]).items()}
        for kind, figure in performance_figures(label, probability, f"LBSF, {name.replace('_', '-')}").items():
            tracked.figure(figure, f"{name}_{kind}")
    tracked.metrics(metrics)
    return metrics


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
