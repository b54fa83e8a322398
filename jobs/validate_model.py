"""Validates the challenger on rows that no model was trained on, beside the champion where there is one.

The verdict and its reasons are written onto the challenger's registry version; promote_model.py acts on it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from jobs.common import Job, Summary, run_main
from lbsf.errors import InputError
from lbsf.schemas import EXAMPLES


def run(job: Job) -> Summary:
    """Scores the out-of-time test (the hash test where there is none) with both models and judges."""
    from lbsf.loading.petastorm_reader import every_user_once
    from lbsf.models.artifact import load_model, require_spec
    from lbsf.models.predict import predict_probabilities
    from lbsf.tracking import CHALLENGER, CHAMPION
    from lbsf.tracking.gate import compare

    with job.step("validate_model") as summary:
        challenger, champion = job.tracker.fetch(CHALLENGER), job.tracker.find(CHAMPION)
        version = job.warehouse.version(EXAMPLES)
        files = job.warehouse.data_files(EXAMPLES, version)
        split = next(
            (s for s in ("out_of_time", "test") if any(f.partition["split"] == s and f.rows for f in files)), None
        )
        if split is None:
            raise InputError("table examples has neither an out_of_time nor a test split: nothing to validate on")
        paths = [f.path for f in files if f.partition["split"] == split]
        held_out = list(every_user_once(paths, shard=0, shards=1, batch_users=job.config.training.batch_users))
        label = np.concatenate([packed.label for packed in held_out if packed.label is not None]).astype(float)
        probabilities = {}
        for role, registered in (("challenger", challenger), ("champion", champion)):
            if registered is not None:
                model, card = load_model(registered.folder)
                require_spec(card, job.config.fold.spec)
                probabilities[role] = predict_probabilities(model, card, held_out)
        verdict = compare(
            label,
            probabilities["challenger"],
            probabilities.get("champion"),
            job.config.promotion,
            job.config.training.seed,
        )
        with job.tracker.resume(challenger) as tracked:
            tracked.metrics({f"gate.{name}": value for name, value in verdict.metrics.items()})
        job.tracker.tag(
            challenger,
            {
                "validation": "passed" if verdict.passed else "refused",
                "validation_reasons": "; ".join(verdict.reasons),
                "validation_split": split,
                "validation_examples_version": str(version),
                "validation_champion": champion.version if champion else "none",
            },
        )
        for reason in verdict.reasons:
            print(f"  {reason}")
        summary.rows_in = len(label)
        summary.details = {
            "split": split,
            "challenger": f"version {challenger.version}",
            "champion": f"version {champion.version}" if champion else "none",
            "verdict": "passed" if verdict.passed else "refused",
        }
    return summary


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
