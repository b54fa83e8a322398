"""Which field of a merchant's payments moved a score: the score with that field alone made unremarkable."""

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
    """Logits of the users with one field of one of their merchants made unremarkable.

    A merchant is encoded from its own payments, so only its vector is worked out again.

    Args:
        model: the network, in evaluation mode.
        packed: folds of n users with M merchants.
        vectors: (M, width + tallies) of the merchants as they are.
        merchants: (R,) positions of the merchants that are changed, one at a time.
        window_days: of the folds.

    Returns:
        (R, fields) logits of each merchant's user, fields as in REASON_FIELDS.
    """
    if not len(merchants):
        return torch.zeros((0, len(REASON_FIELDS)))
    first = np.cumsum(packed.merchant_count) - packed.merchant_count
    owner = packed.user_of_merchant[merchants]
    count = packed.merchant_count[owner]
    # Of each changed merchant, where its user's merchants stand, and its own place among them.
    begins = np.cumsum(count) - count
    everyone = np.arange(int(count.sum())) + np.repeat(first[owner] - begins, count)
    changed = torch.from_numpy(begins + merchants - first[owner])
    alone = merchants_alone(packed, merchants)
    usual = usual_cents(packed)[owner]
    unremarkable = {
        "amount": _usual_amount(alone, usual),
        "time": _even_times(alone, window_days),
        "kind": _unknown_kind(alone),
    }
    found = []
    for field in REASON_FIELDS:
        theirs = vectors[torch.from_numpy(everyone)]
        theirs[changed] = model.merchant_vectors(FoldBatch.from_packed(unremarkable[field]))
        found.append(model.logits_of(theirs, torch.from_numpy(count)))
    return torch.stack(found, dim=1)


def strongest_field(moved: Floats, contribution: Floats) -> Ints:
    """The field that did most of each contribution.

    Args:
        moved: (R, fields) log-odds as they are less those without what is special in the field.
        contribution: (R,) of the merchant as a whole.

    Returns:
        (R,) positions in REASON_FIELDS; NO_FIELD where none moved the score in the contribution's direction.
    """
    towards = moved * np.sign(contribution)[:, None]
    strongest = towards.argmax(axis=1) if len(towards) else np.zeros(0, np.int64)
    found: Ints = np.where(towards.max(axis=1, initial=0.0) > 0, strongest, NO_FIELD)
    return found


def usual_cents(packed: PackedFolds) -> Ints:
    """The median absolute amount of each user's payments, (n,); 0 without any."""
    user = packed.user_of_payment
    size = np.abs(packed.amount_cents)
    ordered = size[np.lexsort((size, user))]
    count = np.bincount(user, minlength=len(packed))
    middle = np.cumsum(count) - count + count // 2
    usual = np.zeros(len(packed), np.int64)
    usual[count > 0] = ordered[middle[count > 0]]
    return usual


def _usual_amount(alone: PackedFolds, usual: Ints) -> PackedFolds:
    """As if each payment had been of the user's usual amount; (R,) cents."""
    amount = np.repeat(usual, alone.merchant_len)
    return replace(alone, amount_cents=np.where(alone.amount_cents < 0, -amount, amount))


def _even_times(alone: PackedFolds, window_days: int) -> PackedFolds:
    """As if the payments had been spread evenly over the window, at noon."""
    count = np.repeat(alone.merchant_len, alone.merchant_len)
    first = np.cumsum(alone.merchant_len) - alone.merchant_len
    place = np.arange(len(count)) - np.repeat(first, alone.merchant_len)
    days = ((2 * place + 1) * window_days) // (2 * count)
    begin = np.repeat(alone.as_of, alone.merchant_len) - window_days * SECONDS_PER_DAY
    return replace(alone, paid_at=begin + days * SECONDS_PER_DAY + SECONDS_PER_DAY // 2)


def _unknown_kind(alone: PackedFolds) -> PackedFolds:
    """As if nothing were known of what was paid for, how, and to whom."""
    for field in ("category", "channel", "description", "merchant_name"):
        alone = blank(alone, field)  # type: ignore[arg-type]
    return alone
