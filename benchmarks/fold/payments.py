"""Fast generator of random payments with the payments table's columns, without the simulator's behaviour.

Users differ widely in activity. Each has a few dozen merchants, some of which are visited often, and every
merchant has a name and a category. Times are whole seconds, as in most sources. One payment in a hundred
is a refund.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FIRST_DAY = date(2025, 1, 1)
DAY_SECONDS = 86_400
START_SECONDS = (FIRST_DAY - date(1970, 1, 1)).days * DAY_SECONDS
USER_DAYS = 180  # the days over which a user makes `per_user` payments
MERCHANTS = 50_000
CATEGORIES = 60
DESCRIPTIONS = 4_000
FAVOURITES = 40
_WORDS = np.array(("order", "card", "market", "fuel", "rent", "bakery", "online", "ticket", "repair", "refund", "gift"))
_FOUR_DIGITS = np.array([list(f"{number:04d}".encode()) for number in range(10_000)], np.uint8)


@dataclass(frozen=True)
class Shape:
    """The distribution of random payments.

    Attributes:
        per_user: mean payments per user in 180 days.
        days: number of days, from 2025-01-01 on.
        heavy_user_payments: payments of user 0; 0: user 0 is like any other.
        shared_merchant: whether half of all users have merchant 0 as their favourite.
    """

    per_user: float = 100.0
    days: int = 181
    heavy_user_payments: int = 0
    shared_merchant: bool = False

    def users(self, payments: int) -> int:
        """Return the number of users that make about this number of payments."""
        others = max(payments - self.heavy_user_payments, 0)
        return max(round(others / (self.per_user * self.days / USER_DAYS)), 1) + (self.heavy_user_payments > 0)


@dataclass(frozen=True)
class Drawn:
    """n payments, sorted by user and time.

    Attributes:
        users: ids of users, ascending.
        user: index into users.
        seconds: since 1970-01-01 UTC.
        merchant: index into MERCHANT_IDS.
        cents: amount; negative for refunds.
        description: index into DESCRIPTION_TEXTS.
        channel: index into CHANNELS.
        payment: number of the payment, unique over all buckets; not in the order of time.
    """

    users: pa.StringArray
    user: NDArray[np.int32]
    seconds: NDArray[np.int64]
    merchant: NDArray[np.int32]
    cents: NDArray[np.int64]
    description: NDArray[np.int32]
    channel: NDArray[np.int32]
    payment: NDArray[np.int64]

    @property
    def day(self) -> NDArray[np.int64]:
        """Return the days since FIRST_DAY, (n,)."""
        return (self.seconds - START_SECONDS) // DAY_SECONDS


def user_id(number: int) -> str:
    """Return the id of a user."""
    return f"user-{number:09d}"


def draw(users: NDArray[np.int64], shape: Shape, bucket: int) -> Drawn:
    """Generate the payments of a bucket's users; every call returns the same."""
    rng = np.random.default_rng((7, bucket))
    counts = rng.poisson(rng.gamma(1.2, shape.per_user * shape.days / USER_DAYS / 1.2, len(users)))
    if shape.heavy_user_payments:
        counts[users == 0] = shape.heavy_user_payments
    rows = int(counts.sum())
    user = np.repeat(np.arange(len(users), dtype=np.int32), counts)
    seconds = START_SECONDS + _rising_times(rng, counts, user, shape.days * DAY_SECONDS)
    # The k-th favourite of a user is a fixed pseudo-random merchant; low k are visited more.
    favourite = (rng.pareto(0.9, rows) * 2).astype(np.int64) % FAVOURITES
    number = users[user]
    merchant = (number * 7919 + favourite * 104_729 + favourite**2 * 31) % MERCHANTS
    if shape.shared_merchant:
        merchant[(favourite == 0) & (number % 2 == 0)] = 0
    description = rng.integers(0, DESCRIPTIONS, rows, dtype=np.int32)
    cents = np.exp(rng.standard_normal(rows, np.float32) * 1.1 + 7.5).astype(np.int64)
    cents[description % 100 == 0] *= -1
    return Drawn(
        users=pa.array([user_id(number) for number in users.tolist()]),
        user=user,
        seconds=seconds,
        merchant=merchant.astype(np.int32),
        cents=cents,
        description=description,
        channel=rng.integers(0, len(CHANNELS), rows, dtype=np.int32),
        # The numbers of nearby payments are swapped, so that a fold must use the id to order ties.
        payment=bucket * 10**9 + (np.arange(rows) ^ 5),
    )


def table_of(drawn: Drawn, rows: NDArray[np.int64]) -> pa.Table:
    """Return the payments at `rows`, with the columns of a file of the payments table."""
    seconds, merchant = drawn.seconds[rows], drawn.merchant[rows]
    return pa.table(
        {
            "payment_id": _ids(drawn.payment[rows]),
            "user_id": _take(drawn.users, drawn.user[rows]),
            "merchant_id": _take(MERCHANT_IDS, merchant),
            "paid_at": pa.array(seconds * 1_000_000, pa.timestamp("us", "UTC")),
            "paid_on": pa.array((seconds // DAY_SECONDS).astype(np.int32)).cast(pa.date32()),
            "amount": _decimals(drawn.cents[rows]),
            "currency": _constant("EUR", len(rows)),
            "category": _take(CATEGORY_TEXTS, merchant % CATEGORIES),
            "channel": _take(CHANNELS, drawn.channel[rows]),
            "merchant_name": _take(MERCHANT_NAMES, merchant),
            "description": _take(DESCRIPTION_TEXTS, drawn.description[rows]),
            "ingested_at": pa.repeat(pa.scalar(START_SECONDS * 1_000_000, pa.timestamp("us", "UTC")), len(rows)),
            "source": _constant("benchmark", len(rows)),
        }
    )


def _rising_times(
    rng: np.random.Generator, counts: NDArray[np.int64], user: NDArray[np.int32], end: int
) -> NDArray[np.int64]:
    """Draw uniform times in [0, end), ascending within a user, without sorting: cumulative exponential gaps, scaled."""
    # Each user has one gap more than payments; the last one reaches to `end`.
    gaps = np.cumsum(rng.standard_exponential(len(user) + len(counts)))
    last = np.cumsum(counts + 1) - 1
    begin = np.concatenate([[0.0], gaps[last[:-1]]])
    scale = end / (gaps[last] - begin)
    # The gaps of user u are preceded by the u last gaps of the users before.
    times = (gaps[np.arange(len(user)) + user] - begin[user]) * scale[user]
    seconds: NDArray[np.int64] = np.minimum(times.astype(np.int64), end - 1)
    return seconds


def _texts(count: int, words: int, seed: int) -> pa.Array:
    """Generate `count` distinct texts of `words` words and a number."""
    drawn = _WORDS[np.random.default_rng(seed).integers(0, len(_WORDS), (count, words))]
    return pa.array([f"{' '.join(row)} {number}" for number, row in enumerate(drawn)])


MERCHANT_NAMES = _texts(MERCHANTS, 2, 1)
DESCRIPTION_TEXTS = _texts(DESCRIPTIONS, 3, 2)
MERCHANT_IDS = pa.array([f"merchant-{number:06d}" for number in range(MERCHANTS)])
CATEGORY_TEXTS = pa.array([f"category {number}" for number in range(CATEGORIES)])
CHANNELS = pa.array(["pos", "online", "transfer", "cash"])


def _ids(numbers: NDArray[np.int64]) -> pa.Array:
    """Format payment ids, `p` and 16 digits, four digits at a time."""
    letters = np.empty((len(numbers), 17), np.uint8)
    letters[:, 0] = ord("p")
    for part in range(4):
        letters[:, 1 + 4 * part : 5 + 4 * part] = _FOUR_DIGITS[numbers // 10 ** (12 - 4 * part) % 10_000]
    offsets = np.arange(0, 17 * len(numbers) + 1, 17, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, pa.py_buffer(offsets), pa.py_buffer(letters)])


def _take(values: pa.Array, index: NDArray[np.int32]) -> pa.Array:
    """Take the values at `index`, dictionary-encoded; the dictionary has only those that occur, to keep files small."""
    occurs = np.zeros(len(values), np.bool_)
    occurs[index] = True
    code = np.cumsum(occurs, dtype=np.int32) - 1
    return pa.DictionaryArray.from_arrays(pa.array(code[index]), values.filter(pa.array(occurs)))


def _constant(text: str, rows: int) -> pa.Array:
    return _take(pa.array([text]), np.zeros(rows, np.int32))


def _decimals(cents: NDArray[np.int64]) -> pa.Array:
    """Convert cents to decimal(18, 2) without a loop."""
    words = np.stack([cents, cents >> 63], axis=1)
    return pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(words)])
