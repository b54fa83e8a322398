"""The fold kernel: turns ordered payments into the lists of each (user, as_of).

It works in one process's memory, within a Spark task or without Spark. The result depends neither on the
order in which payments arrived nor on how users are distributed over calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lbsf.config.models import FoldConfig
from lbsf.folding.hashing import ragged_index
from lbsf.folding.rows import PaymentRows

DAY_US = 86_400_000_000
# Payments that are gathered at a time, so that folding many days needs no more memory than folding one.
CHUNK_PAYMENTS = 4_000_000


def day_number(day: date) -> int:
    """Return the days since 1970-01-01."""
    return (day - date(1970, 1, 1)).days


def fold_days(rows: PaymentRows, as_ofs: Sequence[date], config: FoldConfig) -> Iterator[pa.Table]:
    """Yield for each day the folds of the users with a payment in its window, sorted by user_id.

    Args:
        rows: payments sorted by `PaymentRows.order`; those outside a window are ignored.
        as_ofs: ends of windows, exclusive.
        config: window and caps.

    Yields:
        FOLD_COLUMNS, one row per user; lists have 32-bit offsets.
    """
    users = np.arange(len(rows.users))
    for as_of in as_ofs:
        yield fold_pairs(rows, users, np.full(len(users), day_number(as_of)), config, keep_empty=False)


def fold_pairs(
    rows: PaymentRows,
    users: NDArray[np.int64],
    as_ofs: NDArray[np.int64],
    config: FoldConfig,
    *,
    keep_empty: bool = True,
) -> pa.Table:
    """Fold p pairs of user and as_of, each from the user's payments in [as_of - window_days, as_of).

    Args:
        rows: payments sorted by `PaymentRows.order`.
        users: int64[p], index into rows.users.
        as_ofs: int64[p], days since 1970-01-01.
        config: window and caps. Of each merchant, the latest `max_payments_per_merchant` payments are kept
            (by paid_at, then payment_id). Of a fold's merchants, `max_merchants` are kept: first the
            `frequent_merchants` with the most payments (ties: the latest payment, then the smaller merchant_id),
            then those with the latest payment (ties: the smaller merchant_id).
        keep_empty: True: a pair without payments gets a fold with empty lists. False: it gets no fold.

    Returns:
        FOLD_COLUMNS, one row per pair, in the order of the pairs; lists have 32-bit offsets.
    """
    bounds = np.searchsorted(rows.user, np.arange(len(rows.users) + 1))
    # The payments of a pair are selected from all payments of its user.
    sizes = np.diff(bounds)[users]
    chunk = np.cumsum(sizes) // CHUNK_PAYMENTS
    cuts = [0, *(np.flatnonzero(np.diff(chunk)) + 1).tolist(), len(users)] if len(users) else [0, 0]
    tables = [
        _fold(rows, bounds[users[a:b]], sizes[a:b], users[a:b], as_ofs[a:b], config, keep_empty)
        for a, b in zip(cuts[:-1], cuts[1:], strict=True)
    ]
    return pa.concat_tables(tables).combine_chunks()


def _fold(
    rows: PaymentRows,
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    users: NDArray[np.int64],
    as_ofs: NDArray[np.int64],
    config: FoldConfig,
    keep_empty: bool,
) -> pa.Table:
    index = ragged_index(starts, sizes)
    pair = np.repeat(np.arange(len(users)), sizes)
    end = as_ofs[pair] * DAY_US
    paid_us = rows.paid_us[index]
    inside = (paid_us < end) & (paid_us >= end - config.window_days * DAY_US)
    index, pair, paid_us = index[inside], pair[inside], paid_us[inside]
    if not keep_empty:
        present = np.zeros(len(users), dtype=np.bool_)
        present[pair] = True
        users, as_ofs = users[present], as_ofs[present]
        pair = (np.cumsum(present) - 1)[pair]
    folds = len(users)

    # One element per (fold, merchant): `first` and `last` are the positions of its first and last payment.
    merchant = rows.merchant[index]
    opens = np.ones(len(index), dtype=np.bool_)
    opens[1:] = (pair[1:] != pair[:-1]) | (merchant[1:] != merchant[:-1])
    first = np.flatnonzero(opens)
    length = np.diff(first, append=len(index))
    last = first + length - 1
    fold_of_merchant = pair[first]
    keep_merchant = _kept_merchants(fold_of_merchant, length, paid_us[last], folds, config)
    from_last = np.repeat(last, length) - np.arange(len(index))
    keep = np.repeat(keep_merchant, length) & (from_last < config.max_payments_per_merchant)

    absolute = np.abs(rows.amount_cents[index])
    cents = _sum(absolute, pair, folds)
    cents_dropped = _sum(absolute[~keep], pair[~keep], folds)
    seen, kept = _count(pair, folds), _count(pair[keep], folds)
    merchants_seen, merchants_kept = _count(fold_of_merchant, folds), _count(fold_of_merchant[keep_merchant], folds)
    first_us = np.full(folds, np.iinfo(np.int64).max)
    np.minimum.at(first_us, fold_of_merchant, paid_us[first])
    history = np.where(seen > 0, as_ofs - first_us // DAY_US, 0)

    latest, index = index[last[keep_merchant]], index[keep]
    names = rows.name_words.of(rows.name[latest])
    descriptions = rows.description_words.of(rows.description[index])
    of_merchant, of_payment = _offsets(merchants_kept), _offsets(kept)
    return pa.table(
        {
            "user_id": rows.users.take(pa.array(users)),
            "as_of": pa.array(as_ofs.astype(np.int32)).cast(pa.date32()),
            "window_days": _constant(config.window_days, pa.int32(), folds),
            "fold_spec": _constant(config.spec, pa.string(), folds),
            "merchant_id": _lists(of_merchant, rows.merchants.take(pa.array(rows.merchant[latest]))),
            "merchant_name": _lists(of_merchant, rows.names.take(pa.array(rows.name[latest]))),
            "merchant_category": _lists(of_merchant, rows.categories.take(pa.array(rows.category_text[latest]))),
            "merchant_len": _lists(
                of_merchant, _int32(np.minimum(length[keep_merchant], config.max_payments_per_merchant))
            ),
            "merchant_token_len": _lists(of_merchant, pa.array(names.lengths)),
            "merchant_token": _lists(_offsets(names.lengths)[of_merchant], pa.array(names.buckets)),
            "paid_at": _lists(of_payment, pa.array(rows.paid_us[index] // 1_000_000)),
            "amount_cents": _lists(of_payment, pa.array(rows.amount_cents[index])),
            "category": _lists(of_payment, pa.array(rows.category[index])),
            "channel": _lists(of_payment, pa.array(rows.channel[index])),
            "description_token_len": _lists(of_payment, pa.array(descriptions.lengths)),
            "description_token": _lists(_offsets(descriptions.lengths)[of_payment], pa.array(descriptions.buckets)),
            "payments_kept": _int32(kept),
            "payments_dropped": _int32(seen - kept),
            "merchants_kept": _int32(merchants_kept),
            "merchants_dropped": _int32(merchants_seen - merchants_kept),
            "cents": pa.array(cents),
            "cents_dropped": pa.array(cents_dropped),
            "history_days": _int32(history),
        }
    )


def _kept_merchants(
    fold: NDArray[np.int64], payments: NDArray[np.int64], latest_us: NDArray[np.int64], folds: int, config: FoldConfig
) -> NDArray[np.bool_]:
    """Return a mask of the merchants that each fold keeps. Entries are sorted by fold, then by merchant_id."""
    kept = np.ones(len(fold), dtype=np.bool_)
    over = np.flatnonzero((_count(fold, folds) > config.max_merchants)[fold])
    if not len(over):
        return kept
    fold, payments, latest_us = fold[over], payments[over], latest_us[over]
    by_id = np.arange(len(over))
    frequent = _rank(fold, np.lexsort((by_id, -latest_us, -payments, fold))) < config.frequent_merchants
    by_priority = np.lexsort((by_id, -latest_us, ~frequent, fold))
    kept[over] = _rank(fold, by_priority) < config.max_merchants
    return kept


def _rank(group: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each element's rank, from 0, within its group. `order` sorts by group first; `group` is sorted."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
    return rank


def _count(group: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    return np.bincount(group, minlength=groups)


def _sum(values: NDArray[np.int64], group: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """Sum the values of each group; `group` is sorted. In integers, as a float could lose cents."""
    totals = np.zeros(groups, np.int64)
    if len(values):
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        totals[group[starts]] = np.add.reduceat(values, starts)
    return totals


def _offsets(lengths: NDArray[np.int64] | NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the position at which each list begins in the flat values, then the end. int32, as Spark requires."""
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise OverflowError(f"{offsets[-1]:,} values in one task's lists: raise storage.user_buckets")
    return offsets.astype(np.int32)


def _lists(offsets: NDArray[np.int32], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _int32(values: NDArray[np.int64] | NDArray[np.int32]) -> pa.Array:
    return pa.array(values.astype(np.int32))


def _constant(value: int | str, kind: pa.DataType, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), rows)
