"""Hand-made features of packed folds: the aggregates that a risk analyst would count without a sequence model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lbsf.baselines.habits import habit_features
from lbsf.baselines.payments import Floats, UserPayments, ratio
from lbsf.folds.packed import Ints, PackedFolds

WINDOWS = (30, 60, 90, 180)
# Changes compare the last RECENT days with all days before them; these must be at least LEAST_BEFORE days.
RECENT = (30, 60)
LEAST_BEFORE = 10.0
MONTHS = 6
DAYS_A_MONTH = 30.0
WORD_DAYS = 60


@dataclass(frozen=True)
class Vocabulary:
    """The hash buckets that have features of their own, chosen on training folds only.

    Attributes:
        categories: the most frequent category buckets.
        channels: the most frequent channel buckets.
        words: the most frequent word buckets of descriptions.
        names: the most frequent word buckets of merchants' names.
    """

    categories: Ints
    channels: Ints
    words: Ints
    names: Ints

    @staticmethod
    def of(
        parts: Sequence[PackedFolds], categories: int = 32, channels: int = 8, words: int = 96, names: int = 96
    ) -> Vocabulary:
        """Select the most frequent buckets over the payments of all parts (names: over the merchants).

        Ties go to the smaller bucket.
        """
        return Vocabulary(
            _most_frequent([part.category for part in parts], categories),
            _most_frequent([part.channel for part in parts], channels),
            _most_frequent([part.description_token for part in parts], words),
            _most_frequent([part.merchant_token for part in parts], names),
        )


def aggregate_features(packed: PackedFolds, vocabulary: Vocabulary) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Compute aggregates of each user's payments.

    - For each window of the last 30, 60, 90 and 180 days: count, sum, mean, maximum and standard deviation of
      amounts, incoming money, spending relative to it, shares at night and at weekends, merchants, new merchants.
    - Counts and sums of 30-day months, and their trend.
    - For each category and channel of the vocabulary: counts and sums per window, mean amount, share at night, days
      since the last payment, and changes of the payment rate and of the amounts against the user's own past.
    - For each word of the vocabulary: its number of payments, over all time and over the last 60 days.
    - Habits: see lbsf.baselines.habits.

    Windows longer than a user's history give equal values; changes that need a longer history are NaN.

    Args:
        packed: folds of n users.
        vocabulary: the buckets that have features of their own.

    Returns:
        (n, f) float32 features, NaN for means over no payments; the f feature names.
    """
    payments = UserPayments(packed)
    columns: dict[str, Floats] = {"days_since_last": payments.youngest(), "history_days": payments.span}
    columns |= _windows(payments) | _months(payments) | habit_features(payments)
    columns |= _by_bucket("category", payments, packed.category, vocabulary.categories)
    columns |= _by_bucket("channel", payments, packed.channel, vocabulary.channels)
    columns |= _words(payments, vocabulary)
    with np.errstate(over="ignore"):
        return np.stack(list(columns.values()), axis=1).astype(np.float32), list(columns)


def _windows(payments: UserPayments) -> dict[str, Floats]:
    packed, columns = payments.packed, dict[str, Floats]()
    amount, users = payments.amount, payments.users
    first_age = payments.age[payments.first]
    last_age = payments.age[payments.first + packed.merchant_len - 1]
    for days in WINDOWS:
        inside = payments.age <= days
        user, paid = payments.user[inside], amount[inside]
        count, total = _count(user, users), _sum(user, paid, users)
        mean = ratio(total, count)
        largest = np.full(users, -np.inf)
        np.maximum.at(largest, user, paid)
        came_in = _sum(user, np.minimum(paid, 0), users)
        spent = total - came_in
        new = first_age <= days
        spent_new = _sum(user, np.maximum(paid, 0) * new[payments.merchant[inside]], users)
        columns |= {
            f"count_{days}": count,
            f"sum_{days}": total,
            f"mean_{days}": mean,
            f"max_{days}": np.where(count > 0, largest, np.nan),
            f"std_{days}": np.sqrt(ratio(_sum(user, (paid - mean[user]) ** 2, users), count)),
            f"night_share_{days}": ratio(_sum(user, payments.night[inside], users), count),
            f"weekend_share_{days}": ratio(_sum(user, payments.weekend[inside], users), count),
            # A merchant's payments are in order of time: its last one decides whether it was paid within the window.
            f"merchants_{days}": _count(payments.user_of_merchant[last_age <= days], users),
            f"merchants_new_{days}": _count(payments.user_of_merchant[new], users),
            f"spent_new_share_{days}": ratio(spent_new, spent),
            f"negative_count_{days}": _count(user[paid < 0], users),
            f"negative_sum_{days}": came_in,
            f"spent_per_income_{days}": ratio(spent, -came_in),
        }
    return columns


def _months(payments: UserPayments) -> dict[str, Floats]:
    """Compute counts and sums of the 30-day months before as_of, month 0 the newest, and their trends."""
    month = np.minimum(payments.age / DAYS_A_MONTH, MONTHS).astype(np.int64)
    cell, cells = payments.user * (MONTHS + 1) + month, payments.users * (MONTHS + 1)
    steps = np.arange(MONTHS) - (MONTHS - 1) / 2
    columns: dict[str, Floats] = {}
    for name, table in (("count", _count(cell, cells)), ("sum", _sum(cell, payments.amount, cells))):
        months = table.reshape(-1, MONTHS + 1)[:, :MONTHS]
        columns |= {f"month_{name}_{number}": months[:, number] for number in range(MONTHS)}
        # Least-squares slope per month, forward in time, relative to the user's own mean.
        slope, level = -(months @ steps) / np.sum(steps**2), np.mean(np.abs(months), axis=1)
        columns[f"month_{name}_trend"] = ratio(slope, level)
        columns[f"month_{name}_change"] = ratio(months[:, 0] - months[:, 1], level)
    return columns


def _by_bucket(kind: str, payments: UserPayments, values: Ints, buckets: Ints) -> dict[str, Floats]:
    """Compute aggregates of each user's payments in each bucket, all buckets in one pass over the payments."""
    code = _codes(values, buckets)
    known = np.flatnonzero(code < len(buckets))
    width = len(buckets)
    cell = payments.user[known] * width + code[known]
    age, amount, size = payments.age[known], payments.amount[known], payments.size[known]
    period = np.searchsorted(WINDOWS, age)  # 0 within the shortest window, len(WINDOWS) before the longest
    cells = payments.users * width

    def table(of: Floats | None) -> Floats:
        """Sum `of` (None: count) over each window and, last, over all payments: (windows + 1, n, width)."""
        at, cells_in_all = period * cells + cell, (len(WINDOWS) + 1) * cells
        sums = _count(at, cells_in_all) if of is None else _sum(at, of, cells_in_all)
        return np.asarray(np.cumsum(sums.reshape(len(WINDOWS) + 1, payments.users, width), axis=0))

    count, total, sizes = table(None), table(amount), table(size)
    youngest = np.full(cells, np.inf)
    np.minimum.at(youngest, cell, age)
    named = {
        "days_since_last": np.where(np.isfinite(youngest), youngest, np.nan).reshape(-1, width),
        "mean": ratio(total[-1], count[-1]),
        "night_share": ratio(_sum(cell, payments.night[known], cells).reshape(-1, width), count[-1]),
    }
    for number, days in enumerate(WINDOWS):
        named |= {f"count_{days}": count[number], f"sum_{days}": total[number]}
    for days in RECENT:
        late, before = count[WINDOWS.index(days)], count[-1] - count[WINDOWS.index(days)]
        days_before = payments.span[:, None] - days
        # Half a payment is added on both sides to keep the logarithm finite.
        rates = np.log(ratio((late + 0.5) / days, (before + 0.5) / np.maximum(days_before, LEAST_BEFORE)))
        named[f"rate_change_{days}"] = np.where(days_before >= LEAST_BEFORE, rates, np.nan)
        late_size = sizes[WINDOWS.index(days)]
        named[f"size_change_{days}"] = ratio(late_size, late) - ratio(sizes[-1] - late_size, before)
    return {
        f"{kind}_{bucket}_{name}": column[:, number]
        for number, bucket in enumerate(buckets)
        for name, column in named.items()
    }


def _words(payments: UserPayments, vocabulary: Vocabulary) -> dict[str, Floats]:
    """Count each word of the vocabulary in the user's descriptions and, once per payment, in merchants' names."""
    packed = payments.packed
    lately = (payments.age <= WORD_DAYS).astype(np.float64)
    counts = {"": np.ones_like(lately), f"_{WORD_DAYS}": lately}
    of_merchant = {
        name: np.bincount(payments.merchant, weight, len(packed.merchant_len)) for name, weight in counts.items()
    }
    columns: dict[str, Floats] = {}
    for kind, words, buckets, lengths, users, weights in (
        ("word", packed.description_token, vocabulary.words, packed.description_token_len, payments.user, counts),
        (
            "name",
            packed.merchant_token,
            vocabulary.names,
            packed.merchant_token_len,
            payments.user_of_merchant,
            of_merchant,
        ),
    ):
        code = _codes(words, buckets)
        known = np.flatnonzero(code < len(buckets))
        owner = np.repeat(np.arange(len(lengths)), lengths)[known]
        cell = users[owner] * len(buckets) + code[known]
        for name, weight in weights.items():
            table = _sum(cell, weight[owner], payments.users * len(buckets)).reshape(payments.users, len(buckets))
            columns |= {f"{kind}_{bucket}_count{name}": table[:, n] for n, bucket in enumerate(buckets)}
    return columns


def _codes(values: Ints, buckets: Ints) -> Ints:
    """Return the position of each value among the buckets, or len(buckets) if it is not among them."""
    largest = max(int(values.max(initial=0)), int(buckets.max(initial=0)))
    code_of = np.full(largest + 1, len(buckets), np.int64)
    code_of[buckets] = np.arange(len(buckets))
    codes: Ints = code_of[values]
    return codes


def _count(cell: Ints, cells: int) -> Floats:
    return np.bincount(cell, minlength=cells).astype(np.float64)


def _sum(cell: Ints, values: Floats, cells: int) -> Floats:
    return np.bincount(cell, values, minlength=cells).astype(np.float64)


def _most_frequent(parts: Sequence[Ints], most: int) -> Ints:
    """Return up to `most` values, the most frequent first; ties go to the smaller value."""
    counts = np.zeros(max((int(part.max(initial=0)) for part in parts), default=0) + 1, np.int64)
    for part in parts:
        counts += np.bincount(part, minlength=len(counts))
    buckets = np.flatnonzero(counts)
    chosen: Ints = buckets[np.argsort(-counts[buckets], kind="stable")[:most]].astype(np.int64)
    return chosen
