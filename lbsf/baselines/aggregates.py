"""Plain aggregates of packed folds: what an analyst would count before any sequence model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lbsf.loading.packed import SECONDS_PER_DAY, Ints, PackedFolds

Floats = npt.NDArray[np.float64]

WINDOWS = (30, 90, 180)
MONTHS = 6
DAYS_A_MONTH = 30.0
NIGHT_HOURS = 6  # midnight to six, UTC


@dataclass(frozen=True)
class Vocabulary:
    """The hash buckets that are counted one by one, chosen on training folds alone.

    Attributes:
        categories: most frequent category buckets.
        channels: most frequent channel buckets.
    """

    categories: Ints
    channels: Ints

    @staticmethod
    def of(parts: Sequence[PackedFolds], categories: int = 32, channels: int = 8) -> Vocabulary:
        """The most frequent buckets of the payments of all parts; ties by bucket."""
        return Vocabulary(
            _most_frequent([part.category for part in parts], categories),
            _most_frequent([part.channel for part in parts], channels),
        )


def aggregate_features(packed: PackedFolds, vocabulary: Vocabulary) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Aggregates of each user's payments.

    Counts, sums, means, largest and spread of amounts, refunds, night share and merchants per window;
    30-day counts and sums with their trend; days since the last payment; and for each bucket of the
    vocabulary the counts and sums per window and the days since its last payment.

    Args:
        packed: folds of n users.
        vocabulary: buckets to count.

    Returns:
        (n, f) float32, NaN where there is nothing to take a mean of; f names.
    """
    view = _View(packed)
    columns: dict[str, Floats] = {"days_since_last": view.days_since_last(np.arange(packed.payments))}
    for window in WINDOWS:
        columns |= view.of_window(window)
    columns |= view.by_month()
    for kind, buckets, values in (
        ("category", vocabulary.categories, packed.category),
        ("channel", vocabulary.channels, packed.channel),
    ):
        for bucket in buckets:
            columns |= view.of_bucket(f"{kind}_{bucket}", np.flatnonzero(values == bucket))
    return np.stack(list(columns.values()), axis=1).astype(np.float32), list(columns)


class _View:
    """The payments of packed folds with their user, age and amount; sums by user over chosen positions."""

    def __init__(self, packed: PackedFolds):
        self.packed = packed
        self.users = len(packed)
        self.user_of_merchant = np.repeat(np.arange(self.users), packed.merchant_count)
        self.user = np.repeat(self.user_of_merchant, packed.merchant_len)
        self.age = (packed.as_of[self.user] - packed.paid_at) / SECONDS_PER_DAY
        self.amount = packed.amount_cents / 100.0
        self.night = packed.paid_at % SECONDS_PER_DAY < NIGHT_HOURS * 3_600

    def count(self, chosen: Ints) -> Floats:
        return np.bincount(self.user[chosen], minlength=self.users).astype(np.float64)

    def sum(self, chosen: Ints, values: Floats) -> Floats:
        return np.bincount(self.user[chosen], values[chosen], minlength=self.users).astype(np.float64)

    def days_since_last(self, chosen: Ints) -> Floats:
        youngest = np.full(self.users, np.inf)
        np.minimum.at(youngest, self.user[chosen], self.age[chosen])
        return np.where(np.isfinite(youngest), youngest, np.nan)

    def of_window(self, days: int) -> dict[str, Floats]:
        inside = np.flatnonzero(self.age <= days)
        count, total = self.count(inside), self.sum(inside, self.amount)
        largest = np.full(self.users, -np.inf)
        np.maximum.at(largest, self.user[inside], self.amount[inside])
        mean = _ratio(total, count)
        from_mean = self.amount - mean[self.user]
        # A merchant's payments rise in time: its last one says whether the window saw it.
        last = np.cumsum(self.packed.merchant_len) - 1
        seen = self.user_of_merchant[self.age[last] <= days]
        refund = inside[self.amount[inside] < 0]
        return {
            f"count_{days}": count,
            f"sum_{days}": total,
            f"mean_{days}": mean,
            f"max_{days}": np.where(count > 0, largest, np.nan),
            f"std_{days}": np.sqrt(_ratio(self.sum(inside, from_mean**2), count)),
            f"night_share_{days}": _ratio(self.count(inside[self.night[inside]]), count),
            f"merchants_{days}": np.bincount(seen, minlength=self.users).astype(np.float64),
            f"negative_count_{days}": self.count(refund),
            f"negative_sum_{days}": self.sum(refund, self.amount),
        }

    def by_month(self) -> dict[str, Floats]:
        """Counts and sums of 30-day months before as_of, month 0 the newest, and their trends."""
        month = np.minimum(self.age / DAYS_A_MONTH, MONTHS).astype(np.int64)
        columns: dict[str, Floats] = {}
        steps = np.arange(MONTHS) - (MONTHS - 1) / 2
        for name, values in (("count", np.ones_like(self.amount)), ("sum", self.amount)):
            months = [self.sum(np.flatnonzero(month == number), values) for number in range(MONTHS)]
            columns |= {f"month_{name}_{number}": column for number, column in enumerate(months)}
            # Least-squares slope per month, forward in time, relative to the user's own level.
            slope = -np.tensordot(steps, np.stack(months), axes=1) / np.sum(steps**2)
            level = np.mean(np.abs(months), axis=0)
            columns[f"month_{name}_trend"] = _ratio(slope, level)
            columns[f"month_{name}_change"] = _ratio(months[0] - months[1], level)
        return columns

    def of_bucket(self, name: str, chosen: Ints) -> dict[str, Floats]:
        columns = {f"{name}_days_since_last": self.days_since_last(chosen)}
        for days in WINDOWS:
            inside = chosen[self.age[chosen] <= days]
            columns[f"{name}_count_{days}"] = self.count(inside)
            columns[f"{name}_sum_{days}"] = self.sum(inside, self.amount)
        return columns


def _ratio(above: Floats, below: Floats) -> Floats:
    """above / below, NaN where below is 0."""
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below != 0)


def _most_frequent(parts: Sequence[Ints], most: int) -> Ints:
    buckets, counts = np.unique(np.concatenate(parts), return_counts=True)
    chosen: Ints = buckets[np.lexsort((buckets, -counts))[:most]].astype(np.int64)
    return chosen
