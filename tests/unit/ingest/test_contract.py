"""The contract, a rule at a time, with rows on each side of every limit."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from lbsf.config.models import IngestConfig
from lbsf.folding.hashing import user_bucket
from lbsf.ingest import Received, check_labels, check_payments

RULES = IngestConfig(
    currencies=("EUR", "USD"), max_amount=1000.0, earliest_paid_on=date(2000, 1, 1), max_refused_share=0.5
)
RECEIVED = Received("bank", datetime(2025, 6, 1, 12, tzinfo=UTC), "run")
PAYMENT: dict[str, str | None] = {
    "payment_id": "p",
    "user_id": "u",
    "merchant_id": "m",
    "paid_at": "2025-01-01 10:00:00",
    "amount": "5.00",
    "currency": "EUR",
    "category": "food",
    "channel": "pos",
    "merchant_name": "Shop",
    "description": "bread",
    "local_time": None,
}
LABEL = {"user_id": "u", "observed_on": "2025-01-01", "label": "0", "matured_on": "2025-01-31", "local_time": None}
NEVER_WAS = {"local_time": "never was"}

PAYMENT_CASES: list[tuple[str, dict[str, str | None], list[str]]] = [
    ("a good payment", {}, []),
    ("no id", {"payment_id": None}, ["payment_id is missing"]),
    ("a blank id", {"payment_id": "  "}, ["payment_id is missing"]),
    ("an empty user", {"user_id": ""}, ["user_id is missing"]),
    ("no merchant", {"merchant_id": None}, ["merchant_id is missing"]),
    ("no time", {"paid_at": None}, ["paid_at is missing or no time"]),
    ("a time that is none", {"paid_at": "00.00.0000"}, ["paid_at is missing or no time"]),
    (
        "an hour that clocks left out",
        {"paid_at": None, **NEVER_WAS},
        ["a local time never was: the clocks went forward"],
    ),
    ("an hour that was there twice", {"local_time": "ambiguous"}, []),
    ("a time without a date", {"paid_at": "12:30"}, ["paid_at is missing or no time"]),
    ("an empty date joined to a time", {"paid_at": " 12:30:00"}, ["paid_at is missing or no time"]),
    ("a date joined to an empty time", {"paid_at": "2025-01-01 "}, ["paid_at is missing or no time"]),
    ("a year", {"paid_at": "2025"}, ["paid_at is missing or no time"]),
    ("a month", {"paid_at": "2025-01"}, ["paid_at is missing or no time"]),
    ("a zone's name", {"paid_at": "2025-01-01 10:00 Europe/Berlin"}, ["paid_at is missing or no time"]),
    ("a word for a day", {"paid_at": "today"}, ["paid_at is missing or no time"]),
    ("blanks around a time", {"paid_at": " 2025-01-01 10:00:00 "}, []),
    ("Zulu time", {"paid_at": "2025-01-01T10:00:00.123456Z"}, []),
    ("a day without a time is its midnight", {"paid_at": "2025-01-01"}, []),
    ("the last instant before the run", {"paid_at": "2025-06-01 11:59:59.999999"}, []),
    ("the run's own instant", {"paid_at": "2025-06-01 12:00:00"}, ["paid_at is in the future"]),
    ("another zone, still before the run", {"paid_at": "2025-06-01 13:59:59+02:00"}, []),
    ("years ahead", {"paid_at": "2099-01-01 00:00:00"}, ["paid_at is in the future"]),
    ("the earliest instant", {"paid_at": "2000-01-01 00:00:00"}, []),
    ("just before it", {"paid_at": "1999-12-31 23:59:59"}, ["paid_at is before ingest.earliest_paid_on"]),
    ("no amount", {"amount": None}, ["amount is missing or no number"]),
    ("a word for an amount", {"amount": "n/a"}, ["amount is missing or no number"]),
    ("not a number", {"amount": "NaN"}, ["amount is missing or no number"]),
    ("a C literal", {"amount": "12.5f"}, ["amount is missing or no number"]),
    ("nothing paid", {"amount": "0"}, []),
    ("a refund", {"amount": "-5"}, []),
    ("the largest amount", {"amount": "1000"}, []),
    ("the largest refund", {"amount": "-1000.00"}, []),
    ("a cent more", {"amount": "1000.01"}, ["amount is beyond ingest.max_amount"]),
    ("a cent more, refunded", {"amount": "-1000.01"}, ["amount is beyond ingest.max_amount"]),
    ("more than the type holds", {"amount": "1e30"}, ["amount is beyond ingest.max_amount"]),
    ("endless", {"amount": "Infinity"}, ["amount is beyond ingest.max_amount"]),
    ("no currency", {"currency": None}, ["currency is missing"]),
    ("another currency", {"currency": "XXX"}, ["currency is not in ingest.currencies"]),
    ("the second currency", {"currency": "USD"}, []),
    ("a currency in small letters", {"currency": "eur"}, ["currency is not in ingest.currencies"]),
    ("no optional field", {"category": None, "channel": None, "merchant_name": None, "description": None}, []),
    (
        "several faults",
        {"user_id": None, "amount": "x", "currency": "XXX"},
        ["user_id is missing", "amount is missing or no number", "currency is not in ingest.currencies"],
    ),
]


def mapped(spark: SparkSession, rows: list[dict[str, str | None]]) -> DataFrame:
    """Rows of text as `read_source` gives them."""
    names = [*rows[0], "source_row", "source_file", "source_fault"]
    data = [[*row.values(), f"row {number}", "file", None] for number, row in enumerate(rows)]
    return spark.createDataFrame(data, StructType([StructField(name, StringType()) for name in names]))


def in_order(df: DataFrame) -> list[Any]:
    return sorted(df.collect(), key=lambda row: int(row["source_row"].removeprefix("row ")))


@pytest.fixture(scope="module")
def checked_payments(spark: SparkSession) -> list[Any]:
    rows: list[dict[str, str | None]] = [{**PAYMENT, **changes} for _, changes, _ in PAYMENT_CASES]
    return in_order(check_payments(mapped(spark, rows), RULES, RECEIVED, 8))


@pytest.mark.parametrize("case", range(len(PAYMENT_CASES)), ids=[word for word, _, _ in PAYMENT_CASES])
def test_a_payment_has_the_reasons_that_it_earned(checked_payments: list[Any], case: int) -> None:
    assert (checked_payments[case]["reasons"] or []) == PAYMENT_CASES[case][2]


def test_a_good_payment_has_no_reasons_and_every_column_typed(checked_payments: list[Any]) -> None:
    good = checked_payments[0].asDict()
    assert good.pop("ingested_at").astimezone(UTC).replace(tzinfo=UTC).year == 2025
    assert good == {
        **PAYMENT,
        "paid_at": datetime(2025, 1, 1, 10),
        "paid_on": date(2025, 1, 1),
        "amount": Decimal("5.00"),
        "source": "bank",
        "paid_month": date(2025, 1, 1),
        "user_bucket": user_bucket(str(PAYMENT["user_id"]), 8),
        "reasons": None,
        "source_row": "row 0",
        "source_file": "file",
    }


def test_amounts_are_rounded_half_up_and_blank_text_is_null(spark: SparkSession) -> None:
    rows: list[dict[str, str | None]] = [
        {**PAYMENT, "amount": "0.125", "category": " "},
        {**PAYMENT, "amount": "-0.125"},
    ]
    found = in_order(check_payments(mapped(spark, rows), RULES, RECEIVED, 8))
    assert [row["amount"] for row in found] == [Decimal("0.13"), Decimal("-0.13")]
    assert [row["category"] for row in found] == [None, "food"]


LABEL_CASES: list[tuple[str, dict[str, str | None], list[str]]] = [
    ("a good label", {"user_id": "good"}, []),
    ("a default", {"user_id": "default", "label": "1"}, []),
    ("written as a decimal", {"user_id": "decimal", "label": "1.0"}, []),
    ("no user", {"user_id": None}, ["user_id is missing"]),
    ("no day", {"observed_on": None}, ["observed_on is missing or no day"]),
    ("no day of the outcome", {"user_id": "c", "matured_on": "x"}, ["matured_on is missing or no day"]),
    ("a year for a day", {"user_id": "n", "observed_on": "2025"}, ["observed_on is missing or no day"]),
    ("a month for a day", {"user_id": "o", "matured_on": "2025-07"}, ["matured_on is missing or no day"]),
    (
        "a day with another zone's time",
        {"user_id": "p", "observed_on": "2025-01-01T23:00:00-05:00"},
        ["observed_on is missing or no day"],
    ),
    ("a day with its time", {"user_id": "q", "observed_on": "2025-01-01T23:00:00Z"}, []),
    ("known on the day itself", {"user_id": "d", "matured_on": "2025-01-01"}, []),
    ("known before", {"user_id": "e", "matured_on": "2024-12-31"}, ["matured_on is before observed_on"]),
    ("no label", {"user_id": "f", "label": None}, ["label is not 0 or 1"]),
    ("a third label", {"user_id": "g", "label": "2"}, ["label is not 0 or 1"]),
    ("a probability", {"user_id": "h", "label": "0.7"}, ["label is not 0 or 1"]),
    ("one day, first label", {"user_id": "i", "label": "0"}, ["another row has another label"]),
    ("one day, other label", {"user_id": "i", "label": "1"}, ["another row has another label"]),
    ("the same user on another day", {"user_id": "i", "label": "1", "observed_on": "2025-01-02"}, []),
    ("delivered once", {"user_id": "j"}, []),
    ("delivered twice", {"user_id": "j"}, []),
    ("as stored", {"user_id": "k", "label": "1"}, []),
    ("not as stored", {"user_id": "l", "label": "0"}, ["another label is stored"]),
    ("stored for another day", {"user_id": "m", "label": "0"}, []),
]


@pytest.fixture(scope="module")
def checked_labels(spark: SparkSession) -> list[Any]:
    stored = spark.sql(
        "SELECT * FROM VALUES ('k', date'2025-01-01', 1), ('l', date'2025-01-01', 1), ('m', date'2025-02-01', 1) "
        "AS (user_id, observed_on, label)"
    )
    rows: list[dict[str, str | None]] = [{**LABEL, **changes} for _, changes, _ in LABEL_CASES]
    return in_order(check_labels(mapped(spark, rows), stored))


@pytest.mark.parametrize("case", range(len(LABEL_CASES)), ids=[word for word, _, _ in LABEL_CASES])
def test_a_label_has_the_reasons_that_it_earned(checked_labels: list[Any], case: int) -> None:
    assert (checked_labels[case]["reasons"] or []) == LABEL_CASES[case][2]


def test_rows_without_a_user_do_not_contradict_each_other(spark: SparkSession) -> None:
    rows: list[dict[str, str | None]] = [{**LABEL, "user_id": None, "label": label} for label in ("0", "1")]
    found = in_order(check_labels(mapped(spark, rows)))
    assert [row["reasons"] for row in found] == [["user_id is missing"], ["user_id is missing"]]
