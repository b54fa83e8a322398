"""Features of a user's habits: concentration of spending, regularity of recurring merchants, lateness of bills.

A recurring merchant has at least three payments. It is a bill if the median gap between its payments is about a
month and the user pays it on balance, and an income if it pays the user.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lbsf.baselines.payments import Floats, Numbers, UserPayments, ratio
from lbsf.folds.packed import SECONDS_PER_DAY, Ints

Bools = npt.NDArray[np.bool_]

RECENT_DAYS = 60
RECURRING = 3
MONTHLY = (24.0, 38.0)  # days
# A bill missed a month where a gap exceeds this multiple of the median gap.
MISSED = 1.6
# A merchant is silent if its last payment is more than two median gaps and a week ago.
SILENT_GAPS, SILENT_DAYS = 2.0, 7.0
TOP = (1, 3, 5)
SECOND_BITS = 36  # two thousand years; leaves room for 2**27 groups


def habit_features(payments: UserPayments) -> dict[str, Floats]:
    """Compute the habit features: name -> (n,) float64.

    - top{k}_share: share of spending at the k largest merchants. concentration: sum of the squared shares of all
      merchants (Herfindahl index).
    - once_share: share of merchants paid once. longest_silence: most days in a row without a payment, up to as_of.
    - recurring_*: number of recurring merchants; mean of their median gaps; longest gap in median gaps; number and
      share that are silent; change of the mean log gap and mean log amount in the last 60 days.
    - bill_*: number of bills; longest gap; days since the last payment beyond the median gap; missed months; lateness
      (days after the bill's earliest day of the month): mean, recent, before, maximum, standard deviation, change;
      change of the mean log amount.
    - income_*: number of incomes; days since the last payment beyond the median gap; change of the mean log amount.
    """
    spending = _concentration(payments) | {"longest_silence": _longest_silence(payments)}
    merchants = _RecurringMerchants(payments)
    return spending | merchants.recurring() | merchants.bills() | merchants.incomes()


def _concentration(payments: UserPayments) -> dict[str, Floats]:
    users, user = payments.users, payments.user_of_merchant
    merchants = len(user)
    spent = np.bincount(payments.merchant, np.maximum(payments.amount, 0), merchants)
    total = np.bincount(user, spent, users)
    largest_first = np.lexsort((-spent, user))
    first = np.cumsum(payments.packed.merchant_count) - payments.packed.merchant_count
    rank = np.arange(merchants) - first[user]  # user is in order, also after sorting
    columns = {
        f"top{most}_share": ratio(np.bincount(user, spent[largest_first] * (rank < most), users), total) for most in TOP
    }
    columns["concentration"] = ratio(np.bincount(user, spent**2, users), total**2)
    once = np.bincount(user, payments.packed.merchant_len == 1, users)
    columns["once_share"] = ratio(once, payments.packed.merchant_count)
    return columns


def _longest_silence(payments: UserPayments) -> Floats:
    before = payments.packed.as_of[payments.user] - payments.packed.paid_at
    user, before = _sorted_within(payments.user, before)
    # Seconds to the user's next payment or, for the last one, to as_of.
    silent = np.diff(before, prepend=0)
    newest = np.diff(user, prepend=-1) != 0
    silent[newest] = before[newest]
    longest = np.full(payments.users, np.nan)
    np.fmax.at(longest, user, silent / SECONDS_PER_DAY)
    return longest


class _RecurringMerchants:
    """R recurring merchants with their Q payments, and the gaps between successive payments of a merchant."""

    def __init__(self, payments: UserPayments):
        chosen = payments.packed.merchant_len >= RECURRING
        code = np.cumsum(chosen) - 1
        of_payment = chosen[payments.merchant]
        self.users = payments.users
        self.user = payments.user_of_merchant[chosen]  # (R,)
        self.size = len(self.user)
        self.merchant = code[payments.merchant[of_payment]]  # (Q,) of each payment
        self.paid_at = payments.packed.paid_at[of_payment]
        self.age, self.amount = payments.age[of_payment], payments.amount[of_payment]
        self.late = (self.age <= RECENT_DAYS).astype(np.float64)
        self.payment_size = payments.size[of_payment]
        self.later = np.flatnonzero(self.merchant[1:] == self.merchant[:-1]) + 1  # all but each merchant's first
        self.gap_merchant = self.merchant[self.later]
        gap = self.paid_at[self.later] - self.paid_at[self.later - 1]
        self.gap = gap / SECONDS_PER_DAY
        self.median = _medians(gap, self.gap_merchant, self.size) / SECONDS_PER_DAY
        last = np.append(np.flatnonzero(np.diff(self.merchant)), len(self.merchant) - 1)[: self.size]
        self.silence = self.age[last]
        monthly = (self.median >= MONTHLY[0]) & (self.median <= MONTHLY[1])
        balance = np.bincount(self.merchant, self.amount, self.size)
        self.is_bill, self.is_income = monthly & (balance > 0), monthly & (balance < 0)

    def recurring(self) -> dict[str, Floats]:
        everyone = np.ones(self.size, np.bool_)
        longest = self._max_by_merchant(self.gap)
        stretch = ratio(longest, self.median)
        silent = self.silence > SILENT_GAPS * self.median + SILENT_DAYS
        gap_change = self._change(np.log1p(self.gap), self.gap_merchant, self.late[self.later])
        count = self._sum_by_user(everyone, everyone)
        return {
            "recurring_count": count,
            "recurring_gap_mean": self._mean_by_user(self.median, everyone),
            "recurring_stretch_mean": self._mean_by_user(stretch, everyone),
            "recurring_stretch_max": self._max_by_user(stretch, everyone),
            "recurring_silent": self._sum_by_user(silent, everyone),
            "recurring_silent_share": ratio(self._sum_by_user(silent, everyone), count),
            "recurring_gap_change": self._mean_by_user(gap_change, everyone),
            "recurring_size_change": self._mean_by_user(self._size_change(), everyone),
        }

    def bills(self) -> dict[str, Floats]:
        bill, lateness = self.is_bill, self._lateness()
        overdue = self.silence - self.median
        missed = np.bincount(self.gap_merchant, self.gap > MISSED * self.median[self.gap_merchant], self.size)
        count = np.bincount(self.merchant, minlength=self.size)
        mean = ratio(np.bincount(self.merchant, lateness, self.size), count)
        square = np.bincount(self.merchant, (lateness - mean[self.merchant]) ** 2, self.size)
        drift = self._change(lateness, self.merchant, self.late)
        return {
            "bill_count": self._sum_by_user(bill, bill),
            "bill_gap_max": self._max_by_user(self._max_by_merchant(self.gap), bill),
            "bill_overdue_mean": self._mean_by_user(overdue, bill),
            "bill_overdue_max": self._max_by_user(overdue, bill),
            "bill_missed": self._sum_by_user(missed, bill),
            "bill_late_mean": self._mean_by_user(mean, bill),
            "bill_late_recent": self._mean_by_user(self._mean_where(lateness, self.merchant, self.late), bill),
            "bill_late_before": self._mean_by_user(self._mean_where(lateness, self.merchant, 1.0 - self.late), bill),
            "bill_late_max": self._max_by_user(np.nan_to_num(self._max_by_merchant(lateness, self.merchant)), bill),
            "bill_late_spread": self._mean_by_user(np.sqrt(ratio(square, count)), bill),
            "bill_drift_mean": self._mean_by_user(drift, bill),
            "bill_drift_max": self._max_by_user(drift, bill),
            "bill_size_change": self._mean_by_user(self._size_change(), bill),
        }

    def incomes(self) -> dict[str, Floats]:
        income = self.is_income
        return {
            "income_count": self._sum_by_user(income, income),
            "income_overdue_max": self._max_by_user(self.silence - self.median, income),
            "income_size_change": self._mean_by_user(self._size_change(), income),
        }

    def _lateness(self) -> Floats:
        """Return by how many days each payment is later in its month than the merchant's earliest one, (Q,)."""
        date = (self.paid_at // SECONDS_PER_DAY).astype("datetime64[D]")
        day = (date - date.astype("datetime64[M]")).astype(np.int64)
        # Steps of the day of the month are taken modulo 30, to -15 to 14, so that a change of month is not a jump.
        step = np.zeros(len(day), np.int64)
        step[self.later] = (day[self.later] - day[self.later - 1] + 15) % 30 - 15
        offset = np.cumsum(step)
        earliest = np.full(self.size, np.iinfo(np.int64).max)
        np.minimum.at(earliest, self.merchant, offset)
        return np.asarray(offset - earliest[self.merchant], np.float64)

    def _size_change(self) -> Floats:
        return self._change(self.payment_size, self.merchant, self.late)

    def _change(self, values: Floats, merchant: Ints, late: Floats) -> Floats:
        """Return the mean of the values in the last RECENT_DAYS less the mean before, (R,); NaN without either."""
        return self._mean_where(values, merchant, late) - self._mean_where(values, merchant, 1.0 - late)

    def _mean_where(self, values: Floats, merchant: Ints, weight: Floats) -> Floats:
        """Return each merchant's mean of the values with weight 1, (R,); NaN where there is none."""
        return ratio(np.bincount(merchant, values * weight, self.size), np.bincount(merchant, weight, self.size))

    def _max_by_merchant(self, values: Floats, merchant: Ints | None = None) -> Floats:
        """Return the largest of each merchant's values, by default of its gaps, (R,)."""
        most = np.full(self.size, np.nan)
        np.fmax.at(most, self.gap_merchant if merchant is None else merchant, values)
        return most

    def _sum_by_user(self, values: Numbers | Bools, chosen: Bools) -> Floats:
        return np.bincount(self.user[chosen], values[chosen], self.users).astype(np.float64)

    def _mean_by_user(self, values: Floats, chosen: Bools) -> Floats:
        """Return each user's mean over the chosen merchants, (n,), leaving NaN out."""
        known = chosen & ~np.isnan(values)
        return ratio(self._sum_by_user(values, known), np.bincount(self.user[known], minlength=self.users))

    def _max_by_user(self, values: Floats, chosen: Bools) -> Floats:
        most = np.full(self.users, np.nan)
        np.fmax.at(most, self.user[chosen], values[chosen])
        return most


def _medians(values: Ints, group: Ints, groups: int) -> Floats:
    """Return the median of each group's values, (groups,). `group` is sorted and no group is empty."""
    ordered = _sorted_within(group, values)[1]
    count = np.bincount(group, minlength=groups)
    first = np.cumsum(count) - count
    return np.asarray((ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2)


def _sorted_within(group: Ints, seconds: Ints) -> tuple[Ints, Ints]:
    """Sort by group, then by seconds (0 or more). Both are packed into one integer, so one sort is enough."""
    both = np.sort((group << SECOND_BITS) | seconds)
    return both >> SECOND_BITS, both & ((1 << SECOND_BITS) - 1)
