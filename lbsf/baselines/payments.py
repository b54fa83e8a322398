"""The payments of packed folds, each with its user, merchant, age, amount and time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lbsf.folds.packed import SECONDS_PER_DAY, PackedFolds

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float64] | npt.NDArray[np.int64]

NIGHT_HOURS = 6  # midnight to six, UTC


class UserPayments:
    """P payments at M merchants of n users.

    Attributes:
        packed: the folds.
        users: n.
        user_of_merchant: (M,) int64, position of each merchant's user.
        merchant: (P,) int64, position of each payment's merchant.
        user: (P,) int64, position of each payment's user.
        first: (M,) int64, position of each merchant's first payment.
        age: (P,) days before as_of.
        amount: (P,) in the currency.
        size: (P,) log(1 + |amount|).
        night, weekend: (P,) 1.0 for payments at night, at weekends; UTC.
        span: (n,) age in days of the user's first payment, NaN without payments.
    """

    def __init__(self, packed: PackedFolds):
        self.packed = packed
        self.users = len(packed)
        self.user_of_merchant = packed.user_of_merchant
        self.merchant, self.user = packed.merchant_of_payment, packed.user_of_payment
        self.first = np.cumsum(packed.merchant_len) - packed.merchant_len
        self.age = (packed.as_of[self.user] - packed.paid_at) / SECONDS_PER_DAY
        self.amount = packed.amount_cents / 100.0
        self.size = np.log1p(np.abs(self.amount))
        day = packed.paid_at // SECONDS_PER_DAY
        self.night = (packed.paid_at - day * SECONDS_PER_DAY < NIGHT_HOURS * 3_600).astype(np.float64)
        # 1970-01-01 was a Thursday: weekday 3 where Monday is 0.
        self.weekend = ((day + 3) % 7 >= 5).astype(np.float64)
        # A merchant's payments are in order of time.
        span = np.full(self.users, -np.inf)
        np.maximum.at(span, self.user_of_merchant, self.age[self.first])
        self.span = np.where(np.isfinite(span), span, np.nan)

    def youngest(self) -> Floats:
        """Return the age in days of each user's last payment, (n,), NaN without payments."""
        age = np.full(self.users, np.inf)
        np.minimum.at(age, self.user_of_merchant, self.age[self.first + self.packed.merchant_len - 1])
        return np.where(np.isfinite(age), age, np.nan)


def ratio(above: Numbers, below: Numbers) -> Floats:
    """Return above / below, NaN where below is 0."""
    out = np.full(np.broadcast(above, below).shape, np.nan)
    return np.divide(above, below, out=out, where=below != 0)
