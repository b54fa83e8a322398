"""Checksum of folds. It depends on their sequences, but not on the layout and order of the rows.

It is the sum, over all payments, of a hash of (user_id, merchant_id, position in the sequence, second, cents), with the
numbers of users, of (user, merchant) pairs and of payments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

BATCH_USERS = 4_096
_POSITION, _SECOND, _CENTS = (np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_SHIFT = np.uint64(29)


class Checksum(NamedTuple):
    """The counts, and the sum of the hashes modulo 2**64."""

    users: int = 0
    pairs: int = 0
    payments: int = 0
    hashes: int = 0

    def plus(self, other: Checksum) -> Checksum:
        """Return the checksum of two parts together; no user may be in both."""
        counts = (one + two for one, two in zip(self, other, strict=True))
        users, pairs, payments, hashes = counts
        return Checksum(users, pairs, payments, hashes % 2**64)

    def __str__(self) -> str:
        return f"{self.users:,} users, {self.pairs:,} pairs, {self.payments:,} payments, {self.hashes:016x}"


class Sequences(NamedTuple):
    """Folds as flat arrays: the merchants of each user in order, and the payments of each merchant in order.

    Attributes:
        user: (users,) hash of the user's id.
        merchants: (users,) number of merchants.
        merchant: (pairs,) hash of the merchant_id.
        lengths: (pairs,) number of payments.
        seconds: (payments,) since 1970-01-01 UTC.
        cents: (payments,) amount.
    """

    user: NDArray[np.uint64]
    merchants: NDArray[np.int64]
    merchant: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    seconds: NDArray[np.int64]
    cents: NDArray[np.int64]

    def checksum(self) -> Checksum:
        """Return the checksum of these users."""
        pair = _mixed(np.repeat(self.user, self.merchants) + _POSITION * self.merchant)
        first = np.cumsum(self.lengths) - self.lengths
        position = np.arange(len(self.seconds)) - np.repeat(first, self.lengths)
        hashes = _mixed(np.repeat(pair, self.lengths) + _POSITION * position.astype(np.uint64))
        hashes = _mixed(hashes + _SECOND * self.seconds.view(np.uint64) + _CENTS * self.cents.view(np.uint64))
        return Checksum(len(self.user), len(self.merchant), len(self.seconds), int(hashes.sum(dtype=np.uint64)))


def text_hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each text, which is the same in every process."""
    return pl.Series(texts.cast(pa.large_string())).hash(seed=7).to_numpy()


def checksum_of_nested(files: Iterable[Path]) -> Checksum:
    """Compute the checksum of files with nested lists.

    Args:
        files: Parquet files with user_id and merchants, a list of structs with merchant_id and payments, a list of
            structs with paid_at and amount.
    """
    payment = "merchants.list.element.payments.list.element"
    columns = ["user_id", "merchants.list.element.merchant_id", f"{payment}.paid_at", f"{payment}.amount"]
    return _total(files, columns, _nested)


def checksum_of_folds(files: Iterable[Path]) -> Checksum:
    """Compute the checksum of files of the folds table."""
    return _total(files, ["user_id", "merchant_id", "merchant_len", "paid_at", "amount_cents"], _folds)


def _total(files: Iterable[Path], columns: list[str], flat: Callable[[pa.RecordBatch], Sequences]) -> Checksum:
    """Sum the checksums of batches, so that folds of any size need little memory."""
    total = Checksum()
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(BATCH_USERS, columns=columns, use_threads=False):
            total = total.plus(flat(batch).checksum())
    return total


def _nested(batch: pa.RecordBatch) -> Sequences:
    merchants = batch.column("merchants")
    pairs = merchants.flatten()
    lists = pairs.field("payments")
    payments = lists.flatten()
    return Sequences(
        user=text_hashes(batch.column("user_id")),
        merchants=_lengths(merchants),
        merchant=text_hashes(pairs.field("merchant_id")),
        lengths=_lengths(lists),
        seconds=payments.field("paid_at").cast(pa.timestamp("us")).cast(pa.int64()).to_numpy() // 1_000_000,
        cents=_cents(payments.field("amount")),
    )


def _folds(batch: pa.RecordBatch) -> Sequences:
    return Sequences(
        user=text_hashes(batch.column("user_id")),
        merchants=_lengths(batch.column("merchant_id")),
        merchant=text_hashes(batch.column("merchant_id").flatten()),
        lengths=batch.column("merchant_len").flatten().to_numpy().astype(np.int64),
        seconds=batch.column("paid_at").flatten().to_numpy(),
        cents=batch.column("amount_cents").flatten().to_numpy(),
    )


def _lengths(lists: pa.Array) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = pc.list_value_length(lists).to_numpy().astype(np.int64)
    return lengths


def _cents(amounts: pa.Array) -> NDArray[np.int64]:
    """Convert decimal(18, 2) to cents, the low 64 of Arrow's 128 bits."""
    words = np.frombuffer(amounts.buffers()[1], np.int64)
    return words[2 * amounts.offset : 2 * (amounts.offset + len(amounts)) : 2].copy()


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of each word (the finaliser of SplitMix64)."""
    bits = (bits ^ (bits >> _SHIFT)) * _SECOND
    bits = (bits ^ (bits >> _SHIFT)) * _CENTS
    return bits ^ (bits >> _SHIFT)
