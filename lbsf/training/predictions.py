"""A trained network's predictions of one split, in memory and on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lbsf.evaluation.metrics import Floats
from lbsf.evaluation.segments import FACTS
from lbsf.folds.packed import Ints


@dataclass(frozen=True)
class Predictions:
    """Labels and logits of one split's users, in an arbitrary order that is the same in all fields.

    Attributes:
        label, logit: (n,) float64 each.
        facts: (n,) int64 each, as returned by lbsf.evaluation.segments.describe.
    """

    label: Floats
    logit: Floats
    facts: dict[str, Ints]

    def save(self, path: Path, probability: Floats) -> None:
        """Write label, calibrated probability (n,) and facts as an .npz file."""
        np.savez(path, label=self.label, probability=probability, **self.facts)


class SavedPredictions(NamedTuple):
    """Predictions written by `Predictions.save`: label and calibrated probability (n,) float64, facts (n,) int64."""

    label: Floats
    probability: Floats
    facts: dict[str, Ints]

    @staticmethod
    def load(path: Path) -> SavedPredictions:
        """Read the file."""
        with np.load(path, allow_pickle=False) as saved:
            return SavedPredictions(saved["label"], saved["probability"], {fact: saved[fact] for fact in FACTS})
