"""Fast generator of random examples: rows of the examples table with a label that can be learned.

Users differ in activity, visit some of their merchants often, and have more merchants the more payments they make.
A user's risk, which determines the label's probability, affects three things: the number of payments in risky
categories, the amounts of the last 60 days at the most visited merchant, and the time of day of all payments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lbsf.config.models import FoldConfig
from lbsf.folds.packed import LIST_COLUMNS, SECONDS_PER_DAY

AS_OF = date(2025, 7, 1)
END = (AS_OF - date(1970, 1, 1)).days * SECONDS_PER_DAY
MERCHANTS = 50_000
RISKY_CATEGORIES = 4
RECENT_DAYS = 60
LONG_LISTS = ("paid_at", "amount_cents")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """The size and seed of random examples.

    Attributes:
        users: number of users.
        per_user: median payments per user in the fold's window.
        seed: of the random generator.
    """

    users: int
    per_user: int
    seed: int

    @property
    def merchants(self) -> int:
        """Most merchants of a user: 40 at 250 payments, twice that at 1,000."""
        return min(round(2.5 * math.sqrt(self.per_user)), 128)


def draw(shape: Shape, fold: FoldConfig) -> pa.Table:
    """Generate rows of the examples table, with user_id, as_of, LIST_COLUMNS and label."""
    rng = np.random.default_rng((11, shape.seed, shape.per_user))
    risk = rng.standard_normal(shape.users)
    label = (rng.random(shape.users) < 1 / (1 + np.exp(1.5 - 2.0 * risk))).astype(np.int32)
    counts = np.maximum(rng.lognormal(np.log(shape.per_user), 0.5, shape.users), 1).astype(np.int64)
    user = np.repeat(np.arange(shape.users), counts)
    favourite = _favourites(rng, len(user), shape.merchants)
    days_before = _days_before(rng, risk[user], fold.window_days)
    # Sorted by user, merchant and time.
    order = np.lexsort((-days_before, favourite, user))
    user, favourite, days_before = user[order], favourite[order], days_before[order]
    merchant = (user * 7_919 + favourite * 104_729 + shape.seed) % MERCHANTS
    first = np.flatnonzero(np.r_[True, (np.diff(user) != 0) | (np.diff(favourite) != 0)])
    risky = rng.random(len(user)) < 0.02 * np.exp(0.6 * np.clip(risk[user], -3, 3))
    category = np.where(risky, merchant % RISKY_CATEGORIES, RISKY_CATEGORIES + merchant % 60)
    dearer = (favourite == 0) & (days_before < RECENT_DAYS)
    size = rng.normal(7.5, 1.0, len(user)) + np.where(dearer, 0.4 * risk[user], 0.0)
    merchant_words = np.full(len(first), 2)
    words = rng.integers(0, 5, len(user))
    columns = {
        "merchant_len": np.diff(np.r_[first, len(user)]),
        "merchant_token_len": merchant_words,
        "merchant_token": 1 + np.repeat(merchant[first], 2) * np.tile([1, 3], len(first)) % (fold.token_buckets - 1),
        "paid_at": END - np.ceil(days_before * SECONDS_PER_DAY).astype(np.int64),
        "amount_cents": np.exp(size).astype(np.int64) + 1,
        "category": 1 + category % (fold.category_buckets - 1),
        "channel": 1 + rng.integers(0, 4, len(user)) % (fold.channel_buckets - 1),
        "description_token_len": words,
        "description_token": 1 + (rng.pareto(1.0, int(words.sum())) * 50).astype(np.int64) % (fold.token_buckets - 1),
    }
    merchants = np.bincount(user[first], minlength=shape.users)
    lengths = {name: merchants if name.startswith("merchant") else counts for name in LIST_COLUMNS}
    lengths["merchant_token"] = 2 * merchants
    lengths["description_token"] = np.bincount(user, words, shape.users).astype(np.int64)
    return pa.table(
        {
            "user_id": pa.array([f"user-{number:07d}" for number in range(shape.users)]),
            "as_of": pa.array([AS_OF] * shape.users),
            **{name: _lists(columns[name], lengths[name], name in LONG_LISTS) for name in LIST_COLUMNS},
            "label": label,
        }
    )


def write(table: pa.Table, path: Path, row_group_users: int) -> str:
    """Write one Parquet file as Spark does, with Snappy, dictionaries and row groups; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_users, compression="snappy", store_schema=False)
    return str(path)


def _favourites(rng: np.random.Generator, payments: int, merchants: int) -> Ints:
    """Draw the merchant of each payment by a power law: the first gets about a tenth of them, later ones fewer."""
    share = np.cumsum(np.arange(1, merchants + 1) ** -0.8)
    return np.searchsorted(share / share[-1], rng.random(payments)).astype(np.int64)


def _days_before(rng: np.random.Generator, risk: Floats, window_days: int) -> Floats:
    """Draw each payment's days before as_of, more than 0; with higher risk it is later in the day."""
    days = rng.integers(0, window_days, len(risk))
    hour = np.clip(rng.normal(14.0 + 0.5 * risk, 4.0), 0.01, 23.99)
    return days + 1.0 - hour / 24.0


def _lists(values: Ints, lengths: Ints, long: bool) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.astype(np.int64 if long else np.int32)))
