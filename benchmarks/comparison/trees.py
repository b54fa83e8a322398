"""One cell of LightGBM, alone or weighed with a trained LBSF; benchmarks/experiment.py starts these."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lbsf.baselines.boosting import held_out_probabilities, labels_of, read_folds
from lbsf.baselines.fusion import Represent, train_fusion
from lbsf.loading.packed import PackedFolds
from lbsf.models.artifact import load_model
from lbsf.models.batch import FoldBatch
from lbsf.training.plan import TrainingPlan

Floats = NDArray[np.float64]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--lbsf", type=Path, help="saved LBSF whose logits are weighed with the trees'")
    arguments = parser.parse_args()
    plan = TrainingPlan.load(arguments.plan)
    torch.set_num_threads(plan.training.threads_per_rank)
    files = {name: list(split.files) for name, split in plan.splits.items()}
    if arguments.lbsf is None:
        found = held_out_probabilities(files, plan.training.seed, plan.view)
    else:
        found = _fused(plan, files, _logits(arguments.lbsf))
    for name, (label, probability) in found.items():
        np.savez(Path(plan.output) / f"{name}.npz", label=label, probability=probability)


def _fused(plan: TrainingPlan, files: dict[str, list[str]], represent: Represent) -> dict[str, tuple[Floats, Floats]]:
    folds = {name: list(read_folds(paths, plan.view)) for name, paths in files.items()}
    model = train_fusion(folds["train"], folds["validation"], represent, plan.training.seed)
    return {name: (labels_of(folds[name]), model.probabilities(folds[name], represent)) for name in plan.held_out}


def _logits(folder: Path) -> Represent:
    network, _ = load_model(folder)

    def represent(packed: PackedFolds) -> Floats:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(packed), 64):
                some = packed.take(np.arange(start, min(start + 64, len(packed))))
                parts.append(network(FoldBatch.from_packed(some)).double().numpy())
        return np.concatenate(parts)[:, None]

    return represent


if __name__ == "__main__":
    main()
