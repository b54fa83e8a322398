"""The fold once more, in plain Python over rows that are dicts; and generated payments to fold."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
from pyspark.sql import DataFrame, SparkSession

from lbsf.config.models import FoldConfig
from lbsf.schemas import PAYMENTS

Row = dict[str, Any]
DAY = timedelta(days=1)
BUCKETS = 2  # as small.SMALL has it
MICROSECOND = timedelta(microseconds=1)
# Small caps and hash sizes, so that generated payments meet every limit.
FOLD = FoldConfig(
    window_days=3,
    max_merchants=3,
    max_payments_per_merchant=2,
    category_buckets=7,
    channel_buckets=2,
    token_buckets=11,
    max_tokens=2,
    frequent_merchants=1,
    row_group_users=2,
    through_spark=False,
)
AS_OF = date(2025, 7, 1)
USERS = ("a", "b", "ü", "user with a long name", "unlabelled")


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def fold_of(payments: Iterable[Row], user_id: str, as_of: date, config: FoldConfig) -> Row:
    """The row of FOLDS that these payments should give."""
    end = midnight(as_of)
    seen: dict[str, list[Row]] = {}
    for p in sorted(payments, key=lambda p: (p["paid_at"], p["payment_id"])):
        if p["user_id"] == user_id and end - config.window_days * DAY <= p["paid_at"] < end:
            seen.setdefault(p["merchant_id"], []).append(p)
    newest_first = sorted(sorted(seen), key=lambda m: seen[m][-1]["paid_at"], reverse=True)
    frequent = sorted(newest_first, key=lambda m: -len(seen[m]))[: config.frequent_merchants]
    chosen = [*frequent, *(m for m in newest_first if m not in frequent)][: config.max_merchants]
    kept = {m: seen[m][-config.max_payments_per_merchant :] for m in sorted(chosen)}
    rows = [p for lists in kept.values() for p in lists]
    last = [lists[-1] for lists in kept.values()]
    names = [words(p["merchant_name"], config) for p in last]
    texts = [words(p["description"], config) for p in rows]
    return {
        "user_id": user_id,
        "as_of": as_of,
        "window_days": config.window_days,
        "fold_spec": config.spec,
        "merchant_id": list(kept),
        "merchant_name": [p["merchant_name"] or "" for p in last],
        "merchant_category": [p["category"] or "" for p in last],
        "merchant_len": [len(lists) for lists in kept.values()],
        "merchant_token_len": [len(name) for name in names],
        "merchant_token": [word for name in names for word in name],
        "paid_at": [int(p["paid_at"].replace(microsecond=0).timestamp()) for p in rows],
        "amount_cents": [int(p["amount"] * 100) for p in rows],
        "category": [bucket(p["category"], config.category_buckets) for p in rows],
        "channel": [bucket(p["channel"], config.channel_buckets) for p in rows],
        "description_token_len": [len(text) for text in texts],
        "description_token": [word for text in texts for word in text],
        "payments_kept": len(rows),
        "payments_dropped": sum(map(len, seen.values())) - len(rows),
        "merchants_kept": len(kept),
        "merchants_dropped": len(seen) - len(kept),
        "cents": sum(abs(int(p["amount"] * 100)) for lists in seen.values() for p in lists),
        "cents_dropped": sum(abs(int(p["amount"] * 100)) for lists in seen.values() for p in lists)
        - sum(abs(int(p["amount"] * 100)) for p in rows),
        "history_days": (end.date() - min(p["paid_at"] for lists in seen.values() for p in lists).date()).days
        if seen
        else 0,
    }


def bucket(text: str | None, buckets: int) -> int:
    return 0 if text is None else 1 + zlib.crc32(text.strip().lower().encode("utf-8")) % (buckets - 1)


def words(text: str | None, config: FoldConfig) -> list[int]:
    parts = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text or "").split()
    return [1 + zlib.crc32(w.lower().encode("utf-8")) % (config.token_buckets - 1) for w in parts[: config.max_tokens]]


NOON = midnight(AS_OF) - timedelta(hours=12)


def payment(number: int, user_id: str = "a", paid_at: datetime = NOON, **values: Any) -> Row:
    """A row of PAYMENTS, by default on the last day of AS_OF's window."""
    return {
        "payment_id": f"p{number}",
        "user_id": user_id,
        "merchant_id": "m",
        "paid_at": paid_at,
        "paid_on": paid_at.date(),
        "amount": Decimal("1.00"),
        "currency": "EUR",
        "category": None,
        "channel": None,
        "merchant_name": None,
        "description": None,
        "ingested_at": midnight(AS_OF),
        "source": "test",
        "paid_month": paid_at.date().replace(day=1),
        "user_bucket": zlib.crc32(user_id.encode()) % BUCKETS,
        **values,
    }


# Letters, marks, digits and what stands between words, in several scripts; İ and Σ change form in lower case.
TEXT = st.none() | st.text(alphabet="aB9 -_/\t·éßİΣσ日本क्षि²", max_size=12)
# Ties, window edges and their neighbours by a microsecond, for windows that end on several days.
INSTANTS = st.builds(
    lambda day, off: midnight(AS_OF) + day * DAY + off,
    st.integers(-6, 3),
    st.sampled_from(
        [-MICROSECOND, 0 * MICROSECOND, MICROSECOND, timedelta(hours=5), timedelta(hours=5, microseconds=7)]
    ),
)


def payments_strategy(max_size: int, min_size: int = 1, users: Sequence[str] = USERS) -> st.SearchStrategy[list[Row]]:
    rows = st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(users),
            "merchant_id": st.sampled_from(["m", "M", "n", "shop", "店"]),
            "paid_at": INSTANTS,
            "amount": st.decimals("-1000000", "1000000", places=2),
            "category": TEXT,
            "channel": TEXT,
            "merchant_name": TEXT,
            "description": TEXT,
        }
    )
    # Identifiers out of the order of time: a tie must not be broken by chance.
    return st.lists(rows, min_size=min_size, max_size=max_size).map(
        lambda drawn: [
            payment(7 * number % 10, **row) | {"payment_id": f"{7 * number % 10}-{number}"}
            for number, row in enumerate(drawn)
        ]
    )


def payments_frame(spark: SparkSession, rows: list[Row]) -> DataFrame:
    return spark.createDataFrame(rows, PAYMENTS.struct)


def pairs_frame(spark: SparkSession, pairs: Iterable[tuple[str, date]]) -> DataFrame:
    return spark.createDataFrame(list(pairs), "user_id string, as_of date")


def collect(folds: DataFrame) -> list[Row]:
    """The rows in the order of their keys."""
    return sorted((row.asDict() for row in folds.collect()), key=lambda row: (row["user_id"], row["as_of"]))
