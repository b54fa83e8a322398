"""Aggregates of a user's habits: where the money goes, how steady each merchant's beat is, how bills slip.

A recurring merchant has at least three payments. A bill is one of them whose median gap is about a month and to
which money goes; an income, from which money comes.
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
# A gap of more than so many usual ones: a month was missed.
MISSED = 1.6
# A merchant is silent when it was not paid for two usual gaps and a week.
SILENT_GAPS, SILENT_DAYS = 2.0, 7.0
TOP = (1, 3, 5)
SECOND_BITS = 36  # two thousand years; leaves room for 2**27 owners


def habit_features(payments: UserPayments) -> dict[str, Floats]:
    """(n,) columns by name.

    - top{k}_share, concentration: spending at the k best merchants, and the sum of squared shares of all.
    - once_share: of the merchants, those paid once. longest_silence: days without any payment, up to as_of.
    - recurring_*: their number; the mean median gap, and the longest gap in median gaps; how many are silent; how the
      mean gap (log) and the mean size (log) of the last 60 days differ from before.
    - bill_*: their number; the longest gap; days since the last payment beyond a usual gap; missed months; days later
      in the month than the bill was ever paid, by mean, lately, before, at most, with spread and drift.
    - income_*: their number; days beyond a usual gap; size change.
    """
    spread = _where_money_goes(payments) | {"longest_silence": _longest_silence(payments)}
    beat = _Beat(payments)
    return spread | beat.recurring() | beat.bills() | beat.incomes()


def _where_money_goes(payments: UserPayments) -> dict[str, Floats]:
    users, owner = payments.users, payments.user_of_merchant
    merchants = len(owner)
    spent = np.bincount(payments.merchant, np.maximum(payments.amount, 0), merchants)
    total = np.bincount(owner, spent, users)
    largest_first = np.lexsort((-spent, owner))
    first = np.cumsum(payments.packed.merchant_count) - payments.packed.merchant_count
    rank = np.arange(merchants) - first[owner]  # owner is in order, also after sorting
    columns = {
        f"top{most}_share": ratio(np.bincount(owner, spent[largest_first] * (rank < most), users), total)
        for most in TOP
    }
    columns["concentration"] = ratio(np.bincount(owner, spent**2, users), total**2)
    once = np.bincount(owner, payments.packed.merchant_len == 1, users)
    columns["once_share"] = ratio(once, payments.packed.merchant_count)
    return columns


def _longest_silence(payments: UserPayments) -> Floats:
    before = payments.packed.as_of[payments.user] - payments.packed.paid_at
    user, before = _sorted_within(payments.user, before)
    # To the user's next payment, and from the last one to as_of.
    silent = np.diff(before, prepend=0)
    newest = np.diff(user, prepend=-1) != 0
    silent[newest] = before[newest]
    longest = np.full(payments.users, np.nan)
    np.fmax.at(longest, user, silent / SECONDS_PER_DAY)
    return longest


class _Beat:
    """Recurring merchants: R of them, with their gaps."""

    def __init__(self, payments: UserPayments):
        chosen = payments.packed.merchant_len >= RECURRING
        code = np.cumsum(chosen) - 1
        of_payment = chosen[payments.merchant]
        self.users = payments.users
        self.user = payments.user_of_merchant[chosen]  # (R,)
        self.size = len(self.user)
        self.owner = code[payments.merchant[of_payment]]  # (Q,) of each payment
        self.paid_at = payments.packed.paid_at[of_payment]
        self.age, self.amount = payments.age[of_payment], payments.amount[of_payment]
        self.late = (self.age <= RECENT_DAYS).astype(np.float64)
        self.payment_size = payments.size[of_payment]
        self.later = np.flatnonzero(self.owner[1:] == self.owner[:-1]) + 1  # all but each merchant's first
        self.gap_owner = self.owner[self.later]
        gap = self.paid_at[self.later] - self.paid_at[self.later - 1]
        self.gap = gap / SECONDS_PER_DAY
        self.median = _medians(gap, self.gap_owner, self.size) / SECONDS_PER_DAY
        last = np.append(np.flatnonzero(np.diff(self.owner)), len(self.owner) - 1)[: self.size]
        self.silence = self.age[last]
        monthly = (self.median >= MONTHLY[0]) & (self.median <= MONTHLY[1])
        balance = np.bincount(self.owner, self.amount, self.size)
        self.is_bill, self.is_income = monthly & (balance > 0), monthly & (balance < 0)

    def recurring(self) -> dict[str, Floats]:
        everyone = np.ones(self.size, np.bool_)
        longest = self._most(self.gap)
        stretch = ratio(longest, self.median)
        silent = self.silence > SILENT_GAPS * self.median + SILENT_DAYS
        gap_change = self._change(np.log1p(self.gap), self.gap_owner, self.late[self.later])
        count = self._total(everyone, everyone)
        return {
            "recurring_count": count,
            "recurring_gap_mean": self._mean(self.median, everyone),
            "recurring_stretch_mean": self._mean(stretch, everyone),
            "recurring_stretch_max": self._max(stretch, everyone),
            "recurring_silent": self._total(silent, everyone),
            "recurring_silent_share": ratio(self._total(silent, everyone), count),
            "recurring_gap_change": self._mean(gap_change, everyone),
            "recurring_size_change": self._mean(self._size_change(), everyone),
        }

    def bills(self) -> dict[str, Floats]:
        bill, lateness = self.is_bill, self._lateness()
        overdue = self.silence - self.median
        missed = np.bincount(self.gap_owner, self.gap > MISSED * self.median[self.gap_owner], self.size)
        count = np.bincount(self.owner, minlength=self.size)
        mean = ratio(np.bincount(self.owner, lateness, self.size), count)
        square = np.bincount(self.owner, (lateness - mean[self.owner]) ** 2, self.size)
        drift = self._change(lateness, self.owner, self.late)
        return {
            "bill_count": self._total(bill, bill),
            "bill_gap_max": self._max(self._most(self.gap), bill),
            "bill_overdue_mean": self._mean(overdue, bill),
            "bill_overdue_max": self._max(overdue, bill),
            "bill_missed": self._total(missed, bill),
            "bill_late_mean": self._mean(mean, bill),
            "bill_late_recent": self._mean(self._part(lateness, self.owner, self.late), bill),
            "bill_late_before": self._mean(self._part(lateness, self.owner, 1.0 - self.late), bill),
            "bill_late_max": self._max(np.nan_to_num(self._most(lateness, self.owner)), bill),
            "bill_late_spread": self._mean(np.sqrt(ratio(square, count)), bill),
            "bill_drift_mean": self._mean(drift, bill),
            "bill_drift_max": self._max(drift, bill),
            "bill_size_change": self._mean(self._size_change(), bill),
        }

    def incomes(self) -> dict[str, Floats]:
        income = self.is_income
        return {
            "income_count": self._total(income, income),
            "income_overdue_max": self._max(self.silence - self.median, income),
            "income_size_change": self._mean(self._size_change(), income),
        }

    def _lateness(self) -> Floats:
        """(Q,) days later in the month than the merchant was ever paid."""
        date = (self.paid_at // SECONDS_PER_DAY).astype("datetime64[D]")
        day = (date - date.astype("datetime64[M]")).astype(np.int64)
        # From payment to payment, the shorter way round the month: its turn is no leap, and drift adds up.
        step = np.zeros(len(day), np.int64)
        step[self.later] = (day[self.later] - day[self.later - 1] + 15) % 30 - 15
        offset = np.cumsum(step)
        earliest = np.full(self.size, np.iinfo(np.int64).max)
        np.minimum.at(earliest, self.owner, offset)
        return np.asarray(offset - earliest[self.owner], np.float64)

    def _size_change(self) -> Floats:
        return self._change(self.payment_size, self.owner, self.late)

    def _change(self, values: Floats, owner: Ints, late: Floats) -> Floats:
        """(R,) mean of the values of the last RECENT_DAYS less the mean of those before; NaN without either."""
        return self._part(values, owner, late) - self._part(values, owner, 1.0 - late)

    def _part(self, values: Floats, owner: Ints, weight: Floats) -> Floats:
        return ratio(np.bincount(owner, values * weight, self.size), np.bincount(owner, weight, self.size))

    def _most(self, values: Floats, owner: Ints | None = None) -> Floats:
        """(R,) the largest of each merchant's values, by default of its gaps."""
        most = np.full(self.size, np.nan)
        np.fmax.at(most, self.gap_owner if owner is None else owner, values)
        return most

    def _total(self, values: Numbers | Bools, chosen: Bools) -> Floats:
        return np.bincount(self.user[chosen], values[chosen], self.users).astype(np.float64)

    def _mean(self, values: Floats, chosen: Bools) -> Floats:
        """(n,) mean over each user's chosen merchants whose value is no NaN."""
        known = chosen & ~np.isnan(values)
        return ratio(self._total(values, known), np.bincount(self.user[known], minlength=self.users))

    def _max(self, values: Floats, chosen: Bools) -> Floats:
        most = np.full(self.users, np.nan)
        np.fmax.at(most, self.user[chosen], values[chosen])
        return most


def _medians(values: Ints, owner: Ints, owners: int) -> Floats:
    """The median of each owner's values, all owners having some; owner rising."""
    ordered = _sorted_within(owner, values)[1]
    count = np.bincount(owner, minlength=owners)
    first = np.cumsum(count) - count
    return np.asarray((ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2)


def _sorted_within(owner: Ints, seconds: Ints) -> tuple[Ints, Ints]:
    """Owners in rising order, and each owner's seconds, not below 0, in rising order: one sort of one number each."""
    both = np.sort((owner << SECOND_BITS) | seconds)
    return both >> SECOND_BITS, both & ((1 << SECOND_BITS) - 1)
