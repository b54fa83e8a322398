"""Scores of users. All callers compute them with the same function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lbsf.folds.packed import Ints, PackedFolds
from lbsf.models.artifact import ModelCard, require_thin_file
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF

# Probabilities are rounded to this many decimals. Ranking all users of a night then needs at most 10^6 counts,
# and floating-point noise between two runs disappears.
PROBABILITY_DECIMALS = 6

Floats = npt.NDArray[np.float64]


class Scores(NamedTuple):
    """Scores of n users.

    Attributes:
        probability: (n,) float64, of default, with PROBABILITY_DECIMALS decimals; for thin files, the card's value.
        thin_file: (n,) bool, users with too little history for the network.
    """

    probability: Floats
    thin_file: npt.NDArray[np.bool_]


def decide_scores(card: ModelCard, probability: Floats, payments: Ints, merchants: Ints) -> Scores:
    """Return the users' scores, given the network's calibrated probabilities.

    The scoring job, the MLflow model, the replay, the gate and the metrics of a training all call this.

    Args:
        card: the model's card.
        probability: (n,) `card.probability` of the network's logits.
        payments, merchants: (n,) in each user's fold.

    Raises:
        InputError: the card has no `thin_file`.
    """
    thin_file = require_thin_file(card)
    thin = thin_file.covers(payments, merchants)
    return Scores(np.round(np.where(thin, thin_file.probability, probability), PROBABILITY_DECIMALS), thin)


def scores_of(card: ModelCard, logits: Tensor, packed: PackedFolds) -> Scores:
    """Return the scores of a batch of n users, given their logits (n,); see `decide_scores`.

    Raises:
        InputError: a logit is not a finite number, or the card has no `thin_file`.
    """
    probability = card.probability(logits).numpy()
    return decide_scores(card, probability, packed.payments_of_users, packed.merchant_count)


def predict_scores(model: LBSF, card: ModelCard, batches: Iterable[PackedFolds]) -> Scores:
    """Return the scores of every user of the batches, in their order; see `decide_scores`.

    Raises:
        InputError: a logit is not a finite number, or the card has no `thin_file`.
    """
    model.eval()
    parts = [Scores(np.zeros(0), np.zeros(0, np.bool_))]
    with torch.inference_mode():
        parts += [scores_of(card, model(FoldBatch.from_packed(packed)), packed) for packed in batches if len(packed)]
    return Scores(*map(np.concatenate, zip(*parts, strict=True)))
