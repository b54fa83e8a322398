"""Aggregates against a plain loop over each user's payments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fold_rows import fold_row, pack, payment, random_rows

from lbsf.baselines.aggregates import Vocabulary, aggregate_features

DAY = 86_400


def table(rows: list[dict[str, Any]], vocabulary: Vocabulary | None = None) -> list[dict[str, float]]:
    packed = pack(rows)
    features, names = aggregate_features(packed, vocabulary or Vocabulary.of([packed]))
    assert features.shape == (len(rows), len(names)) and features.dtype == np.float32
    assert len(set(names)) == len(names)
    return [dict(zip(names, row.tolist(), strict=True)) for row in features]


def payments_of(row: dict[str, Any]) -> list[tuple[float, float, int, int, int]]:
    """(age in days, amount, category, hour, merchant) of each payment of one row."""
    merchants = [m for m, count in enumerate(row["merchant_len"]) for _ in range(count)]
    end = int(pack([row]).as_of[0])
    return [
        ((end - at) / DAY, cents / 100, category, at % DAY // 3600, merchant)
        for at, cents, category, merchant in zip(
            row["paid_at"], row["amount_cents"], row["category"], merchants, strict=True
        )
    ]


def test_every_aggregate_equals_a_plain_loop() -> None:
    rows = random_rows(25, seed=1)
    for row, found in zip(rows, table(rows), strict=True):
        payments = payments_of(row)
        for days in (30, 90, 180):
            inside = [p for p in payments if p[0] <= days]
            amounts = [p[1] for p in inside]
            mean = sum(amounts) / len(amounts) if amounts else np.nan
            expected = {
                "count": len(inside),
                "sum": sum(amounts),
                "mean": mean,
                "max": max(amounts, default=np.nan),
                "std": (sum((a - mean) ** 2 for a in amounts) / len(amounts)) ** 0.5 if amounts else np.nan,
                "night_share": sum(p[3] < 6 for p in inside) / len(inside) if inside else np.nan,
                "merchants": len({p[4] for p in inside}),
                "negative_count": sum(a < 0 for a in amounts),
                "negative_sum": sum(a for a in amounts if a < 0),
                "category_3_count": sum(p[2] == 3 for p in inside),
                "category_3_sum": sum(p[1] for p in inside if p[2] == 3),
            }
            for name, value in expected.items():
                key = f"{name}_{days}"
                assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-3, nan_ok=True), key
        ages = [p[0] for p in payments if p[2] == 3]
        assert found["category_3_days_since_last"] == pytest.approx(min(ages, default=np.nan), rel=1e-5, nan_ok=True)
        assert found["days_since_last"] == pytest.approx(
            min((p[0] for p in payments), default=np.nan), rel=1e-5, nan_ok=True
        )


def test_trends_point_forward_in_time() -> None:
    # Month 0 is the newest: one payment 170 days ago, then more and more.
    rising = [payment(175 - 30 * month, 1000 * (month + 1)) for month in range(6)]
    steady = [payment(175 - 30 * month, 1000) for month in range(6)]
    (up, flat) = table([fold_row("up", {"m": rising}), fold_row("flat", {"m": steady})])
    assert [up[f"month_sum_{month}"] for month in range(6)] == [60, 50, 40, 30, 20, 10]
    assert up["month_sum_trend"] == pytest.approx(10 / 35)  # 10 a month, on a level of 35
    assert up["month_sum_change"] == pytest.approx(10 / 35)
    assert up["month_count_trend"] == 0 and flat["month_sum_trend"] == 0


def test_the_vocabulary_is_the_most_frequent_buckets_of_the_training_folds() -> None:
    visits = [payment(5, category=c) for c in (7, 7, 7, 2, 2, 9, 9, 4)]
    training = pack([fold_row("u", {"m": visits})])
    assert Vocabulary.of([training], categories=3).categories.tolist() == [7, 2, 9]  # a tie by bucket
    found = table([fold_row("v", {"m": [payment(5, category=11)]})], Vocabulary.of([training], categories=3))
    assert found[0]["category_7_count_30"] == 0 and "category_11_count_30" not in found[0]


def test_users_do_not_touch_each_other() -> None:
    rows = random_rows(6, seed=2)
    vocabulary = Vocabulary.of([pack(rows)])
    for row, found in zip(rows, table(rows, vocabulary), strict=True):
        assert found == pytest.approx(table([row], vocabulary)[0], rel=1e-6, nan_ok=True)
