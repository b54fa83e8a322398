"""Packed folds: many users' folds as a handful of flat arrays, with no padding and no nested lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lbsf.errors import InputError

Ints = npt.NDArray[np.int64]

SECONDS_PER_DAY = 86_400

# List columns of a folds or examples table that a batch needs.
LIST_COLUMNS = (
    "merchant_len",
    "merchant_token_len",
    "merchant_token",
    "paid_at",
    "amount_cents",
    "category",
    "channel",
    "description_token_len",
    "description_token",
)


@dataclass(frozen=True)
class PackedFolds:
    """Folds of n users with M merchants, P payments, W merchant words and D description words in all.

    Every array is flat; one level's lengths cut the next level's arrays, in order.

    Attributes:
        as_of: (n,) int64, end of each user's window, seconds since 1970-01-01 UTC.
        merchant_count: (n,) int64, merchants of each user; sums to M.
        merchant_len: (M,) int64, payments of each merchant; sums to P.
        merchant_token_len: (M,) int64, words of each merchant's name; sums to W.
        merchant_token: (W,) int64, hash buckets from 1.
        paid_at: (P,) int64, seconds since 1970-01-01 UTC, rising within a merchant.
        amount_cents: (P,) int64, hundredths of the currency.
        category: (P,) int64, hash buckets, 0 for null.
        channel: (P,) int64, hash buckets, 0 for null.
        description_token_len: (P,) int64, words of each description; sums to D.
        description_token: (D,) int64, hash buckets from 1.
        label: (n,) int64 0 or 1, or None where the outcome is unknown.
    """

    as_of: Ints
    merchant_count: Ints
    merchant_len: Ints
    merchant_token_len: Ints
    merchant_token: Ints
    paid_at: Ints
    amount_cents: Ints
    category: Ints
    channel: Ints
    description_token_len: Ints
    description_token: Ints
    label: Ints | None = None

    def __len__(self) -> int:
        return len(self.as_of)

    @property
    def payments(self) -> int:
        """P, the payments of all users together."""
        return len(self.paid_at)

    def take(self, users: Ints) -> PackedFolds:
        """The folds of the users at these positions, in this order.

        >>> two = PackedFolds.concat([_one_payment(10), _one_payment(20)])
        >>> two.take(np.array([1])).amount_cents.tolist()
        [20]
        """
        merchants = gather_ranges(self.merchant_count, users)
        payments = gather_ranges(self.merchant_len, merchants)
        merchant_words = gather_ranges(self.merchant_token_len, merchants)
        description_words = gather_ranges(self.description_token_len, payments)
        return PackedFolds(
            as_of=self.as_of[users],
            merchant_count=self.merchant_count[users],
            merchant_len=self.merchant_len[merchants],
            merchant_token_len=self.merchant_token_len[merchants],
            merchant_token=self.merchant_token[merchant_words],
            paid_at=self.paid_at[payments],
            amount_cents=self.amount_cents[payments],
            category=self.category[payments],
            channel=self.channel[payments],
            description_token_len=self.description_token_len[payments],
            description_token=self.description_token[description_words],
            label=None if self.label is None else self.label[users],
        )

    @staticmethod
    def concat(parts: Sequence[PackedFolds]) -> PackedFolds:
        """The folds of all parts, one after the other. Parts with and without labels do not mix."""
        if len(parts) == 1:
            return parts[0]
        columns = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(PackedFolds)
            if f.name != "label" or parts[0].label is not None
        }
        return PackedFolds(**columns)

    @staticmethod
    def from_arrow(rows: pa.RecordBatch | pa.Table) -> PackedFolds:
        """Packs rows of the folds or examples table.

        Args:
            rows: with the columns as_of and LIST_COLUMNS, and `label` where there is one.

        Raises:
            InputError: a list's length disagrees with the lengths that should cut it.
        """
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        table = table.combine_chunks()
        counts = _lengths(table.column("merchant_len"))
        packed = PackedFolds(
            as_of=_numpy(_array(table.column("as_of")).cast(pa.int32())) * SECONDS_PER_DAY,
            merchant_count=counts,
            label=_numpy(_array(table.column("label"))) if "label" in table.column_names else None,
            **{name: _flat(table.column(name)) for name in LIST_COLUMNS},
        )
        packed.check()
        return packed

    def check(self) -> None:
        """Raises InputError unless each level's lengths sum to the next level's size."""
        for lengths, name in (
            (self.merchant_count, "merchant_len"),
            (self.merchant_count, "merchant_token_len"),
            (self.merchant_len, "paid_at"),
            (self.merchant_len, "amount_cents"),
            (self.merchant_len, "category"),
            (self.merchant_len, "channel"),
            (self.merchant_len, "description_token_len"),
            (self.merchant_token_len, "merchant_token"),
            (self.description_token_len, "description_token"),
        ):
            if int(lengths.sum()) != len(getattr(self, name)):
                raise InputError(
                    f"folds are damaged: {name} has {len(getattr(self, name)):,} elements where "
                    f"{int(lengths.sum()):,} were announced for {len(self):,} users"
                )


def gather_ranges(lengths: Ints, chosen: Ints) -> Ints:
    """Positions of the elements of the chosen ranges, where range i has lengths[i] elements.

    >>> gather_ranges(np.array([2, 1, 3]), np.array([2, 0])).tolist()
    [3, 4, 5, 0, 1]
    """
    starts = np.cumsum(lengths) - lengths
    picked = lengths[chosen]
    ends = np.cumsum(picked)
    total = int(ends[-1]) if len(ends) else 0
    positions: Ints = np.arange(total, dtype=np.int64) + np.repeat(starts[chosen] - (ends - picked), picked)
    return positions


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def _numpy(array: pa.Array) -> Ints:
    values: Ints = array.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return values


def _lengths(column: pa.ChunkedArray) -> Ints:
    return _numpy(_array(column).value_lengths())


def _flat(column: pa.ChunkedArray) -> Ints:
    return _numpy(_array(column).flatten())


def _one_payment(amount_cents: int) -> PackedFolds:
    """One user with one payment, for the examples above."""
    one, none = np.ones(1, np.int64), np.zeros(0, np.int64)
    return PackedFolds(
        as_of=one * SECONDS_PER_DAY * 2,
        merchant_count=one,
        merchant_len=one,
        merchant_token_len=one * 0,
        merchant_token=none,
        paid_at=one * SECONDS_PER_DAY,
        amount_cents=one * amount_cents,
        category=one,
        channel=one,
        description_token_len=one * 0,
        description_token=none,
    )
