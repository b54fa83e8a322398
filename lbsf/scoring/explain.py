"""A batch of folds to probabilities with their reasons: torch and numpy, no Spark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lbsf.loading.packed import Ints, PackedFolds
from lbsf.models.artifact import ModelCard
from lbsf.models.batch import FoldBatch, owners
from lbsf.models.lbsf import LBSF
from lbsf.models.leave_one_out import logits_without_each
from lbsf.models.relations import places, set_out

# Merchant vectors that pass through the network at once: bounds the memory, and fits a core's cache.
VECTORS_AT_ONCE = 8_192

# Log-odds are kept to this many decimals: the noise of float32 sums lies below it, so that the order
# of reasons is the same whichever users shared a batch.
CONTRIBUTION_DECIMALS = 4


@dataclass(frozen=True)
class BatchScores:
    """Scores of n users with R reasons in all.

    Attributes:
        probability: (n,) float64, calibrated.
        reason_count: (n,) int64, reasons of each user; sums to R.
        reason_merchant: (R,) int64, positions among the batch's M merchants, the strongest reason first.
        contribution: (R,) float64, calibrated log-odds with all merchants less those without this one.
    """

    probability: npt.NDArray[np.float64]
    reason_count: Ints
    reason_merchant: Ints
    contribution: npt.NDArray[np.float64]


def score_batch(model: LBSF, card: ModelCard, packed: PackedFolds, reasons: int) -> BatchScores:
    """Scores users and names the merchants that moved each score most.

    A merchant's contribution is exact: what the user's log-odds lose when that merchant is taken out
    of the fold (leave-one-out). Merchants fold apart from each other, so each is encoded once and
    only the relations among the others are worked out again.

    Args:
        model: the network; put into evaluation mode.
        card: the model's card, for its calibration.
        packed: folds of n users.
        reasons: most merchants named per user, by absolute contribution, then by merchant_id. A
            merchant whose contribution rounds to nothing is not named.
    """
    model.eval()
    with torch.inference_mode():
        batch = FoldBatch.from_packed(packed)
        logits, without = leave_one_out(model, model.merchant_vectors(batch), batch.merchant_count)
        probability = card.probability(logits).numpy()
        user = owners(batch.merchant_count)
        moved = card.slope * (logits[user].double() - without.double())
    if not np.isfinite(probability).all():
        raise ValueError("the model gave a score that is no number")
    contribution = np.round(moved.numpy(), CONTRIBUTION_DECIMALS)
    count, merchant = _strongest(contribution, user.numpy(), len(packed), reasons)
    return BatchScores(probability, count, merchant, contribution[merchant])


def leave_one_out(model: LBSF, vectors: Tensor, merchant_count: Tensor) -> tuple[Tensor, Tensor]:
    """Logits with all merchants, and with one merchant left out at a time.

    Args:
        model: the network, in evaluation mode.
        vectors: (M, width) merchant vectors.
        merchant_count: (n,) int64, merchants of each user; sums to M.

    Returns:
        (n,) logits; (M,) the user's logit without each merchant.
    """
    logits, without = torch.empty(len(merchant_count)), torch.empty(len(vectors))
    # Users of like size go together, the largest first, so that little padding is computed.
    order = torch.argsort(merchant_count, descending=True, stable=True)
    position = 0
    while position < len(order):
        longest = int(merchant_count[order[position]])
        users = order[position : position + max(1, VECTORS_AT_ONCE // (longest + 1) ** 2)]
        merchants, there = set_out(vectors, merchant_count, users)
        logits[users] = model.user_logits(merchants, there)
        left_out = logits_without_each(model, merchants, there, VECTORS_AT_ONCE)
        without[places(merchant_count, users, there)] = left_out[there]
        position += len(users)
    return logits, without


def _strongest(contribution: npt.NDArray[np.float64], user: Ints, users: int, most: int) -> tuple[Ints, Ints]:
    """Up to `most` merchants a user: how many of each user, and their positions, users in order."""
    # Merchants stand in order of merchant_id, and the sort is stable: ties keep that order.
    order = np.lexsort((-np.abs(contribution), user))
    first = np.searchsorted(user, np.arange(users))
    rank = np.arange(len(order)) - first[user[order]]
    chosen = order[(rank < most) & (contribution[order] != 0)]
    return np.bincount(user[chosen], minlength=users).astype(np.int64), chosen.astype(np.int64)
