"""A checked delivery's rows: one a key whatever the order, bad rows counted."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from lbsf.ingest import Received, accepted, refused
from lbsf.schemas import PAYMENTS, PAYMENTS_QUARANTINE

AT = datetime(2025, 6, 1, tzinfo=UTC)
CHECKED = StructType([*PAYMENTS.struct.fields, StructField("reasons", ArrayType(StringType()))])
NAMES = PAYMENTS.column_names


def row(number: int, hour: int, cents: int, category: str | None) -> tuple[Any, ...]:
    values = {
        "payment_id": f"p{number}",
        "user_id": "u",
        "merchant_id": "m",
        "paid_at": datetime(2025, 1, 1, hour),
        "paid_on": date(2025, 1, 1),
        "amount": Decimal(cents) / 100,
        "currency": "EUR",
        "category": category,
        "channel": None,
        "merchant_name": None,
        "description": None,
        "paid_month": date(2025, 1, 1),
        "user_bucket": 3,
        "ingested_at": datetime(2025, 6, 1),
        "source": "bank",
    }
    return tuple(values[name] for name in NAMES)


rows = st.builds(row, st.integers(0, 3), st.integers(0, 2), st.integers(0, 2), st.sampled_from([None, "a", "b"]))


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(rows, min_size=1, max_size=12), parts=st.integers(1, 4), seed=st.randoms())
def test_one_row_a_payment_stays_whatever_the_order(
    spark: SparkSession, data: list[Any], parts: int, seed: Any
) -> None:
    def total_order(values: tuple[Any, ...]) -> tuple[Any, ...]:
        named = dict(zip(NAMES, values, strict=True))
        # Nulls come first.
        return (named["paid_at"], named["amount"], named["category"] is not None, named["category"])

    expected = {number: min(group, key=total_order) for number, group in _groups(data).items()}
    shuffled = list(data)
    seed.shuffle(shuffled)
    checked = spark.createDataFrame([(*values, None) for values in shuffled], CHECKED).repartition(parts)
    found = accepted(checked, PAYMENTS, earliest="paid_at").select(NAMES).collect()
    assert {values["payment_id"]: tuple(values) for values in found} == expected
    assert len(found) == len(expected)


def _groups(data: list[Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for values in data:
        groups.setdefault(values[0], []).append(values)
    return groups


def test_a_refused_row_is_not_accepted_and_leaves_its_good_twin(spark: SparkSession) -> None:
    good, bad = row(1, 1, 1, None), row(1, 0, 1, None)
    checked = spark.createDataFrame([(*good, None), (*bad, ["amount"])], CHECKED)
    assert [tuple(values) for values in accepted(checked, PAYMENTS, earliest="paid_at").select(NAMES).collect()] == [
        good
    ]


def test_identical_bad_rows_of_a_file_are_one_row_with_their_number(spark: SparkSession) -> None:
    checked = spark.createDataFrame(
        [("a", "x", ["r1", "r2"]), ("a", "x", ["r1", "r2"]), ("b", "x", ["r1"]), ("a", "y", ["r1"]), ("a", "z", None)],
        "source_file string, source_row string, reasons array<string>",
    )
    found = refused(checked, Received("bank", AT, "run-1"))
    assert PAYMENTS_QUARANTINE.discrepancies(found.schema) == []
    rows = {(values["source_file"], values["row"]): values for values in found.collect()}
    assert {key: (values["occurrences"], values["reasons"]) for key, values in rows.items()} == {
        ("a", "x"): (2, ["r1", "r2"]),
        ("b", "x"): (1, ["r1"]),
        ("a", "y"): (1, ["r1"]),
    }
    assert rows[("a", "x")]["quarantine_id"] == hashlib.sha256(b"a\nx").hexdigest()
    assert {(values["source"], values["run_id"]) for values in rows.values()} == {("bank", "run-1")}
