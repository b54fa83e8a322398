"""From one night's folds to the next: what arrived is added, what left the window expires.

A fold keeps what the next night needs, but for users of whom a cap dropped payments and for payments that
tie to the second with a later arrival. Those few are folded from their payments again, so that the result
equals a full fold in every bit.
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


def next_folds(
    folds: pa.Table,
    arrived: PaymentRows,
    changed_users: Iterable[str],
    payments_of: Callable[[pa.StringArray], PaymentRows],
    as_of: date,
    config: FoldConfig,
) -> tuple[pa.Table, int]:
    """The folds as of a day, from those of an earlier or the same day.

    Args:
        folds: FOLD_COLUMNS of one day, a row a user, in rising order of user_id.
        arrived: in `order`, every payment of the new window that the folds could not know: paid at or
            after their day, or delivered since they were made.
        changed_users: users of whom a payment was changed or deleted since.
        payments_of: gives all payments of the new window of some users, in `order`.
        as_of: the new day, not before the folds' own.
        config: the configuration that the folds were made with.

    Returns:
        What `fold_days` makes of all payments; and how many users were folded from their payments again.
    """
    again = set(changed_users)
    kept = rows_of_folds(folds)
    cut_off = np.flatnonzero(folds["payments_dropped"].to_numpy() > 0)
    again.update(folds["user_id"].take(pa.array(cut_off)).to_pylist())
    kept = kept.take(kept.paid_us >= (day_number(as_of) - config.window_days) * DAY_US)
    rows = kept.concat(arrived)
    is_new = np.arange(len(rows)) >= len(kept)
    order = rows.to_the_second().order()
    again.update(rows.users.take(pa.array(_doubtful(rows, order, is_new, config))).to_pylist())
    if again:
        users = pa.array(sorted(again), pa.string())
        untouched = ~pc.is_in(rows.users, users).to_numpy(zero_copy_only=False)
        rows = rows.take(order[untouched[rows.user[order]]]).concat(payments_of(users))
        # Both sides are in order and no user is on both, so that seconds and microseconds do not meet.
        order = np.argsort(rows.user, kind="stable")
    (tonight,) = fold_days(rows.take(order), [as_of], config)
    return tonight, len(again)


def rows_of_folds(folds: pa.Table) -> PaymentRows:
    """The payments that folds keep, in `order`, to the second.

    A payment carries its merchant's name and category text, which are those of the merchant's latest:
    only the latest payment's are ever read.
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


def _doubtful(
    rows: PaymentRows, order: NDArray[np.int64], is_new: NDArray[np.bool_], config: FoldConfig
) -> NDArray[np.int64]:
    """Users whose fold seconds alone cannot settle: a kept payment ties with a new one, or merchants compete."""
    user, merchant = rows.user[order], rows.merchant[order]
    second, new = rows.paid_us[order] // 1_000_000, is_new[order]
    same_merchant = (user[1:] == user[:-1]) & (merchant[1:] == merchant[:-1])
    ties = same_merchant & (second[1:] == second[:-1]) & (new[1:] != new[:-1])
    opens = np.ones(len(user), dtype=np.bool_)
    opens[1:] = ~same_merchant
    doubtful = np.bincount(user[opens], minlength=len(rows.users)) > config.max_merchants
    doubtful[user[1:][ties]] = True
    return np.flatnonzero(doubtful)


def _flat(folds: pa.Table, name: str) -> pa.Array:
    """The values of a list column, one after the other."""
    return folds[name].combine_chunks().flatten()
