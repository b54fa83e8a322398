"""Finds the field of a merchant's payments that moved a score, by replacing one field at a time by neutral values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lbsf.folds.packed import SECONDS_PER_DAY, Ints, PackedFolds
from lbsf.folds.views import blank, merchants_alone
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF
from lbsf.schemas.scores import REASON_FIELDS

Floats = npt.NDArray[np.float64]

NO_FIELD = -1


def logits_without_fields(
    model: LBSF, packed: PackedFolds, vectors: Tensor, merchants: Ints, window_days: int
) -> Tensor:
    """Return users' logits with one field of one of their merchants replaced by neutral values.

    A merchant is encoded from its own payments only, so just its own vector is computed anew.

    Args:
        model: the network, in evaluation mode.
        packed: folds of n users with M merchants.
        vectors: (M, width + tallies) vectors of the unchanged merchants.
        merchants: (R,) positions of the merchants that are changed, one at a time.
        window_days: days of the folds' window.

    Returns:
        (R, fields) logits of each merchant's user, fields as in REASON_FIELDS.
    """
    if not len(merchants):
        return torch.zeros((0, len(REASON_FIELDS)))
    first = np.cumsum(packed.merchant_count) - packed.merchant_count
    owner = packed.user_of_merchant[merchants]
    count = packed.merchant_count[owner]
    # For each changed merchant: the positions of all its user's merchants, and its own position among all of these.
    begins = np.cumsum(count) - count
    positions = np.arange(int(count.sum())) + np.repeat(first[owner] - begins, count)
    changed = torch.from_numpy(begins + merchants - first[owner])
    alone = merchants_alone(packed, merchants)
    usual = usual_cents(packed)[owner]
    neutral = {
        "amount": _usual_amount(alone, usual),
        "time": _even_times(alone, window_days),
        "kind": _unknown_kind(alone),
    }
    found = []
    for field in REASON_FIELDS:
        all_vectors = vectors[torch.from_numpy(positions)]
        all_vectors[changed] = model.merchant_vectors(FoldBatch.from_packed(neutral[field]))
        found.append(model.logits_of(all_vectors, torch.from_numpy(count)))
    return torch.stack(found, dim=1)


def strongest_field(moved: Floats, contribution: Floats) -> Ints:
    """Return the field that explains most of each contribution.

    Args:
        moved: (R, fields) log-odds less those with the field's neutral values.
        contribution: (R,) contribution of the whole merchant.

    Returns:
        (R,) positions in REASON_FIELDS; NO_FIELD if no field moved the score in the contribution's direction.
    """
    towards = moved * np.sign(contribution)[:, None]
    strongest = towards.argmax(axis=1) if len(towards) else np.zeros(0, np.int64)
    found: Ints = np.where(towards.max(axis=1, initial=0.0) > 0, strongest, NO_FIELD)
    return found


def usual_cents(packed: PackedFolds) -> Ints:
    """Return the median absolute amount of each user's payments in cents, (n,); 0 without payments."""
    user = packed.user_of_payment
    size = np.abs(packed.amount_cents)
    ordered = size[np.lexsort((size, user))]
    count = np.bincount(user, minlength=len(packed))
    middle = np.cumsum(count) - count + count // 2
    usual = np.zeros(len(packed), np.int64)
    usual[count > 0] = ordered[middle[count > 0]]
    return usual


def _usual_amount(alone: PackedFolds, usual: Ints) -> PackedFolds:
    """Set each payment's amount to its user's usual amount, (R,) cents, with the payment's own sign."""
    amount = np.repeat(usual, alone.merchant_len)
    return replace(alone, amount_cents=np.where(alone.amount_cents < 0, -amount, amount))


def _even_times(alone: PackedFolds, window_days: int) -> PackedFolds:
    """Spread each merchant's payments evenly over the days of the window, at noon."""
    count = np.repeat(alone.merchant_len, alone.merchant_len)
    first = np.cumsum(alone.merchant_len) - alone.merchant_len
    number = np.arange(len(count)) - np.repeat(first, alone.merchant_len)
    days = ((2 * number + 1) * window_days) // (2 * count)
    begin = np.repeat(alone.as_of, alone.merchant_len) - window_days * SECONDS_PER_DAY
    return replace(alone, paid_at=begin + days * SECONDS_PER_DAY + SECONDS_PER_DAY // 2)


def _unknown_kind(alone: PackedFolds) -> PackedFolds:
    """Blank category, channel, description and the merchant's name."""
    for field in ("category", "channel", "description", "merchant_name"):
        alone = blank(alone, field)  # type: ignore[arg-type]
    return alone
