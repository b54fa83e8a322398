"""The merchant population: a pure function of the seed, the number of merchants and the number of days."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lbsf.synthetic.catalogue import CATEGORIES, FIRST_WORDS, SECOND_WORDS

# Shares of merchants that open, and that close, during the simulated days.
OPENING_SHARE = 0.15
CLOSING_SHARE = 0.15
# Shares of merchants with the category text "other", and with none: only their names and memos show the category.
VAGUE_SHARE = 0.08
NAMELESS_SHARE = 0.02


@dataclass(frozen=True)
class Merchants:
    """All merchants, ordered by category and, within a category, by descending popularity.

    Attributes:
        bounds: (categories + 1,) cumulative popularity at each category's first merchant.
        cumulative: (merchants,) cumulative popularity.
        opens, closes: (merchants,) first day that the merchant is open, and first day that it no longer is.
        successor: (merchants,) the merchant visited instead outside those days; it is always open.
        price: (merchants,) price level, about 1.
        ids, names, category_text: (merchants,) as written to the raw files.
    """

    bounds: NDArray[np.float64]
    cumulative: NDArray[np.float64]
    opens: NDArray[np.int64]
    closes: NDArray[np.int64]
    successor: NDArray[np.int64]
    price: NDArray[np.float64]
    ids: pa.StringArray
    names: pa.StringArray
    category_text: pa.StringArray

    def draw(self, category: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Choose a merchant of each category by popularity.

        Args:
            category: (n,) category codes.
            uniform: (n,) random numbers in [0, 1).

        Returns:
            (n,) indices of merchants.
        """
        low = self.bounds[category]
        high = self.bounds[category + 1]
        found = np.searchsorted(self.cumulative, low + uniform * (high - low), side="right")
        return np.asarray(np.minimum(found, len(self.cumulative) - 1))

    def open_on(self, merchant: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return each merchant, or its successor if it is not open on that day, (n,)."""
        closed = (day < self.opens[merchant]) | (day >= self.closes[merchant])
        return np.where(closed, self.successor[merchant], merchant)


@lru_cache(maxsize=1)
def make_merchants(seed: int, merchants: int, days: int) -> Merchants:
    """Draw the merchant population; the same arguments give the same merchants in every Spark task."""
    rng = np.random.default_rng([seed, 0])
    counts = _counts(merchants)
    category = np.repeat(np.arange(len(CATEGORIES)), counts)
    popularity = np.concatenate(
        [
            _popularity(rng, count, kind.concentration) / len(CATEGORIES)
            for kind, count in zip(CATEGORIES, counts, strict=True)
        ]
    )
    cumulative = np.cumsum(popularity)
    firsts = np.concatenate([[0], np.cumsum(counts)])
    bounds = np.concatenate([[0.0], cumulative[firsts[1:] - 1]])

    fate = rng.random(merchants)
    moment = rng.integers(1, days, merchants)
    # The three most popular merchants of each category neither open nor close: a large chain does not vanish.
    settled = np.arange(merchants) - firsts[category] < 3
    opens = np.where((fate < OPENING_SHARE) & ~settled, moment, 0)
    closes = np.where((fate > 1 - CLOSING_SHARE) & ~settled, moment, days)
    always = (opens == 0) & (closes == days)
    successor = np.arange(merchants)
    for code in range(len(CATEGORIES)):
        members = np.arange(firsts[code], firsts[code + 1])
        candidates = members[always[members]]
        weights = popularity[candidates] / popularity[candidates].sum()
        successor[members] = np.where(always[members], members, rng.choice(candidates, size=len(members), p=weights))

    text_kind = rng.random(merchants)
    text: list[str | None] = [
        None if u < NAMELESS_SHARE else "other" if u < NAMELESS_SHARE + VAGUE_SHARE else CATEGORIES[code].name
        for u, code in zip(text_kind, category, strict=True)
    ]
    return Merchants(
        bounds=bounds,
        cumulative=cumulative,
        opens=opens,
        closes=closes,
        successor=successor,
        price=np.exp(rng.normal(0, 0.25, merchants)),
        # Shuffled, so that an id does not reveal the category.
        ids=pa.array([f"M{number:07d}" for number in rng.permutation(merchants)]),
        names=pa.array(_names(rng, category)),
        category_text=pa.array(text, pa.string()),
    )


def _counts(merchants: int) -> NDArray[np.int64]:
    shares = np.array([kind.merchant_share for kind in CATEGORIES])
    counts: NDArray[np.int64] = np.maximum(6, np.floor(merchants * shares / shares.sum())).astype(np.int64)
    counts[np.argmax(counts)] += merchants - counts.sum()
    return np.asarray(counts)


def _popularity(rng: np.random.Generator, count: int, exponent: float) -> NDArray[np.float64]:
    """Draw the shares of `count` merchants in a category's visits, descending, by Zipf's law with noise."""
    weights = np.arange(1, count + 1) ** -exponent * np.exp(rng.normal(0, 0.3, count))
    weights = np.sort(weights)[::-1]
    return np.asarray(weights / weights.sum())


def _names(rng: np.random.Generator, category: NDArray[np.int64]) -> list[str]:
    first = rng.integers(0, len(FIRST_WORDS), len(category))
    second = rng.integers(0, len(SECOND_WORDS), len(category))
    last = rng.random(len(category))
    names = []
    for a, b, u, code in zip(first, second, last, category, strict=True):
        nouns = CATEGORIES[code].nouns
        names.append(" ".join(f"{FIRST_WORDS[a]} {SECOND_WORDS[b]} {nouns[int(u * len(nouns))]}".split()))
    return names
