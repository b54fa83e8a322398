"""Validate the challenger on rows that no model was trained on, beside the champion if there is one.

The verdict is stored on the challenger's registry version, where promote_model.py reads it; its rules, tables
and figures are stored on the challenger's run. docs/tracking.md describes how the gate decides.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jobs.common import Job, Summary, run_main
from lbsf.errors import InputError
from lbsf.schemas import EXAMPLES
from lbsf.tables import DataFile, spec_of

if TYPE_CHECKING:
    from lbsf.evaluation.gate import Evidence, Verdict
    from lbsf.folds.packed import PackedFolds
    from lbsf.models.predict import Floats
    from lbsf.tracking import RegisteredModel, Run


def run(job: Job) -> Summary:
    """Score the out-of-time test (the hash test if there is none) with both models and judge the challenger.

    Raises:
        InputError: there is no challenger, it reads folds of another spec than the examples, or it has no
            reference.json; there are no held-out rows, or they have one class only.
    """
    from lbsf.evaluation.gate import compare
    from lbsf.loading.petastorm_reader import every_user_once
    from lbsf.tracking import CHALLENGER, CHAMPION, Run

    with job.step("validate_model") as summary:
        challenger, today = job.tracker.fetch(CHALLENGER), job.tracker.version_of(CHAMPION)
        if today == challenger.version:
            raise InputError(f"challenger version {today} is the champion already: run promote_model.py")
        version = job.warehouse.version(EXAMPLES)
        split, files = _held_out(job.warehouse.readable_files(EXAMPLES, version))
        paths, users = [file.path for file in files], sum(file.rows for file in files)
        rows = list(every_user_once(paths, shard=0, shards=1, batch_users=job.config.training.batch_users))
        if sum(map(len, rows)) != users:
            raise InputError(f"split {split}: {sum(map(len, rows)):,} users were read, the table holds {users:,}")
        evidence = _evidence(job, challenger, rows, spec_of(paths[0]))
        verdict = compare(evidence, job.config.promotion, job.config.training.seed)
        _log(verdict, evidence, split, Run(challenger.run_id))
        passed = "passed" if verdict.passed else "refused"
        # Clear the earlier verdict first and write the new one last: a kill in between leaves none, never half of each.
        job.tracker.tag(challenger, {"validation": None, "override": None})
        job.tracker.tag(
            challenger,
            {
                "validation_reasons": verdict.summary,
                "validation_split": split,
                "validation_examples_version": str(version),
                "validation_champion": today or "none",
                "validation": passed,
            },
        )
        for reason in verdict.reasons:
            print(f"  {reason}")
        summary.rows_in = len(evidence.label)
        summary.details = {
            "split": split,
            "challenger": f"version {challenger.version}",
            "champion": f"version {today}" if today else "none",
            "verdict": passed,
        }
    return summary


def _held_out(files: list[DataFile]) -> tuple[str, list[DataFile]]:
    """Return the split that the models are judged on, and its files."""
    for split in ("out_of_time", "test"):
        found = [file for file in files if file.partition["split"] == split and file.rows]
        if found:
            return split, found
    raise InputError(
        "table examples has neither an out_of_time nor a test split, so there is nothing to validate on: "
        "set examples.out_of_time_from or examples.test_share and build the examples again"
    )


def _evidence(job: Job, challenger: RegisteredModel, rows: list[PackedFolds], spec: str) -> Evidence:
    """Return the scores of both models for the same users, and the facts about these users."""
    from lbsf.evaluation.gate import Evidence
    from lbsf.evaluation.reference import Reference
    from lbsf.evaluation.segments import FACTS, describe, segment_users
    from lbsf.models.artifact import load_model, require_spec
    from lbsf.models.predict import predict_scores

    network, card = load_model(challenger.folder)
    require_spec(card, spec)
    scores = predict_scores(network, card, rows)
    champion, incomparable = _champion_scores(job, rows, spec)
    facts = [describe(packed) for packed in rows]
    return Evidence(
        label=np.concatenate([packed.label for packed in rows if packed.label is not None]).astype(float),
        challenger=scores.probability,
        champion=champion,
        incomparable=incomparable,
        segments=segment_users(
            {name: np.concatenate([of[name] for of in facts]) for name in FACTS},
            job.config.scoring.thin_file_payments,
            job.config.scoring.thin_file_merchants,
        ),
        validation_scores=Reference.load(challenger.folder).score,
        thin_file=scores.thin_file,
    )


def _champion_scores(job: Job, rows: list[PackedFolds], spec: str) -> tuple[Floats | None, str | None]:
    """Return the champion's probabilities, or why it cannot score the users; neither without a champion.

    A champion of other folds, or a damaged one, raises no error: its successor could never be judged then. Instead, a
    person has to overrule.
    """
    from lbsf.models.artifact import load_model
    from lbsf.models.predict import predict_scores
    from lbsf.tracking import CHAMPION, StoreError

    try:
        champion = job.tracker.find(CHAMPION)
        if champion is None:
            return None, None
        network, card = load_model(champion.folder)
        if card.fold.spec != spec:
            return None, f"version {champion.version} reads folds of spec {card.fold.spec}, table examples holds {spec}"
        return predict_scores(network, card, rows).probability, None
    except StoreError:
        raise
    except InputError as error:
        return None, str(error)


def _log(verdict: Verdict, evidence: Evidence, split: str, tracked: Run) -> None:
    """Log the verdict, its tables and figures; they replace those of an earlier validation."""
    from lbsf.evaluation.curves import performance_figures, segment_figure

    tracked.metrics({f"gate.{name}": value for name, value in verdict.metrics.items()})
    tracked.document({"split": split, **verdict.document}, "gate.json")
    tracked.table(verdict.segments, "gate_segments")
    title = f"challenger, {split.replace('_', '-')}"
    figures = performance_figures(evidence.label, evidence.challenger, title)
    figures["segments"] = segment_figure(verdict.segments, title)
    if evidence.champion is not None:
        champion = performance_figures(evidence.label, evidence.champion, f"champion, {split.replace('_', '-')}")
        figures |= {f"champion_{kind}": figure for kind, figure in champion.items()}
    for kind, figure in figures.items():
        tracked.figure(figure, f"gate_{kind}")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: the job has none of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
