"""Payments as numeric columns. Each distinct text is coded, hashed and split into words once, not once per payment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lbsf.config.models import FoldConfig
from lbsf.errors import InputError
from lbsf.folding.hashing import Words, text_buckets, word_buckets

# The columns that the fold reads. payment_id is read only if payments tie.
PAYMENT_COLUMNS = ("user_id", "merchant_id", "paid_at", "amount", "category", "channel", "merchant_name", "description")
TEXT_COLUMNS = ("user_id", "merchant_id", "category", "channel", "merchant_name", "description")


@dataclass(frozen=True)
class PaymentRows:
    """n payments.

    Attributes:
        users: distinct user_id, sorted; may contain users without payments.
        merchants: distinct merchant_id, sorted; may contain merchants without payments.
        names: merchant names, '' for null.
        name_words: the words of `names`.
        categories: category texts, '' for null.
        description_words: the words of the distinct descriptions.
        user: int32[n], index into users.
        merchant: int32[n], index into merchants.
        name: int32[n], index into names.
        category_text: int32[n], index into categories.
        description: int32[n], index into description_words.
        paid_us: int64[n], microseconds since 1970-01-01 UTC.
        amount_cents: int64[n], hundredths of the currency.
        category: int32[n], hash bucket, 0 for null.
        channel: int32[n], hash bucket, 0 for null.
    """

    users: pa.StringArray
    merchants: pa.StringArray
    names: pa.StringArray
    name_words: Words
    categories: pa.StringArray
    description_words: Words
    user: NDArray[np.int32]
    merchant: NDArray[np.int32]
    name: NDArray[np.int32]
    category_text: NDArray[np.int32]
    description: NDArray[np.int32]
    paid_us: NDArray[np.int64]
    amount_cents: NDArray[np.int64]
    category: NDArray[np.int32]
    channel: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def from_payments(cls, payments: pa.Table, config: FoldConfig) -> Self:
        """Encode payments as numbers.

        Args:
            payments: PAYMENT_COLUMNS, texts plain or dictionary-encoded.
            config: hash sizes.

        Raises:
            InputError: a user, merchant, time or amount is missing.
        """
        for column in ("user_id", "merchant_id", "paid_at", "amount"):
            if missing := payments[column].null_count:
                raise InputError(f"table payments: {missing:,} payments have no {column}: remove or mend them")
        # One dictionary per column instead of one per row group.
        payments = payments.unify_dictionaries().combine_chunks()
        user, users = _codes(payments["user_id"])
        merchant, merchants = _codes(payments["merchant_id"])
        name, names = _codes(payments["merchant_name"])
        category, categories = _codes(payments["category"])
        channel, channels = _codes(payments["channel"])
        description, descriptions = _codes(payments["description"])
        users, user_rank = _ranked(users)
        merchants, merchant_rank = _ranked(merchants)
        return cls(
            users=users,
            merchants=merchants,
            names=names.fill_null(""),
            name_words=word_buckets(pl.Series(names), config.max_tokens, config.token_buckets),
            categories=categories.fill_null(""),
            description_words=word_buckets(pl.Series(descriptions), config.max_tokens, config.token_buckets),
            user=user_rank[user],
            merchant=merchant_rank[merchant],
            name=name,
            category_text=category,
            description=description,
            paid_us=payments["paid_at"].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy(),
            amount_cents=_cents(payments["amount"]),
            category=text_buckets(pl.Series(categories), config.category_buckets)[category],
            channel=text_buckets(pl.Series(channels), config.channel_buckets)[channel],
        )

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Return the payments at `index`, or where it is true; the lists of distinct texts are not reduced."""
        return replace(self, **{name: getattr(self, name)[index] for name in _ROW_FIELDS})

    def with_users(self, users: pa.StringArray) -> Self:
        """Return the same payments with `users` added to the list of users, with or without payments."""
        known, own, _ = _union(self.users, users)
        return replace(self, users=known, user=own[self.user])

    def concat(self, other: Self) -> Self:
        """Return these payments, then the other's."""
        users, own_user, other_user = _union(self.users, other.users)
        merchants, own_merchant, other_merchant = _union(self.merchants, other.merchants)
        shifts = {
            "name": len(self.names),
            "category_text": len(self.categories),
            "description": len(self.description_words),
        }
        columns = {
            name: np.concatenate([getattr(self, name), getattr(other, name) + np.int32(shifts.get(name, 0))])
            for name in _ROW_FIELDS
        }
        columns["user"] = np.concatenate([own_user[self.user], other_user[other.user]])
        columns["merchant"] = np.concatenate([own_merchant[self.merchant], other_merchant[other.merchant]])
        return type(self)(
            users=users,
            merchants=merchants,
            names=pa.concat_arrays([self.names, other.names]),
            name_words=self.name_words.concat(other.name_words),
            categories=pa.concat_arrays([self.categories, other.categories]),
            description_words=self.description_words.concat(other.description_words),
            **columns,
        )

    def order(self, payment_ids: Callable[[], pa.Array] | None = None) -> NDArray[np.int64]:
        """Return the indices that sort by user, merchant and time, int64[n].

        Args:
            payment_ids: returns the payment_id of all payments, n strings, by which ties are sorted; called only if
                there are ties. None: ties keep their order.
        """
        at = self.paid_us - (self.paid_us.min() if len(self) else 0)
        at = at if np.any(at % 1_000_000) else at // 1_000_000
        at_bits = int(at.max()).bit_length() if len(self) else 0
        group = self.user.astype(np.int64) * len(self.merchants) + self.merchant
        if (len(self.users) * len(self.merchants)).bit_length() + at_bits <= 63:
            # One integer key per row. The stable sort is fast, as rows mostly consist of sorted runs.
            order = np.argsort((group << at_bits) | at, kind="stable")
        else:
            order = np.lexsort((at, group))
        if payment_ids is None:
            return order
        tied = self.ties(order)
        if not tied.any():
            return order
        # Only tied rows are sorted again; each run of ties keeps its positions.
        positions = np.flatnonzero(tied)
        rows = order[positions]
        rank = pl.Series(payment_ids().take(pa.array(rows))).rank("ordinal").to_numpy()
        order[positions] = rows[np.lexsort((rank, at[rows], group[rows]))]
        return order

    def to_the_second(self) -> Self:
        """Return the same payments with their times truncated to whole seconds."""
        return replace(self, paid_us=self.paid_us // 1_000_000 * 1_000_000)

    def ties(self, order: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return a mask over the rows in this order: True if a neighbour has the same user, merchant and time."""
        same = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
        for name in ("paid_us", "merchant", "user"):
            values = getattr(self, name)[order]
            same &= values[1:] == values[:-1]
        tied = np.zeros(len(order), dtype=np.bool_)
        tied[1:] |= same
        tied[:-1] |= same
        return tied


_ROW_FIELDS = tuple(f.name for f in fields(PaymentRows) if str(f.type).startswith("NDArray"))


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], pa.StringArray]:
    """Return each text's index among the distinct texts, and the distinct texts, including null if it occurs."""
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode().combine_chunks()
    array = column.chunk(0) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
    if isinstance(array, pa.ChunkedArray):
        return np.empty(0, np.int32), pa.array([], pa.string())
    texts = array.dictionary.cast(pa.string())
    if not array.null_count:
        return array.indices.cast(pa.int32()).to_numpy(), texts
    codes = array.indices.cast(pa.int32()).fill_null(len(texts)).to_numpy()
    return codes, pa.concat_arrays([texts, pa.array([None], pa.string())])


def _ranked(texts: pa.StringArray) -> tuple[pa.StringArray, NDArray[np.int32]]:
    """Sort distinct texts by their bytes; return them and the rank of each."""
    order = pc.sort_indices(texts).to_numpy()
    rank = np.empty(len(texts), np.int32)
    rank[order] = np.arange(len(texts), dtype=np.int32)
    return texts.take(pa.array(order)), rank


def sorted_codes(texts: pa.StringArray) -> tuple[pa.StringArray, NDArray[np.int32]]:
    """Return the distinct texts, sorted, and each text's index among them."""
    encoded = texts.dictionary_encode()
    distinct, rank = _ranked(encoded.dictionary)
    return distinct, rank[encoded.indices.to_numpy()]


def _union(one: pa.StringArray, other: pa.StringArray) -> tuple[pa.StringArray, NDArray[np.int32], NDArray[np.int32]]:
    """Merge two sorted lists of texts; return the sorted union, and the index in it of each text of both lists."""
    texts, codes = sorted_codes(pa.concat_arrays([one, other]))
    return texts, codes[: len(one)], codes[len(one) :]


def _cents(amounts: pa.ChunkedArray) -> NDArray[np.int64]:
    """Convert decimal(18, 2) to cents. They fit into the low 64 of Arrow's 128 bits."""
    array = pa.concat_arrays(amounts.cast(pa.decimal128(18, 2)).chunks) if amounts.num_chunks else pa.array([])
    if not len(array):
        return np.empty(0, np.int64)
    words = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    return words[::2].copy()
