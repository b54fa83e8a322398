"""A batch of folds to probabilities, their reasons, and what the newest payments did: torch and numpy, no Spark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lbsf.folds.packed import Ints, PackedFolds
from lbsf.folds.views import keep_payments
from lbsf.models.artifact import ModelCard
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF
from lbsf.models.leave_one_out import logits_with_others_as_they_are, logits_without_each
from lbsf.models.predict import scores_of
from lbsf.models.segments import pad_segments, segment_positions
from lbsf.scoring.fields import Floats, logits_without_fields, strongest_field

# Merchant vectors that pass through the network at once: bounds the memory, and fits a core's cache.
VECTORS_AT_ONCE = 8_192

# Of the three strongest reasons none was missed among 24 candidates, and 0.1 % among 16 (512 simulated users with 60
# merchants each); with all merchants as candidates, leaving out takes four fifths of the time of scoring.
CANDIDATES_A_REASON = 8

# Log-odds are kept to this many decimals: the noise of float32 sums lies below it, so that the order
# of reasons is the same whichever users shared a batch.
CONTRIBUTION_DECIMALS = 4


@dataclass(frozen=True)
class BatchScores:
    """Scores of n users with R reasons in all.

    Attributes:
        probability, thin_file: (n,) each, as in lbsf.models.predict.Scores.
        reason_count: (n,) int64, reasons of each user; sums to R.
        reason_merchant: (R,) int64, positions among the batch's M merchants, the strongest reason first.
        contribution: (R,) float64, calibrated log-odds with all merchants less those without this one.
        reason_field: (R,) int64, position in REASON_FIELDS of the field that did most of it, or NO_FIELD.
        new_payments: (n,) int64, payments since `since`; None where that was not asked for.
        by_new_payments: (n,) float64, calibrated log-odds with those payments less those without; None likewise.
    """

    probability: Floats
    thin_file: npt.NDArray[np.bool_]
    reason_count: Ints
    reason_merchant: Ints
    contribution: Floats
    reason_field: Ints
    new_payments: Ints | None
    by_new_payments: Floats | None


def score_batch(
    model: LBSF, card: ModelCard, packed: PackedFolds, reasons: int, since: int | None = None
) -> BatchScores:
    """Scores users and names the merchants that moved each score most.

    A merchant's contribution is exact: what the user's log-odds lose when that merchant is taken out
    of the fold (leave-one-out). Merchants fold apart from each other, so each is encoded once and
    only the relations among the others are worked out again, for CANDIDATES_A_REASON merchants a reason.
    Which of a merchant's fields did most of it is found by making one field at a time unremarkable
    (lbsf.scoring.fields).

    Args:
        model: the network; put into evaluation mode.
        card: the model's card, for its calibration and its thin files.
        packed: folds of n users.
        reasons: most merchants named per user, by absolute contribution, then by merchant_id. A
            merchant whose contribution rounds to nothing is not named, nor is any of a thin file.
        since: seconds since 1970-01-01 UTC, from when on payments are new; None: not asked for.

    Raises:
        InputError: the card says nothing of thin files, or the network gave a score that is no number.
    """
    model.eval()
    user = packed.user_of_merchant
    with torch.inference_mode():
        batch = FoldBatch.from_packed(packed)
        vectors = model.merchant_vectors(batch)
        logits, lost = leave_one_out(model, vectors, batch.merchant_count, CANDIDATES_A_REASON * reasons)
        probability, thin = scores_of(card, logits, packed)
        moved = _log_odds(card, lost)
        count, merchant = _strongest(np.where(thin[user], 0.0, moved), user, len(packed), reasons)
        of_reason = logits[torch.from_numpy(user[merchant])][:, None]
        neutral = logits_without_fields(model, packed, vectors, merchant, card.fold.window_days)
        field = strongest_field(_log_odds(card, of_reason - neutral), moved[merchant])
        new_payments, by_new = (None, None) if since is None else _newest(model, card, packed, logits, since)
    return BatchScores(probability, thin, count, merchant, moved[merchant], field, new_payments, by_new)


def _log_odds(card: ModelCard, difference: Tensor) -> Floats:
    """A difference of logits in calibrated log-odds, to the decimals that are kept; the same shape."""
    found: Floats = np.round(card.slope * difference.double().numpy(), CONTRIBUTION_DECIMALS) + 0.0
    return found


def _newest(model: LBSF, card: ModelCard, packed: PackedFolds, logits: Tensor, since: int) -> tuple[Ints, Floats]:
    """Of each user, payments from `since` on and what they do to the log-odds: (n,), (n,)."""
    new = packed.paid_at >= since
    count = np.bincount(packed.user_of_payment[new], minlength=len(packed)).astype(np.int64)
    did = np.zeros(len(packed))
    # Most users paid nothing since last night: nothing is worked out again for them.
    chosen = np.flatnonzero(count)
    if len(chosen):
        before = packed.take(chosen)
        without = model(FoldBatch.from_packed(keep_payments(before, before.paid_at < since)))
        did[chosen] = _log_odds(card, logits[torch.from_numpy(chosen)] - without)
    return count, did


def leave_one_out(
    model: LBSF, vectors: Tensor, merchant_count: Tensor, candidates: int | None = None
) -> tuple[Tensor, Tensor]:
    """Logits with all merchants, and what they lose when one merchant is left out at a time.

    Args:
        model: the network, in evaluation mode.
        vectors: (M, width + tallies) merchant vectors.
        merchant_count: (n,) int64, merchants of each user; sums to M.
        candidates: of each user only so many merchants are left out, those that the head alone would miss most;
            None: all.

    Returns:
        (n,) logits; (M,) the user's logit less that without each merchant, 0 where it was not left out.
    """
    logits, moved = torch.empty(len(merchant_count)), torch.zeros(len(vectors))
    # Users of like size go together, the largest first, so that little padding is computed.
    order = torch.argsort(merchant_count, descending=True, stable=True)
    position = 0
    while position < len(order):
        longest = int(merchant_count[order[position]])
        users = order[position : position + max(1, VECTORS_AT_ONCE // (longest + 1) ** 2)]
        merchants, there = pad_segments(vectors, merchant_count, users)
        logits[users], guess = logits_with_others_as_they_are(model, merchants, there)
        strength = (logits[users][:, None] - guess).abs().masked_fill(~there, -1.0)
        best = torch.argsort(strength, dim=1, descending=True, stable=True)
        row = torch.arange(len(users))[:, None]
        without = logits_without_each(model, merchants[row, best], there[row, best], VECTORS_AT_ONCE, candidates)
        found = torch.zeros_like(guess)
        found[row, best[:, : without.shape[1]]] = logits[users][:, None] - without
        moved[segment_positions(merchant_count, users, there)] = found[there]
        position += len(users)
    return logits, moved


def _strongest(contribution: npt.NDArray[np.float64], user: Ints, users: int, most: int) -> tuple[Ints, Ints]:
    """Up to `most` merchants a user: how many of each user, and their positions, users in order."""
    # Merchants stand in order of merchant_id, and the sort is stable: ties keep that order.
    order = np.lexsort((-np.abs(contribution), user))
    first = np.searchsorted(user, np.arange(users))
    rank = np.arange(len(order)) - first[user[order]]
    chosen = order[(rank < most) & (contribution[order] != 0)]
    return np.bincount(user[chosen], minlength=users).astype(np.int64), chosen.astype(np.int64)
