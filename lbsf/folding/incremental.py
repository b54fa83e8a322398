"""Incremental folds: the folds of a later day from existing ones, by adding new payments and dropping expired ones.

A fold contains all that the next fold needs, with two exceptions: a cap dropped some of the user's payments, or a
kept payment ties to the second with a new one. These few users are folded again from all their payments, so that the
result is identical to a full fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lbsf.config.models import FoldConfig
from lbsf.folding.cut import DAY_US, day_number, fold_days
from lbsf.folding.hashing import Words
from lbsf.folding.rows import PaymentRows, sorted_codes


def incremental_folds(
    folds: pa.Table,
    arrived: PaymentRows,
    changed_users: Iterable[str],
    payments_of: Callable[[pa.StringArray], PaymentRows],
    as_of: date,
    config: FoldConfig,
) -> tuple[pa.Table, int]:
    """Make the folds of a day from those of the same or an earlier day.

    Args:
        folds: FOLD_COLUMNS of one day, one row per user, sorted by user_id.
        arrived: every payment of the new window that the folds do not cover (paid on or
            after their day, or delivered after they were made), sorted by `PaymentRows.order`.
        changed_users: users with a payment that was changed or deleted since.
        payments_of: returns all payments of the given users in the new window, sorted by `PaymentRows.order`.
        as_of: the new day, not before that of the folds.
        config: the configuration that the folds were made with.

    Returns:
        The folds, equal to those that `fold_days` makes from all payments; and the number of users that were folded
        again from all their payments.
    """
    again = set(changed_users)
    kept = rows_of_folds(folds)
    truncated = np.flatnonzero(folds["payments_dropped"].to_numpy() > 0)
    again.update(folds["user_id"].take(pa.array(truncated)).to_pylist())
    kept = kept.take(kept.paid_us >= (day_number(as_of) - config.window_days) * DAY_US)
    rows = kept.concat(arrived)
    is_new = np.arange(len(rows)) >= len(kept)
    order = rows.to_the_second().order()
    again.update(rows.users.take(pa.array(_undecided_users(rows, order, is_new, config))).to_pylist())
    if again:
        users = pa.array(sorted(again), pa.string())
        untouched = ~pc.is_in(rows.users, users).to_numpy(zero_copy_only=False)
        rows = rows.take(order[untouched[rows.user[order]]]).concat(payments_of(users))
        # Both parts are sorted and share no user, so a stable sort by user is enough, although one part has times in
        # seconds and the other in microseconds.
        order = np.argsort(rows.user, kind="stable")
    (tonight,) = fold_days(rows.take(order), [as_of], config)
    return tonight, len(again)


def rows_of_folds(folds: pa.Table) -> PaymentRows:
    """Return the payments kept in folds, sorted by `PaymentRows.order`, with times in whole seconds.

    Each payment gets the name and category text of its merchant's latest payment; the fold reads only those of the
    latest one.
    """
    folds = folds.combine_chunks()
    merchant_len = _flat(folds, "merchant_len").to_numpy()
    merchants, merchant = sorted_codes(_flat(folds, "merchant_id"))
    payments = int(merchant_len.sum())
    entry = np.repeat(np.arange(len(merchant_len), dtype=np.int32), merchant_len)
    return PaymentRows(
        users=folds["user_id"].combine_chunks().cast(pa.string()),
        merchants=merchants,
        names=_flat(folds, "merchant_name"),
        name_words=Words(_flat(folds, "merchant_token_len").to_numpy(), _flat(folds, "merchant_token").to_numpy()),
        categories=_flat(folds, "merchant_category"),
        description_words=Words(
            _flat(folds, "description_token_len").to_numpy(), _flat(folds, "description_token").to_numpy()
        ),
        user=np.repeat(np.arange(folds.num_rows, dtype=np.int32), folds["payments_kept"].to_numpy()),
        merchant=merchant[entry],
        name=entry,
        category_text=entry,
        description=np.arange(payments, dtype=np.int32),
        paid_us=_flat(folds, "paid_at").to_numpy() * 1_000_000,
        amount_cents=_flat(folds, "amount_cents").to_numpy(),
        category=_flat(folds, "category").to_numpy(),
        channel=_flat(folds, "channel").to_numpy(),
    )


def _undecided_users(
    rows: PaymentRows, order: NDArray[np.int64], is_new: NDArray[np.bool_], config: FoldConfig
) -> NDArray[np.int64]:
    """Return the users whose fold needs more than whole seconds, as indices into rows.users.

    These are users with a kept payment that ties with a new one, or with more merchants than the cap.
    """
    user, merchant = rows.user[order], rows.merchant[order]
    second, new = rows.paid_us[order] // 1_000_000, is_new[order]
    same_merchant = (user[1:] == user[:-1]) & (merchant[1:] == merchant[:-1])
    ties = same_merchant & (second[1:] == second[:-1]) & (new[1:] != new[:-1])
    opens = np.ones(len(user), dtype=np.bool_)
    opens[1:] = ~same_merchant
    undecided = np.bincount(user[opens], minlength=len(rows.users)) > config.max_merchants
    undecided[user[1:][ties]] = True
    return np.flatnonzero(undecided)


def _flat(folds: pa.Table, name: str) -> pa.Array:
    """Return the concatenated values of a list column."""
    return folds[name].combine_chunks().flatten()
