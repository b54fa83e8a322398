"""Packed folds: the folds of many users as a few flat arrays, without padding or nested lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

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

# The level of each array: it has one element per user, merchant, payment or word.
_LEVEL = {
    "as_of": "user",
    "merchant_count": "user",
    "merchant_len": "merchant",
    "merchant_token_len": "merchant",
    "merchant_token": "merchant_word",
    "paid_at": "payment",
    "amount_cents": "payment",
    "category": "payment",
    "channel": "payment",
    "description_token_len": "payment",
    "description_token": "description_word",
    "label": "user",
    "teacher": "user",
}
# Arrays that may be None.
_OPTIONAL = ("label", "teacher")


@dataclass(frozen=True)
class PackedFolds:
    """Folds of n users with M merchants, P payments, W merchant words and D description words in total.

    Every array is flat. The lengths of one level split the arrays of the next level, in order (compressed sparse row).

    Attributes:
        as_of: (n,) int64, end of each user's window, seconds since 1970-01-01 UTC.
        merchant_count: (n,) int64, merchants of each user; sums to M.
        merchant_len: (M,) int64, payments of each merchant; sums to P.
        merchant_token_len: (M,) int64, words of each merchant's name; sums to W.
        merchant_token: (W,) int64, hash buckets from 1.
        paid_at: (P,) int64, seconds since 1970-01-01 UTC, ascending within a merchant.
        amount_cents: (P,) int64, hundredths of the currency.
        category: (P,) int64, hash buckets, 0 for null.
        channel: (P,) int64, hash buckets, 0 for null.
        description_token_len: (P,) int64, words of each description; sums to D.
        description_token: (D,) int64, hash buckets from 1.
        label: (n,) int64 0 or 1, or None if the outcomes are unknown.
        teacher: (n,) float32, probability of default given by the teacher model (knowledge distillation), or None.
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
    teacher: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.as_of)

    @property
    def payments(self) -> int:
        """Return P, the number of payments of all users."""
        return len(self.paid_at)

    @cached_property
    def user_of_merchant(self) -> Ints:
        """Return the position of each merchant's user, (M,) int64."""
        return np.repeat(np.arange(len(self)), self.merchant_count)

    @cached_property
    def merchant_of_payment(self) -> Ints:
        """Return the position of each payment's merchant, (P,) int64."""
        return np.repeat(np.arange(len(self.merchant_len)), self.merchant_len)

    @cached_property
    def user_of_payment(self) -> Ints:
        """Return the position of each payment's user, (P,) int64."""
        return np.repeat(self.user_of_merchant, self.merchant_len)

    @property
    def payments_of_users(self) -> Ints:
        """Return the number of payments of each user, (n,) int64."""
        return np.diff(_ends(self.merchant_len)[_ends(self.merchant_count)])

    def take(self, users: Ints) -> PackedFolds:
        """Return the folds of the users at these positions, in this order.

        >>> two = PackedFolds.concat([_one_payment(10), _one_payment(20)])
        >>> two.take(np.array([1])).amount_cents.tolist()
        [20]
        """
        return PackedFolds.gather([self], np.zeros(len(users), np.int64), users)

    @staticmethod
    def gather(parts: Sequence[PackedFolds], part: Ints, users: Ints) -> PackedFolds:
        """Collect users from several parts without concatenating the parts.

        Args:
            parts: all with labels or all without, and likewise for the teacher.
            part: (k,) int64, the part that each wanted user is in.
            users: (k,) int64, the user's position in that part.

        Returns:
            The folds of the k users, in this order.
        """
        wanted = list(zip(part.tolist(), users.tolist(), strict=True))
        edges = [one._edges for one in parts]
        columns = {}
        for name, level in _LEVEL.items():
            values = [getattr(one, name) for one in parts]
            if values[0] is not None:
                # A user's elements are contiguous at every level, so they are copied as one slice.
                runs = [values[p][edges[p][level][u] : edges[p][level][u + 1]] for p, u in wanted]
                columns[name] = np.concatenate([values[0][:0], *runs])
        return PackedFolds(**columns)

    @cached_property
    def _edges(self) -> dict[str, list[int]]:
        """Return for every level the n + 1 positions at which the users' elements begin and the last user's end."""
        user = np.arange(len(self) + 1)
        merchant = _ends(self.merchant_count)
        payment = _ends(self.merchant_len)[merchant]
        edges = {
            "user": user,
            "merchant": merchant,
            "payment": payment,
            "merchant_word": _ends(self.merchant_token_len)[merchant],
            "description_word": _ends(self.description_token_len)[payment],
        }
        return {level: positions.tolist() for level, positions in edges.items()}

    @staticmethod
    def concat(parts: Sequence[PackedFolds]) -> PackedFolds:
        """Concatenate the folds of all parts: all with labels or all without, and likewise for the teacher."""
        if len(parts) == 1:
            return parts[0]
        columns = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(PackedFolds)
            if f.name not in _OPTIONAL or getattr(parts[0], f.name) is not None
        }
        return PackedFolds(**columns)

    @staticmethod
    def from_arrow(rows: pa.RecordBatch | pa.Table) -> PackedFolds:
        """Pack rows of the folds or examples table.

        Args:
            rows: with the columns as_of, LIST_COLUMNS and, optionally, `label`.

        Raises:
            InputError: a list's size disagrees with the lengths that split it.
        """
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        table = table.combine_chunks()
        counts = _lengths(table.column("merchant_len"))
        packed = PackedFolds(
            as_of=_numpy(_array(table.column("as_of")).cast(pa.int32())) * SECONDS_PER_DAY,
            merchant_count=counts,
            label=_numpy(_array(table.column("label"))) if "label" in table.column_names else None,
            teacher=None,
            **{name: _flat(table.column(name)) for name in LIST_COLUMNS},
        )
        packed.check()
        return packed

    def check(self) -> None:
        """Check that each level's lengths sum to the next level's size.

        Raises:
            InputError: they do not.
        """
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
                    f"{int(lengths.sum()):,} were expected for {len(self):,} users"
                )


def gather_segments(lengths: Ints, chosen: Ints) -> Ints:
    """Return the positions of the elements of the chosen segments, where segment i has lengths[i] elements.

    >>> gather_segments(np.array([2, 1, 3]), np.array([2, 0])).tolist()
    [3, 4, 5, 0, 1]
    """
    starts = np.cumsum(lengths) - lengths
    picked = lengths[chosen]
    ends = np.cumsum(picked)
    total = int(ends[-1]) if len(ends) else 0
    positions: Ints = np.arange(total, dtype=np.int64) + np.repeat(starts[chosen] - (ends - picked), picked)
    return positions


def _ends(lengths: Ints) -> Ints:
    """Return 0 and the end of each of r segments, (r + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths)])


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
    """Make the fold of one user with one payment, for the docstrings' examples."""
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
