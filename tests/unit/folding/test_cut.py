"""The kernel without Spark, against the oracle."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pytest
from fold_oracle import AS_OF, DAY, FOLD, MICROSECOND, USERS, fold_of, midnight, payment, payments_strategy
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql.pandas.types import from_arrow_schema

from lbsf.config.models import FoldConfig
from lbsf.folding.fold import _fold_table
from lbsf.folding.hashing import WORD
from lbsf.schemas.folds import FOLD_COLUMNS

Row = dict[str, Any]
PAIRS = [(user, AS_OF + timedelta(days=days)) for user in USERS for days in (0, 1)]


INPUT = pa.schema(
    [
        *((name, pa.string()) for name in ("user_id", "merchant_id", "payment_id")),
        ("paid_at", pa.timestamp("us", "UTC")),
        ("amount", pa.decimal128(18, 2)),
        *((name, pa.string()) for name in ("category", "channel", "merchant_name", "description")),
        ("as_of", pa.date32()),
    ]
)


def asked(payments: list[Row], pairs: list[tuple[str, date]]) -> pa.Table:
    """What Spark hands over: each payment, and a row without payment for each pair."""
    rows = [{name: p.get(name) for name in INPUT.names} for p in payments]
    rows += [{"user_id": user_id, "as_of": as_of} for user_id, as_of in pairs]
    return pa.Table.from_pylist(rows, schema=INPUT)


def fold_table(table: pa.Table, config: FoldConfig) -> pa.Table:
    return _fold_table(table, None, config)


@settings(deadline=None, max_examples=150)
@given(payments=payments_strategy(40))
def test_kernel_equals_the_oracle(payments: list[Row]) -> None:
    expected = [fold_of(payments, user, as_of, FOLD) for user, as_of in sorted(PAIRS)]
    assert fold_table(asked(payments, PAIRS), FOLD).to_pylist() == expected


@settings(deadline=None, max_examples=50)
@given(payments=payments_strategy(40), seed=st.integers(0, 1000), cut=st.integers(0, len(PAIRS)))
def test_row_order_batches_and_spread_over_calls_do_not_matter(payments: list[Row], seed: int, cut: int) -> None:
    whole = asked(payments, PAIRS)
    order = list(range(whole.num_rows))
    random.Random(seed).shuffle(order)
    shuffled = pa.Table.from_batches(whole.take(order).to_batches(max_chunksize=3), INPUT)
    expected = fold_table(whole, FOLD)
    assert fold_table(shuffled, FOLD).equals(expected)
    parts = [fold_table(asked(payments, part), FOLD) for part in (PAIRS[:cut], PAIRS[cut:])]
    assert pa.concat_tables(parts).sort_by([("user_id", "ascending"), ("as_of", "ascending")]).equals(expected)


def test_output_has_the_declared_columns_and_types() -> None:
    for table in (asked([], []), asked([payment(1)], PAIRS)):
        found = from_arrow_schema(fold_table(table, FOLD).schema)
        assert [(f.name, f.dataType.simpleString()) for f in found] == [
            (column.name, column.type.simpleString()) for column in FOLD_COLUMNS
        ]


EVENING = midnight(AS_OF) - timedelta(hours=2)


@pytest.mark.parametrize(
    ("payments", "expected"),
    [
        pytest.param(
            [payment(n, paid_at=EVENING + n * MICROSECOND, amount=n) for n in (3, 1, 2)],
            {"amount_cents": [200, 300], "payments_kept": 2, "payments_dropped": 1, "merchants_dropped": 0},
            id="the latest payments of a merchant stay, told apart by microseconds",
        ),
        pytest.param(
            [payment(n, paid_at=EVENING, amount=n) for n in (2, 3, 1)],
            {"amount_cents": [200, 300], "payments_dropped": 1},
            id="at the same instant payment_id decides",
        ),
        pytest.param(
            [payment(n, merchant_id=m, paid_at=EVENING) for n, m in enumerate("dbca")],
            {"merchant_id": ["a", "b", "c"], "merchants_kept": 3, "merchants_dropped": 1, "payments_dropped": 1},
            id="merchants last visited at the same instant: the smaller merchant_id stays",
        ),
        pytest.param(
            [payment(n, merchant_id=m, paid_at=EVENING + n * DAY * -0.1) for n, m in enumerate("dbcaaa")],
            {"merchant_id": ["a", "b", "d"], "payments_kept": 4, "payments_dropped": 2, "cents_dropped": 200},
            id="the most visited merchant stays, however long ago, and the most recently visited ones",
        ),
        pytest.param(
            [
                payment(1, paid_at=EVENING, merchant_name="New", category="new"),
                payment(2, paid_at=EVENING - DAY, merchant_name="Old", category="old"),
            ],
            {"merchant_name": ["New"], "merchant_category": ["new"]},
            id="name and category of the latest payment",
        ),
        pytest.param(
            [payment(1, paid_at=EVENING), payment(2, paid_at=EVENING - DAY, merchant_name="Old", category="old")],
            {"merchant_name": [""], "merchant_category": [""], "merchant_token_len": [0]},
            id="an unknown name is not filled from an earlier payment",
        ),
    ],
)
def test_caps_and_latest_values(payments: list[Row], expected: Row) -> None:
    (fold,) = fold_table(asked(payments, [("a", AS_OF)]), FOLD).to_pylist()
    assert {name: fold[name] for name in expected} == expected


@pytest.mark.parametrize("text", [None, "", " ", "--", "\t"])
def test_a_text_without_words_has_no_token(text: str | None) -> None:
    (fold,) = fold_table(asked([payment(1, description=text)], [("a", AS_OF)]), FOLD).to_pylist()
    assert (fold["description_token_len"], fold["description_token"]) == ([0], [])


def test_lists_beyond_32_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from lbsf.folding.cut import _offsets

    with pytest.raises(OverflowError, match="raise storage.user_buckets"):
        _offsets(np.array([2**31 - 1, 1]))


def test_words_are_runs_of_letters_marks_and_digits() -> None:
    import polars as pl

    found = pl.Series(["Rewe-Markt 24/7 हिन्दी cafe\u0301"]).str.extract_all(WORD).to_list()
    assert found == [["Rewe", "Markt", "24", "7", "हिन्दी", "cafe\u0301"]]
