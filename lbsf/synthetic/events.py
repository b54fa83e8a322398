"""The simulated payments of one chunk of users, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from lbsf.synthetic.catalogue import CATEGORIES, CHANNELS, REMINDER, hour_distribution

MEMOS = tuple(memo for kind in CATEGORIES for memo in kind.memos) + (REMINDER, "loan payout")
REMINDER_CODE = MEMOS.index(REMINDER)
PAYOUT_CODE = MEMOS.index("loan payout")
_FIRST_MEMO = np.cumsum([0] + [len(kind.memos) for kind in CATEGORIES])
_HOURS = np.stack([hour_distribution(kind.hours) for kind in CATEGORIES])
_CHANNELS = np.stack([np.cumsum(kind.channels) for kind in CATEGORIES])
_TRANSFER = CHANNELS.index("TRF")


@dataclass(frozen=True)
class Events:
    """Payments, every array (payments,).

    Attributes:
        user: index of the user within the chunk.
        merchant: index of the merchant.
        second: seconds since the first simulated midnight, UTC.
        cents: hundredths of the currency; negative for incoming payments.
        channel: index into CHANNELS.
        memo: index into MEMOS.
    """

    user: NDArray[np.int64]
    merchant: NDArray[np.int64]
    second: NDArray[np.int64]
    cents: NDArray[np.int64]
    channel: NDArray[np.int64]
    memo: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Events:
        """Return the payments at these positions, or where the mask is true."""
        return Events(*(getattr(self, f.name)[rows] for f in fields(self)))


def concatenate(parts: Sequence[Events]) -> Events:
    """Concatenate the payments of all parts."""
    return Events(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Events)))


def draw_hours(rng: np.random.Generator, category: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw an hour of the day for each payment, (n,), from its category's distribution."""
    hour = np.zeros(len(category), np.int64)
    uniform = rng.random(len(category))
    for edge in range(23):
        hour += uniform >= _HOURS[category, edge]
    return hour


def draw_seconds(rng: np.random.Generator, day: NDArray[np.int64], hour: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw an instant within each given hour of each given day: (n,) seconds since the first midnight."""
    return np.asarray(day * 86400 + hour * 3600 + rng.integers(0, 3600, len(day)))


def draw_channels(rng: np.random.Generator, category: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw a channel for each payment, (n,) indices into CHANNELS, from its category's distribution."""
    uniform = rng.random(len(category))
    channel = np.zeros(len(category), np.int64)
    for edge in range(_TRANSFER):
        channel += uniform >= _CHANNELS[category, edge]
    return channel


def draw_memos(rng: np.random.Generator, category: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw a purchase description of each payment's category: (n,) indices into MEMOS."""
    count = _FIRST_MEMO[category + 1] - _FIRST_MEMO[category]
    return np.asarray(_FIRST_MEMO[category] + np.floor(rng.random(len(category)) * count).astype(np.int64))


def to_cents(amount: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round amounts to whole cents, at least one."""
    return np.asarray(np.maximum(1, np.rint(amount * 100)).astype(np.int64))
