"""Trains one cell of LightGBM, alone or combined with a trained LBSF; started by benchmarks.experiment.runs."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.special import logit

from benchmarks.experiment.intervals import Floats
from benchmarks.experiment.predictions import read
from lbsf.baselines.boosting import probabilities_by_split
from lbsf.baselines.fusion import weigh
from lbsf.training.plan import TrainingPlan
from lbsf.training.run_folder import RunFolder


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--weigh", type=Path, nargs=2, metavar="CELL", help="folders of LightGBM's cell and of LBSF's")
    arguments = parser.parse_args()
    plan = TrainingPlan.load(arguments.plan)
    if arguments.weigh is None:
        files = {name: list(split.files) for name, split in plan.splits.items()}
        found = probabilities_by_split(files, plan.training.seed, plan.view)
    else:
        found = _fused(plan, *arguments.weigh)
    for name, (label, probability) in found.items():
        np.savez(RunFolder.of(plan).predictions(name), label=label, probability=probability)


def _fused(plan: TrainingPlan, trees: Path, lbsf: Path) -> dict[str, tuple[Floats, Floats]]:
    label, of_trees, of_lbsf = _log_odds(trees, lbsf, "validation")
    fusion = weigh(of_trees, of_lbsf[:, None], label, plan.training.seed)
    found = {}
    for name in plan.held_out:
        label, of_trees, of_lbsf = _log_odds(trees, lbsf, name)
        found[name] = label, fusion.probabilities(of_trees, of_lbsf[:, None])
    return found


def _log_odds(trees: Path, lbsf: Path, split: str) -> tuple[Floats, Floats, Floats]:
    """Return labels (n,), and the log-odds of two trained cells for the same users, (n,) each."""
    label, of_trees = read(trees, split)
    _, of_lbsf = read(lbsf, split, label)
    return label, logit(of_trees), logit(of_lbsf)


if __name__ == "__main__":
    main()
