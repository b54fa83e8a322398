"""Computes probabilities, reasons and the effect of new payments for a batch of folds. torch and numpy, no Spark."""

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

# Merchant vectors that are computed at a time: bounds the memory, and fits a core's cache.
VECTORS_AT_ONCE = 8_192

# Merchants whose exact contribution is computed, per reason. With 24 candidates none of the three strongest reasons was
# missed, with 16 0.1 % (512 simulated users with 60 merchants each). With all merchants as candidates, leave-one-out
# takes four fifths of the time of scoring.
CANDIDATES_A_REASON = 8

# Log-odds are rounded to this many decimals. Rounding errors of float32 sums are smaller, so the order
# of reasons does not depend on which users share a batch.
CONTRIBUTION_DECIMALS = 4


@dataclass(frozen=True)
class BatchScores:
    """Scores of n users with R reasons in total.

    Attributes:
        probability, thin_file: (n,) each, as in lbsf.models.predict.Scores.
        reason_count: (n,) int64, reasons of each user; sums to R.
        reason_merchant: (R,) int64, positions among the batch's M merchants, each user's strongest reason first.
        contribution: (R,) float64, calibrated log-odds with all merchants less those without this one.
        reason_field: (R,) int64, position in REASON_FIELDS of the field that explains most of it, or NO_FIELD.
        new_payments: (n,) int64, payments since `since`; None if `since` was None.
        by_new_payments: (n,) float64, calibrated log-odds with these payments less those without; None likewise.
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
    """Score users and find the merchants that changed each score most.

    A merchant's contribution is exact: the decrease of the user's log-odds when the merchant is removed
    from the fold (leave-one-out). Merchants are encoded independently of each other, so each is encoded once and
    only the self-attention among the others is repeated, for CANDIDATES_A_REASON merchants per reason.
    The field that explains most of a contribution is found by replacing one field at a time by neutral values
    (lbsf.scoring.fields).

    Args:
        model: the network; it is put into evaluation mode.
        card: the model's card, for its calibration and its thin files.
        packed: folds of n users.
        reasons: the maximum number of reasons per user, by absolute contribution, then by merchant_id. A
            merchant whose contribution rounds to 0 is not a reason. Thin files have no reasons.
        since: time from which payments count as new, seconds since 1970-01-01 UTC; None: new payments are not measured.

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
        contribution = _log_odds(card, lost)
        count, merchant = _strongest(np.where(thin[user], 0.0, contribution), user, len(packed), reasons)
        of_reason = logits[torch.from_numpy(user[merchant])][:, None]
        neutral = logits_without_fields(model, packed, vectors, merchant, card.fold.window_days)
        field = strongest_field(_log_odds(card, of_reason - neutral), contribution[merchant])
        new_payments, by_new = (None, None) if since is None else _new_payments(model, card, packed, logits, since)
    return BatchScores(probability, thin, count, merchant, contribution[merchant], field, new_payments, by_new)


def _log_odds(card: ModelCard, difference: Tensor) -> Floats:
    """Convert a difference of logits to calibrated log-odds, rounded to CONTRIBUTION_DECIMALS; the same shape."""
    # Adding 0.0 turns -0.0 into 0.0.
    found: Floats = np.round(card.slope * difference.double().numpy(), CONTRIBUTION_DECIMALS) + 0.0
    return found


def _new_payments(model: LBSF, card: ModelCard, packed: PackedFolds, logits: Tensor, since: int) -> tuple[Ints, Floats]:
    """Return each user's number of payments from `since` on, and their effect on the log-odds: (n,), (n,)."""
    new = packed.paid_at >= since
    count = np.bincount(packed.user_of_payment[new], minlength=len(packed)).astype(np.int64)
    effect = np.zeros(len(packed))
    # Most users have no new payments since the last night: only the others are scored again.
    chosen = np.flatnonzero(count)
    if len(chosen):
        before = packed.take(chosen)
        without = model(FoldBatch.from_packed(keep_payments(before, before.paid_at < since)))
        effect[chosen] = _log_odds(card, logits[torch.from_numpy(chosen)] - without)
    return count, effect


def leave_one_out(
    model: LBSF, vectors: Tensor, merchant_count: Tensor, candidates: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the logits with all merchants, and their decrease when one merchant is left out at a time.

    Args:
        model: the network, in evaluation mode.
        vectors: (M, width + tallies) merchant vectors.
        merchant_count: (n,) int64, merchants of each user; sums to M.
        candidates: number of merchants of each user that are left out, those with the strongest approximate effect
            (`logits_with_others_as_they_are`); None: all.

    Returns:
        (n,) logits; (M,) the user's logit less that without each merchant, 0 for merchants that were not left out.
    """
    logits, lost = torch.empty(len(merchant_count)), torch.zeros(len(vectors))
    # Users with similar numbers of merchants are computed together, the largest first, to need little padding.
    order = torch.argsort(merchant_count, descending=True, stable=True)
    position = 0
    while position < len(order):
        longest = int(merchant_count[order[position]])
        users = order[position : position + max(1, VECTORS_AT_ONCE // (longest + 1) ** 2)]
        merchants, present = pad_segments(vectors, merchant_count, users)
        logits[users], approximate = logits_with_others_as_they_are(model, merchants, present)
        strength = (logits[users][:, None] - approximate).abs().masked_fill(~present, -1.0)
        best = torch.argsort(strength, dim=1, descending=True, stable=True)
        row = torch.arange(len(users))[:, None]
        without = logits_without_each(model, merchants[row, best], present[row, best], VECTORS_AT_ONCE, candidates)
        found = torch.zeros_like(approximate)
        found[row, best[:, : without.shape[1]]] = logits[users][:, None] - without
        lost[segment_positions(merchant_count, users, present)] = found[present]
        position += len(users)
    return logits, lost


def _strongest(contribution: npt.NDArray[np.float64], user: Ints, users: int, most: int) -> tuple[Ints, Ints]:
    """Select up to `most` merchants per user; return their number for each user, and their positions, by user."""
    # A user's merchants are sorted by merchant_id and the sort is stable, so ties keep that order.
    order = np.lexsort((-np.abs(contribution), user))
    first = np.searchsorted(user, np.arange(users))
    rank = np.arange(len(order)) - first[user[order]]
    chosen = order[(rank < most) & (contribution[order] != 0)]
    return np.bincount(user[chosen], minlength=users).astype(np.int64), chosen.astype(np.int64)
