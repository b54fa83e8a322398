"""Rows of the folds table made by hand, and a small network to read them, for several tests."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.folds.packed import SECONDS_PER_DAY, PackedFolds
from lbsf.models.artifact import ModelCard, ThinFile
from lbsf.models.lbsf import LBSF

torch.set_num_threads(1)  # networks this small only lose time to threads

AS_OF = date(2025, 7, 1)
FOLD = FoldConfig(
    window_days=180,
    max_merchants=128,
    max_payments_per_merchant=256,
    category_buckets=16,
    channel_buckets=8,
    token_buckets=32,
    max_tokens=6,
    frequent_merchants=32,
    row_group_users=32,
    through_spark=False,
)
# Users without payments alone.
THIN = ThinFile(payments=1, merchants=1, probability=0.07)
MODEL = ModelConfig(
    width=16, heads=2, sequence="none", relational_layers=2, dropout=0.1, word_width=8, hidden_words=0.0, head="linear"
)

Payment = dict[str, Any]
Row = dict[str, Any]


def payment(days_before: float, cents: int = 1000, category: int = 1, channel: int = 1, words: tuple[int, ...] = ()):  # type: ignore[no-untyped-def]
    """One payment, `days_before` the fold's as_of."""
    return {"days": days_before, "cents": cents, "category": category, "channel": channel, "words": list(words)}


def fold_row(
    user_id: str,
    merchants: dict[str, list[Payment]],
    as_of: date = AS_OF,
    names: dict[str, tuple[int, ...]] | None = None,
    fold: FoldConfig = FOLD,
) -> Row:
    """A row of the folds table: payments of each merchant, sorted as the fold sorts them."""
    end = (as_of - date(1970, 1, 1)).days * SECONDS_PER_DAY
    ids = sorted(merchants)
    lists = [sorted(merchants[m], key=lambda p: -p["days"]) for m in ids]
    payments = [p for one in lists for p in one]
    words = [list((names or {}).get(m, ())) for m in ids]
    return {
        "user_id": user_id,
        "as_of": as_of,
        "window_days": fold.window_days,
        "fold_spec": fold.spec,
        "merchant_id": ids,
        "merchant_name": [f"Name of {m}" for m in ids],
        "merchant_category": ["shop"] * len(ids),
        "merchant_len": [len(one) for one in lists],
        "merchant_token_len": [len(one) for one in words],
        "merchant_token": [word for one in words for word in one],
        "paid_at": [end - round(p["days"] * SECONDS_PER_DAY) for p in payments],
        "amount_cents": [p["cents"] for p in payments],
        "category": [p["category"] for p in payments],
        "channel": [p["channel"] for p in payments],
        "description_token_len": [len(p["words"]) for p in payments],
        "description_token": [word for p in payments for word in p["words"]],
        "payments_kept": len(payments),
        "payments_dropped": 0,
        "merchants_kept": len(ids),
        "merchants_dropped": 0,
        "cents": sum(abs(p["cents"]) for p in payments),
        "cents_dropped": 0,
        "history_days": math.ceil(max((p["days"] for p in payments), default=0)),
    }


def in_table(rows: list[Row]) -> list[Row]:
    """Rows with what the folds table holds beside the folds."""
    return [{**row, "user_bucket": 0, "payments_version": 0} for row in rows]


def random_rows(users: int, seed: int, fold: FoldConfig = FOLD, most_merchants: int = 8) -> list[Row]:
    """Folds of users with 0 to `most_merchants` merchants; user 0 has none."""
    rng = np.random.default_rng(seed)

    def one() -> Payment:
        words = tuple(int(word) for word in rng.integers(1, fold.token_buckets, rng.integers(0, 4)))
        return payment(
            float(rng.uniform(0.01, fold.window_days)),
            int(rng.integers(-2_000, 20_000)),
            int(rng.integers(0, fold.category_buckets)),
            int(rng.integers(0, fold.channel_buckets)),
            words,
        )

    rows = []
    for user in range(users):
        ids = [f"m{number:03d}" for number in rng.permutation(60)[: rng.integers(0, most_merchants + 1) if user else 0]]
        merchants = {merchant: [one() for _ in range(rng.integers(1, 6))] for merchant in ids}
        names = {merchant: (int(rng.integers(1, fold.token_buckets)),) for merchant in ids[::2]}
        rows.append(fold_row(f"u{user:04d}", merchants, names=names, fold=fold))
    return rows


def arrow(rows: list[Row]) -> pa.Table:
    """Rows as Spark hands them to Python: as_of a date, lists of integers."""
    ints, longs = pa.list_(pa.int32()), pa.list_(pa.int64())
    columns = {name: pa.array([row[name] for row in rows]) for name in ("user_id", "as_of")}
    for name, value in fold_row("none", {}).items():
        values = [row[name] for row in rows]
        if name in ("paid_at", "amount_cents"):
            columns[name] = pa.array(values, longs)
        elif name.startswith("merchant_") and name in ("merchant_id", "merchant_name", "merchant_category"):
            columns[name] = pa.array(values, pa.list_(pa.string()))
        elif isinstance(value, list):
            columns[name] = pa.array(values, ints)
        else:
            columns[name] = pa.array(values)
    return pa.table(columns)


def pack(rows: list[Row]) -> PackedFolds:
    """Rows, packed."""
    return PackedFolds.from_arrow(arrow(rows))


def small_model(seed: int = 0, model: ModelConfig = MODEL, fold: FoldConfig = FOLD) -> tuple[LBSF, ModelCard]:
    """An untrained network whose scores differ widely from user to user, with its card."""
    torch.manual_seed(seed)
    network = LBSF(model, fold)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    return network.eval(), ModelCard(model=model, fold=fold, slope=0.8, intercept=-1.5, thin_file=THIN)
