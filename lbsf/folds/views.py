"""Other views of the same packed folds: a shorter history, a field left out, payments not folded by merchant."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from lbsf.folds.packed import SECONDS_PER_DAY, Ints, PackedFolds, gather_segments

PaymentField = Literal["amount", "time", "category", "channel", "description", "merchant_name"]
FIELDS: tuple[PaymentField, ...] = get_args(PaymentField)


class View(BaseModel):
    """What a network is shown of each fold; by default all of it.

    Attributes:
        days: payments of the last so many days alone.
        without: a field that is blanked.
        unfolded: one chronological sequence a user instead of one a merchant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int | None = Field(default=None, gt=0)
    without: PaymentField | None = None
    unfolded: bool = False

    def of(self, packed: PackedFolds) -> PackedFolds:
        """The view of these folds."""
        if self.days is not None:
            packed = last_days(packed, self.days)
        if self.without is not None:
            packed = blank(packed, self.without)
        return unfold(packed) if self.unfolded else packed


def last_days(packed: PackedFolds, days: int) -> PackedFolds:
    """The folds of a window of `days`: what folding with that window gives wherever no cap cut the longer one."""
    return keep_payments(packed, packed.paid_at >= packed.as_of[packed.user_of_payment] - days * SECONDS_PER_DAY)


def keep_payments(packed: PackedFolds, keep: npt.NDArray[np.bool_]) -> PackedFolds:
    """The folds with the chosen payments alone, (P,) bool; merchants that lose all of theirs go too."""
    payments = np.flatnonzero(keep)
    left = np.bincount(packed.merchant_of_payment[payments], minlength=len(packed.merchant_len))
    merchants = np.flatnonzero(left)
    return replace(
        packed,
        merchant_count=np.bincount(packed.user_of_merchant[merchants], minlength=len(packed)),
        merchant_len=left[merchants],
        merchant_token_len=packed.merchant_token_len[merchants],
        merchant_token=packed.merchant_token[gather_segments(packed.merchant_token_len, merchants)],
        teacher=packed.teacher,
        **_payments(packed, payments),
    )


def merchants_alone(packed: PackedFolds, merchants: Ints) -> PackedFolds:
    """The merchants at these positions, (R,), as R users who paid nobody else."""
    return replace(
        packed,
        as_of=packed.as_of[packed.user_of_merchant[merchants]],
        merchant_count=np.ones(len(merchants), np.int64),
        merchant_len=packed.merchant_len[merchants],
        merchant_token_len=packed.merchant_token_len[merchants],
        merchant_token=packed.merchant_token[gather_segments(packed.merchant_token_len, merchants)],
        label=None,
        teacher=None,
        **_payments(packed, gather_segments(packed.merchant_len, merchants)),
    )


def blank(packed: PackedFolds, field: PaymentField) -> PackedFolds:
    """The folds with one field the same for all payments; their order stays, also without times."""
    if field == "amount":
        return replace(packed, amount_cents=np.zeros_like(packed.amount_cents))
    if field == "time":
        return replace(packed, paid_at=packed.as_of[packed.user_of_payment] - SECONDS_PER_DAY)
    if field == "category":
        return replace(packed, category=np.zeros_like(packed.category))
    if field == "channel":
        return replace(packed, channel=np.zeros_like(packed.channel))
    words = "merchant" if field == "merchant_name" else "description"
    lengths = getattr(packed, f"{words}_token_len")
    return replace(packed, **{f"{words}_token_len": np.zeros_like(lengths), f"{words}_token": np.zeros(0, np.int64)})


def unfold(packed: PackedFolds) -> PackedFolds:
    """One sequence a user, as if all payments had gone to one merchant.

    A payment's merchant is still told by its name: the name's words stand before the description's.
    Payments of one second keep the merchants' order.
    """
    merchant, user = packed.merchant_of_payment, packed.user_of_payment
    order = np.lexsort((packed.paid_at, user))
    names = gather_segments(packed.merchant_token_len, merchant[order])
    columns = _payments(packed, order)
    name_len, own_len = packed.merchant_token_len[merchant[order]], columns["description_token_len"]
    count = np.bincount(user, minlength=len(packed))
    there = (count > 0).astype(np.int64)
    lengths = name_len + own_len
    words = np.empty(int(lengths.sum()), np.int64)
    of_name = np.repeat(np.tile([True, False], len(lengths)), np.stack([name_len, own_len], axis=1).ravel())
    words[of_name], words[~of_name] = packed.merchant_token[names], columns["description_token"]
    return replace(
        packed,
        merchant_count=there,
        merchant_len=count[there > 0],
        merchant_token_len=np.zeros(int(there.sum()), np.int64),
        merchant_token=np.zeros(0, np.int64),
        **{**columns, "description_token_len": lengths, "description_token": words},
    )


def _payments(packed: PackedFolds, chosen: Ints) -> dict[str, Ints]:
    """The payment columns of the chosen payments."""
    return {
        **{name: getattr(packed, name)[chosen] for name in ("paid_at", "amount_cents", "category", "channel")},
        "description_token_len": packed.description_token_len[chosen],
        "description_token": packed.description_token[gather_segments(packed.description_token_len, chosen)],
    }
