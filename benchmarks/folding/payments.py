"""Payments in any number, quickly: the payments table's layout and columns, without the simulator's story.

Users differ widely in activity, each has a few dozen merchants of which some are visited often, and every
merchant has a name and a category. Times are whole seconds, as most sources deliver them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

START = np.datetime64("2025-01-01", "us").astype(np.int64)
DAY_US = 86_400_000_000
MERCHANTS = 50_000
CATEGORIES = 60
DESCRIPTIONS = 4_000
_WORDS = np.array(("order", "card", "market", "fuel", "rent", "bakery", "online", "ticket", "repair", "refund", "gift"))


def texts(count: int, words: int, seed: int) -> pa.Array:
    """`count` distinct texts of `words` words and a number."""
    rng = np.random.default_rng(seed)
    drawn = _WORDS[rng.integers(0, len(_WORDS), (count, words))]
    return pa.array([f"{' '.join(row)} {number}" for number, row in enumerate(drawn)])


MERCHANT_NAMES = texts(MERCHANTS, 2, 1)
DESCRIPTION_TEXTS = texts(DESCRIPTIONS, 3, 2)
MERCHANT_IDS = pa.array([f"merchant-{number:06d}" for number in range(MERCHANTS)])
CATEGORY_TEXTS = pa.array([f"category {number}" for number in range(CATEGORIES)])
CHANNELS = pa.array(["pos", "online", "transfer", "cash"])


def payments_of(users: np.ndarray, per_user: float, days: int, seed: int) -> pa.Table:
    """The payments of some users over `days` days, sorted by user and time.

    Args:
        users: int64 numbers of users.
        per_user: mean payments a user.
        days: length, from 2025-01-01 on.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(1.2, per_user / 1.2, len(users)))
    rows = int(counts.sum())
    user = np.repeat(np.arange(len(users)), counts)
    paid_at = START + rng.integers(0, days * 86_400, rows) * 1_000_000
    order = np.argsort(user * (days * 86_400 + 1) + (paid_at - START) // 1_000_000, kind="stable")
    paid_at = paid_at[order]
    # The k-th favourite of a user is a fixed pseudo-random merchant; low k are visited more.
    favourite = (rng.pareto(0.9, rows) * 2).astype(np.int64) % 40
    merchant = (users[user] * 7919 + favourite * 104_729 + favourite**2 * 31) % MERCHANTS
    cents = np.exp(rng.normal(7.5, 1.1, rows)).astype(np.int64)
    return pa.table(
        {
            "payment_id": pa.array(np.char.add("p", (np.arange(rows) + (seed << 24)).astype("U"))),
            "user_id": _take(pa.array([f"user-{number:09d}" for number in users]), user),
            "merchant_id": _take(MERCHANT_IDS, merchant),
            "paid_at": pa.array(paid_at, pa.timestamp("us", "UTC")),
            "amount": _cents(cents),
            "category": _take(CATEGORY_TEXTS, merchant % CATEGORIES),
            "channel": _take(CHANNELS, rng.integers(0, 4, rows)),
            "merchant_name": _take(MERCHANT_NAMES, merchant),
            "description": _take(DESCRIPTION_TEXTS, rng.integers(0, DESCRIPTIONS, rows)),
        }
    )


def _take(values: pa.Array, index: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), values)


def _cents(cents: np.ndarray) -> pa.Array:
    """decimal(18, 2) from int64 hundredths, without a loop."""
    words = np.zeros((len(cents), 2), np.int64)
    words[:, 0], words[:, 1] = cents, cents >> 63
    return pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(words)])
