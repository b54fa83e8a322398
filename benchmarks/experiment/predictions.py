"""Reads a trained cell's predictions of a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.experiment.intervals import Floats
from lbsf.training.run_folder import RunFolder


def read(cell: Path, split: str, label: Floats | None = None) -> tuple[Floats, Floats]:
    """Read labels and probabilities, (n,) each, from a cell's folder.

    Args:
        cell: the folder.
        split: of the examples.
        label: (n,), labels of the cells that it is compared with; None: not checked.

    Raises:
        SystemExit: the cell's labels differ from `label`: it has other users, or another order of them.
    """
    with np.load(RunFolder(cell).predictions(split), allow_pickle=False) as saved:
        found, probability = saved["label"], saved["probability"]
    if label is not None and not np.array_equal(label, found):
        raise SystemExit(f"{cell}: {split} has other users, or another order, than the cells it is compared with")
    return found, probability
