"""Reduced views of packed folds: a shorter history, a field left out, payments not folded by merchant."""

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
    """The part of each fold that a model reads; by default all of it.

    Attributes:
        days: only payments of this many days before as_of; None: all.
        without: a field that is made equal for all payments; None: no field.
        unfolded: one chronological sequence per user instead of one per merchant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int | None = Field(default=None, gt=0)
    without: PaymentField | None = None
    unfolded: bool = False

    def of(self, packed: PackedFolds) -> PackedFolds:
        """Return this view of the folds."""
        if self.days is not None:
            packed = last_days(packed, self.days)
        if self.without is not None:
            packed = blank(packed, self.without)
        return unfold(packed) if self.unfolded else packed


def last_days(packed: PackedFolds, days: int) -> PackedFolds:
    """Shorten the window to `days`. Equal to folding with that window if the caps dropped nothing."""
    return keep_payments(packed, packed.paid_at >= packed.as_of[packed.user_of_payment] - days * SECONDS_PER_DAY)


def keep_payments(packed: PackedFolds, keep: npt.NDArray[np.bool_]) -> PackedFolds:
    """Keep the chosen payments, (P,) bool, and drop merchants that lose all of theirs."""
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
    """Return the merchants at these positions, (R,), as R users with one merchant each; without labels."""
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
    """Make one field equal for all payments. The payments keep their order, even without their times."""
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
    """Turn each fold into one chronological sequence, as if all payments had been made to one merchant.

    The words of the merchant's name are put before those of the payment's description, so that the merchant is not
    lost. Payments of the same second stay in the order of their merchants.
    """
    merchant, user = packed.merchant_of_payment, packed.user_of_payment
    order = np.lexsort((packed.paid_at, user))
    names = gather_segments(packed.merchant_token_len, merchant[order])
    columns = _payments(packed, order)
    name_len, own_len = packed.merchant_token_len[merchant[order]], columns["description_token_len"]
    count = np.bincount(user, minlength=len(packed))
    has_payments = (count > 0).astype(np.int64)
    lengths = name_len + own_len
    words = np.empty(int(lengths.sum()), np.int64)
    of_name = np.repeat(np.tile([True, False], len(lengths)), np.stack([name_len, own_len], axis=1).ravel())
    words[of_name], words[~of_name] = packed.merchant_token[names], columns["description_token"]
    return replace(
        packed,
        merchant_count=has_payments,
        merchant_len=count[has_payments > 0],
        merchant_token_len=np.zeros(int(has_payments.sum()), np.int64),
        merchant_token=np.zeros(0, np.int64),
        **{**columns, "description_token_len": lengths, "description_token": words},
    )


def _payments(packed: PackedFolds, chosen: Ints) -> dict[str, Ints]:
    """Return the payment columns of the chosen payments."""
    return {
        **{name: getattr(packed, name)[chosen] for name in ("paid_at", "amount_cents", "category", "channel")},
        "description_token_len": packed.description_token_len[chosen],
        "description_token": packed.description_token[gather_segments(packed.description_token_len, chosen)],
    }
