"""A trained model's output over many batches."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from lbsf.folds.packed import PackedFolds
from lbsf.models.artifact import ModelCard
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF


def predict_probabilities(model: LBSF, card: ModelCard, batches: Iterable[PackedFolds]) -> npt.NDArray[np.float64]:
    """Calibrated probabilities of default of every user of the batches, (n,), in their order."""
    model.eval()
    parts = [torch.zeros(0, dtype=torch.float64)]
    with torch.inference_mode():
        parts += [card.probability(model(FoldBatch.from_packed(packed))) for packed in batches]
    return torch.cat(parts).numpy()
