"""The fold itself, in one process's memory, over Arrow tables: sort once, cut into lists.

Runs inside Spark tasks and without Spark alike; its result does not depend on the order of the rows
or on how users are spread over calls.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from lbsf.config.models import FoldConfig
from lbsf.folding.hashing import text_buckets, word_buckets

# Rows of one payment each. A row without payment_id asks for a fold of its (user_id, as_of) even
# where no payment falls into the window.
KERNEL_INPUT = pa.schema(
    [
        ("user_id", pa.string()),
        ("as_of", pa.date32()),
        ("merchant_id", pa.string()),
        ("payment_id", pa.string()),
        ("paid_us", pa.int64()),  # microseconds since 1970-01-01 UTC
        ("amount_cents", pa.int64()),
        ("category", pa.string()),
        ("channel", pa.string()),
        ("merchant_name", pa.string()),
        ("description", pa.string()),
    ]
)


def fold_table(payments: pa.Table, config: FoldConfig) -> pa.Table:
    """Folds the payments of each (user_id, as_of); they must lie in its window already.

    Caps: of each merchant the latest `max_payments_per_merchant` payments are kept (by paid_us, then
    payment_id), of each fold the `max_merchants` merchants with the latest payment (ties: the smaller
    merchant_id).

    Args:
        payments: columns of KERNEL_INPUT, in any row order.
        config: caps and hash sizes.

    Returns:
        FOLDS columns, a row per (user_id, as_of), in rising order of both; lists have 32-bit offsets.
    """
    rows = pl.DataFrame(payments)
    # Nulls sort first, so a row without payment opens its fold.
    rows = rows.sort("user_id", "as_of", "merchant_id", "paid_us", "payment_id", nulls_last=False)
    opens_fold = _changes(rows["user_id"]) | _changes(rows["as_of"])
    keys = rows.select("user_id", "as_of").filter(pl.Series(opens_fold))
    folds = keys.height
    real = rows["payment_id"].is_not_null().to_numpy()
    fold_of_row = (np.cumsum(opens_fold) - 1)[real]
    rows = rows.filter(pl.Series(real))

    # One entry a (fold, merchant): `first` and `last` are its rows' indices.
    opens_merchant = _changes(rows["merchant_id"]) | (np.diff(fold_of_row, prepend=-1) != 0)
    first = np.flatnonzero(opens_merchant)
    length = np.diff(first, append=rows.height)
    last = first + length - 1
    fold_of_merchant = fold_of_row[first]
    keep_merchant = _latest(fold_of_merchant, rows["paid_us"].to_numpy()[last], config.max_merchants)

    rows_after = np.repeat(last, length) - np.arange(rows.height)
    keep_row = np.repeat(keep_merchant, length) & (rows_after < config.max_payments_per_merchant)
    seen, kept = _count(fold_of_row, folds), _count(fold_of_row[keep_row], folds)
    merchants_seen, merchants_kept = _count(fold_of_merchant, folds), _count(fold_of_merchant[keep_merchant], folds)

    merchants = rows[last[keep_merchant]]
    rows = rows.filter(pl.Series(keep_row))
    name_len, name_words = word_buckets(merchants["merchant_name"], config.max_tokens, config.token_buckets)
    text_len, text_words = word_buckets(rows["description"], config.max_tokens, config.token_buckets)
    of_merchant, of_row = _offsets(merchants_kept), _offsets(kept)
    return pa.table(
        {
            "user_id": _strings(keys["user_id"]),
            "as_of": keys["as_of"].to_arrow(),
            "window_days": _constant(config.window_days, pa.int32(), folds),
            "fold_spec": _constant(config.spec, pa.string(), folds),
            "merchant_id": _lists(of_merchant, _strings(merchants["merchant_id"])),
            "merchant_name": _lists(of_merchant, _strings(merchants["merchant_name"].fill_null(""))),
            "merchant_category": _lists(of_merchant, _strings(merchants["category"].fill_null(""))),
            "merchant_len": _lists(
                of_merchant, _int32(np.minimum(length[keep_merchant], config.max_payments_per_merchant))
            ),
            "merchant_token_len": _lists(of_merchant, _int32(name_len)),
            "merchant_token": _lists(_offsets(name_len)[of_merchant], _int32(name_words)),
            "paid_at": _lists(of_row, pa.array(rows["paid_us"].to_numpy() // 1_000_000)),
            "amount_cents": _lists(of_row, pa.array(rows["amount_cents"].to_numpy())),
            "category": _lists(of_row, _int32(text_buckets(rows["category"], config.category_buckets))),
            "channel": _lists(of_row, _int32(text_buckets(rows["channel"], config.channel_buckets))),
            "description_token_len": _lists(of_row, _int32(text_len)),
            "description_token": _lists(_offsets(text_len)[of_row], _int32(text_words)),
            "payments_kept": _int32(kept),
            "payments_dropped": _int32(seen - kept),
            "merchants_kept": _int32(merchants_kept),
            "merchants_dropped": _int32(merchants_seen - merchants_kept),
        }
    )


def _changes(values: pl.Series) -> NDArray[np.bool_]:
    """Whether each value differs from the one before; the first does."""
    changed: NDArray[np.bool_] = values.ne_missing(values.shift()).to_numpy().copy()
    changed[:1] = True
    return changed


def _latest(group: NDArray[np.int64], at: NDArray[np.int64], limit: int) -> NDArray[np.bool_]:
    """Marks the `limit` entries of each group with the largest `at`; ties: the first entry.

    `group` is in rising order.
    """
    order = np.lexsort((np.arange(len(group)), -at, group))
    # `order` permutes within groups only, so group[order] == group.
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    rank = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
    kept = np.empty(len(group), dtype=np.bool_)
    kept[order] = rank < limit
    return kept


def _count(group: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    return np.bincount(group, minlength=groups)


def _offsets(lengths: NDArray[np.int64] | NDArray[np.int32]) -> NDArray[np.int32]:
    """Where each list begins in the flat values, and the end. int32: Spark reads no 64-bit lists."""
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise OverflowError(f"{offsets[-1]:,} values in one task's lists: raise fold.partitions")
    return offsets.astype(np.int32)


def _lists(offsets: NDArray[np.int32], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _int32(values: NDArray[np.int64] | NDArray[np.int32]) -> pa.Array:
    return pa.array(values.astype(np.int32))


def _strings(values: pl.Series) -> pa.Array:
    # Polars hands over 64-bit or view strings; Spark's schema is 32-bit strings.
    return values.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())


def _constant(value: int | str, kind: pa.DataType, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), rows)
